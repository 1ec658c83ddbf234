package dnssd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

var lo = []string{"lo"}

// browse runs a browser, on the loopback interface unless it names others, until the test ends, and returns a function
// that waits until what it knows satisfies ok.
func browse(t *testing.T, b *Browser) func(what string, within time.Duration, ok func([]Service) bool) []Service {
	t.Helper()
	b.Log, b.Now = slog.New(slog.DiscardHandler), time.Now
	if b.Interfaces == nil {
		b.Interfaces = lo
	}
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var last []Service
	done := make(chan error, 1)
	go func() {
		done <- b.Run(ctx, func(s []Service) {
			mu.Lock()
			defer mu.Unlock()
			last = s
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return func(what string, within time.Duration, ok func([]Service) bool) []Service {
		t.Helper()
		for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			now := last
			mu.Unlock()
			if ok(now) {
				return now
			}
			if time.Now().After(end) {
				t.Fatalf("%s: not within %v; known: %+v", what, within, now)
			}
		}
	}
}

func announce(t *testing.T, a Announcement) (stop func()) {
	t.Helper()
	a.Log, a.Now = slog.New(slog.DiscardHandler), time.Now
	if a.Interfaces == nil {
		a.Interfaces = lo
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Announce(ctx, a) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Announce: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func unique(t *testing.T, name string) string {
	return fmt.Sprintf("%s %d", name, time.Now().UnixNano())
}

func named(name string) func([]Service) bool {
	return func(all []Service) bool {
		return slices.ContainsFunc(all, func(s Service) bool { return s.Instance == name })
	}
}

func TestLoopbackAlone(t *testing.T) {
	t.Parallel()
	t.Run("finds what was announced before", func(t *testing.T) {
		t.Parallel()
		name := unique(t, "Città – Sala 1.0 (nuova)")
		announce(t, Announcement{
			Instance: name, Type: "_ipp._tcp", Host: "sala", Port: 8631,
			TXT: map[string]string{"rp": "ipp/print", "note": "primo piano, è", "txtvers": "1", "UUID": "x"},
		})
		browse(t, &Browser{Types: []string{"_ipp._tcp"}})("announced service", patience, named(name))
		find := browse(t, &Browser{Types: []string{"_ipp._tcp", "_ipps._tcp"}})
		all := find("service announced before", patience, named(name))
		s := all[slices.IndexFunc(all, func(s Service) bool { return s.Instance == name })]
		if !slices.Contains(s.Addrs, netip.MustParseAddr("127.0.0.1")) || s.Port != 8631 || s.Host != "sala.local" ||
			s.TXT["note"] != "primo piano, è" || s.TXT["uuid"] != "x" || s.Type != "_ipp._tcp" {
			t.Errorf("found %+v", s)
		}
	})
	t.Run("finds what is announced later", func(t *testing.T) {
		t.Parallel()
		find := browse(t, &Browser{Types: []string{"_ipp._tcp"}})
		find("first look", patience, func(all []Service) bool { return all != nil })
		name := unique(t, "late")
		announce(t, Announcement{Instance: name, Type: "_ipp._tcp", Port: 8631})
		find("late service", patience, named(name))
	})
	t.Run("sees a new port and a goodbye", func(t *testing.T) {
		t.Parallel()
		name := unique(t, "moving")
		stop := announce(t, Announcement{Instance: name, Type: "_ipp._tcp", Host: "h", Port: 1000})
		find := browse(t, &Browser{Types: []string{"_ipp._tcp"}})
		find("first port", patience, named(name))
		stop()
		stop = announce(t, Announcement{Instance: name, Type: "_ipp._tcp", Host: "h", Port: 2000})
		find("second port", patience, func(all []Service) bool {
			return slices.ContainsFunc(all, func(s Service) bool { return s.Instance == name && s.Port == 2000 })
		})
		stop()
		find("forgotten", patience, func(all []Service) bool { return !named(name)(all) })
	})
}

func TestNothingLeavesTheLoopback(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(224, 0, 0, 0), Port: 5353})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p := ipv4.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		t.Fatal(err)
	}
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	ifaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(unique(t, "stay"), " ", "")
	marker := name + "-marker"
	outside := map[int]string{}
	for _, ifi := range ifaces {
		if ifi.Flags&net.FlagUp == 0 {
			continue
		}
		if err := p.JoinGroup(&ifi, group); err != nil {
			continue
		}
		if ifi.Flags&net.FlagLoopback != 0 {
			continue
		}
		// Proves that this listener would see a packet sent there. A TTL of 0 keeps it inside this machine.
		if err := p.SetMulticastTTL(0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteTo([]byte(marker), &ipv4.ControlMessage{IfIndex: ifi.Index}, group); err == nil {
			outside[ifi.Index] = ifi.Name
		}
	}

	announce(t, Announcement{Instance: name, Type: "_ipp._tcp", Port: 8631})
	browse(t, &Browser{Types: []string{"_" + strings.ToLower(name[:12]) + "._tcp", "_ipp._tcp"}})("itself", patience, named(name))

	if err := conn.SetReadDeadline(time.Now().Add(1500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	marked, onLo := map[int]bool{}, 0
	buf := make([]byte, 9000)
	for {
		n, cm, _, err := p.ReadFrom(buf)
		if err != nil {
			break
		}
		switch text := strings.ToLower(string(buf[:n])); {
		case strings.Contains(text, marker):
			marked[cm.IfIndex] = true
		case !strings.Contains(text, strings.ToLower(name[:12])):
		case outside[cm.IfIndex] != "":
			t.Errorf("a packet about %s left through %s", name, outside[cm.IfIndex])
		default:
			onLo++
		}
	}
	if onLo == 0 {
		t.Error("no packet was seen on the loopback interface either")
	}
	for i, ifname := range outside {
		if !marked[i] {
			t.Errorf("this test cannot see what is sent through %s", ifname)
		}
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		b := Browser{Types: []string{"_ipp._tcp", "_ipps._tcp"}, Interfaces: lo, Log: slog.New(slog.DiscardHandler), Now: time.Now}
		if err := b.Run(ctx, func([]Service) {}); err != nil {
			t.Error(err)
		}
		cancel()
	}
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestNoInterface(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	b := Browser{Types: []string{"_ipp._tcp"}, Interfaces: []string{"nosuch0"}, Log: log, Now: time.Now}
	if err := b.Run(ctx, func(s []Service) { t.Errorf("found %v", s) }); err != nil {
		t.Errorf("Run: %v", err)
	}
	a := Announcement{Instance: "x", Type: "_http._tcp", Port: 80, Interfaces: []string{"nosuch0"}, Log: log, Now: time.Now}
	if err := Announce(ctx, a); err != nil {
		t.Errorf("Announce: %v", err)
	}
	if !strings.Contains(out.String(), "nosuch0") {
		t.Errorf("log does not say what is missing: %s", out.String())
	}
}

func TestAnnouncementThatCannotWork(t *testing.T) {
	for _, a := range []Announcement{
		{Instance: "", Type: "_http._tcp", Port: 80},
		{Instance: "x", Type: "_http._tcp"},
		{Instance: "x", Port: 80},
		{Instance: "x", Type: "_http._tcp", Port: 80, TXT: map[string]string{"k": strings.Repeat("x", 255)}},
	} {
		if err := Announce(t.Context(), a); err == nil {
			t.Errorf("%+v: no error", a)
		}
	}
}
