// Package dnssd finds the printers of the branch's network and makes the box itself findable, without anybody typing
// an address.
//
// It speaks DNS-SD (RFC 6763) over multicast DNS (RFC 6762). What it finds is a hint where to look, never a reason to
// trust: anybody on the network can announce anything.
package dnssd

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Service is an instance of a service as it announces itself. All of it is written by a stranger; Instance and the
// values of TXT are cleaned of control characters and may be shown.
type Service struct {
	Instance string            // "Stampante anagrafe", at most 63 bytes
	Type     string            // "_ipp._tcp"
	Host     string            // "printer.local", without the dot at the end
	Port     int               //
	Addrs    []netip.Addr      // sorted, IPv4 first; never empty
	TXT      map[string]string // keys in lower case (RFC 6763 §6.4); a key without "=" has the value ""
}

func (s Service) equal(o Service) bool {
	return s.Instance == o.Instance && s.Type == o.Type && s.Host == o.Host && s.Port == o.Port &&
		slices.Equal(s.Addrs, o.Addrs) && maps.Equal(s.TXT, o.TXT)
}

// interfaces returns the interfaces with the given names that are up; no names means every one that can multicast.
// A name that is given is taken at its word: lo carries multicast although it lacks the flag.
func interfaces(names []string) ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var up []net.Interface
	for _, ifi := range all {
		if ifi.Flags&net.FlagUp == 0 {
			continue
		}
		if len(names) == 0 && ifi.Flags&net.FlagMulticast != 0 && ifi.Flags&net.FlagLoopback == 0 ||
			slices.Contains(names, ifi.Name) {
			up = append(up, ifi)
		}
	}
	if len(up) == 0 {
		return nil, fmt.Errorf("no network interface is up (wanted: %s)", wanted(names))
	}
	return up, nil
}

func wanted(names []string) string {
	if len(names) == 0 {
		return "any that can multicast"
	}
	return strings.Join(names, ", ")
}

// addresses returns the addresses of ifi and a text that changes when they do.
func addresses(ifi net.Interface) ([]netip.Addr, string) {
	nets, err := ifi.Addrs()
	if err != nil {
		return nil, ifi.Name
	}
	var addrs []netip.Addr
	for _, n := range nets {
		if ipn, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(ipn.IP); ok {
				addrs = append(addrs, a.Unmap())
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, fmt.Sprint(ifi.Index, ifi.Name, addrs)
}
