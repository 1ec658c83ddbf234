package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// epochRow is one numbering of this box.
type epochRow struct {
	number int64
	name   envelope.Epoch
	begun  string
	reason string
}

func (e epochRow) sum() int64 {
	return sum([]uint64{uint64(e.number)}, []byte(e.name), []byte(e.begun), []byte(e.reason))
}

// Why an epoch began, in EpochBegun. Renew adds the words of its callers.
const (
	lostTail     = "lost_tail"     // the database has less than the witness has seen
	missingFile  = "missing_file"  // the database is not there any more
	setAsideFile = "set_aside"     // it was corrupt
	otherFile    = "other_file"    // it is not the one that the witness knows
	otherHistory = "other_history" // it has other events under the numbers that the witness knows
	noWitness    = "no_witness"    // the witness is not there any more, or cannot be read
	damagedTail  = "damaged_tail"  // the last numbers given out cannot be relied on
	otherBox     = "other_box"     // the hub knows the box by another number: see Store.Belong
)

// loss is a stretch of a chain that is known to be lost.
type loss struct {
	envelope.Chain
	first, last uint64
	hash        envelope.Hash // after last
	old         *chainState   // when the rest of the chain is there
}

// judge compares the database with the witness. reason is why a new epoch must begin, "" when the present one goes on,
// or when there is none and nothing is known of one.
func (s *Store) judge(ctx context.Context, t testimony, known, witnessed, damaged bool) (reason string, lost []loss, err error) {
	switch {
	case s.epoch == "" && known:
		return missingFile, gone(t), nil
	case s.epoch == "":
		return "", nil, nil
	case !known && witnessed:
		return noWitness, nil, nil
	case !known:
		if damaged {
			return damagedTail, nil, nil
		}
		return "", nil, nil // killed before there was a witness, and before anything was queued
	case t.epoch != s.epoch:
		for _, e := range s.epochs {
			if e.name == t.epoch && damaged {
				return damagedTail, nil, nil
			} else if e.name == t.epoch {
				return "", nil, nil // killed between beginning an epoch and telling the witness
			}
		}
		return otherFile, gone(t), nil
	}
	if damaged {
		reason = damagedTail
	}
	for i, st := range s.current {
		if st == nil {
			continue
		}
		switch h := t.heads[i]; {
		case h.seq > st.last.seq:
			reason = lostTail
			lost = append(lost, loss{Chain: st.Chain, first: st.last.seq + 1, last: h.seq, hash: h.hash, old: st})
		case h.seq == st.last.seq:
			ok, err := s.soundEnd(ctx, st, &h.hash)
			if err != nil {
				return "", nil, err
			}
			if ok {
				st.last, s.heads[i] = h, h
			} else if reason == "" {
				reason = otherHistory
			}
		default:
			ok, err := s.passes(ctx, st, h)
			if err != nil {
				return "", nil, err
			}
			if !ok && reason == "" {
				reason = otherHistory
			}
			if ok, err = s.soundEnd(ctx, st, nil); err != nil {
				return "", nil, err
			} else if !ok && reason == "" {
				reason = damagedTail
			}
		}
	}
	return reason, lost, nil
}

// gone is all that the witness knows and the hub has not acknowledged.
func gone(t testimony) (lost []loss) {
	for i, h := range t.heads {
		if h.seq > t.acked[i] {
			lost = append(lost, loss{Chain: envelope.Chain{Epoch: t.epoch, Stream: envelope.Stream(i)}, first: t.acked[i] + 1, last: h.seq, hash: h.hash})
		}
	}
	return lost
}

// soundEnd says whether the hash at the chain's end is certain: its last row fits the row before it, or, when somebody
// else than the row has said what the hash is, one of the two does. A row of which the other does not is for Read to deal
// with.
func (s *Store) soundEnd(ctx context.Context, st *chainState, said *envelope.Hash) (bool, error) {
	rows, _, err := fetch(ctx, s.conn, st, st.last.seq, st.last.seq, 1, envelope.MaxEncoded)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 || st.last.seq == st.base.seq { // what else says so has a checksum
		return said == nil || *said == st.last.hash, nil
	}
	before, known, err := hashAt(ctx, s.conn, st, st.last.seq-1)
	if err != nil {
		return false, err
	}
	is := before.Next(rows[0].enc)
	if said != nil {
		return known && is == *said || rows[0].hash == *said, nil
	}
	return known && is == rows[0].hash, nil
}

// passes says whether the chain went through the mark, as far as that can be known.
func (s *Store) passes(ctx context.Context, st *chainState, m mark) (bool, error) {
	if m.seq < st.base.seq {
		return true, nil
	}
	hash, known, err := hashAt(ctx, s.conn, st, m.seq)
	if err != nil || !known || hash == m.hash {
		return true, err
	}
	rows, _, err := fetch(ctx, s.conn, st, m.seq+1, m.seq+1, 1, envelope.MaxEncoded)
	return err == nil && len(rows) > 0 && m.hash.Next(rows[0].enc) == rows[0].hash, err
}

// Epochs that are no numbering of this file's own, by their reason.
const (
	ofFirstRelease = "first_release" // see takeOver
	ofOtherFile    = "other"         // the witness knew it; a start that is cut short must not report it twice
)

