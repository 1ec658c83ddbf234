package spidtest_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/hub/spid/spidtest"
)

func TestRefusesToServeOtherMachines(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:80", "example.org:80", "nonsense"} {
		if p, err := spidtest.New(spidtest.Config{Addr: addr, Now: time.Now}); err == nil {
			_ = p.Close()
			t.Errorf("%q: it listens", addr)
		}
	}
}

func TestIdP(t *testing.T) {
	p, err := spidtest.New(spidtest.Config{Addr: "127.0.0.1:0", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); wg.Wait() }()
	b := &spidtest.Browser{Client: http.DefaultClient}
	status := func(path string) int {
		t.Helper()
		if err := b.Open(t.Context(), p.URL()+path); err != nil {
			t.Fatal(err)
		}
		return b.Status
	}
	if got := status("/"); got != http.StatusOK {
		t.Errorf("home: status %d", got)
	}
	if got := status("/sso?SAMLRequest=x"); got != http.StatusServiceUnavailable {
		t.Errorf("before it knows a service provider: status %d", got)
	}
	p.Down(true)
	if got := status("/metadata"); got != http.StatusServiceUnavailable {
		t.Errorf("down: status %d", got)
	}
	p.Down(false)
	if got := status("/metadata"); got != http.StatusOK {
		t.Errorf("up again: status %d", got)
	}
	if err := p.Fault("no such fault"); err == nil {
		t.Error("takes any fault")
	}
	names := make(map[string]bool)
	for _, f := range spidtest.Faults() {
		if names[f.Name] {
			t.Errorf("two faults are called %q", f.Name)
		}
		names[f.Name] = true
	}
}
