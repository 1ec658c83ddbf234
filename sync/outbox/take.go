package outbox

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// ErrAck means that a statement of the hub was not signed by it, or is not about this box. Nothing was done.
var ErrAck = errors.New("not a word of the hub on this box")

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
// same acknowledgement twice does no more than taking it once. It fails with ErrAck, or with an error of the queue.
func Take(ctx context.Context, q Queue, box uint32, keys []ed25519.PublicKey, ack wire.Ack) (moved bool, err error) {
	v, err := take(ctx, q, box, keys, ack)
	return err == nil && v == fits, err
}

func take(ctx context.Context, q Queue, box uint32, keys []ed25519.PublicKey, ack wire.Ack) (verdict, error) {
	if err := ack.Verify(box, keys); err != nil {
		return 0, fmt.Errorf("ack of %s: %w: %w", ack.Chain, ErrAck, err)
	}
	v, err := judge(ctx, q, ack)
	if err != nil {
		return 0, fmt.Errorf("ack of %s up to %d: %w", ack.Chain, ack.Seq, err)
	}
	switch v {
	case fits:
		if err = q.Acked(ctx, ack.Chain, ack.Seq, min(ack.Safe, ack.Seq)); err == nil && ack.Fork {
			err = q.Renew(ctx, ack.Chain, "forked")
		}
	case forked:
		err = renew(ctx, q, ack.Chain, "forked")
	case ahead:
		err = renew(ctx, q, ack.Chain, "rolled_back")
	case unknown:
		if err = q.Rewind(ctx, ack.Chain); err == nil && ack.Fork {
			err = q.Renew(ctx, ack.Chain, "forked")
		}
	}
	if err != nil {
		return 0, fmt.Errorf("ack of %s up to %d: %w", ack.Chain, ack.Seq, err)
	}
	return v, nil
}

// renew gives a chain up for a new epoch, and has what is there of it sent once more.
func renew(ctx context.Context, q Queue, c envelope.Chain, reason string) error {
	// First the new epoch: until then every event would get a number that the hub knows for another one.
	if err := q.Renew(ctx, c, reason); err != nil {
		return err
	}
	return q.Rewind(ctx, c)
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
	// Never given out, or forgotten? When something is there that follows, it was forgotten.
	run, err := q.Read(ctx, ack.Chain, ack.Seq, 1, 1)
	switch {
	case err != nil:
		return 0, err
	case len(run.Entries) > 0:
		return unknown, nil
	default:
		return ahead, nil
	}
}

// TakeRefusal puts an event that the hub will never take among the dead. It fails with ErrAck, or with an error of the
// queue.
func TakeRefusal(ctx context.Context, q Queue, box uint32, keys []ed25519.PublicKey, r wire.Refusal) error {
	if err := r.Verify(box, keys); err != nil {
		return fmt.Errorf("refusal of %s, %d: %w: %w", r.Chain, r.Seq, ErrAck, err)
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
