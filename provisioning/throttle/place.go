package throttle

import "net/netip"

// Place says where an "address:port" is, as one key for whoever commands it: of IPv6 the network (/64), in which one
// machine has as many addresses as it likes. "" when it is no address.
func Place(remote string) string {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ""
	}
	ip := a.Addr().Unmap()
	if ip.Is6() && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}
