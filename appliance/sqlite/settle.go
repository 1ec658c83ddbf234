package sqlite

import (
	"context"
	"slices"

	"sportello.example/sync/envelope"
)

// cutTo leaves out what lies beyond the last number that was known when a view of the database began: the view may be a
// later one, and what comes after that number is not all in sight.
func (st *chainState) cutTo(last mark) {
	st.last = last
	if i := slices.IndexFunc(st.missing, func(g gap) bool { return g.first > last.seq }); i >= 0 {
		st.missing = st.missing[:i:i]
	}
}

// settle writes down what Read has found: a hash is put right, an event that has changed goes to the dead.
func (s *Store) settle(ctx context.Context, c envelope.Chain, p piece) error {
	settled := false
	err := s.writeAlone(ctx, func(w *work) error {
		settled = false
		st := s.chains[c]
		if st == nil || p.last <= st.base.seq {
			return nil // forgotten meanwhile
		}
		if same, err := w.stillSo(st, p); err != nil || !same {
			return err
		}
		settled = true
		if p.repair {
			return w.exec("UPDATE "+table(c.Stream)+" SET hash = ? WHERE id = ?", p.hash[:], id(st.number, p.last))
		}
		return w.bury(st.snapshot(), st, p.gap, "damaged")
	})
	if err == nil && settled {
		s.log.ErrorContext(ctx, "the disk has changed what was queued", "chain", c.String(), "from", p.first, "to", p.last, "repaired", p.repair)
	}
	return err
}

// stillSo says whether the database shows now what Read has found in a view that may be older. It may be found twice, and
// what is sound must never go to the dead.
func (w *work) stillSo(st *chainState, p piece) (bool, error) {
	if err := w.start(); err != nil {
		return false, err
	}
	_, now, err := walk(w.ctx, w.s.conn, st, p.first-1, 3, 3*envelope.MaxEncoded)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(now, func(q piece) bool {
		return q.gap == p.gap && q.found == p.found && q.repair == p.repair
	}), nil
}
