package sqlite_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"

	"sportello.example/sync/event"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/outbox"
	"sportello.example/sync/sqldb"
	"sportello.example/sync/wire"
)

// boxQueue is the box's side of a drain: a table of events in a file of its own.
type boxQueue struct{ db *sql.DB }

func (boxQueue) Epoch(context.Context) (string, error) { return "bench", nil }

func (q boxQueue) Pending(ctx context.Context, n int) ([]event.Event, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT seq, body FROM event ORDER BY seq LIMIT ?`, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var evs []event.Event
	for rows.Next() {
		var seq uint64
		var body []byte
		var e event.Event
		if err := rows.Scan(&seq, &body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, err
		}
		e.Seq = seq
		evs = append(evs, e)
	}
	return evs, rows.Err()
}

func (q boxQueue) Acked(ctx context.Context, seq uint64) error {
	_, err := q.db.ExecContext(ctx, `DELETE FROM event WHERE seq <= ?`, seq)
	return err
}

// inProcess is a line without a network: what is left is JSON, both databases, and the relay.
type inProcess struct {
	h   *hub
	box uint32
	end func(seq uint64)
}

func (l inProcess) Deliver(ctx context.Context, b wire.Batch) (wire.Ack, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return wire.Ack{}, err
	}
	d, err := stats.DecodeBatch(text)
	if err != nil {
		return wire.Ack{}, err
	}
	ack, err := l.h.ingest.Deliver(ctx, l.box, d)
	l.end(ack.Seq)
	return ack, err
}

const table = `CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT`

func rawDB(b *testing.B) *sql.DB {
	b.Helper()
	db, err := sqldb.Open(b.Context(), filepath.Join(b.TempDir(), "raw.db"), fstest.MapFS{"1.sql": &fstest.MapFile{Data: []byte(table)}}, sqldb.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}

// raw inserts n events in transactions of 500, with nothing else: what the disk and SQLite can do.
func raw(b *testing.B, db *sql.DB, n int) {
	b.Helper()
	e := events(1, 1)[0]
	e.Session = rand.Text()
	body, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	for n > 0 {
		tx, err := db.BeginTx(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		for range min(n, 500) {
			if _, err := tx.ExecContext(b.Context(), `INSERT INTO event (body) VALUES (?)`, string(body)); err != nil {
				b.Fatal(err)
			}
		}
		n -= min(n, 500)
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvents measures what one event costs: as a bare INSERT, through the hub's ingest, and from the box's queue
// through the relay into the hub. One iteration is 10,000 events.
func BenchmarkEvents(b *testing.B) {
	const n = 10_000
	rate := func(b *testing.B) { b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s") }
	b.Run("raw INSERT", func(b *testing.B) {
		db := rawDB(b)
		for b.Loop() {
			raw(b, db, n)
		}
		rate(b)
	})
	b.Run("ingest", func(b *testing.B) {
		h := open(b)
		box := h.add(b, "Harar")
		for i := 0; b.Loop(); i++ {
			for from := uint64(1); from < n; from += 500 {
				if _, err := h.deliver(b, box, fmt.Sprint("e", i), events(from, from+499)...); err != nil {
					b.Fatal(err)
				}
			}
		}
		rate(b)
	})
	b.Run("drain", func(b *testing.B) {
		h := open(b)
		box := h.add(b, "Harar")
		db := rawDB(b)
		want := uint64(0)
		for b.Loop() {
			b.StopTimer()
			raw(b, db, n)
			want += n
			ctx, cancel := context.WithCancel(b.Context())
			r := outbox.New(boxQueue{db}, inProcess{h, box, func(seq uint64) {
				if seq == want {
					cancel()
				}
			}}, outbox.Options{})
			b.StartTimer()
			if err := r.Run(ctx); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if _, err := db.ExecContext(b.Context(), `DELETE FROM event`); err != nil { // the last ack came with the end
				b.Fatal(err)
			}
			b.StartTimer()
		}
		rate(b)
	})
}
