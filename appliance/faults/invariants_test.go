package faults_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"sync/atomic"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// judged looks at what the hub answered to runs, and makes the mistake in it.
func (w *town) judged(r *wire.Reply, runs []envelope.Run) {
	w.t.Helper()
	if len(r.Acks) < len(runs) {
		w.t.Fatalf("%d acknowledgements for %d runs", len(r.Acks), len(runs))
	}
	w.honest(*r)
	for i, run := range runs {
		r.Acks[i] = w.shorten(r.Acks[i], run)
	}
}

// honest checks that the hub has what it says (I3).
func (w *town) honest(r wire.Reply) {
	w.t.Helper()
	chains := map[envelope.Chain]bool{}
	for _, a := range r.Acks {
		chains[a.Chain] = true
	}
	s, err := w.hub.stored(w.ctx, chains) // which fails when there is a hole
	w.check(err)
	for _, a := range r.Acks {
		if a.Safe > a.Seq {
			w.t.Fatalf("the hub has %d of %s, and %d in a backup", a.Seq, a.Chain, a.Safe)
		}
		ok := a.Seq == 0
		for _, row := range s.rows {
			ok = ok || row.Hash == a.Head
		}
		if !ok {
			w.t.Fatalf("the hub acknowledges %s up to %d, %s, and has no such event", a.Chain, a.Seq, a.Head)
		}
	}
}

// kept checks that a box has not forgotten what only it has (I4).
func (w *town) kept() {
	w.t.Helper()
	for _, u := range w.units {
		h, err := u.held(w.ctx)
		w.check(err)
		for id, f := range w.fates {
			if _, ok := h.ids[id]; ok || !f.on[u] {
				continue
			}
			for k := range f.keys { // none when it was let go at once
				if u.chains[k.chain] && k.seq > u.safe[k.chain] && !h.covered[k] {
					w.t.Fatalf("%s has forgotten event %d, %s/%d, and was allowed to up to %d", u.name, id, k.chain, k.seq, u.safe[k.chain])
				}
			}
		}
		found, err := grep(u.dir, canary)
		w.check(err)
		if len(found) > 0 {
			w.t.Fatalf("%s: what should be sealed is in clear in %v", u.name, found) // I7
		}
	}
}

// heal ends all faults and checks that everything arrives (I6) and what has arrived.
func (w *town) heal() {
	w.t.Helper()
	w.line, w.replies = nil, nil
	for _, u := range w.units {
		if u.limit > 0 {
			w.limit(u, 0)
		}
		clear(u.ahead)
	}
	for _, u := range w.units {
		w.drain(u)
	}
	// What the last one delivered may have told the hub of a fork that the first one must hear of.
	for _, u := range w.units {
		w.drain(u)
	}
	w.arrived()
}

// drain lets a box's real relay deliver all that it has over a line without faults (I6).
func (w *town) drain(u *unit) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	idle, err := u.store.Idle(ctx)
	w.check(err)
	line := &goodLine{w: w, Store: u.store}
	relay := outbox.New(line, line, outbox.Options{
		Box: func() uint32 { return boxNumber }, Keys: func() []ed25519.PublicKey { return w.keys },
		MinPause: time.Millisecond, MaxPause: 20 * time.Millisecond, Gather: time.Millisecond,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = relay.Run(ctx)
	}()
	defer func() { <-done }()
	defer cancel()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		sent := line.sent.Load()
		heard := line.heard.Load()
		chains, err := u.store.Chains(w.ctx)
		w.check(err)
		// Where there is nothing to deliver, the relay asks whether the hub still has it all.
		if len(chains) == 0 && sent == heard && (sent > 0 || len(idle) == 0) {
			w.check(u.look(w.ctx))
			return
		}
		for _, c := range chains {
			u.chains[c.Chain] = true
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: the line has healed, and after ten seconds the queue is not empty: %+v", u.name, chains)
		}
	}
}

// goodLine is a line without faults, and the queue at its end.
type goodLine struct {
	*sqlite.Store
	w           *town
	sent, heard atomic.Int64 // runs, and what the hub said to them
}

