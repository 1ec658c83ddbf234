package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// Queued returns how many events wait for the hub and when the oldest one happened, by the box's clock (zero when none
// waits).
func (s *Store) Queued(ctx context.Context) (n int, oldest time.Time, err error) {
	r, err := s.streams(ctx)
	if err != nil {
		return 0, time.Time{}, err
	}
	for _, st := range r {
		n += st.Queued
		if st.Oldest != nil && (oldest.IsZero() || st.Oldest.Before(oldest)) {
			oldest = *st.Oldest
		}
	}
	return n, oldest, nil
}

// streams reports all streams, of all epochs together.
func (s *Store) streams(ctx context.Context) ([]wire.StreamReport, error) {
	s.mu.RLock()
	var out []wire.StreamReport
	var first []*chainState // of each stream the oldest with events that wait
	for _, stream := range envelope.Streams() {
		r, oldest := wire.StreamReport{Stream: stream}, (*chainState)(nil)
		for _, st := range s.ofStream(stream) {
			queued := st.queued()
			if queued > 0 && oldest == nil {
				oldest = st.snapshot()
			}
			r.Queued += queued
			r.Kept += st.kept()
			if acked := st.acked; !acked.IsZero() && (r.LastAck == nil || acked.After(*r.LastAck)) {
				r.LastAck = &acked
			}
		}
		out, first = append(out, r), append(first, oldest)
	}
	s.mu.RUnlock()
	err := s.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for i, st := range first {
			if st == nil {
				continue
			}
			rows, _, err := fetch(ctx, tx, st, max(st.cursor, st.base.seq)+1, st.last.seq, 1, 1)
			if err != nil || len(rows) == 0 {
				return err
			}
			if e, err := envelope.Parse(rows[0].enc); err == nil {
				out[i].Oldest = &e.At.Wall
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return out, nil
}

// Report fills in what the queue knows of a report: Epoch, Streams, Dead, Gaps, Dropped, Disk and SealKeys. It reads a
// few rows, however many are queued.
func (s *Store) Report(ctx context.Context) (r wire.Report, err error) {
	r.Epoch = s.Epoch()
	if r.Streams, err = s.streams(ctx); err != nil {
		return wire.Report{}, err
	}
	var used int
	err = s.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM dead), (SELECT value FROM counter WHERE name = 'gaps'),
			(SELECT value FROM counter WHERE name = 'dropped')`).Scan(&r.Dead, &r.Gaps, &r.Dropped)
		if err != nil {
			return err
		}
		if _, used, err = usedPages(ctx, tx); err != nil {
			return err
		}
		r.SealKeys, err = s.sealKeys(ctx, tx)
		return err
	})
	if err != nil {
		return wire.Report{}, fmt.Errorf("report of the queue: %w", err)
	}
	r.Disk = wire.DiskReport{State: s.DiskState(), Used: int64(used) * pageSize, Limit: s.limit.Load() * pageSize}
	if _, r.Disk.Free, err = diskRoom(s.cfg.Path); err != nil {
		return wire.Report{}, err
	}
	return r, nil
}

// sealKeys lists the hub keys that events are closed to which are still here, dead or not, in hexadecimal.
func (s *Store) sealKeys(ctx context.Context, q querier) (keys []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT s.key FROM sealed s JOIN chain c ON c.epoch = s.epoch AND c.stream = s.stream WHERE s.last > c.base`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id seal.KeyID
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		copy(id[:], b)
		keys = append(keys, id.String())
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	dead, err := s.keysOfDead(ctx, q)
	if err != nil {
		return nil, err
	}
	keys = append(keys, dead...)
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// keysOfDead lists the hub keys that events among the dead are closed to: somebody may want to look at them. They are read
// again when there are others.
func (s *Store) keysOfDead(ctx context.Context, q querier) ([]string, error) {
	s.deadMu.Lock()
	defer s.deadMu.Unlock()
	var last int64
	var n uint64
	if err := q.QueryRowContext(ctx, `SELECT coalesce(max(id), 0), count(*) FROM dead`).Scan(&last, &n); err != nil {
		return nil, err
	}
	if last == s.deadLast && n == s.deadN {
		return s.deadKeys, nil
	}
	rows, err := q.QueryContext(ctx, `SELECT envelope FROM dead`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var keys []string
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		e, err := envelope.Parse(b)
		if err != nil {
			continue // damaged: it opens with no key
		}
		if key, ok := seal.KeyOf(e.Sealed); ok && !slices.Contains(keys, key.String()) {
			keys = append(keys, key.String())
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	s.deadLast, s.deadN, s.deadKeys = last, n, keys
	return keys, nil
}

// DeadEvent is an event that can never be delivered.
type DeadEvent struct {
	Chain  envelope.Chain `json:"chain"`
	Seq    uint64         `json:"seq"`
	Kind   string         `json:"kind,omitempty"` // "" when it cannot be read any more
	Reason string         `json:"reason"`         // damaged, or the hub's word
	At     time.Time      `json:"at"`             // when it was found
}

// maxDead is how many dead events are listed.
const maxDead = 1000

// Dead lists the events that can never be delivered, the latest first, without what is in them.
func (s *Store) Dead(ctx context.Context) (dead []DeadEvent, err error) {
	err = s.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT epoch, stream, seq, reason, at, envelope FROM dead ORDER BY id DESC LIMIT ?`, maxDead)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		dead = nil
		for rows.Next() {
			var d DeadEvent
			var at string
			var b []byte
			if err := rows.Scan(&d.Chain.Epoch, &d.Chain.Stream, &d.Seq, &d.Reason, &at, &b); err != nil {
				return err
			}
			if d.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
				d.At = time.Time{}
			}
			if e, err := envelope.Parse(b); err == nil && strings.Trim(e.Kind, "abcdefghijklmnopqrstuvwxyz._") == "" {
				d.Kind = e.Kind
			}
			dead = append(dead, d)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("dead events: %w", err)
	}
	return dead, nil
}
