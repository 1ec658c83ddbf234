package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

// TestReaderOutsideDoesNotFillTheLog has somebody read from outside while the hub acknowledges 100,000 events.
func TestReaderOutsideDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for name, again := range map[string]func(*Store, envelope.Chain) error{
		"ack":   func(s *Store, c envelope.Chain) error { return s.Acked(t.Context(), c, n, n) },
		"prune": func(s *Store, _ envelope.Chain) error { return s.Prune(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "box.db")
			s := openAt(t, path)
			es := make([]event.Event, 1000)
			for i := range es {
				es[i] = event.Event{Kind: event.StepAnswered, Session: fmt.Sprintf("0192f0c1-7a00-7000-8000-%012d", i)}
			}
			for range n / len(es) {
				if err := s.Enqueue(t.Context(), es...); err != nil {
					t.Fatal(err)
				}
			}
			out, err := sqldb.OpenRead(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = out.Close() }()
			tx, err := out.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			var rows int
			if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM queue_stats`).Scan(&rows); err != nil || rows != n {
				t.Fatalf("%d rows, %v", rows, err)
			}
			c := present(s, envelope.Stats)
			for _, seq := range []uint64{n / 2, n} {
				if err := s.Acked(t.Context(), c, seq, seq); err != nil {
					t.Fatal(err)
				}
				if st := s.chain(c); st.cursor != seq {
					t.Errorf("the cursor is at %d, want %d", st.cursor, seq)
				}
			}
			put(t, s, event.PrintDone, 100)
			info, err := os.Stat(path + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("log of %d KiB", info.Size()>>10)
			if info.Size() > 16<<20 {
				t.Errorf("the log grew to %d MB", info.Size()>>20)
			}
			if st := s.chain(c); st.kept() == 0 {
				t.Error("all was deleted: the log was never too long")
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if err := again(s, c); err != nil {
				t.Fatal(err)
			}
			if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM queue_stats`).Scan(&rows); err != nil || rows != 0 {
				t.Errorf("%d rows are left, %v", rows, err)
			}
			if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > 16<<20 {
				t.Errorf("log of %d bytes afterwards, %v", info.Size(), err)
			}
		})
	}
}
