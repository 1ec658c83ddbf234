package ingest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
)

// stuck is a store whose transactions wait, and which refuses those of one box.
type stuck struct {
	ingest.Store
	gate  chan struct{}
	began chan int // how many chains a transaction holds
	bad   uint32
}

func (s *stuck) Ingest(ctx context.Context, ids []ingest.ChainID, do func(ingest.Tx) error) error {
	if s.gate != nil {
		s.began <- len(ids)
		<-s.gate
	}
	for _, id := range ids {
		if id.Box == s.bad {
			return errors.New("disk on fire")
		}
	}
	return s.Store.Ingest(ctx, ids, do)
}

func TestGroups(t *testing.T) {
	h := open(t)
	s := &stuck{Store: h.store, gate: make(chan struct{}), began: make(chan int, 100), bad: 13}
	h.Store = s
	boxes := make([]*ingesttest.Box, 20)
	for i := range boxes {
		boxes[i] = h.box(t, uint32(i+1))
		boxes[i].Visits(t, 2)
	}
	errs := make([]error, len(boxes))
	var first, rest sync.WaitGroup
	send := func(ctx context.Context, i int) {
		_, errs[i] = h.Deliver(ctx, boxes[i].Number, boxes[i].Batch())
	}
	first.Go(func() { send(t.Context(), 0) })
	<-s.began
	gone, leave := context.WithCancel(t.Context())
	for i := range boxes[1:] {
		ctx := t.Context()
		if i+1 == 19 {
			ctx = gone
		}
		rest.Go(func() { send(ctx, i+1) })
	}
	for ingest.Waiting(h.Ingest) < len(boxes)-1 {
		time.Sleep(time.Millisecond)
	}
	leave()
	for ingest.Waiting(h.Ingest) == len(boxes)-1 {
		time.Sleep(time.Millisecond)
	}
	close(s.gate)
	first.Wait()
	rest.Wait()
	if n := <-s.began; n != 2*18 { // two streams each
		t.Errorf("%d chains were stored together, want those of 18 boxes", n)
	}
	for i, err := range errs {
		switch {
		case i+1 == 13 && (err == nil || !strings.Contains(err.Error(), "on fire")), i == 19 && !errors.Is(err, context.Canceled), i+1 != 13 && i != 19 && err != nil:
			t.Errorf("box %d: %v", i+1, err)
		}
	}
	h.wants(t, 2*18)
	t.Run("who hung up delivers again", func(t *testing.T) {
		if _, err := h.Deliver(t.Context(), 20, boxes[19].Batch()); err != nil {
			t.Error(err)
		}
		h.wants(t, 2*19)
	})
}

// broken is a store that panics: before its transaction, in it or while it is written, as often as it is told to.
type broken struct {
	ingest.Store
	where string
	times int
}

type brokenTx struct{ ingest.Tx }

func (brokenTx) Write(context.Context, ingest.Changes) error { panic("broken pipe of thought") }

func (s *broken) Ingest(ctx context.Context, ids []ingest.ChainID, do func(ingest.Tx) error) error {
	if s.times == 0 {
		return s.Store.Ingest(ctx, ids, do)
	}
	s.times--
	switch s.where {
	case "before":
		panic("broken pipe of thought")
	case "judging": // of a lookup that goes wrong
		return s.Store.Ingest(ctx, ids, func(ingest.Tx) error { return do(nil) })
	default:
		return s.Store.Ingest(ctx, ids, func(tx ingest.Tx) error { return do(brokenTx{tx}) })
	}
}

func TestPanic(t *testing.T) {
	for _, where := range []string{"before", "judging", "writing"} {
		t.Run(where, func(t *testing.T) {
			h := open(t)
			s := &broken{Store: h.store, where: where, times: 1}
			h.Store = s
			b := h.box(t, 1)
			b.Visits(t, 2)
			if _, err := h.Deliver(t.Context(), 1, b.Batch()); err == nil {
				t.Error("stored by a store that panics")
			}
			var wg sync.WaitGroup
			for i := range 8 { // nobody waits for a turn that is never given back
				wg.Go(func() {
					b := h.box(t, uint32(i+1))
					b.Visits(t, 2)
					if _, err := h.Deliver(t.Context(), b.Number, b.Batch()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			h.wants(t, 2*8)
		})
	}
}

func TestBusy(t *testing.T) {
	h := open(t)
	s := &stuck{Store: h.store, gate: make(chan struct{}), began: make(chan int, 100)}
	h.Store = s
	b := h.box(t, 1)
	b.Visits(t, 1000)
	var wg sync.WaitGroup
	busy := 0
	var mu sync.Mutex
	for range 60 { // 2,000 events each
		wg.Go(func() {
			_, err := h.Deliver(t.Context(), 1, b.Batch())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ingest.ErrBusy):
				if busy++; busy == 10 {
					close(s.gate)
				}
			case err != nil:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if busy != 10 {
		t.Errorf("%d were sent away, want 10", busy)
	}
	h.wants(t, 1000)
}

func TestManyBoxesAtOnce(t *testing.T) {
	h := open(t)
	h.Writers = 2
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			b := h.box(t, uint32(i%8+1)) // two have the same disk, and say the same
			for range 10 {
				b.Visits(t, 1)
				if _, err := h.Deliver(t.Context(), b.Number, b.Batch()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s, _ := h.counted(t); s != 160 {
		t.Errorf("%d sessions, want 160", s)
	}
}
