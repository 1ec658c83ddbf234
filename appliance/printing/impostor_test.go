package printing_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/kiosk/staff"
)

// trap is a machine that listens and writes down what it is told.
type trap struct {
	at netip.AddrPort

	mu   sync.Mutex
	said bytes.Buffer
}

// setTrap has a machine listen that ends a connection at once when it talks of something else than it knows (it refuses
// TLS), or never (it is silent).
func setTrap(t *testing.T, refuses bool) *trap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &trap{at: l.Addr().(*net.TCPAddr).AddrPort()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					tr.mu.Lock()
					tr.said.Write(b[:n])
					tr.mu.Unlock()
					if err != nil {
						return
					}
					if refuses {
						_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return tr
}

// TestTakenOver has another host take over all that an adopted printer announces, and answer with nothing that proves
// anything. It is told nothing but the beginning of TLS, and staff are told where it is.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	for _, tt := range []struct {
		name    string
		refuses bool
		types   []string // that it takes over; what the printer says by the other stays
	}{
		{"it refuses TLS", true, []string{"_ipp._tcp", "_ipps._tcp"}},
		{"it is silent", false, []string{"_ipp._tcp", "_ipps._tcp"}},
		{"in the clear only", true, []string{"_ipp._tcp"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{UUID: uuid, TLS: true})
			var b bell
			cfg := quick(p, &memory{})
			cfg.Adopted[0].Keys, cfg.Adopted[0].Link = p.Pins(), staff.LinkTLS
			b.use(&cfg)
			s := spooler(t, cfg)
			run(t, s)
			own := service(t, p, uuid)
			s.Found([]dnssd.Service{own})
			until(t, "online", 10*time.Second, func() bool { return device(t, s).Presence == staff.Online })

			tr := setTrap(t, tt.refuses)
			var lies []dnssd.Service
			for _, typ := range tt.types {
				lie := own
				lie.Type, lie.Host, lie.Addrs, lie.Port = typ, "evil.local", []netip.Addr{tr.at.Addr()}, int(tr.at.Port())
				lie.Sources = append([]netip.Addr{netip.MustParseAddr("127.0.0.2")}, own.Addrs...) // its own packets count too
				lies = append(lies, lie)
			}
			if len(tt.types) == 1 {
				lies = append(lies, own)
			}
			s.Found(lies)
			until(t, "the alarm", 30*time.Second, func() bool { return b.has(staff.AlarmDuplicate) })
			if a, _ := b.get(staff.AlarmDuplicate); a.Subject != uuid || !strings.Contains(a.New, tr.at.String()) {
				t.Errorf("alarm %+v, want one that names %v", a, tr.at)
			}
			asked := p.Requests("Get-Printer-Attributes")
			until(t, "a few looks more", 60*time.Second, func() bool { return p.Requests("Get-Printer-Attributes") > asked+1 })
			if n := b.rung.Load(); n != 1 || device(t, s).Presence != staff.Online {
				t.Errorf("%d alarms %+v, device %+v", n, b.List(), device(t, s))
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			said := tr.said.Bytes()
			for _, word := range []string{"HTTP/", "attributes-charset", uuid} {
				if bytes.Contains(said, []byte(word)) {
					t.Errorf("it was told %q", word)
				}
			}
			if len(said) > 0 && (said[0] != 0x16 || said[1] != tls.VersionTLS10>>8) { // handshake (RFC 8446 §5.1)
				t.Errorf("it was told %q", said)
			}
		})
	}
}
