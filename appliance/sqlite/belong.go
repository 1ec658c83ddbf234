package sqlite

import (
	"context"
	"fmt"
	"math"

	"sportello.example/sync/envelope"
)

// Belong says under which number (not 0) the hub knows this box from now on. Call it before anything is delivered under
// that number. changed says that it was another one before: the box was enrolled anew, over a queue that was delivered in
// part. The hub knows nothing of that under the new number, would ask for all of it, and count it twice. So what it has
// acknowledged is forgotten first, whether it has a backup of it or not; the rest waits, to be delivered under the new
// number; and a new epoch begins. What was under way to the hub when the number changed may be counted twice all the same.
// When Belong fails it is to be called again. Errors: those of Enqueue.
func (s *Store) Belong(ctx context.Context, box uint32) (changed bool, err error) {
	s.mu.RLock()
	old := s.owner
	s.mu.RUnlock()
	if old == box {
		return false, nil
	}
	if changed = old != 0; changed {
		chains, err := s.known(), error(nil)
		for _, c := range chains {
			if err = s.forgetAcked(ctx, c); err != nil {
				return true, fmt.Errorf("queue of box %d: %w", old, err)
			}
		}
	}
	err = s.writeAlone(ctx, func(w *work) error {
		err := w.exec(`INSERT INTO counter (name, value) VALUES ('box', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, int64(box))
		if err != nil {
			return err
		}
		w.after = append(w.after, func() { s.owner = box })
		if !changed {
			return nil
		}
		w.leave()
		return w.beginEpoch(otherBox, w.epoch, nil)
	})
	if err != nil {
		return changed, fmt.Errorf("queue of box %d: %w", box, err)
	}
	if !changed {
		return false, nil
	}
	s.log.WarnContext(ctx, "the hub knows the box by another number: what it had is forgotten, the rest is delivered under the new one",
		"box", box, "before", old)
	s.syncWitness(ctx)
	return true, nil
}

// known lists all chains.
func (s *Store) known() (out []envelope.Chain) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for c := range s.chains {
		out = append(out, c)
	}
	return out
}

// forgetAcked forgets all that the hub has acknowledged of a chain.
func (s *Store) forgetAcked(ctx context.Context, c envelope.Chain) error {
	for before := uint64(math.MaxUint64); ; {
		if err := s.ack(ctx, c, true, func(st *chainState) (uint64, uint64) { return st.cursor, math.MaxUint64 }); err != nil {
			return err
		}
		st := s.chain(c)
		if st == nil || st.base.seq >= st.cursor || st.base.seq == before {
			return nil
		}
		// Something is damaged: Read puts it among the dead, and it can be forgotten.
		before = st.base.seq
		if _, err := s.Read(ctx, c, st.base.seq, envelope.MaxEvents, largeChunk*envelope.MaxEncoded); err != nil {
			return err
		}
	}
}

// syncWitness has the witness on the disk: an epoch that it has not heard of looks like another file.
func (s *Store) syncWitness(ctx context.Context) {
	if err := s.witness.sync(); err != nil {
		s.log.ErrorContext(ctx, "witness of the queue not written", "err", err)
	}
}
