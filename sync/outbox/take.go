package outbox

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"

	"sportello.example/sync/wire"
)

// ErrAck means that a statement of the hub was not signed by it, or is not about this box. Nothing was done.
var ErrAck = errors.New("not a word of the hub on this box")

// ErrOther means that a refusal is of another event than the queue has under that number, or that it has none there any
// more: the disk was put back, or copied, or the refusal is an old one. Nothing was done, and nothing has to be.
var ErrOther = errors.New("not about the event that is queued")

// verdict is what an acknowledgement means for the queue.
type verdict uint8

const (
	fits    verdict = iota // the cursor is where the hub says
	forked                 // the hub has another history of the chain
	ahead                  // the hub has more than the queue gave out
	unknown                // the hub has less than what the queue still knows
)

var verdictNames = [...]string{fits: "fits", forked: "forked", ahead: "ahead", unknown: "behind all that is kept"}

// String says the verdict in words for a log.
func (v verdict) String() string { return verdictNames[v] }

// Take judges an acknowledgement, however it came here, and does what follows from it. moved says that the hub has what
// the box has up to there, and that the queue goes on from there, which may be before where it was.
//
// The box believes its own hashes first: what the hub says to have counts only if the box's hash at that place is the
// hub's. If it is not, or the hub has more than the box gave out, then the box's disk was cloned or rolled back: it goes
// on in a new epoch, and sends what it has of the old one once more, so that the hub can keep both histories. Taking the
// same acknowledgement twice does no more than taking it once. Acknowledgements of one reply are taken in its order. It
// fails with ErrAck, or with an error of the queue.
func Take(ctx context.Context, q Queue, box uint32, keys []ed25519.PublicKey, ack wire.Ack) (moved bool, err error) {
	if err := verify(ack, box, keys); err != nil {
		return false, err
	}
	v, _, err := take(ctx, q, []wire.Ack{ack}, true)
	return err == nil && v == fits, err
}

func verify(ack wire.Ack, box uint32, keys []ed25519.PublicKey) error {
	if err := ack.Verify(box, keys); err != nil {
		return fmt.Errorf("ack of %s: %w: %w", ack.Chain, ErrAck, err)
	}
	return nil
}

// take does what follows from acknowledgements of one chain that belong to one reply, and returns where the queue goes on
// when one of them fits. Otherwise it returns the verdict on the last one. renew is false when the chain is known to be
// of an older epoch already.
func take(ctx context.Context, q Queue, acks []wire.Ack, renew bool) (v verdict, seq uint64, err error) {
	c := acks[0].Chain
	defer func() {
		if err != nil {
			err = fmt.Errorf("ack of %s up to %d: %w", c, acks[0].Seq, err)
		}
	}()
	best, reason := -1, ""
	var last verdict
	for i, ack := range acks {
		if last, err = judge(ctx, q, ack); err != nil {
			return 0, 0, err
		}
		switch {
		case last == forked, ack.Fork:
			reason = "forked"
		case last == ahead && reason == "":
			reason = "rolled_back"
		}
		if last == fits && (best < 0 || ack.Seq > acks[best].Seq) {
			best = i
		}
	}
	// First the new epoch: until then every event would get a number that the hub knows for another one.
	if renew && reason != "" {
		if err := q.Renew(ctx, c, reason); err != nil {
			return 0, 0, err
		}
	}
	if best < 0 {
		return last, 0, q.Rewind(ctx, c)
	}
	seq = acks[best].Seq
	return fits, seq, q.Acked(ctx, c, seq, min(acks[best].Safe, seq))
}

// judge compares an acknowledgement with what the queue knows of its chain.
func judge(ctx context.Context, q Queue, ack wire.Ack) (verdict, error) {
	if ack.Seq == 0 {
		return fits, nil // the hub has nothing: there is nothing to compare
	}
	hash, known, err := q.HashAt(ctx, ack.Chain, ack.Seq)
	switch {
	case err != nil:
		return 0, err
	case known && hash == ack.Head:
		return fits, nil
	case known:
		return forked, nil
	}
	if _, known, err = q.HashAt(ctx, ack.Chain, 0); err != nil || !known {
		return ahead, err // the queue has no such chain
	}
	// Never given out, or forgotten? It was forgotten when what the queue begins with now comes after it.
	run, err := q.Read(ctx, ack.Chain, ack.Seq, 1, 1)
	switch {
	case err != nil:
		return 0, err
	case len(run.Entries) > 0 || run.First > ack.Seq+1:
		return unknown, nil
	default:
		return ahead, nil
	}
}

// TakeRefusal puts an event that the hub will never take among the dead. What the hub refuses is named by its hash: when
// the queue has another one under that number, or none any more, TakeRefusal fails with ErrOther. It fails with ErrAck, or
// with an error of the queue.
func TakeRefusal(ctx context.Context, q Queue, box uint32, keys []ed25519.PublicKey, r wire.Refusal) error {
	if err := r.Verify(box, keys); err != nil {
		return fmt.Errorf("refusal of %s, %d: %w: %w", r.Chain, r.Seq, ErrAck, err)
	}
	hash, known, err := q.HashAt(ctx, r.Chain, r.Seq)
	switch {
	case err != nil:
		return fmt.Errorf("refusal of %s, %d: %w", r.Chain, r.Seq, err)
	case !known || hash != r.Hash:
		return fmt.Errorf("refusal of %s, %d: %w", r.Chain, r.Seq, ErrOther)
	}
	reason := r.Reason
	if len(reason) == 0 || len(reason) > maxReason || strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz_") != "" {
		reason = "refused" // the vocabulary of event.Detail is closed
	}
	if err := q.Bury(ctx, r.Chain, r.Seq, reason); err != nil {
		return fmt.Errorf("refusal of %s, %d: %w", r.Chain, r.Seq, err)
	}
	return nil
}

// maxReason is the longest reason of a refusal, in bytes.
const maxReason = 32
