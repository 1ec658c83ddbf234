package dnssd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	port      = 5353
	maxPacket = 9000 // RFC 6762 §17
)

var (
	group4 = netip.AddrFrom4([4]byte{224, 0, 0, 251})
	group6 = netip.MustParseAddr("ff02::fb")
)

// packet is what came by multicast through one of the chosen interfaces, from a machine of the network behind it.
type packet struct {
	data []byte
	ifi  int // index of the interface
	from netip.AddrPort
}

// link is the place where mDNS packets come from and go to: a socket for each family that the interfaces have. It
// never asks for unicast answers: more than one program has this port, and only one of them would get them.
type link struct {
	ifaces  []iface
	packets chan packet

	v4      *ipv4.PacketConn
	v6      *ipv6.PacketConn
	done    chan struct{}
	readers sync.WaitGroup
}

// open joins the groups on the interfaces. An error means that it could not be done on any of them.
func open(ctx context.Context, ifaces []iface, log *slog.Logger) (*link, error) {
	l := &link{ifaces: ifaces, packets: make(chan packet, 256), done: make(chan struct{})}
	err4, err6 := l.open4(ctx), l.open6(ctx)
	if l.v4 == nil && l.v6 == nil {
		return nil, fmt.Errorf("multicast DNS: %w", errors.Join(err4, err6))
	}
	if err := errors.Join(err4, err6); err != nil {
		log.Debug("multicast DNS with one IP version only", "err", err)
	}
	return l, nil
}

func listen(ctx context.Context, network, address string) (net.PacketConn, error) {
	c := net.ListenConfig{Control: func(network, _ string, conn syscall.RawConn) error { return share(network, conn) }}
	return c.ListenPacket(ctx, network, fmt.Sprintf("%s:%d", address, port))
}

func (l *link) open4(ctx context.Context) error {
	conn, err := listen(ctx, "udp4", "224.0.0.0")
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(conn)
	err = errors.Join(p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true), p.SetMulticastTTL(255),
		p.SetMulticastLoopback(true))
	if err == nil {
		err = l.join(false, func(ifi *net.Interface) error {
			return p.JoinGroup(ifi, &net.UDPAddr{IP: group4.AsSlice()})
		})
	}
	if err != nil {
		_ = p.Close()
		return err
	}
	l.v4 = p
	l.readers.Go(func() {
		l.read(func(b []byte) (int, int, net.IP, net.Addr, error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm == nil {
				return n, 0, nil, from, err
			}
			return n, cm.IfIndex, cm.Dst, from, err
		})
	})
	return nil
}

func (l *link) open6(ctx context.Context) error {
	conn, err := listen(ctx, "udp6", "[ff02::]")
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(conn)
	err = errors.Join(p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true), p.SetMulticastHopLimit(255),
		p.SetMulticastLoopback(true))
	if err == nil {
		err = l.join(true, func(ifi *net.Interface) error {
			return p.JoinGroup(ifi, &net.UDPAddr{IP: group6.AsSlice()})
		})
	}
	if err != nil {
		_ = p.Close()
		return err
	}
	l.v6 = p
	l.readers.Go(func() {
		l.read(func(b []byte) (int, int, net.IP, net.Addr, error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm == nil {
				return n, 0, nil, from, err
			}
			return n, cm.IfIndex, cm.Dst, from, err
		})
	})
	return nil
}

// join joins one family's group wherever there is an address of it. It fails when it can join nowhere.
func (l *link) join(v6 bool, join func(*net.Interface) error) error {
	var failed error
	joined := 0
	for _, ifi := range l.ifaces {
		if !ifi.speaks(v6) {
			continue
		}
		if err := join(&ifi.Interface); err != nil {
			failed = errors.Join(failed, fmt.Errorf("join on %s: %w", ifi.Name, err))
			continue
		}
		joined++
	}
	if joined == 0 {
		return errors.Join(failed, errors.New("no interface to join on"))
	}
	return nil
}

// close returns when nothing of l runs any more.
func (l *link) close() {
	close(l.done)
	if l.v4 != nil {
		_ = l.v4.Close()
	}
	if l.v6 != nil {
		_ = l.v6.Close()
	}
	l.readers.Wait()
}

func (l *link) read(from func([]byte) (int, int, net.IP, net.Addr, error)) {
	buf := make([]byte, maxPacket+1)
	for {
		n, index, to, sender, err := from(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // an interface went down under the socket; whoever watches them will soon open another link
			case <-time.After(100 * time.Millisecond):
				continue
			case <-l.done:
				return
			}
		}
		udp, ok := sender.(*net.UDPAddr)
		if !ok || n > maxPacket || !to.IsMulticast() {
			continue
		}
		addr := udp.AddrPort()
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		i := slices.IndexFunc(l.ifaces, func(ifi iface) bool { return ifi.Index == index })
		if i < 0 || !l.ifaces[i].onLink(addr.Addr()) {
			continue
		}
		// When nobody takes them the kernel throws away what comes next: a flood does not pile up in memory.
		select {
		case l.packets <- packet{slices.Clone(buf[:n]), index, addr}:
		case <-l.done:
			return
		}
	}
}

// send sends to everybody behind an interface, once for each family that it has, and says how many packets that was.
func (l *link) send(index int, data []byte) (packets int) {
	i := slices.IndexFunc(l.ifaces, func(ifi iface) bool { return ifi.Index == index })
	if i < 0 {
		return 0
	}
	if l.v4 != nil && l.ifaces[i].speaks(false) {
		if l.sendTo(index, data, netip.AddrPortFrom(group4, port)) == nil {
			packets++
		}
	}
	if l.v6 != nil && l.ifaces[i].speaks(true) {
		if l.sendTo(index, data, netip.AddrPortFrom(group6, port)) == nil {
			packets++
		}
	}
	return packets
}

func (l *link) sendTo(index int, data []byte, to netip.AddrPort) error {
	dst := net.UDPAddrFromAddrPort(to)
	switch {
	case to.Addr().Is4() && l.v4 != nil:
		_, err := l.v4.WriteTo(data, &ipv4.ControlMessage{IfIndex: index}, dst)
		return err
	case to.Addr().Is6() && l.v6 != nil:
		_, err := l.v6.WriteTo(data, &ipv6.ControlMessage{IfIndex: index}, dst)
		return err
	}
	return net.ErrClosed
}
