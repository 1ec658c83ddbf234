package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

// Boxes of the first release kept their queue in table event: one numbering for everything, no envelopes, no hashes. What
// is left in it moves into stream "all", under the epoch and the numbers that it has, with the JSON that the first release
// would have sent as the body. The table stays, empty.

// takeOver moves the events of a first release's file, some at a time: each transaction moves rows and deletes them, so
// that each is moved once, whenever the power is cut. What there is no room for stays until Prune. once runs a transaction.
func (s *Store) takeOver(ctx context.Context, once func(func(*work) error) error) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	var name envelope.Epoch
	err := s.read.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'epoch'`).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // no program of the first release has had this file
	} else if err != nil {
		return fmt.Errorf("events of the first release: %w", err)
	}
	c := envelope.Chain{Epoch: name, Stream: envelope.All}
	for left := true; left; {
		err := once(func(w *work) (err error) {
			left, err = w.takeOverSome(c)
			return err
		})
		if err != nil && (sqldb.Full(err) || errors.Is(err, kiosk.ErrDiskFull)) {
			if !s.behind.Swap(true) {
				s.log.ErrorContext(ctx, "events of the first release wait until there is room for them", "err", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("events of the first release: %w", err)
		}
	}
	s.behind.Store(false)
	return nil
}

// onceWithRoom is once, and lets go for it what may be let go.
func (s *Store) onceWithRoom(do func(*work) error) error {
	err := s.once(do)
	for err != nil && sqldb.Full(err) && s.makeRoom() {
		err = s.once(do)
	}
	return err
}

// takeOverSome moves up to a chunk of rows.
func (w *work) takeOverSome(c envelope.Chain) (left bool, err error) {
	if err := w.start(); err != nil {
		return false, err
	}
	old, err := w.firstRelease()
	if err != nil || len(old) == 0 {
		return false, err
	}
	if !c.Epoch.Valid() {
		return false, fmt.Errorf("epoch %q: %w", c.Epoch, envelope.ErrMalformed)
	}
	st := w.s.chains[c]
	if st == nil {
		e, err := w.saveEpoch(w.s.epochs, c.Epoch, ofFirstRelease)
		if err != nil {
			return false, err
		}
		// Nobody has hashed what came before: the chain begins with what is left.
		st = newChain(e.number, c)
		st.base = mark{old[0].Seq - 1, envelope.Genesis(c)}
		st.cursor, st.last = st.base.seq, st.base
		w.after = append(w.after, func() { w.s.epochs = append(w.s.epochs, e) })
	}
	st = st.snapshot()
	for _, v := range old {
		if err := w.takeOverOne(st, v); err != nil {
			return false, err
		}
	}
	if err := w.exec(`DELETE FROM event WHERE seq <= ?`, int64(old[len(old)-1].Seq)); err != nil {
		return false, err
	}
	if err := w.saveChain(st); err != nil {
		return false, err
	}
	w.after = append(w.after, func() { w.s.chains[c] = st })
	return len(old) == chunk, nil
}

func (w *work) takeOverOne(st *chainState, v event.V1) error {
	if v.Seq > st.last.seq+1 { // the first release left no holes: what is not there is lost
		g := gap{st.last.seq + 1, v.Seq - 1, envelope.Damaged, st.last.hash.Next(nil)}
		if err := w.saveGap(st, g); err != nil {
			return err
		}
		st.missing, st.last = with(st.missing, g), mark{g.last, g.hash}
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("event %d: %w", v.Seq, err)
	}
	e := envelope.Envelope{
		Box: w.s.cfg.Box(), Chain: st.Chain, Seq: v.Seq, Kind: string(v.Kind), Schema: event.SchemaV1,
		At: envelope.Stamp{Wall: v.At}, Body: body,
	}
	if v.ClockOK {
		e.At.Quality = envelope.Synced
	}
	enc, err := e.Append(nil)
	if err != nil {
		return w.takeOverDead(st, v.Seq, body)
	}
	hash := st.last.hash.Next(enc)
	if err := w.exec(insertSQL[envelope.All][len(insertSizes)-1], id(st.number, v.Seq), enc, hash[:]); err != nil {
		return err
	}
	st.last = mark{v.Seq, hash}
	return nil
}

// takeOverDead keeps what no envelope can hold: its number or its kind is damaged, or it is too long.
func (w *work) takeOverDead(st *chainState, seq uint64, body []byte) error {
	err := w.exec(`INSERT INTO dead (epoch, stream, seq, reason, at, envelope) VALUES (?, ?, ?, 'damaged', ?, ?)`,
		string(st.Epoch), st.Stream, int64(seq), stamp(w.s.cfg.Now()), body)
	if err != nil {
		return err
	}
	g := gap{seq, seq, envelope.Damaged, st.last.hash.Next(body)}
	st.missing, st.last = with(st.missing, g), mark{seq, g.hash}
	return w.saveGap(st, g)
}

// firstRelease reads rows of the first release, a chunk at most, as it would have sent them.
func (w *work) firstRelease() (out []event.V1, err error) {
	rows, err := w.s.conn.QueryContext(w.ctx, `SELECT seq, at, clock_ok, kind, session, kiosk, detail, sealed FROM event
		WHERE seq > 0 ORDER BY seq LIMIT ?`, chunk)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e event.V1
		var at, detail string
		if err := rows.Scan(&e.Seq, &at, &e.ClockOK, &e.Kind, &e.Session, &e.Kiosk, &detail, &e.Sealed); err != nil {
			return nil, err
		}
		var bad error
		e.At, bad = time.Parse(time.RFC3339Nano, at)
		if bad = errors.Join(bad, json.Unmarshal([]byte(detail), &e.Detail)); bad != nil {
			e.Detail = event.Detail{Reason: "unreadable"} // as the first release sent it
		}
		out = append(out, e)
	}
	return out, rows.Err()
}
