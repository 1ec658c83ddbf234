package ingest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

var (
	// ErrBusy means that too much waits to be stored already: come back later.
	ErrBusy = errors.New("too many deliveries at once")
	// ErrGap means that a BatchV1 does not continue where the last one ended. The AckV1 that goes with it says where.
	ErrGap = errors.New("gap in event numbers")
)

const (
	groupEvents = 5000             // how many events are stored in one transaction, about
	maxWaiting  = 100_000          // events that wait to be stored
	maxBytes    = 64 << 20         // bytes of them
	storeWithin = 30 * time.Second // how long a transaction may take
)

// Ingest accepts what boxes deliver. Store, Now and Log are needed; Key too, except for DeliverV1. Its methods may be
// called at the same time.
//
// Requests that wait are stored together in one transaction, each with an answer of its own: an fsync costs more than a
// thousand events. Whoever comes when nobody is at it stores for all.
type Ingest struct {
	Store Store
	Ring  seal.Ring          // opens what boxes seal
	Rings func() seal.Ring   // says what opens it now, in the place of Ring: keys are changed while a hub runs; nil: Ring
	Key   ed25519.PrivateKey // signs
	Now   func() time.Time
	Log   *slog.Logger

	Writers    int // how many transactions run at the same time; 0: one
	MaxEvent   int // bytes of the longest event that is stored; 0: envelope.MaxEncoded
	MaxWaiting int // events that may wait to be stored; 0: 100,000

	mu      sync.Mutex
	waiting []*request
	events  int // in waiting and being stored
	bytes   int // in waiting and being stored
	writing int // transactions that run
}

// request is one delivery.
type request struct {
	runs   []*run
	events int
	bytes  int

	verdicts []verdict
	forked   []bool
	err      error

	done  chan struct{} // closed when verdicts or err are set
	lead  chan struct{} // gets a value when the owner is to store for those who wait
	taken bool          // is being stored, or was; guarded by Ingest.mu
}

// Deliver stores what is new in a batch and returns a signed acknowledgement for each run, in their order, and after them
// others: of runs that were all there already, how far the box's own history is known to be the hub's. Refused has a
// signed word on each event that is longer than MaxEvent: it is acknowledged as one that never comes, and delivered again
// it is refused again. The box is the one that was authenticated: a batch that says it is another's fails with ErrMalformed. Delivering a batch again is
// harmless, also after an error. It blocks until everything is on the disk and fails with ErrBusy at once when too many
// wait.
func (in *Ingest) Deliver(ctx context.Context, box uint32, b envelope.Batch) (wire.Reply, error) {
	if b.Box != 0 && b.Box != box {
		return wire.Reply{}, fmt.Errorf("box %d delivers for box %d: %w", box, b.Box, ErrMalformed)
	}
	r := &request{}
	if err := in.readAll(ctx, r, box, b); err != nil {
		return wire.Reply{}, fmt.Errorf("read events of box %d: %w", box, err)
	}
	if err := in.store(ctx, r); err != nil {
		return wire.Reply{}, fmt.Errorf("store events of box %d: %w", box, err)
	}
	now := in.Now()
	reply := wire.Reply{Acks: make([]wire.Ack, len(r.runs))}
	for i, v := range r.verdicts {
		ack := wire.Ack{Box: box, Chain: r.runs[i].id.Chain, Seq: v.seq, Head: v.head, Safe: v.safe, Fork: r.forked[i], Issued: now}
		reply.Acks[i] = ack.Sign(in.Key)
		if v.also {
			// A box whose disk was rolled back has no hash for seq, but it has one for what it has just sent.
			ack.Seq, ack.Head, ack.Safe = r.runs[i].last, r.runs[i].head(), min(v.safe, r.runs[i].last)
			reply.Acks = append(reply.Acks, ack.Sign(in.Key))
		}
		for _, no := range r.runs[i].refused {
			reply.Refused = append(reply.Refused, no.Sign(in.Key))
		}
	}
	return reply, nil
}

// DeliverV1 stores what is new in a batch of the first release, in stream All. A batch that begins after the next
// expected number fails with ErrGap; the acknowledgement is valid then too. Else as Deliver.
func (in *Ingest) DeliverV1(ctx context.Context, box uint32, b BatchV1) (wire.AckV1, error) {
	id := ChainID{Box: box, Chain: envelope.Chain{Epoch: b.Epoch, Stream: envelope.All}}
	one := &run{id: id, first: b.First, last: b.First - 1, v1: true}
	for _, body := range b.Events {
		one.last++
		one.items = append(one.items, decodeV1(in.ring(), id, one.last, body))
	}
	r := &request{}
	r.add(one)
	if err := in.store(ctx, r); err != nil {
		return wire.AckV1{}, fmt.Errorf("store events of box %d: %w", box, err)
	}
	ack := wire.AckV1{Epoch: string(b.Epoch), Seq: r.verdicts[0].have}
	if r.verdicts[0].gap {
		return ack, fmt.Errorf("box %d: event %d after %d: %w", box, b.First, ack.Seq, ErrGap)
	}
	return ack, nil
}

// reading holds a value for each delivery that is being read. A processor is left to who stores: else that one, for whom
// all others wait, comes back from the disk and queues up behind deliveries that are read only to wait for it too.
var reading = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))

// readAll reads a batch's runs into r, when it is its turn.
func (in *Ingest) readAll(ctx context.Context, r *request, box uint32, b envelope.Batch) error {
	select {
	case reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-reading }()
	for _, part := range b.Runs {
		r.add(in.read(box, part))
	}
	return nil
}

// read reads a run's entries.
func (in *Ingest) read(box uint32, part envelope.Run) *run {
	limit := in.MaxEvent
	if limit <= 0 {
		limit = envelope.MaxEncoded
	}
	r := &run{
		id: ChainID{Box: box, Chain: part.Chain}, first: part.First, last: part.First - 1, prev: part.Prev, oldest: part.Oldest,
		items: make([]item, 0, len(part.Entries)),
	}
	hash := part.Prev
	for _, e := range part.Entries {
		seq := r.last + 1
		hash = hash.After(e)
		missing := e.Missing
		if missing == nil && len(e.Encoded) > limit {
			missing = &envelope.Missing{Count: 1, Reason: envelope.Refused, Hash: hash}
			r.refused = append(r.refused, wire.Refusal{Box: box, Chain: part.Chain, Seq: seq, Hash: hash, Reason: "too_long"})
		}
		var it item
		if missing == nil {
			it = decode(in.ring(), r.id, seq, e.Encoded)
		} else {
			it = item{row: Row{ID: r.id, Seq: seq, Missing: missing, Judged: Absent}, alarm: absent(part.Chain, seq, missing)}
		}
		it.row.Hash = hash
		r.last = it.row.last()
		r.items = append(r.items, it)
	}
	return r
}

func (r *request) add(part *run) {
	r.runs = append(r.runs, part)
	r.events += len(part.items)
	for i := range part.items {
		r.bytes += len(part.items[i].row.Encoded)
	}
}

// ring is what opens sealed parts now.
func (in *Ingest) ring() seal.Ring {
	if in.Rings != nil {
		return in.Rings()
	}
	return in.Ring
}
