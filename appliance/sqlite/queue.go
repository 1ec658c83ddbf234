package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
)

// Enqueue stores events, all or none, and returns when they survive a pulled plug. It does not wait for the network. It
// returns kiosk.ErrDiskFull when there is no room, and an error that matches kiosk.ErrOffline when something private is
// to be sealed and the hub's key is not known yet. When ctx ends first, nobody knows yet whether they will be stored. When the disk is nearly full (DiskState) only events of the legal stream
// are stored; the others are counted, and the hub is told how many they were as soon as there is room.
func (s *Store) Enqueue(ctx context.Context, events ...event.Event) error {
	items := make([]item, 0, 1)
	for _, e := range events {
		it, err := s.item(e)
		if err != nil {
			return err
		}
		items = append(items, it)
	}
	return s.write(ctx, func(w *work) error { return w.appendAll(items) })
}

// appendAll queues items, all or none.
func (w *work) appendAll(items []item) error {
	for _, it := range items {
		if err := w.append(it); err != nil {
			return err
		}
	}
	return nil
}

// view runs f with a view of the database that does not change, for readLimit at most. It is run again when it kept the
// log from shrinking and was interrupted for that.
func (s *Store) view(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	for try := 0; ; try++ {
		generation, err := s.viewOnce(ctx, f)
		s.noticeDamage(err)
		if err == nil || generation.Err() == nil || ctx.Err() != nil || try == 3 {
			return err
		}
	}
}

// readLimit is how long one view may last: while there is one the write-ahead log cannot shrink.
const readLimit = 10 * time.Second

// viewOnce also returns what has ended when the view was interrupted.
func (s *Store) viewOnce(ctx context.Context, f func(context.Context, *sql.Tx) error) (generation context.Context, err error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.RLock()
	generation = s.readers
	s.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	defer context.AfterFunc(generation, cancel)()
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return generation, err
	}
	defer func() { _ = tx.Rollback() }()
	err = f(ctx, tx)
	if err == nil {
		err = ctx.Err()
	}
	return generation, err
}

// chain returns a copy of what is known of c, nil when there is no such chain.
func (s *Store) chain(c envelope.Chain) *chainState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st := s.chains[c]; st != nil {
		return st.snapshot()
	}
	return nil
}

// Chains lists the chains with something to deliver (outbox.Queue).
func (s *Store) Chains(context.Context) ([]outbox.Chain, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []outbox.Chain
	for _, stream := range envelope.Streams() {
		for _, e := range s.epochs {
			st := s.chains[envelope.Chain{Epoch: e.name, Stream: stream}]
			if st != nil && st.cursor < st.last.seq {
				out = append(out, outbox.Chain{Chain: st.Chain, Cursor: st.cursor, Last: st.last.seq, Current: st.number == s.number})
			}
		}
	}
	return out, nil
}

// Read returns the entries of a chain that follow after (outbox.Queue). ErrNoChain.
func (s *Store) Read(ctx context.Context, c envelope.Chain, after uint64, events, bytes int) (envelope.Run, error) {
	known := s.chain(c)
	if known == nil {
		return envelope.Run{}, fmt.Errorf("read %s: %w", c, ErrNoChain)
	}
	run := envelope.Run{Chain: c}
	var found []piece
	known.handed.out.RLock() // until it is known up to where: see rollUp
	err := s.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		st, sound, err := readChain(ctx, tx, known.number, c)
		if err != nil {
			return err
		}
		if !sound {
			st.base = known.base
		}
		st.cutTo(known.last)
		start, pieces, err := walk(ctx, tx, st, after, max(1, events), bytes)
		if err != nil {
			return err
		}
		run.First, run.Prev, run.Head, run.Oldest = start.seq+1, start.hash, start.hash, start.seq == st.base.seq
		run.Entries, found = make([]envelope.Entry, 0, len(pieces)), nil
		for _, p := range pieces {
			e := envelope.Entry{Encoded: p.enc}
			if p.enc == nil {
				e.Missing = &envelope.Missing{Count: p.last - p.first + 1, Reason: p.reason, Hash: p.hash}
			}
			run.Entries, run.Head = append(run.Entries, e), p.hash
			if p.found || p.repair {
				found = append(found, p)
			}
		}
		return nil
	})
	if err == nil {
		known.handed.add(run.Last())
	}
	known.handed.out.RUnlock()
	if err != nil {
		return envelope.Run{}, fmt.Errorf("read %s after %d: %w", c, after, err)
	}
	for _, p := range found {
		if err := s.settle(ctx, c, p); err != nil { // it is found again next time
			s.log.ErrorContext(ctx, "damage in the queue not put right", "chain", c.String(), "seq", p.first, "err", err)
		}
	}
	return run, nil
}

