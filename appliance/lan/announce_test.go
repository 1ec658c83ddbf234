package lan_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/lan/lantest"
)

// TestBoxIsFound has another machine's Avahi find the box and its address, while the box looks for printers.
func TestBoxIsFound(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	kiosk := l.Host(t, "kiosk", 21)
	kiosk.Avahi(t)
	browse(t, l, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	gone := make(chan error, 1)
	go func() {
		gone <- dnssd.Announce(ctx, dnssd.Announcement{
			Instance: "Sportello Città Studi", Type: "_http._tcp", Host: "sportello-citta-studi", Claim: true, Port: 80,
			TXT: map[string]string{"path": "/"}, Interfaces: []string{l.Interface()}, Log: logger(t), Now: time.Now,
		})
	}()
	ask := func(args ...string) string {
		out, _ := kiosk.Command(t.Context(), args...).CombinedOutput() // it fails while there is no answer
		return string(out)
	}
	began := time.Now()
	within(t, "announced", began, 2*time.Second, func() bool {
		out := ask("avahi-browse", "-rptl", "_http._tcp")
		return strings.Contains(out, `Sportello\032Citt\195\160\032Studi`) && strings.Contains(out, `"path=/"`) && strings.Contains(out, ";"+l.Addr(2).String()+";80;")
	})
	card, err := net.InterfaceByName(l.Interface())
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := card.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-4", "-6"} {
		out := ask("avahi-resolve", flag, "-n", "sportello-citta-studi.local")
		_, address, _ := strings.Cut(strings.TrimSpace(out), "\t")
		if !slices.ContainsFunc(addrs, func(a net.Addr) bool { return strings.HasPrefix(a.String(), address+"/") }) ||
			strings.Contains(address, ":") != (flag == "-6") {
			t.Errorf("avahi-resolve %s: %q, want one of %v", flag, out, addrs)
		}
	}
	stop()
	began = time.Now()
	if err := <-gone; err != nil {
		t.Error(err)
	}
	within(t, "goodbye", began, 2*time.Second, func() bool {
		return !strings.Contains(ask("avahi-browse", "-rptl", "_http._tcp"), "Sportello")
	})
}
