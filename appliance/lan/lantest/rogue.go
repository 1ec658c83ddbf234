//go:build linux

package lantest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// group is where multicast DNS is spoken.
var group = net.UDPAddrFromAddrPort(netip.MustParseAddrPort("224.0.0.251:5353"))

// Talker says in multicast DNS whatever a test wants, from a host on which no Avahi runs.
type Talker struct {
	conn *net.UDPConn
}

// Talker lets the host speak multicast DNS until the test ends. It hears every question and sends what answer returns
// for it, each element in a packet of its own; nil answers nothing.
func (h *Host) Talker(t testing.TB, answer func(dns.Question) [][]dns.RR) *Talker {
	t.Helper()
	s := &Talker{}
	must(t, h.In(func() error {
		card, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s.conn, err = net.ListenMulticastUDP("udp4", card, group)
		return err
	}))
	var hearing sync.WaitGroup
	hearing.Go(func() {
		buf := make([]byte, 9000)
		for {
			n, _, err := s.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var m dns.Msg
			if m.Unpack(buf[:n]) != nil || m.Response || answer == nil {
				continue
			}
			for _, q := range m.Question {
				for _, rrs := range answer(q) {
					_ = s.Say(rrs) // the network may be down
				}
			}
		}
	})
	t.Cleanup(func() { _ = s.conn.Close(); hearing.Wait() })
	return s
}

// Say sends records to all, in one packet.
func (s *Talker) Say(rrs []dns.RR) error {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Answer: rrs, Compress: true}
	b, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = s.conn.WriteToUDP(b, group)
	return err
}

// ClaimAddress tells everybody that the host's address is at its network card (a gratuitous ARP request, RFC 5227 §3), as
// one does who wants what is sent to another.
func (h *Host) ClaimAddress(t testing.TB) {
	t.Helper()
	must(t, h.In(func() error {
		card, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// The protocol in network byte order, as the kernel wants it.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(binary.BigEndian.Uint16([]byte{unix.ETH_P_ARP & 0xff, unix.ETH_P_ARP >> 8})))
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		mac, ip := card.HardwareAddr, h.Addr().AsSlice()
		everybody := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		frame := slices.Concat(
			everybody, mac, []byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff}, // Ethernet
			[]byte{0, 1, 8, 0, 6, 4, 0, 1}, mac, ip, make([]byte, 6), ip, // RFC 826: Ethernet, IPv4, request
		)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: card.Index, Halen: 6})
	}))
}

// Trap listens at a port and remembers every byte that it hears.
type Trap struct {
	mu    sync.Mutex
	calls int
	heard bytes.Buffer
}

// Trap opens a port of the host until the test ends. With secure it is a TLS server with a key of its own, and what it
// hears is what is said inside; else it hears what is on the wire. It never answers.
func (h *Host) Trap(t testing.TB, port uint16, secure bool) *Trap {
	t.Helper()
	tr := &Trap{}
	var l net.Listener
	must(t, h.In(func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
		return err
	}))
	cfg := &tls.Config{}
	if secure {
		cert, err := certificate(h.name)
		must(t, err)
		cfg.Certificates = []tls.Certificate{cert}
	}
	ctx, stop := context.WithCancel(context.Background())
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				continue
			}
			tr.mu.Lock()
			tr.calls++
			tr.mu.Unlock()
			hearing.Go(func() {
				unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer unhook()
				defer func() { _ = conn.Close() }()
				var from io.Reader = conn
				if secure {
					from = tls.Server(conn, cfg)
				}
				_, _ = io.Copy(tr, from)
			})
		}
	})
	t.Cleanup(func() { stop(); _ = l.Close(); hearing.Wait() })
	return tr
}

// Write remembers what was heard.
func (tr *Trap) Write(b []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.heard.Write(b)
}

// Heard returns all that was heard, and in how many connections.
func (tr *Trap) Heard() ([]byte, int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return bytes.Clone(tr.heard.Bytes()), tr.calls
}

// certificate is one that a machine has signed for itself.
func certificate(name string) (tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, name + ".local"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
