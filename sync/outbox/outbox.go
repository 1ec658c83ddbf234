// Package outbox moves events from a box's queue to the hub: what is urgent first, of each chain in order, at least once,
// for as long as it takes.
//
// The hub stores each event once, whatever is sent twice, and answers with signed acknowledgements. The relay moves the
// queue's cursor only on such a word, and only where it fits the box's own hashes: a captive portal, a proxy or a hub
// that mixes up two boxes cannot make it lose any. See Take.
package outbox

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// Hub receives events.
type Hub interface {
	// Deliver hands over a batch. An error that is envelope.ErrMalformed says that no hub will take a batch like this
	// one; one with a method RetryAfter() time.Duration says how long the hub wants to be left alone.
	Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error)
}

// Options are the settings of a Relay. Box and Keys are needed.
type Options struct {
	Log *slog.Logger // nil: nothing is logged

	Box  func() uint32              // number of the box; 0 while it is not enrolled: the relay waits
	Keys func() []ed25519.PublicKey // with which the hub signs; while there are none the relay waits

	MinPause time.Duration // shortest pause between two attempts that fail; 0 means a second
	MaxPause time.Duration // longest such pause, and how often an idle relay looks at the queue; 0 means 5 minutes
	Gather   time.Duration // how long events that are not urgent wait for others to go with them; 0 means 10 s
}

// Relay moves events from a Queue to a Hub. Make one with New.
type Relay struct {
	queue Queue
	hub   Hub
	o     Options
	kick  chan struct{}
	up    chan struct{}

	// What follows is for Run's goroutine only.
	watched map[envelope.Chain]*progress
	turn    int  // which lane has its turn in a small batch
	toAsk   bool // chains that have nothing to deliver are to be asked about; see ask
	asked   int  // how many of them were asked about so far
}

// progress is how the hub takes up a chain.
type progress struct {
	high    uint64 // largest number that it has acknowledged
	strikes int    // how often it has not come further since
}

// maxStrikes is how often a chain may get nowhere before it waits for the next look: once is what a hub restored from a
// backup, or the beginning of a new epoch, looks like.
const maxStrikes = 2

// New returns a relay. It does nothing until Run.
func New(q Queue, h Hub, o Options) *Relay {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MinPause <= 0 {
		o.MinPause = time.Second
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 5 * time.Minute
	}
	if o.Gather <= 0 {
		o.Gather = 10 * time.Second
	}
	return &Relay{
		queue: q, hub: h, o: o, kick: make(chan struct{}, 1), up: make(chan struct{}, 1), watched: map[envelope.Chain]*progress{},
		toAsk: true,
	}
}

// Kick says that an event was committed. Legal events are delivered at once, others after Gather, together. While the
// hub does not answer, Kick does not make the relay try sooner. It never blocks and may be called from anywhere.
func (r *Relay) Kick() { signal(r.kick) }

// LineUp says that the hub can be reached again: the relay tries now, and its pauses begin small again. Only when the
// hub itself has asked to be left alone, the relay waits for as long as that. It never blocks and may be called from
// anywhere.
func (r *Relay) LineUp() { signal(r.up) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Run relays events until ctx ends and returns nil then. Failures are logged and tried again.
func (r *Relay) Run(ctx context.Context) error {
	look, ask := time.NewTicker(r.o.MaxPause), time.NewTicker(askEvery)
	defer look.Stop()
	defer ask.Stop()
	w := newWindow()
	pause, failures := r.o.MinPause, 0
	for ctx.Err() == nil {
		select {
		case <-ask.C:
			r.toAsk = true
		default:
		}
		again, err := r.once(ctx, &w)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures++
			most, obey := r.o.MinPause, false
			if !errors.As(err, new(smaller)) { // the next batch is another one: no need to wait for long
				// Decorrelated jitter: boxes that lost the hub together do not come back together.
				pause = min(r.o.MaxPause, r.o.MinPause+rand.N(max(0, 3*pause-r.o.MinPause)+1))
				most, obey = r.retryIn(err, pause)
			}
			level := slog.LevelWarn
			if failures > 1 {
				level = slog.LevelDebug // a month without a line is one warning
			}
			r.o.Log.Log(ctx, level, "events not delivered", "err", err, "retry_in", most)
			if r.wait(ctx, most, obey) {
				pause = r.o.MinPause
				r.release()
				r.toAsk = true
				w.reset()
			}
		default:
			if failures > 1 {
				r.o.Log.InfoContext(ctx, "events are delivered again", "failures", failures)
			}
			pause, failures = r.o.MinPause, 0
			if !again && r.idle(ctx, look.C) {
				r.toAsk = true
				w.reset()
			}
		}
	}
	return nil
}

// retryIn returns when to try again after err: at the end of pause, unless the hub has said when.
func (r *Relay) retryIn(err error, pause time.Duration) (d time.Duration, obey bool) {
	var busy interface{ RetryAfter() time.Duration }
	if errors.As(err, &busy) && busy.RetryAfter() > 0 {
		d = busy.RetryAfter()
		// All boxes were told the same: they should not come back at the same moment.
		return d + rand.N(d/8+r.o.MinPause), true
	}
	return pause, false
}

// wait waits until ctx ends or most has passed. LineUp ends it too, but no sooner than after MinPause, and not at all
// when obey is set. It reports whether the line is up again.
func (r *Relay) wait(ctx context.Context, most time.Duration, obey bool) bool {
	end := time.NewTimer(most)
	defer end.Stop()
	if obey {
		select {
		case <-ctx.Done():
		case <-end.C:
		}
		return false
	}
	enough := time.NewTimer(min(most, r.o.MinPause))
	defer enough.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-enough.C:
	}
	select {
	case <-ctx.Done():
	case <-end.C:
	case <-r.up:
		return true
	}
	return false
}

// pace is how often the queue is looked at while one Kick follows the other.
const pace = 100 * time.Millisecond

// idle waits until there may be something to do: at once when Kick tells of something urgent, after Gather when of
// something else. It reports whether the line is up again.
func (r *Relay) idle(ctx context.Context, look <-chan time.Time) bool {
	var gathered <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-look:
			r.release()
			return false
		case <-r.up:
			r.release()
			return true
		case <-gathered:
			return false
		case <-r.kick:
			if r.urgent(ctx) {
				return false
			}
			if gathered == nil {
				gathered = time.After(r.o.Gather)
			}
			select {
			case <-ctx.Done():
				return false
			case <-time.After(pace):
			}
		}
	}
}

// urgent reports whether something that should not wait can be delivered. When it cannot say, it says yes.
func (r *Relay) urgent(ctx context.Context) bool {
	chains, err := r.queue.Chains(ctx)
	if err != nil {
		return true
	}
	for _, c := range chains {
		if c.Stream <= envelope.Legal && !r.held(c.Chain) {
			return true
		}
	}
	return false
}

// once delivers one batch and does what the reply says. It reports whether to go on at once.
func (r *Relay) once(ctx context.Context, w *window) (again bool, err error) {
	box, keys := r.o.Box(), r.o.Keys()
	if box == 0 || len(keys) == 0 {
		return false, nil
	}
	b, err := r.plan(ctx, w.n)
	if err == nil && r.toAsk {
		err = r.ask(ctx, &b)
	}
	if err != nil || len(b.parts) == 0 {
		return false, err
	}
	message := envelope.Batch{Box: box, Runs: make([]envelope.Run, len(b.parts))}
	for i, p := range b.parts {
		message.Runs[i] = p.run
	}
	reply, err := r.hub.Deliver(ctx, message)
	if err != nil {
		malformed := errors.Is(err, envelope.ErrMalformed)
		if malformed && b.entries == 1 && b.asked == 0 {
			// Only the hub's signed word puts an event among the dead. Until then the others go on without this chain.
			r.watch(b.parts[0].chain.Chain).strikes = maxStrikes
			r.o.Log.ErrorContext(ctx, "an event is taken by nobody and waits on the box; the log of the hub says why",
				"chain", b.parts[0].chain.String(), "seq", b.parts[0].run.First, "err", err)
		}
		if malformed && b.asked > 0 {
			r.toAsk = false // it may be the questions that are refused: the next batch is without, and they are asked in an hour
		}
		w.shrink(b.entries)
		r.turn++
		err = fmt.Errorf("deliver %d entries of %d chains: %w", b.entries, len(b.parts), err)
		if malformed && b.entries > 1 {
			return false, smaller{err}
		}
		return false, err
	}
	moved, err := r.takeAll(ctx, box, keys, &b, reply)
	if err != nil {
		w.shrink(b.entries)
		return false, err
	}
	r.toAsk, r.asked = false, r.asked+b.asked
	if moved {
		w.grow(b.entries)
	}
	return moved && b.more || r.stuck(b), nil
}