// beginEpoch begins a new epoch, whose first event says why; one that is new because the box is needs no reason. old is
// the epoch before it.
func (w *work) beginEpoch(reason string, old envelope.Epoch, lost []loss) error {
	s := w.s
	for _, st := range s.current { // from here on these say how far the old epoch went
		if st == nil {
			continue
		}
		if err := w.saveChain(st.snapshot()); err != nil {
			return err
		}
	}
	epochs := s.epochs
	if old != "" && !slices.ContainsFunc(epochs, func(e epochRow) bool { return e.name == old }) {
		other, err := w.saveEpoch(epochs, old, ofOtherFile)
		if err != nil {
			return err
		}
		epochs = append(slices.Clone(epochs), other)
	}
	e, err := w.saveEpoch(epochs, envelope.NewEpoch(), reason)
	if err != nil {
		return err
	}
	epochs = append(slices.Clone(epochs), e)
	w.number, w.epoch, w.heads = e.number, e.name, [streams]mark{}
	var current [streams]*chainState
	for _, stream := range envelope.Streams() {
		if stream == envelope.All {
			continue // no new event goes there
		}
		c := envelope.Chain{Epoch: e.name, Stream: stream}
		w.heads[stream] = mark{0, envelope.Genesis(c)}
		st := newChain(e.number, c)
		st.base = w.heads[stream]
		if err := w.saveChain(st); err != nil {
			return err
		}
		current[stream] = st
	}
	w.after = append(w.after, func() {
		s.epochs = epochs
		s.number, s.epoch, s.current = e.number, e.name, current
		for i, st := range current {
			if st != nil {
				st.last = w.heads[i]
				s.chains[st.Chain] = st
			}
		}
	})
	if reason == "" {
		return nil
	}
	if err := w.queueEvent(event.EpochBegun, event.Detail{Reason: reason, Epoch: old}); err != nil {
		return err
	}
	for _, l := range lost {
		if err := w.declare(l, reason); err != nil {
			return err
		}
	}
	if len(lost) > 0 {
		if err := w.exec(countSQL, len(lost), "gaps"); err != nil {
			return err
		}
	}
	if s.clock != nil { // the hub dates the events of an epoch by what that epoch says
		return w.append(*s.clock)
	}
	return nil
}

// saveEpoch stores an epoch under the next number.
func (w *work) saveEpoch(epochs []epochRow, name envelope.Epoch, reason string) (epochRow, error) {
	e := epochRow{number: 1, name: name, begun: stamp(w.s.cfg.Now()), reason: reason}
	for _, o := range epochs {
		e.number = max(e.number, o.number+1)
	}
	err := w.exec(`INSERT INTO epoch (number, name, begun, reason, sum) VALUES (?, ?, ?, ?, ?)`, e.number, string(e.name), e.begun, e.reason, e.sum())
	if err != nil {
		return epochRow{}, fmt.Errorf("epoch: %w", err)
	}
	return e, nil
}

// declare reports what is lost, and closes the old chain with it: the hub hears in that chain too that nothing follows.
func (w *work) declare(l loss, reason string) error {
	err := w.queueEvent(event.Gap, event.Detail{
		Reason: reason, Epoch: l.Epoch, Stream: l.Stream.String(), From: l.first, To: l.last, Count: int(l.last - l.first + 1),
	})
	if err != nil || l.old == nil {
		return err
	}
	st := l.old.snapshot()
	g := gap{l.first, l.last, envelope.Damaged, l.hash}
	st.missing, st.last = with(st.missing, g), mark{l.last, l.hash}
	if err := w.saveGap(st, g); err != nil {
		return err
	}
	if err := w.saveChain(st); err != nil {
		return err
	}
	old := l.old
	w.after = append(w.after, func() { *old = *st })
	return nil
}

// Renew begins a new epoch, unless c is of an older one already (outbox.Queue). What is queued in the old one stays.
func (s *Store) Renew(ctx context.Context, c envelope.Chain, reason string) error {
	begun := false
	err := s.writeAlone(ctx, func(w *work) error {
		if begun = w.epoch == c.Epoch; !begun {
			return nil
		}
		w.leave()
		return w.beginEpoch(reason, c.Epoch, nil)
	})
	if err != nil {
		return fmt.Errorf("begin an epoch: %w", err)
	}
	if !begun {
		return nil
	}
	s.log.WarnContext(ctx, "a new numbering of events has begun", "chain", c.String(), "reason", reason)
	s.syncWitness(ctx)
	return nil
}

// leave notes that the present epoch ends while this start does not know the time: what it learns later is about it too.
func (w *work) leave() {
	old := w.epoch
	w.after = append(w.after, func() {
		if s := w.s; s.clock == nil {
			s.untold = append(s.untold, old)
		}
	})
}

// tellOlder says what was learned of the time about the epochs that ended in this start before it was: the hub dates the
// events of an epoch by what is said about that epoch.
func (w *work) tellOlder(set item) error {
	for _, e := range w.s.untold {
		var b event.Body
		if err := json.Unmarshal(set.body, &b); err != nil {
			return fmt.Errorf("event %s: %w", set.kind, err)
		}
		b.Detail.Epoch = e
		body, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("event %s: %w", set.kind, err)
		}
		if err := w.append(item{kind: set.kind, at: set.at, body: body, again: true}); err != nil {
			return err
		}
	}
	return nil
}

// testimony is what the witness has to know. The caller holds mu, or is alone.
func (s *Store) testimony() testimony {
	t := testimony{epoch: s.epoch, boot: s.boot, suspect: s.suspect.Load(), heads: s.heads}
	for i, st := range s.current {
		if st != nil {
			t.acked[i] = min(st.cursor, st.last.seq)
		}
	}
	return t
}

// stamp writes a time so that it sorts as text.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }
