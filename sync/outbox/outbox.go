// Package outbox moves events from a box's queue to the hub: oldest first, at least once, for as long as it takes.
//
// The hub stores each event once, whatever is sent twice, and answers with a cumulative acknowledgement. The relay
// forgets events only on the word of an acknowledgement that fits what it has sent: a captive portal, a proxy or a
// hub that mixes up two databases cannot make it lose any.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// Queue is the box's durable queue.
type Queue interface {
	// Epoch names the queue: a new database has a new epoch, and event numbers begin at 1 again.
	Epoch(ctx context.Context) (string, error)
	// Pending returns up to n events that the hub has not acknowledged, oldest first.
	Pending(ctx context.Context, n int) ([]event.Event, error)
	// Acked says that the hub has every event up to and including seq.
	Acked(ctx context.Context, seq uint64) error
}

// Hub receives events.
type Hub interface {
	// Deliver hands over a batch. It returns what the hub has stored, which may be less than what was sent.
	Deliver(ctx context.Context, b wire.Batch) (wire.Ack, error)
}

// ErrAck means that the hub's acknowledgement does not fit what was sent. Nothing was forgotten.
var ErrAck = errors.New("acknowledgement does not fit")

// Options are the settings of a Relay. The zero value is usable.
type Options struct {
	Log *slog.Logger // nil: nothing is logged

	MinPause time.Duration // shortest pause between two attempts that fail; 0 means a second
	MaxPause time.Duration // longest such pause, and how often an idle relay looks at the queue; 0 means 5 minutes
}

// Batches grow by growth while they get through and are halved when they do not, within these limits.
const (
	minBatch = 20
	growth   = 200
)

// maxBytes is how much JSON a batch may hold by the estimate of size, with room for what the estimate misses.
const maxBytes = wire.MaxJSON * 3 / 4

// Relay moves events from a Queue to a Hub. Make one with New.
type Relay struct {
	queue Queue
	hub   Hub
	o     Options
	kick  chan struct{}
	up    chan struct{}
}

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
	return &Relay{queue: q, hub: h, o: o, kick: make(chan struct{}, 1), up: make(chan struct{}, 1)}
}

// Kick makes the relay try now instead of at the end of its pause: call it after an event was committed. It never
// blocks and may be called from anywhere. Attempts that fail are still MinPause apart, and their pauses go on growing.
func (r *Relay) Kick() { signal(r.kick) }

// LineUp says that the hub can be reached again: the relay tries now, and its pauses begin small again. It never
// blocks and may be called from anywhere.
func (r *Relay) LineUp() { signal(r.up) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Run relays events until ctx ends and returns nil then. Failures are logged and tried again.
func (r *Relay) Run(ctx context.Context) error {
	batch, pause := minBatch, r.o.MinPause
	for ctx.Err() == nil {
		sent, err := r.once(ctx, batch)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			batch = max(minBatch, batch/2)
			// Decorrelated jitter: boxes that lost the hub together do not come back together.
			pause = min(r.o.MaxPause, r.o.MinPause+rand.N(3*pause-r.o.MinPause+1))
			r.o.Log.WarnContext(ctx, "events not delivered", "err", err, "retry_in", pause)
			if r.wait(ctx, r.o.MinPause, pause) {
				pause = r.o.MinPause
			}
		case sent > 0:
			if sent == batch {
				batch = min(wire.MaxBatch, batch+growth)
			}
			pause = r.o.MinPause
		default:
			r.wait(ctx, 0, r.o.MaxPause)
		}
	}
	return nil
}

// wait waits until ctx ends, until most has passed, or until someone calls Kick or LineUp, but no shorter than least.
// It reports whether the line is up again.
func (r *Relay) wait(ctx context.Context, least, most time.Duration) bool {
	enough, end := time.NewTimer(least), time.NewTimer(most)
	defer enough.Stop()
	defer end.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-enough.C:
	}
	select {
	case <-ctx.Done():
	case <-end.C:
	case <-r.kick:
	case <-r.up:
		return true
	}
	return false
}

// once delivers one batch of up to n events and returns how many the hub has stored of it.
func (r *Relay) once(ctx context.Context, n int) (int, error) {
	epoch, err := r.queue.Epoch(ctx)
	if err != nil {
		return 0, fmt.Errorf("read epoch: %w", err)
	}
	evs, err := r.queue.Pending(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("read queue: %w", err)
	}
	evs = cut(evs)
	if len(evs) == 0 {
		return 0, nil
	}
	first, last := evs[0].Seq, evs[len(evs)-1].Seq
	ack, err := r.hub.Deliver(ctx, wire.Batch{Version: wire.Version, Epoch: epoch, Events: evs})
	if err != nil {
		return 0, fmt.Errorf("deliver events %d-%d: %w", first, last, err)
	}
	switch {
	case ack.Epoch != epoch:
		return 0, fmt.Errorf("deliver events %d-%d: hub answers for another database: %w", first, last, ErrAck)
	case ack.Seq > last:
		return 0, fmt.Errorf("deliver events %d-%d: hub claims to have %d: %w", first, last, ack.Seq, ErrAck)
	case ack.Seq < first:
		return 0, fmt.Errorf("deliver events %d-%d: hub has only %d: %w", first, last, ack.Seq, ErrAck)
	}
	if err := r.queue.Acked(ctx, ack.Seq); err != nil {
		return 0, fmt.Errorf("forget events up to %d: %w", ack.Seq, err)
	}
	return int(ack.Seq - first + 1), nil
}

// cut returns the leading events that fit into one message, at least one.
func cut(evs []event.Event) []event.Event {
	total := 0
	for i, e := range evs {
		if total += size(e); total > maxBytes && i > 0 {
			return evs[:i]
		}
	}
	return evs
}

// size estimates the bytes of e in JSON, rather too many than too few.
func size(e event.Event) int {
	n := 600 + len(e.Session) + len(e.Sealed)*4/3
	for _, c := range e.Detail.Certificates {
		n += len(c) + 3
	}
	return n
}
