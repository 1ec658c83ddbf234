package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
)

const (
	judgedFields = `
SELECT c.box, c.epoch, c.stream, e.branch, e.seq, e.missing, e.reason, e.hash, e.encoded, e.kind, e.schema, e.session, e.mode, e.pages,
       e.boot, e.mono, e.wall, e.quality, e.happened, e.certain
FROM chain AS c CROSS JOIN entry AS e ON e.chain = c.id AND e.judged <> '' AND e.judged = ?1
`
	// The rest of one chain, and the chains after it: each is read from where it begins in the index.
	judgedInChain = judgedFields + `WHERE c.box = ?2 AND c.epoch = ?3 AND c.stream = ?4 AND (e.branch, e.seq) > (?5, ?6) ORDER BY e.branch, e.seq LIMIT ?7`
	judgedAfter   = judgedFields + `WHERE (c.box, c.epoch, c.stream) > (?2, ?3, ?4) ORDER BY c.box, c.epoch, c.stream, e.branch, e.seq LIMIT ?5`
	listAlarms    = `SELECT id, box, kind, key, text, count, since, latest, done FROM alarm WHERE done = 0 OR ? ORDER BY latest DESC, id DESC`
	alarmDone     = `UPDATE alarm SET done = ? WHERE id = ?`
)

// Judged implements ingest.Store.
func (s *Store) Judged(ctx context.Context, j ingest.Judgement, after ingest.Row, n int) ([]ingest.Row, error) {
	c := after.ID
	out, err := s.judged(ctx, j, judgedInChain, string(j), c.Box, string(c.Chain.Epoch), c.Chain.Stream, after.Branch, after.Seq, n)
	if err != nil || len(out) == n {
		return out, err
	}
	rest, err := s.judged(ctx, j, judgedAfter, string(j), c.Box, string(c.Chain.Epoch), c.Chain.Stream, n-len(out))
	return append(out, rest...), err
}

func (s *Store) judged(ctx context.Context, j ingest.Judgement, query string, args ...any) ([]ingest.Row, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("events that are %s: %w", j, err)
	}
	defer func() { _ = rows.Close() }()
	var out []ingest.Row
	for rows.Next() {
		r := ingest.Row{Judged: j}
		var missing uint64
		var reason uint8
		var hash []byte
		var mono, wall, happened int64
		var epoch, kind string
		if err := rows.Scan(&r.ID.Box, &epoch, &r.ID.Chain.Stream, &r.Branch, &r.Seq, &missing, &reason, &hash, &r.Encoded, &kind, &r.Schema,
			&r.Session, &r.Mode, &r.Pages, &r.Boot, &mono, &wall, &r.Quality, &happened, &r.Certain); err != nil {
			return nil, fmt.Errorf("events that are %s: %w", j, err)
		}
		r.ID.Chain.Epoch, r.Kind = envelope.Epoch(epoch), event.Kind(kind)
		r.Mono, r.Wall, r.Happened = time.Duration(mono)*time.Millisecond, fromMillis(wall), fromMillis(happened)
		identify(&r, missing, reason, hash)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("events that are %s: %w", j, err)
	}
	return out, nil
}

// Alarms implements ingest.Store.
func (s *Store) Alarms(ctx context.Context, all bool) ([]ingest.Alarm, error) {
	rows, err := s.read.QueryContext(ctx, listAlarms, all)
	if err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []ingest.Alarm
	for rows.Next() {
		var a ingest.Alarm
		var since, latest, done int64
		if err := rows.Scan(&a.ID, &a.Box, &a.Kind, &a.Key, &a.Text, &a.Count, &since, &latest, &done); err != nil {
			return nil, fmt.Errorf("alarms: %w", err)
		}
		a.First, a.At, a.Done = fromMillis(since), fromMillis(latest), fromMillis(done)
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	return out, nil
}

// AlarmDone implements ingest.Store.
func (s *Store) AlarmDone(ctx context.Context, id int64, at time.Time) error {
	res, err := s.write.ExecContext(ctx, alarmDone, millis(at), id)
	if err != nil {
		return fmt.Errorf("alarm %d: %w", id, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("alarm %d: %w", id, ingest.ErrNoAlarm))
	}
	return nil
}
