package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/wire"
)

const (
	lastSeq     = `SELECT COALESCE(MAX(seq), 0) FROM event WHERE box = ? AND epoch = ?`
	appendEvent = `INSERT INTO event (box, epoch, seq, received, happened, kind, session, mode, pages, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	// A sheet is counted under the mode of the session it was printed in.
	countEvents = `
SELECT e.box, substr(e.happened, 1, 13) AS hour,
       COALESCE((SELECT s.mode FROM event AS s WHERE s.kind = 'session.started' AND s.session = e.session LIMIT 1), '') AS how,
       SUM(e.kind = 'session.started'),
       SUM(CASE e.kind WHEN 'print.done' THEN e.pages ELSE 0 END)
FROM event AS e
WHERE e.kind IN ('session.started', 'print.done') AND e.happened >= ?
GROUP BY e.box, hour, how
ORDER BY e.box, hour, how`

	// One look into the index for each box, however many events there are.
	lastEvents = `SELECT number, COALESCE((SELECT MAX(happened) FROM event WHERE box = number), '') FROM box`

	forgetRequests = `DELETE FROM request WHERE received < ?`
	putRequest     = `
INSERT INTO request (code, box, received, body) VALUES (?, ?, ?, ?)
ON CONFLICT (code, box) DO UPDATE SET received = excluded.received, body = excluded.body, collected = '', collected_by = 0`
	// Two branches may have given out the same code: what was left here comes first, then what was left first.
	findRequest = `
SELECT box, body FROM request
WHERE code = ?1 AND received >= ?2 AND (collected = '' OR collected_by = ?3 AND collected >= ?4)
ORDER BY box <> ?3, received LIMIT 1`
	takeRequest = `UPDATE request SET collected_by = ?, collected = CASE collected WHEN '' THEN ? ELSE collected END WHERE code = ? AND box = ?`
)

// hourLayout is the first 13 characters of a stored time.
const hourLayout = "2006-01-02T15"

// Ingest implements stats.Store.
func (s *Store) Ingest(ctx context.Context, do func(stats.Tx) error) error {
	return s.within(ctx, func(tx *sql.Tx) error { return do(ingest{tx}) })
}

// ingest is one transaction.
type ingest struct{ tx *sql.Tx }

// LastSeq implements stats.Tx.
func (t ingest) LastSeq(ctx context.Context, box uint32, epoch string) (n uint64, err error) {
	if err := t.tx.QueryRowContext(ctx, lastSeq, box, epoch).Scan(&n); err != nil {
		return 0, fmt.Errorf("last event: %w", err)
	}
	return n, nil
}

// AppendEvents implements stats.Tx.
func (t ingest) AppendEvents(ctx context.Context, box uint32, epoch string, received time.Time, rows []stats.Row) error {
	stmt, err := t.tx.PrepareContext(ctx, appendEvent)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	at := stamp(received)
	for _, r := range rows {
		happened := at
		if r.ClockOK && believable(r.At, received) {
			happened = stamp(r.At)
		}
		if _, err := stmt.ExecContext(ctx, box, epoch, r.Seq, at, happened, string(r.Kind), r.Session, r.Mode, r.Pages, string(r.Body)); err != nil {
			return fmt.Errorf("event %d: %w", r.Seq, err)
		}
	}
	return nil
}

// believable reports whether an event that was received at one time can have happened at another. A box that believes
// its clock can still be wrong; it cannot report what has not happened yet, nor what happened before there were boxes.
func believable(at, received time.Time) bool {
	return at.Before(received.Add(time.Hour)) && at.Year() >= 2026
}

// PutRequest implements stats.Tx.
func (t ingest) PutRequest(ctx context.Context, box uint32, received time.Time, r wire.Request) error {
	if _, err := t.tx.ExecContext(ctx, forgetRequests, stamp(received.Add(-pickup.Keep))); err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("store request: %w", err)
	}
	if _, err := t.tx.ExecContext(ctx, putRequest, r.Code, box, stamp(received), string(body)); err != nil {
		return fmt.Errorf("store request: %w", err)
	}
	return nil
}

// FindRequest implements pickup.Store.
func (s *Store) FindRequest(ctx context.Context, code string, box uint32, now time.Time) (r wire.Request, err error) {
	_, body, err := request(ctx, s.read, code, box, now)
	if err != nil {
		return wire.Request{}, err
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return wire.Request{}, fmt.Errorf("stored request: %w", err)
	}
	return r, nil
}

// TakeRequest implements pickup.Store.
func (s *Store) TakeRequest(ctx context.Context, code string, box uint32, now time.Time) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		from, _, err := request(ctx, tx, code, box, now)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, takeRequest, box, stamp(now), code, from); err != nil {
			return fmt.Errorf("take request: %w", err)
		}
		return nil
	})
}

// rower is a database or a transaction.
type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// request returns the request that box may have, and the box where it was left.
func request(ctx context.Context, db rower, code string, box uint32, now time.Time) (from uint32, body []byte, err error) {
	row := db.QueryRowContext(ctx, findRequest, code, stamp(now.Add(-pickup.Keep)), box, stamp(now.Add(-pickup.Again)))
	err = row.Scan(&from, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, pickup.ErrNone
	}
	if err != nil {
		return 0, nil, fmt.Errorf("find request: %w", err)
	}
	return from, body, nil
}

// Counts implements stats.Counter.
func (s *Store) Counts(ctx context.Context, from time.Time) ([]stats.Count, error) {
	rows, err := s.read.QueryContext(ctx, countEvents, stamp(from))
	if err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []stats.Count
	for rows.Next() {
		var c stats.Count
		var hour string
		if err := rows.Scan(&c.Box, &hour, &c.Mode, &c.Sessions, &c.Papers); err != nil {
			return nil, fmt.Errorf("count events: %w", err)
		}
		if c.Hour, err = time.Parse(hourLayout, hour); err != nil {
			return nil, fmt.Errorf("count events: %w", err)
		}
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	return out, nil
}

// LastEvents implements stats.Counter.
func (s *Store) LastEvents(ctx context.Context) (map[uint32]time.Time, error) {
	rows, err := s.read.QueryContext(ctx, lastEvents)
	if err != nil {
		return nil, fmt.Errorf("latest events: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[uint32]time.Time{}
	for rows.Next() {
		var box uint32
		var at string
		if err := rows.Scan(&box, &at); err != nil {
			return nil, fmt.Errorf("latest events: %w", err)
		}
		if out[box], err = parseStamp(at); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("latest events: %w", err)
	}
	return out, nil
}
