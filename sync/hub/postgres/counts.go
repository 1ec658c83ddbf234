package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/hub/stats"
)

const (
	// A sheet is counted under the mode of the session it was printed in. What happened after $1 was not received before
	// $2, and the start of its session not before $3, so that older months are not looked at.
	countEvents = `
WITH started AS (
  SELECT session, min(mode) AS mode FROM event WHERE kind = 'session.started' AND received >= $3 GROUP BY session
)
SELECT e.box, e.happened / 3600000 AS hour, coalesce(s.mode, '') AS how,
       count(*) FILTER (WHERE e.kind = 'session.started'),
       coalesce(sum(e.pages) FILTER (WHERE e.kind = 'print.done'), 0)
FROM event AS e LEFT JOIN started AS s ON s.session = e.session
WHERE e.kind IN ('session.started', 'print.done') AND e.judged = '' AND e.happened >= $1 AND e.received >= $2
GROUP BY e.box, hour, how
ORDER BY e.box, hour, how`
	lastEvents = `
SELECT x.number, max(b.dated) FROM box AS x
LEFT JOIN numbering AS n ON n.box = x.number LEFT JOIN branch AS b ON b.numbering = n.id GROUP BY x.number`
)

const hour = int64(time.Hour / time.Millisecond)

// Counts implements stats.Counter.
func (s *Store) Counts(ctx context.Context, from time.Time) (out []stats.Count, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, countEvents, from.UnixMilli(), from.UTC().AddDate(0, 0, -1), from.UTC().AddDate(0, 0, -3))
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c stats.Count, err error) {
			var h int64
			err = row.Scan(&c.Box, &h, &c.Mode, &c.Sessions, &c.Papers)
			c.Hour = time.UnixMilli(h * hour).UTC()
			return c, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	return out, nil
}

// LastEvents implements stats.Counter. What was not certain when it came is not looked at.
func (s *Store) LastEvents(ctx context.Context) (out map[uint32]time.Time, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, lastEvents)
		if err != nil {
			return err
		}
		out = map[uint32]time.Time{}
		var box uint32
		var at *int64
		_, err = pgx.ForEachRow(rows, []any{&box, &at}, func() error {
			out[box] = time.Time{}
			if at != nil {
				out[box] = time.UnixMilli(*at).UTC()
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("latest events: %w", err)
	}
	return out, nil
}
