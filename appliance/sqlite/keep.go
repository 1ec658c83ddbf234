package sqlite

import (
	"database/sql"
	"fmt"
	"time"

	"sportello.example/sync/envelope"
)

// What the hub has and no backup of it has is kept for Config.Keep. A box may wake up in 1970, or in 2036, and be told the
// time a minute later: what it then took to be old it would forget at once. So how long the hub has had something is
// counted from a time that was certain when it was noted, and only while the present time is certain too.

// believed says whether t is certain enough to forget something by: the hub has said it.
func believed(t envelope.Stamp) bool { return t.Quality == envelope.Synced }

// noTime is the time in table ack of what was acknowledged when nobody knew it.
const (
	noTime = ""
	noDay  = "~" // sorts after every time
)

// ackEvery is how long one row notes how much the hub has: events are kept up to so much longer than they need be.
const ackEvery = 24 * time.Hour

// markAck notes that the hub has everything up to the cursor since now, and nothing beyond it.
func (w *work) markAck(st *chainState, now envelope.Stamp) error {
	if err := w.exec(`DELETE FROM ack WHERE epoch = ? AND stream = ? AND seq > ?`, st.number, st.Stream, int64(st.cursor)); err != nil {
		return fmt.Errorf("ack of %s: %w", st.Chain, err)
	}
	since, at := noDay, noTime
	if believed(now) {
		since, at = stamp(now.Wall.Add(-ackEvery)), stamp(now.Wall)
	}
	err := w.exec(`INSERT INTO ack (epoch, stream, day, seq, at) VALUES (?1, ?2,
		  coalesce((SELECT max(day) FROM ack WHERE epoch = ?1 AND stream = ?2 AND day > ?3), ?5), ?4, ?5)
		ON CONFLICT (epoch, stream, day) DO UPDATE SET seq = excluded.seq, at = excluded.at`,
		st.number, st.Stream, since, int64(st.cursor), at)
	if err != nil {
		return fmt.Errorf("ack of %s: %w", st.Chain, err)
	}
	return nil
}

// keptLong returns up to where the hub has had the chain for longer than events are kept, 0 while the time is not certain.
func (w *work) keptLong(st *chainState, now envelope.Stamp) (uint64, error) {
	if !believed(now) {
		return 0, nil
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	if err := w.dateAcks(st, stamp(now.Wall)); err != nil {
		return 0, fmt.Errorf("ack of %s: %w", st.Chain, err)
	}
	var seq sql.NullInt64
	err := w.s.conn.QueryRowContext(w.ctx, `SELECT max(seq) FROM ack WHERE epoch = ? AND stream = ? AND at <= ?`,
		st.number, st.Stream, stamp(now.Wall.Add(-w.s.cfg.Keep))).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("ack of %s: %w", st.Chain, err)
	}
	return uint64(seq.Int64), nil
}

// dateAcks says that what was acknowledged when nobody knew the time, or at a time that has not come yet, was so by now.
func (w *work) dateAcks(st *chainState, now string) error {
	var seq sql.NullInt64
	err := w.s.conn.QueryRowContext(w.ctx, `SELECT max(seq) FROM ack WHERE epoch = ?1 AND stream = ?2 AND (day = ?4 OR day > ?3 OR at > ?3)`,
		st.number, st.Stream, now, noTime).Scan(&seq)
	if err != nil || !seq.Valid {
		return err
	}
	err = w.exec(`DELETE FROM ack WHERE epoch = ?1 AND stream = ?2 AND (day = ?4 OR day > ?3 OR at > ?3)`, st.number, st.Stream, now, noTime)
	if err != nil {
		return err
	}
	return w.exec(`INSERT INTO ack (epoch, stream, day, seq, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (epoch, stream, day) DO UPDATE SET seq = max(seq, excluded.seq), at = excluded.at`, st.number, st.Stream, now, seq.Int64, now)
}
