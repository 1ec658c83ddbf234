package faults_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/outbox"
	"sportello.example/sync/uplink"
)

const (
	kills    = 40
	patience = time.Minute // in which a box that stores nothing has delivered all
)

// killedBox is the role of a whole box without kiosks: it stores events and delivers them. Its args are the town's
// directory, that of its identity, that of its queue, the hub's address and the ID of the first event, 0 to store none.
// For each event that is stored it writes the ID; when it stores none it ends as soon as its queue is empty. It ends with
// its commands, too.
func killedBox(ctx context.Context, args []string, commands <-chan string, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for range commands { //nolint:revive // until the parent has closed them or has died
		}
	}()
	town, err := hubtest.LoadTown(args[0])
	if err != nil {
		return err
	}
	id, err := identity.Load(args[1])
	if err != nil {
		return err
	}
	key, err := town.SealKey()
	if err != nil {
		return err
	}
	var next int
	if _, err := fmt.Sscan(args[4], &next); err != nil {
		return err
	}
	u := newUnit("box", args[2])
	if err := u.open(ctx, time.Now, key.Public()); err != nil {
		return err
	}
	client, err := uplink.New(args[3], id, uplink.Options{Now: time.Now})
	if err != nil {
		return err
	}
	defer client.Close()
	relay := outbox.New(u.store, client, outbox.Options{
		Box: func() uint32 { return boxNumber }, Keys: func() []ed25519.PublicKey { return town.Keys() },
		MinPause: 20 * time.Millisecond, Gather: time.Millisecond,
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Run(ctx) })
	fmt.Fprintln(out, "open")
	streams := envelope.Streams()[1:]
	for ; next > 0; next++ {
		if err := u.put(ctx, next, streams[next%len(streams)]); err != nil {
			return err
		}
		fmt.Fprintln(out, next)
		relay.Kick()
	}
	for {
		if chains, err := u.store.Chains(ctx); err != nil || len(chains) == 0 {
			cancel()
			wg.Wait()
			return err
		}
		select {
		case <-ctx.Done():
			wg.Wait()
			return ctx.Err() // the queue is not empty
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestKill kills a box forty times while it stores events and delivers them to a hub over TLS. Every event that the
// kiosk was told is stored is at the hub exactly once.
func TestKill(t *testing.T) {
	town, err := hubtest.NewTown(t.Context(), t.TempDir(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	who, queue := filepath.Join(t.TempDir(), "identity"), t.TempDir()
	if _, err := town.Identity(t.Context(), who, boxNumber); err != nil {
		t.Fatal(err)
	}
	hub := loadtest.StartChild(t, "hub", town.Dir, "tls")
	base := hub.Line()
	next, promised := 1, map[int]bool{}
	promise := func(line string) {
		t.Helper()
		var id int
		if _, err := fmt.Sscan(line, &id); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		promised[id] = true
		next = max(next, id+1)
	}
	for range kills {
		child := loadtest.StartChild(t, "box", town.Dir, who, queue, base, fmt.Sprint(next))
		if got := child.Line(); got != "open" {
			t.Fatal(got)
		}
		promise(child.Line()) // a box that has stored nothing has nothing to lose
		time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		child.Kill()
		for line, ok := child.Next(); ok; line, ok = child.Next() {
			promise(line)
		}
		next++ // the one that was on its way
	}
	child := loadtest.StartChild(t, "box", town.Dir, who, queue, base, "0")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, ok := child.Next(); ok; _, ok = child.Next() { //nolint:revive // until it has ended: its queue is empty
		}
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatalf("after %v the box has not delivered all", patience)
	}
	if err := child.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := hub.Stop(); err != nil {
		t.Fatal(err)
	}
	arrived, err := town.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := range promised {
		if n := arrived[sessionOf(id)]; n != 1 {
			t.Errorf("event %d is at the hub %d times", id, n)
		}
	}
	for s, n := range arrived {
		if n != 1 {
			t.Errorf("%s is at the hub %d times", s, n)
		}
	}
	if len(promised) < 10*kills {
		t.Errorf("only %d events were stored: what was tested?", len(promised))
	}
	t.Logf("%d kills, %d events stored, each of them once at the hub", kills, len(promised))
}
