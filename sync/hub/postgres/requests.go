package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/wire"
)

const (
	dropRequests = `DELETE FROM request WHERE received < $1`
	putRequests  = `
INSERT INTO request (code, box, received, body)
SELECT code, box, $1, body FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS r (code, box, body)
ON CONFLICT (code, box) DO UPDATE SET received = excluded.received, body = excluded.body, collected = NULL, collected_by = 0
WHERE request.body <> excluded.body -- the same comes again with a second history: it stays collected`
	// Two branches may have given out the same code: what was left here comes first, then what was left first.
	findRequest = `
SELECT box, body FROM request
WHERE code = $1 AND received >= $2 AND (collected IS NULL OR collected_by = $3 AND collected >= $4)
ORDER BY box <> $3, received LIMIT 1`
	holdRequest = findRequest + ` FOR UPDATE`
	takeRequest = `UPDATE request SET collected_by = $1, collected = coalesce(collected, $2) WHERE code = $3 AND box = $4`
)

// forgetRequests drops what nobody collected in time.
func (s *Store) forgetRequests(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, dropRequests, s.now().UTC().Add(-pickup.Keep)); err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	return nil
}

// queueRequests adds to b what stores rs. Of those with the same box and code the last one counts.
func queueRequests(b *pgx.Batch, received time.Time, rs []ingest.Request) error {
	type key struct {
		box  uint32
		code string
	}
	last := map[key]int{}
	for i, r := range rs {
		last[key{r.Box, r.Code}] = i
	}
	var codes []string
	var boxes []int64
	var bodies [][]byte
	for i, r := range rs {
		if last[key{r.Box, r.Code}] != i {
			continue
		}
		body, err := json.Marshal(r.Request)
		if err != nil {
			return fmt.Errorf("store request: %w", err)
		}
		codes, boxes, bodies = append(codes, clean(r.Code)), append(boxes, int64(r.Box)), append(bodies, body)
	}
	b.Queue(dropRequests, received.Add(-pickup.Keep))
	b.Queue(putRequests, received, codes, boxes, bodies)
	return nil
}

// FindRequest implements pickup.Store.
func (s *Store) FindRequest(ctx context.Context, code string, box uint32, now time.Time) (r wire.Request, err error) {
	err = again(ctx, func() error {
		_, body, err := request(ctx, s.pool, findRequest, code, box, now)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &r); err != nil {
			return fmt.Errorf("stored request: %w", err)
		}
		return nil
	})
	if err != nil {
		return wire.Request{}, err
	}
	return r, nil
}

// TakeRequest implements pickup.Store.
func (s *Store) TakeRequest(ctx context.Context, code string, box uint32, now time.Time) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		from, _, err := request(ctx, tx, holdRequest, code, box, now)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, takeRequest, box, now.UTC(), code, from); err != nil {
			return fmt.Errorf("take request: %w", err)
		}
		return nil
	})
}

// rower is a pool or a transaction.
type rower interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// request returns the request that box may have, and the box where it was left.
func request(ctx context.Context, db rower, query, code string, box uint32, now time.Time) (from uint32, body []byte, err error) {
	now = now.UTC()
	err = db.QueryRow(ctx, query, code, now.Add(-pickup.Keep), box, now.Add(-pickup.Again)).Scan(&from, &body)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil, pickup.ErrNone
	}
	if err != nil {
		return 0, nil, fmt.Errorf("find request: %w", err)
	}
	return from, body, nil
}
