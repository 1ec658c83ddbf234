package outbox_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/outbox/outboxtest"
	"sportello.example/sync/wire"
)

// errLine is what a line that is cut says.
var errLine = &net.OpError{Op: "dial", Err: errors.New("no route to host")}

// busyError is a hub that wants to be left alone.
type busyError struct{ wait time.Duration }

func (e *busyError) Error() string             { return "hub is busy" }
func (e *busyError) RetryAfter() time.Duration { return e.wait }

// line stands before a hub and can be changed while it is used.
type line struct {
	mu    sync.Mutex
	calls int
	at    []time.Time
	do    func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error)
}

func (l *line) call(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
	l.mu.Lock()
	l.calls++
	l.at = append(l.at, time.Now())
	do := l.do
	l.mu.Unlock()
	if do == nil {
		return next(b), nil
	}
	return do(b, next)
}

func (l *line) set(do func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do = do
}

func (l *line) cut() {
	l.set(func(envelope.Batch, func(envelope.Batch) wire.Reply) (wire.Reply, error) {
		return wire.Reply{}, errLine
	})
}

func (l *line) tally() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// rig is a queue, a relay that runs, and a hub, in fake time.
type rig struct {
	*outboxtest.Queue
	hub   *outboxtest.Hub
	line  *line
	relay *outbox.Relay
	log   *buffer
}

// relaying runs do beside a relay.
func relaying(t *testing.T, do func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &rig{Queue: outboxtest.NewQueue(7), hub: outboxtest.NewHub(time.Now), line: &line{}, log: &buffer{}}
		g.hub.Line = g.line.call
		g.relay = outbox.New(g.Queue, g.hub, outbox.Options{
			Box: func() uint32 { return 7 }, Keys: g.hub.Keys, Log: slog.New(slog.NewTextHandler(g.log, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.relay.Run(ctx) }()
		synctest.Wait() // the relay has seen that there is nothing
		do(t, g)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
}

// drained checks that everything that was queued is at the hub once.
func (g *rig) drained(t *testing.T, want int) {
	t.Helper()
	if n := g.Queued(); n != 0 {
		t.Errorf("%d numbers wait on the box, want none", n)
	}
	got := 0
	for body, n := range g.hub.Bodies() {
		if got++; n != 1 {
			t.Errorf("event %s is stored %d times", body, n)
		}
	}
	if got != want {
		t.Errorf("%d events are at the hub, want %d", got, want)
	}
}

func chainOf(e envelope.Epoch, s envelope.Stream) envelope.Chain {
	return envelope.Chain{Epoch: e, Stream: s}
}

func TestMonthOffline(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		g.line.cut()
		n := 0
		for range 30 {
			for range 60 {
				for _, s := range envelope.Streams()[1:] {
					g.Add(s, fmt.Sprint(n))
					g.relay.Kick()
					n++
				}
				time.Sleep(time.Minute)
			}
			time.Sleep(23 * time.Hour)
		}
		offline := g.line.tally()
		// It neither gives up nor hammers, and says so once.
		if offline < 30*24*12 || offline > 30*24*60 {
			t.Errorf("%d attempts in a month", offline)
		}
		if got := strings.Count(g.log.String(), "\n"); got != 1 {
			t.Errorf("%d lines in the log, want 1", got)
		}
		lost := 0
		g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			if lost++; lost <= 3 {
				_ = next(b)
				return wire.Reply{}, errLine // the reply is lost
			}
			return next(b), nil
		})
		g.relay.LineUp()
		time.Sleep(time.Minute)
		g.drained(t, n)
		t.Logf("%d attempts while offline, %d after", offline, g.line.tally()-offline)
	})
}

func TestLineReturnsUnnoticed(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		g.line.cut()
		g.Add(envelope.Diag, "x")
		time.Sleep(48 * time.Hour)
		g.line.set(nil)
		time.Sleep(5*time.Minute + time.Second) // nobody kicks
		g.drained(t, 1)
	})
}

func TestKick(t *testing.T) {
	t.Run("legal goes at once", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			time.Sleep(time.Hour)
			g.Add(envelope.Legal, "x")
			start := time.Now()
			g.relay.Kick()
			synctest.Wait()
			if time.Since(start) != 0 {
				t.Errorf("after %v", time.Since(start))
			}
			g.drained(t, 1)
		})
	})
	t.Run("legal goes at once while others gather", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			time.Sleep(time.Hour)
			g.Add(envelope.Session, "x")
			g.relay.Kick()
			time.Sleep(5 * time.Second)
			g.Add(envelope.Legal, "y")
			g.relay.Kick()
			synctest.Wait()
			g.drained(t, 2)
		})
	})
	t.Run("others gather", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			time.Sleep(time.Hour)
			for i := range 1000 {
				g.Add(envelope.Stats, fmt.Sprint(i))
				g.relay.Kick()
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(11 * time.Second)
			g.drained(t, 1000)
			if n := g.line.tally(); n > 20 {
				t.Errorf("%d batches in 100 s", n)
			}
		})
	})
	t.Run("does not hammer a hub that is down", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			g.line.cut()
			for i := range 10_000 {
				g.Add(envelope.Legal, fmt.Sprint(i))
				g.relay.Kick()
				time.Sleep(time.Millisecond)
			}
			if n := g.line.tally(); n > 11 {
				t.Errorf("%d attempts in 10 s", n)
			}
		})
	})
}

