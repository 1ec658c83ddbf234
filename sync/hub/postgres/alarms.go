package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
)

const (
	listAlarms = `
SELECT id, box, kind, key, text, n, first, at, done FROM alarm
WHERE done IS NULL OR $1 ORDER BY at DESC, id DESC`
	alarmDone = `UPDATE alarm SET done = coalesce(done, $1) WHERE id = $2`
	// Epochs are compared as bytes, whatever the database's language.
	listJudged = `
SELECT e.box, n.epoch, e.stream, e.branch, e.seq, e.count, e.reason, e.hash, e.encoded,
       e.kind, e.schema, e.session, e.mode, e.pages, e.boot, e.mono, e.wall, e.quality, e.happened, e.certain, e.judged
FROM event AS e JOIN numbering AS n ON n.id = e.numbering
WHERE e.judged = $1 AND e.judged <> '' AND e.box >= $2
  AND (e.box, n.epoch COLLATE "C", e.stream, e.branch, e.seq) > ($2, $3 COLLATE "C", $4, $5, $6)
ORDER BY e.box, n.epoch COLLATE "C", e.stream, e.branch, e.seq LIMIT $7`
)

// Alarms implements ingest.Store.
func (s *Store) Alarms(ctx context.Context, all bool) (out []ingest.Alarm, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, listAlarms, all)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a ingest.Alarm, err error) {
			var done *time.Time
			err = row.Scan(&a.ID, &a.Box, &a.Kind, &a.Key, &a.Text, &a.Count, &a.First, &a.At, &done)
			a.First, a.At, a.Done = a.First.UTC(), a.At.UTC(), unstamp(done)
			return a, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	return out, nil
}

// AlarmDone implements ingest.Store.
func (s *Store) AlarmDone(ctx context.Context, id int64, at time.Time) error {
	return again(ctx, func() error {
		tag, err := s.pool.Exec(ctx, alarmDone, at.UTC(), id)
		if err == nil && tag.RowsAffected() == 0 {
			err = ingest.ErrNoAlarm
		}
		if err != nil {
			return fmt.Errorf("alarm %d: %w", id, err)
		}
		return nil
	})
}

// Judged implements ingest.Store.
func (s *Store) Judged(ctx context.Context, j ingest.Judgement, after ingest.Row, n int) (out []ingest.Row, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, listJudged, string(j), int64(after.ID.Box), string(after.ID.Chain.Epoch),
			int16(after.ID.Chain.Stream), after.Branch, after.Seq, n)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanRow)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("events judged %s: %w", j, err)
	}
	return out, nil
}

// scanRow reads a row of listJudged.
func scanRow(row pgx.CollectableRow) (ingest.Row, error) {
	var r ingest.Row
	var count uint64
	var stream, reason, quality uint8
	var hash []byte
	var kind string
	var mono, wall, happened int64
	err := row.Scan(&r.ID.Box, &r.ID.Chain.Epoch, &stream, &r.Branch, &r.Seq, &count, &reason, &hash, &r.Encoded,
		&kind, &r.Schema, &r.Session, &r.Mode, &r.Pages, &r.Boot, &mono, &wall, &quality, &happened, &r.Certain, &r.Judged)
	if err != nil {
		return ingest.Row{}, err
	}
	r.ID.Chain.Stream, r.Quality, r.Kind = envelope.Stream(stream), envelope.Quality(quality), event.Kind(kind)
	r.Mono = time.Duration(mono) * time.Millisecond
	r.Wall, r.Happened = time.UnixMilli(wall).UTC(), time.UnixMilli(happened).UTC()
	return r, identify(&r, count, reason, hash)
}
