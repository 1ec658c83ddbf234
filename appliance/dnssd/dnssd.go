// Package dnssd finds the printers of the branch's network and makes the box itself findable, without anybody typing
// an address.
//
// It speaks DNS-SD (RFC 6763) over multicast DNS (RFC 6762). What it finds is a hint where to look, never a reason to
// trust: anybody on the network can announce anything.
package dnssd

import (
	"maps"
	"net/netip"
	"slices"
)

// Service is an instance of a service as it announces itself. All of it is written by a stranger; Instance and the
// values of TXT are cleaned of control characters and may be shown.
type Service struct {
	Instance string            // "Stampante anagrafe", at most 63 bytes
	Type     string            // "_ipp._tcp"
	Host     string            // "printer.local", without the dot at the end
	Port     int               //
	Addrs    []netip.Addr      // sorted, IPv4 first; never empty
	TXT      map[string]string // keys in lower case (RFC 6763 §6.4); a key without "=" has the value ""; not to be changed
	Sources  []netip.Addr      // of the machines that told where it is; one machine has one for each IP version
}

func (s Service) equal(o Service) bool {
	return s.Instance == o.Instance && s.Type == o.Type && s.Host == o.Host && s.Port == o.Port &&
		slices.Equal(s.Addrs, o.Addrs) && slices.Equal(s.Sources, o.Sources) && maps.Equal(s.TXT, o.TXT)
}