// bury moves the rows of a stretch to the dead, and reports it. st is a copy of old.
func (w *work) bury(st, old *chainState, g gap, reason string) error {
	for i := 0; i < len(st.missing); i++ { // stretches within it that were known before
		if m := st.missing[i]; m.first >= g.first && m.last <= g.last {
			if err := w.exec(`DELETE FROM missing WHERE epoch = ? AND stream = ? AND first = ?`, st.number, st.Stream, int64(m.first)); err != nil {
				return err
			}
			st.missing = slices.Delete(slices.Clone(st.missing), i, i+1)
			i--
		}
	}
	now := stamp(w.s.cfg.Now())
	err := w.exec(`INSERT INTO dead (epoch, stream, seq, reason, at, envelope)
		SELECT ?, ?, id & ?, ?, ?, envelope FROM `+table(st.Stream)+` WHERE id >= ? AND id <= ?`,
		string(st.Epoch), st.Stream, int64(envelope.MaxSeq), reason, now, id(st.number, g.first), id(st.number, g.last))
	if err != nil {
		return fmt.Errorf("bury %s, %d: %w", st.Chain, g.first, err)
	}
	if err := w.exec("DELETE FROM "+table(st.Stream)+" WHERE id >= ? AND id <= ?", id(st.number, g.first), id(st.number, g.last)); err != nil {
		return fmt.Errorf("bury %s, %d: %w", st.Chain, g.first, err)
	}
	if err := w.saveGap(st, g); err != nil {
		return err
	}
	st.missing = with(st.missing, g)
	if err := w.saveChain(st); err != nil {
		return err
	}
	w.adopt(old, st)
	if g.reason == envelope.Damaged {
		if err := w.exec(countSQL, 1, "gaps"); err != nil {
			return err
		}
	}
	return w.queueEvent(event.EventDead, event.Detail{
		Reason: reason, Epoch: st.Epoch, Stream: st.Stream.String(), From: g.first, To: g.last, Count: int(g.last - g.first + 1),
	})
}

// HashAt returns the chain's hash after seq (outbox.Queue).
func (s *Store) HashAt(ctx context.Context, c envelope.Chain, seq uint64) (h envelope.Hash, known bool, err error) {
	st := s.chain(c)
	if st == nil {
		return envelope.Hash{}, false, nil
	}
	err = s.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		h, known, err = hashAt(ctx, tx, st, seq)
		return err
	})
	if err != nil {
		return envelope.Hash{}, false, fmt.Errorf("hash of %s at %d: %w", c, seq, err)
	}
	return h, known, nil
}

// Acked says how far the hub has a chain (outbox.Queue). Of a chain that is not there any more there is nothing to say.
func (s *Store) Acked(ctx context.Context, c envelope.Chain, seq, safe uint64) error {
	err := s.ack(ctx, c, false, func(*chainState) (uint64, uint64) { return seq, safe })
	if err != nil {
		return fmt.Errorf("ack of %s up to %d: %w", c, seq, err)
	}
	return nil
}

// forgetOld forgets what the hub has had for long enough, and what an acknowledgement has left there: see ack.
func (s *Store) forgetOld(ctx context.Context, c envelope.Chain) error {
	return s.ack(ctx, c, false, func(st *chainState) (uint64, uint64) { return st.cursor, st.safe })
}

