package outbox

import (
	"context"

	"sportello.example/sync/envelope"
)

// Queue is the box's durable queue. What a method has written is on the disk when it returns.
type Queue interface {
	// Chains lists the chains that hold events which the hub has not acknowledged: most urgent stream first, of one
	// stream the oldest epoch first.
	Chains(ctx context.Context) ([]Chain, error)
	// Idle lists the chains that hold none of these and of which events are kept all the same, because they are not known
	// to be in a backup of the hub.
	Idle(ctx context.Context) ([]Chain, error)
	// Read returns the entries of a chain that follow number after, at most events of them in at most bytes, at least
	// one when there is one. Each event was compared with its own hash: one that the disk has changed is there as
	// envelope.Missing. When after is older than all that is there, the run begins with what is there and says Oldest. When
	// nothing is there any more it begins after the last number given out, and has no entries.
	Read(ctx context.Context, c envelope.Chain, after uint64, events, bytes int) (envelope.Run, error)
	// HashAt returns the chain's hash after seq. It returns false when the queue never gave out that number, or has
	// forgotten it; seq 0 and the last number forgotten are known.
	HashAt(ctx context.Context, c envelope.Chain, seq uint64) (envelope.Hash, bool, error)
	// Acked says that the hub has everything up to seq, and up to safe in a backup too. The next Read begins after seq,
	// which may be before where it was: the hub was restored from a backup. Rows are forgotten up to the smaller of the
	// two, and those that are older than the time to keep them up to seq.
	Acked(ctx context.Context, c envelope.Chain, seq, safe uint64) error
	// Rewind makes the next Read of the chain begin with the oldest event that is there: nobody knows where the hub is.
	Rewind(ctx context.Context, c envelope.Chain) error
	// Renew begins a new epoch, unless c is of an older one already. reason is one word of the list in package event's
	// EpochBegun: forked (the hub has another history of this chain) or rolled_back (it has more than the box gave out).
	Renew(ctx context.Context, c envelope.Chain, reason string) error
	// Bury moves one event that the hub will never take to the dead, where people can look at it. The caller has made sure
	// that it is the event which the hub means.
	Bury(ctx context.Context, c envelope.Chain, seq uint64, reason string) error
}

// Chain is a chain with something to deliver.
type Chain struct {
	envelope.Chain
	Cursor  uint64 // last number that the hub has acknowledged
	Last    uint64 // last number given out
	Current bool   // of the present epoch
}
