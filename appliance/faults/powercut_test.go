package faults_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

const cuts = 20

// writer is the role of a box that stores events as fast as it can, four at a time. Its args are a directory, the hub's
// sealing key and the ID of the first event; for each event that is stored it writes the ID and when it knew that.
func writer(ctx context.Context, args []string, commands <-chan string, out io.Writer) error {
	key, err := hex.DecodeString(args[1])
	if err != nil {
		return err
	}
	var next int
	if _, err := fmt.Sscan(args[2], &next); err != nil {
		return err
	}
	u := newUnit("box", args[0])
	if err := u.open(ctx, time.Now, key); err != nil {
		return err
	}
	fmt.Fprintln(out, "open")
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	streams := envelope.Streams()[1:]
	for range 4 {
		wg.Go(func() {
			for {
				mu.Lock()
				id := next
				next++
				mu.Unlock()
				if err := u.put(ctx, id, streams[id%len(streams)]); err != nil {
					return // the disk is gone
				}
				fmt.Fprintf(out, "%d %d\n", id, loadtest.Monotonic())
			}
		})
	}
	wg.Wait()
	for range commands { //nolint:revive // the plug is pulled by the parent
	}
	return nil
}

// TestPowerCut cuts a disk's power twenty times under a box that stores events. Every event that was acknowledged to the
// kiosk before the cut is there afterwards, no number is given to two events, and no false alarm is raised.
func TestPowerCut(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	hubKey, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := hex.EncodeToString(hubKey.Public())
	d := newDisk(t, 600)
	// The queue is made before the first cut.
	first := newUnit("box", d.dir)
	if err := errors.Join(first.open(t.Context(), time.Now, hubKey.Public()), first.put(t.Context(), 1, envelope.Legal)); err != nil {
		t.Fatal(err)
	}
	epoch := first.store.Epoch()
	if err := first.store.Close(); err != nil {
		t.Fatal(err)
	}
	next, promised, numbers := 2, map[int]bool{1: true}, map[key]int{}
	for round := range cuts {
		child := loadtest.StartChild(t, "writer", d.dir, public, fmt.Sprint(next))
		if got := child.Line(); got != "open" {
			t.Fatal(got)
		}
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		at := loadtest.Monotonic()
		if err := d.cut(); err != nil {
			t.Fatal(err)
		}
		child.Kill()
		acked := 0
		for line, ok := child.Next(); ok; line, ok = child.Next() {
			var id int
			var when int64
			if _, err := fmt.Sscan(line, &id, &when); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if next = max(next, id+1); when < at {
				promised[id] = true
				acked++
			}
		}
		next += 4 // those that were on their way
		d.unmount()
		d.mount()
		after(t, d.dir, hubKey.Public(), epoch, promised, numbers)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		if acked == 0 {
			t.Errorf("round %d: nothing was stored before the cut", round)
		}
	}
	t.Logf("%d cuts, %d acknowledged events, none lost", cuts, len(promised))
}

// after looks at what is on a disk after a cut.
func after(t *testing.T, dir string, public []byte, epoch envelope.Epoch, promised map[int]bool, numbers map[key]int) {
	t.Helper()
	u := newUnit("box", dir)
	if err := u.open(t.Context(), time.Now, public); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.store.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := u.store.Epoch(); got != epoch {
		t.Errorf("false alarm: a new epoch was begun")
	}
	h, err := u.held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for id := range promised {
		if _, ok := h.ids[id]; !ok {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost", lost, len(promised))
	}
	for id, k := range h.ids {
		if before, ok := numbers[k]; ok && before != id {
			t.Errorf("number %d of %s was given to event %d and to event %d", k.seq, k.chain, before, id)
		}
		numbers[k] = id
	}
	if n := h.kinds[event.Gap] + h.kinds[event.QueueDropped] + h.kinds[event.EventDead]; n > 0 {
		t.Errorf("%d false alarms", n)
	}
}
