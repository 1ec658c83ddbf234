package uplink_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/sync/health"
	"sportello.example/sync/uplink"
)

func TestMonitor(t *testing.T) {
	h := startHub(t)
	var fake atomic.Int64 // added to the clock with every ping, to make pings slow
	var skew atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	board := health.New(now)
	lines := make(chan string, 100)
	m := &uplink.Monitor{
		Client: h.client(t, uplink.Options{}), Board: board, Now: now, Every: func() time.Duration { return time.Hour },
		OnUp: func(outage time.Duration) {
			if outage < time.Minute {
				lines <- "up too soon"
				return
			}
			lines <- "up"
		},
		OnDown: func() { lines <- "down" },
		OnPing: func(uplink.Pong) { lines <- "pong" },
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed := board.Watch(ctx)
	reply := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			skew.Add(fake.Load())
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}
	}
	until := func(hub, registry health.State) {
		t.Helper()
		for {
			s := board.Snapshot()
			if s[health.Hub].State == hub && s[health.Registry].State == registry {
				return
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("got %+v, want hub %s, registry %s", s, hub, registry)
			}
		}
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", want)
		}
	}

	h.answer(reply(`{"version":1,"anpr":true}`))
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	next("pong")
	until(health.Up, health.Up)

	h.answer(reply(`{"version":1,"anpr":false}`))
	m.Failed()
	next("pong")
	until(health.Up, health.Down)

	fake.Store(int64(3 * time.Second))
	m.Failed()
	next("pong")
	until(health.Slow, health.Down)
	fake.Store(0)

	h.answer(reply("garbage"))
	m.Failed()
	next("down")
	until(health.Down, health.Unknown)
	since := board.Status(health.Hub).Since
	skew.Add(int64(time.Hour))
	m.Failed() // still down: nobody is told again
	h.answer(reply(`{"version":1,"anpr":true}`))
	m.Failed()
	next("pong")
	next("up")
	until(health.Up, health.Up)
	if got := board.Status(health.Hub).Since; got.Sub(since) < time.Hour {
		t.Errorf("up since %v, was down since %v", got, since)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