func TestRetryAfter(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		busy := func(envelope.Batch, func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			return wire.Reply{}, fmt.Errorf("deliver: %w", &busyError{10 * time.Minute})
		}
		g.line.set(busy)
		g.Add(envelope.Legal, "x")
		g.relay.Kick()
		synctest.Wait()
		g.line.set(nil)
		for range 9 {
			time.Sleep(time.Minute)
			g.relay.LineUp() // the hub can be reached, but it has said when it wants to be
			g.relay.Kick()
		}
		synctest.Wait()
		if n := g.line.tally(); n != 1 {
			t.Errorf("%d attempts in 9 minutes, want 1", n)
		}
		time.Sleep(time.Minute + 10*time.Minute/8 + time.Second)
		g.drained(t, 1)
	})
}

func TestNotEnrolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, h := outboxtest.NewQueue(0), outboxtest.NewHub(time.Now)
		var mu sync.Mutex
		box, keys := uint32(0), []ed25519.PublicKey(nil)
		r := outbox.New(q, h, outbox.Options{
			Box:  func() uint32 { mu.Lock(); defer mu.Unlock(); return box },
			Keys: func() []ed25519.PublicKey { mu.Lock(); defer mu.Unlock(); return keys },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		q.Add(envelope.Legal, "x")
		r.Kick()
		time.Sleep(time.Hour)
		if n := len(h.Batches()); n != 0 {
			t.Errorf("%d batches of a box that is not enrolled", n)
		}
		mu.Lock()
		box, keys = 7, h.Keys()
		mu.Unlock()
		r.LineUp()
		synctest.Wait()
		if n := q.Queued(); n != 0 {
			t.Errorf("%d events wait", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBatches(t *testing.T) {
	t.Run("grow", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for i := range 50_000 {
				g.Add(envelope.Stats, fmt.Sprint(i))
			}
			g.relay.LineUp()
			synctest.Wait()
			g.drained(t, 50_000)
			largest := 0
			for _, b := range g.hub.Batches() {
				n := entries(b)
				largest = max(largest, n)
				if n > envelope.MaxEvents {
					t.Errorf("batch of %d", n)
				}
			}
			if first, n := entries(g.hub.Batches()[0]), g.line.tally(); first != 20 || largest != envelope.MaxEvents || n > 35 {
				t.Errorf("first %d, largest %d, %d batches", first, largest, n)
			}
		})
	})
	t.Run("shrink until the line carries them", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for i := range 5000 {
				g.Add(envelope.Session, fmt.Sprint(i))
			}
			g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				if entries(b) > 150 {
					return wire.Reply{}, context.DeadlineExceeded
				}
				return next(b), nil
			})
			g.relay.LineUp()
			time.Sleep(20 * time.Minute)
			g.drained(t, 5000)
			t.Logf("%d attempts", g.line.tally())
		})
	})
	t.Run("stay within their limits", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for range 300 {
				g.Add(envelope.Legal, strings.Repeat("x", 60<<10))
				g.Add(envelope.Diag, strings.Repeat("y", 60<<10))
			}
			g.relay.LineUp()
			synctest.Wait()
			if n := g.Queued(); n != 0 {
				t.Errorf("%d left", n)
			}
			for _, b := range g.hub.Batches() {
				if text, err := b.Append(nil); err != nil || len(text) > 4<<20+5*envelope.MaxEncoded {
					t.Errorf("batch of %d bytes, %v", len(text), err)
				}
			}
		})
	})
	t.Run("hold all streams, legal most", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for _, s := range envelope.Streams() {
				for i := range 10_000 {
					g.Add(s, fmt.Sprint(s, i))
				}
			}
			g.relay.LineUp()
			synctest.Wait()
			g.drained(t, 50_000)
			for i, b := range g.hub.Batches()[:8] {
				share := map[envelope.Stream]int{}
				for _, run := range b.Runs {
					share[run.Chain.Stream] += len(run.Entries)
				}
				n := entries(b)
				for _, s := range envelope.Streams() {
					if share[s] < n/10 {
						t.Errorf("batch %d: %d of %d for %s", i, share[s], n, s)
					}
				}
				if share[envelope.Legal] < n/2 {
					t.Errorf("batch %d: %d of %d for legal", i, share[envelope.Legal], n)
				}
			}
		})
	})
	t.Run("older epochs go first", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for i := range 100 {
				g.Add(envelope.Legal, fmt.Sprint("old", i))
			}
			old := g.Epoch()
			if err := g.Renew(t.Context(), chainOf(old, envelope.Legal), "forked"); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				g.Add(envelope.Legal, fmt.Sprint("new", i))
			}
			g.relay.LineUp()
			synctest.Wait()
			g.drained(t, 200)
			began := false
			for _, b := range g.hub.Batches() {
				for _, run := range b.Runs {
					if began && run.Chain.Epoch == old {
						t.Error("the old epoch comes after the new one")
					}
					began = began || run.Chain.Epoch != old
				}
			}
		})
	})
}

func entries(b envelope.Batch) (n int) {
	for _, run := range b.Runs {
		n += len(run.Entries)
	}
	return n
}

// startRelays runs a relay from each queue to h, until the function that it returns is called.
func startRelays(t *testing.T, h *outboxtest.Hub, queues ...*outboxtest.Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, q := range queues {
		r := outbox.New(q, h, outbox.Options{Box: func() uint32 { return 7 }, Keys: h.Keys, MaxPause: time.Minute})
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
