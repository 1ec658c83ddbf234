package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/postgres/pgtest"
)

const (
	benchBoxes  = 250 // in one transaction
	benchEvents = 20  // of each
)

// delivery is what boxes hand over together: some have never been heard of, as a first contact is the dearest.
func delivery(round int) (ids []ingest.ChainID, c ingest.Changes) {
	now := time.Now()
	body := make([]byte, 180)
	c.Received = now
	for box := range benchBoxes {
		for i, stream := range []envelope.Stream{envelope.Legal, envelope.Session, envelope.Stats, envelope.Diag} {
			id := ingest.ChainID{Box: uint32(box + 1), Chain: envelope.Chain{Epoch: envelope.Epoch(fmt.Sprintf("%032x", round/10)), Stream: stream}}
			b := ingest.Branch{ID: id, From: 1, Seq: uint64(round % 10 * benchEvents / 4)}
			for range benchEvents / 4 {
				b.Seq++
				r := ingest.Row{ID: id, Seq: b.Seq, Encoded: body, Kind: event.StepAnswered, Schema: 2, Session: fmt.Sprintf("%036d", i), Boot: 1, Wall: now, Happened: now, Certain: true}
				r.Hash[0], r.Hash[1] = byte(b.Seq), byte(box)
				b.Head = r.Hash
				c.Rows = append(c.Rows, r)
			}
			ids, c.Branches = append(ids, id), append(c.Branches, b)
		}
	}
	return ids, c
}

// BenchmarkIngest compares one transaction of many boxes with the same bytes in one bare table: x-bare is the rate by
// that (target 0.60).
func BenchmarkIngest(b *testing.B) {
	c := pgtest.Start(b)
	s, dsn := open(b, c.New(b)), c.New(b)
	bare, err := pgxpool.New(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	if _, err := bare.Exec(b.Context(), `CREATE TABLE ev (box bigint, seq bigint, kind text, at bigint, session text, body bytea, PRIMARY KEY (box, seq))`); err != nil {
		b.Fatal(err)
	}
	var ours, theirs time.Duration
	n := 0
	for i := 0; b.Loop(); i++ {
		ids, changes := delivery(i)
		begin := time.Now()
		ingestAll(b, s, ids, changes)
		ours += time.Since(begin)
		begin = time.Now()
		insertBare(b, bare, changes.Rows, i)
		theirs += time.Since(begin)
		n += len(changes.Rows)
	}
	b.ReportMetric(float64(n)/ours.Seconds(), "events/s")
	b.ReportMetric(float64(n)/theirs.Seconds(), "bare/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-bare")
}

func ingestAll(b *testing.B, s *postgres.Store, ids []ingest.ChainID, c ingest.Changes) {
	b.Helper()
	err := s.Ingest(b.Context(), ids, func(tx ingest.Tx) error {
		if _, err := tx.Branches(b.Context()); err != nil {
			return err
		}
		return tx.Write(b.Context(), c)
	})
	if err != nil {
		b.Fatal(err)
	}
}

func insertBare(b *testing.B, p *pgxpool.Pool, rows []ingest.Row, round int) {
	b.Helper()
	n := len(rows)
	box, seq, kind, at, session, body := make([]int64, n), make([]int64, n), make([]string, n), make([]int64, n), make([]string, n), make([][]byte, n)
	for i, r := range rows {
		box[i], seq[i], kind[i], at[i], session[i], body[i] = int64(r.ID.Box), int64(round*n+i), string(r.Kind), r.Wall.UnixMilli(), r.Session, r.Encoded
	}
	_, err := p.Exec(b.Context(), `INSERT INTO ev SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bytea[]) ON CONFLICT DO NOTHING`,
		box, seq, kind, at, session, body)
	if err != nil {
		b.Fatal(err)
	}
}