// smaller is an error after which the next batch holds fewer entries than the one that failed.
type smaller struct{ error }

func (e smaller) Unwrap() error { return e.error }

// takeAll takes the statements of a reply to b. It reports whether any chain has come further.
func (r *Relay) takeAll(ctx context.Context, box uint32, keys []ed25519.PublicKey, b *batch, reply wire.Reply) (moved bool, err error) {
	further := make([]bool, len(b.parts))
	var foreign error
	believed := 0
	// Before the acks: these may let go of what is refused.
	for _, refusal := range reply.Refused {
		err := TakeRefusal(ctx, r.queue, box, keys, refusal)
		if errors.Is(err, ErrOther) {
			r.o.Log.WarnContext(ctx, "the hub refuses an event that is not the one queued here", "err", err)
			continue
		}
		if errors.Is(err, ErrAck) {
			foreign = err
			continue
		}
		if err != nil {
			return false, err
		}
		believed++
		r.o.Log.ErrorContext(ctx, "the hub will never take an event: it is among the dead", "chain", refusal.Chain.String(), "seq", refusal.Seq)
	}
	said := map[envelope.Chain][]wire.Ack{}
	for _, ack := range reply.Acks {
		if err := verify(ack, box, keys); err != nil {
			foreign = err
			continue
		}
		believed++
		said[ack.Chain] = append(said[ack.Chain], ack)
	}
	for i, p := range b.parts {
		acks := said[p.chain.Chain]
		if len(acks) == 0 {
			continue
		}
		v, seq, err := take(ctx, r.queue, acks, p.chain.Current)
		if err != nil {
			return false, err
		}
		if v != fits {
			r.o.Log.WarnContext(ctx, "the hub's history of a chain is not the box's: it is sent once more",
				"chain", p.chain.String(), "hub_has", acks[0].Seq, "verdict", v.String())
		} else if p.asks() && seq < p.chain.Cursor {
			r.o.Log.WarnContext(ctx, "the hub lacks what it had acknowledged, as after a restore: it is sent once more",
				"chain", p.chain.String(), "hub_has", seq, "had", p.chain.Cursor)
			moved, b.more = true, true
		} else if seq >= p.run.First {
			further[i] = true
			b.more = b.more || seq < p.run.Last()
			r.came(p.chain, seq)
		}
		delete(said, p.chain.Chain)
	}
	for _, acks := range said { // of chains that were not sent
		if _, _, err := take(ctx, r.queue, acks, true); err != nil {
			return false, err
		}
	}
	if believed == 0 {
		return false, errors.Join(foreign, errNoWord)
	}
	if foreign != nil {
		r.o.Log.WarnContext(ctx, "the hub says something that it has not signed for this box", "err", foreign)
	}
	for i, p := range b.parts {
		moved = moved || further[i]
		if !further[i] && !p.asks() {
			r.watch(p.chain.Chain).strikes++
		}
	}
	return moved, nil
}

// errNoWord means that a reply holds nothing to go by.
var errNoWord = fmt.Errorf("deliver: the reply says nothing that counts: %w", ErrAck)