// Acked is of outbox.Queue.
func (l *goodLine) Acked(ctx context.Context, c envelope.Chain, seq, safe uint64) error {
	defer l.heard.Add(1)
	return l.Store.Acked(ctx, c, seq, safe)
}

// Rewind is of outbox.Queue.
func (l *goodLine) Rewind(ctx context.Context, c envelope.Chain) error {
	defer l.heard.Add(1)
	return l.Store.Rewind(ctx, c)
}

// Deliver hands a batch to the hub (outbox.Hub).
func (l *goodLine) Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error) {
	w := l.w
	l.sent.Add(int64(len(b.Runs)))
	w.tick()
	if w.cut == numbersAlone {
		var r wire.Reply
		for _, run := range b.Runs {
			a, ok := w.byNumber(run)
			if !ok {
				one, err := w.hub.in.Deliver(ctx, boxNumber, envelope.Batch{Box: boxNumber, Runs: []envelope.Run{run}})
				if err != nil {
					return r, err
				}
				a = one.Acks[0]
			}
			r.Acks = append(r.Acks, a)
		}
		return r, nil
	}
	r, err := w.hub.in.Deliver(ctx, boxNumber, b)
	if err != nil {
		return r, err
	}
	for i, run := range b.Runs {
		r.Acks[i] = w.shorten(r.Acks[i], run)
	}
	return r, nil
}

// arrived checks what the hub has in the end (I1, I2, I5).
func (w *town) arrived() {
	w.t.Helper()
	chains := map[envelope.Chain]bool{}
	for _, u := range w.units {
		for c := range u.chains {
			chains[c] = true
		}
	}
	s, err := w.hub.stored(w.ctx, chains)
	w.check(err)
	for id, f := range w.fates {
		named := false
		for k := range f.keys {
			named = named || s.named[k]
		}
		switch n := s.count[id]; {
		case n > 1:
			w.t.Fatalf("event %d is at the hub %d times", id, n)
		case n == 0 && !f.lost && !named:
			w.t.Fatalf("event %d (%s %v): the kiosk was told that it is stored, no disk lost it, and the hub neither has it nor knows that it is missing", id, f.stream, f.keys)
		}
	}
	if s.legal > 0 {
		w.t.Fatalf("%d stretches of legal events were let go", s.legal)
	}
	if s.forks > 0 && s.alarms["fork"] == 0 {
		w.t.Fatalf("%d numbers stand for two events, and nobody was told", s.forks)
	}
	if w.lostTails() > 0 && s.alarms["gap"]+s.alarms["epoch"]+s.alarms["fork"] == 0 {
		w.t.Fatalf("a disk lost events, and nobody was told: alarms %v", s.alarms)
	}
	w.opened(s)
	w.recount(s)
}

// recount checks that what the municipality is shown is what is stored (I8).
func (w *town) recount(s stored) {
	w.t.Helper()
	want, got := 0, 0
	for _, r := range s.rows {
		if e, err := envelope.Parse(r.Encoded); r.Missing == nil && err == nil && e.Kind == string(event.SessionStarted) {
			want++
		}
	}
	counts, err := w.hub.store.Counts(w.ctx, time.Time{})
	w.check(err)
	for _, c := range counts {
		got += c.Sessions
	}
	if got != want {
		w.t.Fatalf("the hub shows %d sessions and has %d", got, want)
	}
}

// lostTails returns how many events boxes must know to be lost.
func (w *town) lostTails() (n int) {
	for _, u := range w.units {
		n += u.tails
	}
	return n
}

// opened checks that what was sealed can be read at the hub.
func (w *town) opened(s stored) {
	w.t.Helper()
	for _, r := range s.rows {
		e, err := envelope.Parse(r.Encoded)
		if r.Missing != nil || err != nil || e.Kind != string(event.RequestLeft) {
			continue
		}
		if plain, err := (seal.Ring{w.seal}).Open(e.AAD(), e.Sealed); err != nil || !json.Valid(plain) {
			w.t.Fatalf("a sealed event does not open at the hub: %v", err)
		}
	}
}
