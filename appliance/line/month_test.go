package line_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/hub/ingest"
	hubsqlite "sportello.example/sync/hub/sqlite"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// desk is the hub's real judgement and database, without a network.
type desk struct {
	in    *ingest.Ingest
	up    atomic.Bool
	calls atomic.Int64
	lose  atomic.Int64 // how many replies get lost
}

var errLine = errors.New("no route to host")

// Deliver implements outbox.Hub: everything goes through the bytes that would travel.
func (d *desk) Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error) {
	d.calls.Add(1)
	if !d.up.Load() {
		return wire.Reply{}, errLine
	}
	plain, err := b.Append(nil)
	if err != nil {
		return wire.Reply{}, err
	}
	if b, err = envelope.ParseBatch(plain); err != nil {
		return wire.Reply{}, err
	}
	r, err := d.in.Deliver(ctx, 1, b)
	if err != nil {
		return wire.Reply{}, err
	}
	if d.lose.Add(-1) >= 0 {
		return wire.Reply{}, errLine
	}
	text, err := json.Marshal(r)
	if err != nil {
		return wire.Reply{}, err
	}
	var back wire.Reply
	return back, json.Unmarshal(text, &back)
}

// openDesk opens the hub of a town in dir. The database is to be closed by who asked for it.
func openDesk(t *testing.T, dir string, town *hubtest.Town) (*desk, *hubsqlite.Store) {
	t.Helper()
	key, err := town.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	hub, err := hubsqlite.Open(t.Context(), filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	return &desk{in: &ingest.Ingest{
		Store: hub, Ring: seal.Ring{key}, Key: town.SignKey(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}}, hub
}

// TestLineUp takes the line away for an hour again and again, in fake time. After that long a relay tries every few
// minutes: only because it is told that the line is up can its queue be empty within half a minute.
func TestLineUp(t *testing.T) {
	const (
		outages = 30
		ping    = 5 * time.Second // how soon somebody sees that the line is up
	)
	dir := t.TempDir()
	town, err := hubtest.NewTown(t.Context(), dir, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d, hub := openDesk(t, dir, town)
		store := openStore(t, dir, town, 1)
		relay := outbox.New(store, d, outbox.Options{
			Box: func() uint32 { return 1 }, Keys: func() []ed25519.PublicKey { return town.Keys() },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := relay.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for n := range outages {
			d.up.Store(false)
			if err := store.Enqueue(ctx, event.Event{Kind: event.PrintDone, Session: fmt.Sprint(n), Kiosk: 1}); err != nil {
				t.Fatal(err)
			}
			relay.Kick()
			time.Sleep(time.Hour)
			d.up.Store(true)
			time.Sleep(ping)
			relay.LineUp()
			time.Sleep(healed - ping)
			if chains, err := store.Chains(ctx); err != nil || len(chains) != 0 {
				t.Errorf("outage %d: %v after the line has healed, left on the box: %v, %v", n, healed, chains, err)
			}
			time.Sleep(10 * time.Minute) // whatever is left is gone before the next one
		}
		cancel()
		wg.Wait()
		if err := errors.Join(store.Close(), hub.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestMonthOffline lets a box work for a month without a line, in fake time, with both real databases. It must neither
// hammer nor give up, keep every event, and have handed over all of them soon after the line has come back, though nobody
// tells it.
func TestMonthOffline(t *testing.T) {
	const (
		days   = 30
		visits = 40 // a day
	)
	dir := t.TempDir()
	town, err := hubtest.NewTown(t.Context(), dir, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d, hub := openDesk(t, dir, town)
		store := openStore(t, dir, town, 1)
		relay := outbox.New(store, d, outbox.Options{
			Box: func() uint32 { return 1 }, Keys: func() []ed25519.PublicKey { return town.Keys() },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := relay.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		epoch := store.Epoch()
		for day := range days {
			for n := range visits {
				session := fmt.Sprintf("%d.%d", day, n)
				if err := store.Enqueue(ctx,
					event.Event{Kind: event.SessionStarted, Session: session, Kiosk: 1},
					event.Event{Kind: event.StepAnswered, Session: session, Kiosk: 1, Detail: event.Detail{Step: "service"}},
					event.Event{Kind: event.RequestLeft, Session: session, Kiosk: 1, Private: request(session)},
					event.Event{Kind: event.SessionEnded, Session: session, Kiosk: 1, Detail: event.Detail{Outcome: "request_left"}},
				); err != nil {
					t.Fatal(err)
				}
				relay.Kick()
				time.Sleep(10 * time.Minute)
			}
			time.Sleep(24*time.Hour - visits*10*time.Minute)
		}
		if n := d.calls.Load(); n < days*24*12 || n > days*24*60 {
			t.Errorf("%d attempts in a month", n)
		}
		d.lose.Store(3) // and the first replies do not arrive
		d.up.Store(true)
		time.Sleep(4*5*time.Minute + time.Minute) // the longest pause, and one more after each reply that is lost
		if chains, err := store.Chains(ctx); err != nil || len(chains) != 0 {
			t.Errorf("left on the box: %v, %v", chains, err)
		}
		if store.Epoch() != epoch {
			t.Error("a new epoch has begun, for nothing")
		}
		cancel()
		wg.Wait()
		if err := errors.Join(store.Close(), hub.Close()); err != nil {
			t.Error(err)
		}
	})
	stored, err := town.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for session, n := range stored {
		if n != 4 {
			t.Errorf("%d events of visit %s, want 4", n, session)
		}
	}
	if len(stored) != days*visits {
		t.Errorf("%d visits at the hub, want %d", len(stored), days*visits)
	}
}

// request is what a citizen leaves.
func request(code string) []byte {
	b, err := json.Marshal(wire.Request{Code: code, Certificates: []string{"residenza"}, Recipient: "private", Holder: "self", Language: "it"})
	if err != nil {
		panic(err) // it is a fixed text
	}
	return b
}
