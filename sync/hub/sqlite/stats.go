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
	// A sheet is counted under the mode of the session it was printed in, wherever that began and whenever that came in.
	countEvents = `
SELECT c.box, e.happened / 3600000 AS hour,
       COALESCE((SELECT s.mode FROM entry AS s WHERE s.judged = '' AND s.kind = 'session.started' AND s.session = e.session LIMIT 1), '') AS how,
       SUM(e.kind = 'session.started'),
       SUM(CASE e.kind WHEN 'print.done' THEN e.pages ELSE 0 END)
FROM entry AS e JOIN chain AS c ON c.id = e.chain
WHERE e.judged = '' AND e.kind IN ('session.started', 'print.done') AND e.happened >= ?
GROUP BY c.box, hour, how
ORDER BY c.box, hour, how`

	lastEvents = `SELECT c.box, MAX(b.dated) FROM branch AS b JOIN chain AS c ON c.id = b.chain WHERE b.dated > 0 GROUP BY c.box`

	forgetRequests = `DELETE FROM request WHERE received < ?`
	putRequest     = `
INSERT INTO request (code, box, received, body) VALUES (?, ?, ?, ?)
ON CONFLICT (code, box) DO UPDATE SET received = excluded.received, body = excluded.body, collected = '', collected_by = 0
WHERE body <> excluded.body -- the same comes again with a second history: it stays collected`
	// Two branches may have given out the same code: what was left here comes first, then what was left first.
	findRequest = `
SELECT box, body FROM request
WHERE code = ?1 AND received >= ?2 AND (collected = '' OR collected_by = ?3 AND collected >= ?4)
ORDER BY box <> ?3, received LIMIT 1`
	takeRequest = `UPDATE request SET collected_by = ?, collected = CASE collected WHEN '' THEN ? ELSE collected END WHERE code = ? AND box = ?`
)

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
	rows, err := s.read.QueryContext(ctx, countEvents, millis(from))
	if err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []stats.Count
	for rows.Next() {
		var c stats.Count
		var hour int64
		if err := rows.Scan(&c.Box, &hour, &c.Mode, &c.Sessions, &c.Papers); err != nil {
			return nil, fmt.Errorf("count events: %w", err)
		}
		c.Hour = time.Unix(hour*3600, 0).UTC()
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
		var at int64
		if err := rows.Scan(&box, &at); err != nil {
			return nil, fmt.Errorf("latest events: %w", err)
		}
		out[box] = fromMillis(at)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("latest events: %w", err)
	}
	return out, nil
}
