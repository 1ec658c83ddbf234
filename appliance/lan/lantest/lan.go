//go:build linux

package lantest

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// LAN is a switch, and what is plugged into it. The box, which is this process, is plugged in as host 2.
type LAN struct {
	n   int
	dir string
	sw  *Host // the switch: a bridge in a network of its own

	cables atomic.Int32
}

// lans counts the networks that this process was plugged into.
var lans atomic.Int32

// New makes a network that is there until the test ends.
func New(t testing.TB) *LAN {
	t.Helper()
	l := &LAN{n: int(lans.Add(1))}
	l.dir = filepath.Join(runDir, fmt.Sprintf("lan%d", l.n))
	var err error
	if l.sw, err = l.machine("switch", 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.sw.off)
	err = l.sw.ip(
		"link set lo up",
		"link add br0 type bridge mcast_snooping 0 stp_state 0",
		"link set br0 up",
		"link add box type veth peer name "+l.Interface()+" netns 1",
		"link set box master br0 up",
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := configure(l, nil, l.Interface(), 2); err != nil {
		t.Fatal(err)
	}
	return l
}

// Interface is the name of the box's network card on this network.
func (l *LAN) Interface() string { return fmt.Sprintf("lan%d", l.n) }

// Addr is the IPv4 address of host n.
func (l *LAN) Addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(l.n), byte(n)}) }

// Addr6 is the IPv6 address of host n. It has a link-local one too.
func (l *LAN) Addr6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77:%x::%x", l.n, n))
}

// configure gives a network card the addresses of host n. h is nil for the box.
func configure(l *LAN, h *Host, card string, n int) error {
	return h.ip(
		"link set lo up",
		fmt.Sprintf("addr add %v/24 dev %s", l.Addr(n), card),
		fmt.Sprintf("addr add %v/64 dev %s nodad", l.Addr6(n), card),
		fmt.Sprintf("link set %s up", card),
		// lo has no multicast: what a host says to all goes out by the network card.
		fmt.Sprintf("route replace 224.0.0.0/4 dev %s", card),
	)
}
