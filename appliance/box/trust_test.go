package box

import (
	"io"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox/outboxtest"
)

// kept returns how many legal events are kept although the hub has them, and how many wait.
func kept(t *testing.T, q *queue) (kept, queued int) {
	t.Helper()
	r, err := q.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Streams {
		if s.Stream == envelope.Legal {
			kept, queued = s.Kept, s.Queued
		}
	}
	return kept, queued
}

// TestKeepTimeIsTheHubs has the hub take ten events while the box believes to be in 1970.
func TestKeepTimeIsTheHubs(t *testing.T) {
	now := time.Unix(1000, 0)
	q := newQueue(t, t.TempDir(), io.Discard, func() time.Time { return now })
	for range 10 {
		if err := q.note(event.PrintDone, event.Detail{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Acked(t.Context(), envelope.Chain{Epoch: q.Epoch(), Stream: envelope.Legal}, 10, 0); err != nil {
		t.Fatal(err)
	}
	today := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		what string
		do   func()
		kept int
	}{
		{"NTP sets the clock", func() { now = today }, 10},
		{"the hub says the time", func() { q.hubSaid(t.Context(), today, 0) }, 10},
		{"somebody sets it to 2036", func() { now = today.AddDate(10, 0, 0) }, 10},
		{"and to 1970", func() { now = time.Unix(1000, 0) }, 10},
		{"and back", func() { now = today }, 10},
		{"the hub says that 31 days have passed", func() { q.hubSaid(t.Context(), today.AddDate(0, 0, 31), 0) }, 0},
	} {
		step.do()
		if err := q.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, _ := kept(t, q); n != step.kept {
			t.Errorf("%s: %d events are kept, want %d", step.what, n, step.kept)
		}
	}
}

// TestAnotherNumber has a hub let the box in anew under another number.
func TestAnotherNumber(t *testing.T) {
	q := newQueue(t, t.TempDir(), io.Discard, time.Now)
	id, _ := enrolled(t, outboxtest.NewHub(time.Now))
	believing(t, q, id)
	old := q.Epoch()
	for range 5 {
		if err := q.note(event.PrintDone, event.Detail{}); err != nil {
			t.Fatal(err)
		}
	}
	c := envelope.Chain{Epoch: old, Stream: envelope.Legal}
	if err := q.Acked(t.Context(), c, 3, 0); err != nil {
		t.Fatal(err)
	}
	e, err := id.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	for _, box := range []uint32{7, 8, 8} {
		e.Box = box
		if err := q.believe(id, e); err != nil {
			t.Fatal(err)
		}
		if q.box() != box || (q.Epoch() == old) != (box == 7) {
			t.Errorf("box %d delivers in epoch %s as box %d", box, q.Epoch(), q.box())
		}
	}
	if err := q.Acked(t.Context(), c, 0, 0); err != nil { // the hub has nothing of box 8
		t.Fatal(err)
	}
	if n, queued := kept(t, q); n != 0 || queued != 2+1 {
		t.Errorf("%d are kept and %d wait, want the two that no hub has, and why the epoch began", n, queued)
	}
}