// ack moves the cursor to seq and forgets rows, a chunk in a transaction, up to safe and what is old enough. While the
// write-ahead log is too long (logHeld) the rows stay, until the next acknowledgement or Prune, unless they must go now.
func (s *Store) ack(ctx context.Context, c envelope.Chain, must bool, said func(*chainState) (seq, safe uint64)) error {
	now := s.cfg.Stamp(s.boot)
	for more := true; more; {
		err := s.writeAlone(ctx, func(w *work) error {
			old := s.chains[c]
			if more = false; old == nil {
				return nil
			}
			held := !must && s.logHeld(w.ctx)
			st := old.snapshot()
			seq, safe := said(old)
			st.cursor = min(max(seq, st.base.seq), st.last.seq)
			if !must {
				st.safe = safe
			}
			if st.cursor != old.cursor {
				st.acked = now.Wall.UTC().Round(0)
				if err := w.markAck(st, now); err != nil {
					return err
				}
			}
			kept, err := w.keptLong(st, now)
			if err != nil {
				return err
			}
			if !held {
				if more, err = w.forget(st, min(st.cursor, max(safe, kept))); err != nil {
					return err
				}
			}
			w.after = append(w.after, func() { st.handed.taken(st.cursor) })
			w.adopt(old, st)
			if st.cursor == old.cursor && st.base == old.base {
				return nil
			}
			if err := w.saveChain(st); err != nil {
				return err
			}
			return w.dropEpoch(st)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// How many rows one transaction deletes at most: whoever enqueues waits no longer than that. It is the larger one when
// room is made, which is rare, and for which something is written each time.
const (
	chunk      = 250
	largeChunk = 500
)

// forget deletes the rows up to a number, a chunk of them, and moves st.base. more says that there are more.
func (w *work) forget(st *chainState, to uint64) (more bool, err error) {
	to = min(to, st.cursor)
	if to <= st.base.seq {
		return false, nil
	}
	if err := w.start(); err != nil {
		return false, err
	}
	var key int64
	err = w.s.conn.QueryRowContext(w.ctx, "SELECT id FROM "+table(st.Stream)+" WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?",
		id(st.number, st.base.seq), id(st.number, to), chunk-1).Scan(&key)
	switch {
	case err == nil:
		more = seqOf(key) < to
		to = seqOf(key)
	case !errors.Is(err, sql.ErrNoRows):
		return false, fmt.Errorf("forget %s up to %d: %w", st.Chain, to, err)
	}
	for _, g := range st.missing {
		if g.holds(to) && g.last > to {
			to, more = g.first-1, false // the hash in the middle of it is not known
		}
	}
	if to <= st.base.seq {
		return false, nil
	}
	hash, known, err := hashAt(w.ctx, w.s.conn, st, to)
	if err != nil {
		return false, err
	}
	if !known {
		return false, nil // damaged: Read says so first
	}
	if err := w.exec("DELETE FROM "+table(st.Stream)+" WHERE id > ? AND id <= ?", id(st.number, st.base.seq), id(st.number, to)); err != nil {
		return false, fmt.Errorf("forget %s up to %d: %w", st.Chain, to, err)
	}
	if i := slices.IndexFunc(st.missing, func(g gap) bool { return g.last > to }); i != 0 && len(st.missing) > 0 {
		if err := w.exec(`DELETE FROM missing WHERE epoch = ? AND stream = ? AND last <= ?`, st.number, st.Stream, int64(to)); err != nil {
			return false, err
		}
		if i < 0 {
			i = len(st.missing)
		}
		st.missing = slices.Clone(st.missing[i:])
	}
	w.freed = true
	st.base = mark{to, hash}
	st.cursor = max(st.cursor, to)
	return more, nil
}

// dropEpoch deletes what is known of the epoch of st, when it is an old one of which nothing is left. st counts in place
// of what is in memory.
func (w *work) dropEpoch(st *chainState) error {
	if st.number == w.number || st.Stream == envelope.All && w.s.behind.Load() {
		return nil
	}
	var chains []envelope.Chain
	for _, o := range w.s.chains {
		if o.number != st.number {
			continue
		}
		if o.Chain == st.Chain {
			o = st
		}
		if o.base.seq < o.last.seq {
			return nil
		}
		chains = append(chains, o.Chain)
	}
	for _, q := range []string{
		`DELETE FROM chain WHERE epoch = ?`, `DELETE FROM ack WHERE epoch = ?`, `DELETE FROM sealed WHERE epoch = ?`,
		`DELETE FROM missing WHERE epoch = ?`, `DELETE FROM epoch WHERE number = ?`,
	} {
		if err := w.exec(q, st.number); err != nil {
			return fmt.Errorf("forget epoch %s: %w", st.Epoch, err)
		}
	}
	number := st.number
	w.after = append(w.after, func() {
		for _, c := range chains {
			delete(w.s.chains, c)
		}
		w.s.epochs = slices.DeleteFunc(slices.Clone(w.s.epochs), func(e epochRow) bool { return e.number == number })
	})
	return nil
}

// Rewind makes the next Read begin with the oldest event that is there (outbox.Queue).
func (s *Store) Rewind(ctx context.Context, c envelope.Chain) error {
	err := s.writeAlone(ctx, func(w *work) error {
		old := s.chains[c]
		if old == nil || old.cursor == old.base.seq {
			return nil
		}
		st := old.snapshot()
		st.cursor, st.safe, st.rolled = st.base.seq, 0, 0
		if err := w.saveChain(st); err != nil {
			return err
		}
		w.adopt(old, st)
		// What the hub has, it has not had since then.
		return w.exec(`DELETE FROM ack WHERE epoch = ? AND stream = ?`, st.number, st.Stream)
	})
	if err != nil {
		return fmt.Errorf("rewind %s: %w", c, err)
	}
	return nil
}

// Bury moves one event that the hub will never take to the dead (outbox.Queue). One that is missing or forgotten already
// stays so. ErrNoChain.
func (s *Store) Bury(ctx context.Context, c envelope.Chain, seq uint64, reason string) error {
	err := s.writeAlone(ctx, func(w *work) error {
		st := s.chains[c]
		if st == nil {
			return ErrNoChain
		}
		if seq <= st.base.seq || seq > st.last.seq || slices.ContainsFunc(st.missing, func(g gap) bool { return g.holds(seq) }) {
			return nil
		}
		if err := w.start(); err != nil {
			return err
		}
		hash, known, err := hashAt(w.ctx, s.conn, st, seq)
		if err != nil || !known {
			return err
		}
		return w.bury(st.snapshot(), st, gap{seq, seq, envelope.Refused, hash}, reason)
	})
	if err != nil {
		return fmt.Errorf("bury %s, %d: %w", c, seq, err)
	}
	return nil
}

var (
	_ outbox.Queue  = (*Store)(nil)
	_ kiosk.Journal = (*Store)(nil)
)
