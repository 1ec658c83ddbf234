package box

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
)

// TestDiskLight fills the queue of a box, lets the hub take everything, and stores nothing afterwards.
func TestDiskLight(t *testing.T) {
	var log bytes.Buffer
	b := &Box{now: time.Now, board: health.New(time.Now)}
	b.log = slog.New(&quiet{slog.NewTextHandler(&log, nil), &b.noRoom})
	c := Config{Data: t.TempDir(), MaxPages: minPages}
	if err := c.defaults(); err != nil {
		t.Fatal(err)
	}
	q, err := openQueue(t.Context(), c, time.Now, clock.New(clock.Config{Now: time.Now, Machine: time.Now}), b.log.With("of", "queue"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	b.queue = q
	light := func(want health.State, why string) {
		t.Helper()
		b.lookAtDisk(t.Context())
		if got := b.board.Status(health.Disk); got.State != want || got.Detail != why {
			t.Errorf("the light is %s, %q, want %s, %q", got.State, got.Detail, want, why)
		}
	}
	light(health.Up, "")
	es := make([]event.Event, 100)
	for i := range es {
		es[i] = event.Event{Kind: event.PrintDone, Detail: event.Detail{Certificates: []string{strings.Repeat("x", 5000)}}}
	}
	for err == nil {
		err = q.Enqueue(t.Context(), es...)
	}
	if !full(err) {
		t.Fatal(err)
	}
	const refused = 20
	for range refused {
		b.note(event.PrintDone, event.Detail{Certificates: es[0].Detail.Certificates})
		for err = nil; err == nil; { // what was left for a small one
			err = q.Enqueue(t.Context(), es[0])
		}
	}
	light(health.Down, "full")
	if n := strings.Count(log.String(), "level=ERROR"); n > 2 || strings.Count(log.String(), "the disk is full") != 1 {
		t.Errorf("%d errors in the log: %s", n, log.String())
	}
	cs, err := q.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		if err := q.Acked(t.Context(), c.Chain, c.Last, c.Last); err != nil {
			t.Fatal(err)
		}
	}
	light(health.Up, "")
	if n := strings.Count(log.String(), "there is room on the disk again"); n != 1 || b.refused.Load() != 0 {
		t.Errorf("said %d times that there is room: %s", n, log.String())
	}
}
