package dnssd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// lookAgain is how often the interfaces are looked at where the system does not tell of changes.
const lookAgain = 2 * time.Second

// iface is a network interface with its addresses, as they were when somebody looked.
type iface struct {
	net.Interface
	prefixes []netip.Prefix // an address each, with the length of its network; sorted
}

// interfaces returns the interfaces with the given names that are up; no names means every one that can multicast.
// A name that is given is taken at its word: lo carries multicast although it lacks the flag.
func interfaces(names []string) ([]iface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var up []iface
	for _, ifi := range all {
		if ifi.Flags&net.FlagUp == 0 {
			continue
		}
		if len(names) == 0 && ifi.Flags&net.FlagMulticast != 0 && ifi.Flags&net.FlagLoopback == 0 ||
			slices.Contains(names, ifi.Name) {
			up = append(up, iface{ifi, prefixes(&ifi)})
		}
	}
	if len(up) == 0 {
		wanted := "any that can multicast"
		if len(names) > 0 {
			wanted = strings.Join(names, ", ")
		}
		return nil, fmt.Errorf("no network interface is up (wanted: %s)", wanted)
	}
	return up, nil
}

func prefixes(ifi *net.Interface) []netip.Prefix {
	nets, err := ifi.Addrs()
	if err != nil {
		return nil // it has gone in this moment
	}
	var all []netip.Prefix
	for _, n := range nets {
		if ipn, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(ipn.IP); ok {
				ones, _ := ipn.Mask.Size()
				all = append(all, netip.PrefixFrom(a.Unmap(), ones))
			}
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}

func (i iface) loopback() bool { return i.Flags&net.FlagLoopback != 0 }

// speaks says whether the interface has an address of that family: without one nothing can be sent.
func (i iface) speaks(v6 bool) bool {
	return slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 })
}

// onLink says whether a is an address of the network behind the interface (RFC 6762 §11). On the loopback everything
// is from this machine, whatever address of it the kernel took.
func (i iface) onLink(a netip.Addr) bool {
	a = a.WithZone("")
	if a.IsLinkLocalUnicast() || i.loopback() {
		return true
	}
	return slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// told are the addresses that others shall know: a link-local one only when its family has nothing better there. That is
// Avahi's rule, so that Avahi on the same machine sees its own records in ours and no conflict.
func (i iface) told() []netip.Addr {
	var wide, all []netip.Addr
	for _, p := range i.prefixes {
		if !p.Addr().IsLinkLocalUnicast() {
			wide = append(wide, p.Addr())
		}
	}
	for _, p := range i.prefixes {
		better := func(a netip.Addr) bool { return a.Is6() == p.Addr().Is6() }
		if !p.Addr().IsLinkLocalUnicast() || !slices.ContainsFunc(wide, better) {
			all = append(all, p.Addr())
		}
	}
	return slices.Compact(all)
}

// same says whether i and o are one interface on one network with a cable that was not pulled in between.
func (i iface) same(o iface) bool {
	return i.Index == o.Index && i.Name == o.Name && i.Flags == o.Flags
}

func unchanged(a, b []iface) bool {
	return slices.EqualFunc(a, b, func(x, y iface) bool { return x.same(y) && slices.Equal(x.prefixes, y.prefixes) })
}

// ours says of addresses whether they are of this machine, on any interface and as of the first question.
func ours() func(netip.Addr) bool {
	own := sync.OnceValue(func() map[netip.Addr]bool {
		nets, err := net.InterfaceAddrs()
		if err != nil {
			return nil
		}
		own := map[netip.Addr]bool{}
		for _, n := range nets {
			if ipn, ok := n.(*net.IPNet); ok {
				if a, ok := netip.AddrFromSlice(ipn.IP); ok {
					own[a.Unmap()] = true
				}
			}
		}
		return own
	})
	return func(a netip.Addr) bool { return own()[a.WithZone("").Unmap()] }
}

// poll says that something may have changed, again and again.
func poll(ctx context.Context, changed chan<- struct{}) {
	t := time.NewTicker(lookAgain)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			nudge(changed)
		case <-ctx.Done():
			return
		}
	}
}

// nudge wakes the receiver of a channel with room for one; who has been nudged already is not nudged twice.
func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
