package line_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/uplink"
)

// startHub starts a hub with n boxes and returns its town and its address.
func startHub(t *testing.T, n int) (town *hubtest.Town, base string) {
	t.Helper()
	town, err := hubtest.NewTown(t.Context(), t.TempDir(), "", n)
	if err != nil {
		t.Fatal(err)
	}
	commands := make(chan string)
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := hubtest.Hub(context.WithoutCancel(t.Context()), []string{town.Dir, "tls"}, commands, in)
		_ = in.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		close(commands)
		if err := <-done; err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	base, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return town, strings.TrimSpace(base)
}

// box is the part of a box that talks to a hub.
type box struct {
	store *sqlite.Store
	relay *outbox.Relay
	log   *slog.Logger
	stop  func()
}

// startBox starts a box that calls the hub at base, and down whenever it sees that the line is.
func startBox(t *testing.T, town *hubtest.Town, number uint32, base string, down func()) *box {
	t.Helper()
	dir := t.TempDir()
	id, err := town.Identity(t.Context(), filepath.Join(dir, "id"), number)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{log: slog.New(slog.DiscardHandler)}
	b.store = openStore(t, dir, town, number)
	b.start(t, town, id, number, base, down)
	return b
}

func openStore(t *testing.T, dir string, town *hubtest.Town, number uint32) *sqlite.Store {
	t.Helper()
	key, err := town.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(key.Public()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s, aside, err := sqlite.Open(t.Context(), sqlite.Config{
		Path: filepath.Join(dir, "box.db"), Now: time.Now, Box: func() uint32 { return number }, Seal: sealer.Seal,
		Stamp: func(boot uint32) envelope.Stamp {
			return envelope.Stamp{Wall: time.Now(), Boot: boot, Mono: time.Since(begin), Quality: envelope.Synced}
		},
	})
	if err != nil || aside != "" {
		t.Fatalf("%v, set aside as %q", err, aside)
	}
	return s
}

// start runs the relay and the monitor. Their shortest pauses are those of a box, divided by ten; the longest is that of
// a box, so that a relay that waits for it is late.
func (b *box) start(t *testing.T, town *hubtest.Town, id *identity.Identity, number uint32, base string, down func()) {
	t.Helper()
	client, err := uplink.New(base, id, uplink.Options{Now: time.Now, Connect: 300 * time.Millisecond, Timeout: 1500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b.relay = outbox.New(b.store, client, outbox.Options{
		Log: b.log, Box: func() uint32 { return number }, Keys: func() []ed25519.PublicKey { return town.Keys() },
		MinPause: 100 * time.Millisecond, MaxPause: 5 * time.Minute, Gather: 50 * time.Millisecond,
	})
	monitor := &uplink.Monitor{
		Client: client, Board: health.New(time.Now), Now: time.Now, Every: func() time.Duration { return 500 * time.Millisecond },
		OnUp: func(time.Duration) { b.relay.LineUp() }, OnDown: down,
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{b.relay.Run, monitor.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	b.stop = func() {
		cancel()
		wg.Wait()
		client.Close()
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// kinds of events of all streams.
var kinds = []event.Kind{event.PrintDone, event.SessionStarted, event.StepAnswered, event.LineDown}

// put stores the event of a session of its own.
func (b *box) put(t *testing.T, session string, n int) {
	t.Helper()
	if err := b.store.Enqueue(t.Context(), event.Event{Kind: kinds[n%len(kinds)], Session: session, Kiosk: 1}); err != nil {
		t.Fatal(err)
	}
	b.relay.Kick()
}

// drain waits until the queue is empty and returns how long that took.
func (b *box) drain(t *testing.T, most time.Duration) (time.Duration, error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		chains, err := b.store.Chains(t.Context())
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		if len(chains) == 0 {
			return took, nil
		}
		if took > most {
			return took, fmt.Errorf("the queue is not empty: %v", chains)
		}
	}
}

// quiet calls f, which wants a logger, with one that logs nothing.
func quiet[M, L, S any](f func(M, L) S, m M) S {
	var l L
	return f(m, l)
}
