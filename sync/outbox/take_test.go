package outbox_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/outbox/outboxtest"
	"sportello.example/sync/wire"
)

// hashes are those of a chain after each number from 0 on.
func hashes(t *testing.T, q *outboxtest.Queue, c envelope.Chain, last uint64) []envelope.Hash {
	t.Helper()
	out := make([]envelope.Hash, last+1)
	for n := range out {
		h, known, err := q.HashAt(t.Context(), c, uint64(n))
		if err != nil || !known {
			t.Fatalf("hash after %d: %v, %v", n, known, err)
		}
		out[n] = h
	}
	return out
}

// A hub that was restored may be behind all that a box keeps. The box has not been rolled back then.
func TestTakeWhenAllIsForgotten(t *testing.T) {
	for _, tt := range []struct {
		name    string
		more    int    // events that are queued after what is forgotten
		seq     uint64 // that the hub has
		renewed int
	}{
		{"restored to before, and nothing is left", 0, 90, 0},
		{"restored to before, and something is left", 5, 90, 0},
		{"where it was", 0, 100, 0},
		{"more than was given out, and nothing is left", 0, 101, 1},
		{"more than was given out, and something is left", 5, 106, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, hub := outboxtest.NewQueue(7), outboxtest.NewHub(time.Now)
			c := chainOf(q.Epoch(), envelope.Legal)
			for i := range 106 {
				if i == 100+tt.more {
					break
				}
				q.Add(envelope.Legal, fmt.Sprint(i))
			}
			known := append(hashes(t, q, c, uint64(100+tt.more)), envelope.Hash{1})
			if err := q.Acked(t.Context(), c, 100, 100); err != nil {
				t.Fatal(err)
			}
			ack := wire.Ack{Box: 7, Chain: c, Seq: tt.seq, Head: known[min(int(tt.seq), len(known)-1)], Issued: time.Now()}.Sign(hub.Key())
			moved, err := outbox.Take(t.Context(), q, 7, hub.Keys(), ack)
			if err != nil || moved != (tt.seq == 100) {
				t.Errorf("moved %v, %v", moved, err)
			}
			if got := q.Renewed(); len(got) != tt.renewed {
				t.Errorf("new epochs: %q, want %d", got, tt.renewed)
			}
		})
	}
}

func TestTakeRefusal(t *testing.T) {
	q, hub := outboxtest.NewQueue(7), outboxtest.NewHub(time.Now)
	c := chainOf(q.Epoch(), envelope.Legal)
	for i := range 6 {
		q.Add(envelope.Legal, fmt.Sprint(i))
	}
	known := hashes(t, q, c, 6)
	take := func(seq uint64, h envelope.Hash) error {
		t.Helper()
		r := wire.Refusal{Box: 7, Chain: c, Seq: seq, Hash: h, Reason: "too_long"}.Sign(hub.Key())
		return outbox.TakeRefusal(t.Context(), q, 7, hub.Keys(), r)
	}
	for name, err := range map[string]error{
		"of an event of another disk":  take(3, envelope.Hash{3}),
		"of the event before":          take(3, known[2]),
		"without a hash":               take(3, envelope.Hash{}),
		"of one that is not given out": take(7, envelope.Hash{7}),
	} {
		if !errors.Is(err, outbox.ErrOther) {
			t.Errorf("%s: %v, want %v", name, err, outbox.ErrOther)
		}
	}
	if dead := q.Dead(c); len(dead) != 0 {
		t.Errorf("dead: %v", dead)
	}
	for range 2 { // taken twice, it does no more than once
		if err := take(3, known[3]); err != nil {
			t.Error(err)
		}
	}
	if dead := q.Dead(c); len(dead) != 1 || dead[3] != "too_long" {
		t.Errorf("dead: %v", dead)
	}
	if err := q.Acked(t.Context(), c, 6, 6); err != nil {
		t.Fatal(err)
	}
	if err := take(3, known[3]); !errors.Is(err, outbox.ErrOther) {
		t.Errorf("of one that is forgotten: %v", err)
	}
}
