package ipptest_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
)

// TestSleeps announces the printer on the loopback: asleep it is not to be found, its port stays open, and a job wakes it.
func TestSleeps(t *testing.T) {
	p, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- p.Announce(ctx, []string{"lo"}) }()
	found := make(chan bool, 100)
	b := dnssd.Browser{Types: []string{"_ipp._tcp"}, Interfaces: []string{"lo"}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	go func() {
		done <- b.Run(ctx, func(all []dnssd.Service) {
			found <- slices.ContainsFunc(all, func(s dnssd.Service) bool { return s.TXT["uuid"] == p.UUID() })
		})
	}()
	await := func(want bool, when string) {
		t.Helper()
		for end := time.After(30 * time.Second); ; {
			select {
			case is := <-found:
				if is == want {
					return
				}
			case <-end:
				t.Fatalf("%s: found is not %v", when, want)
			}
		}
	}
	await(true, "awake")
	p.Sleep(true)
	await(false, "asleep")
	if is, err := c.Printer(t.Context()); err != nil || is.State != ipp.PrinterIdle || !p.Status().Asleep {
		t.Errorf("asleep it says %+v, %v", is, err)
	}
	wait(t, c, send(t, c).ID, ipp.JobCompleted)
	await(true, "woken by a job")
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
