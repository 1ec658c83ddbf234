package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/hub/server"
)

// beHub makes the test binary a hub, so that tests can kill one.
const beHub = "SPORTELLO_TEST_HUB"

func TestMain(m *testing.M) {
	if os.Getenv(beHub) != "" {
		os.Exit(server.Main(os.Args[1:], server.Options{}))
	}
	os.Exit(pgtest.Run(m))
}

func openAt(t testing.TB, dsn string, now func() time.Time) (*postgres.Store, error) {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, postgres.Options{Now: now, Log: slog.New(slog.DiscardHandler), Unchecked: true})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func open(t testing.TB, dsn string) *postgres.Store {
	t.Helper()
	s, err := openAt(t, dsn, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var legal = ingest.ChainID{Box: 1, Chain: envelope.Chain{Epoch: "00112233445566778899aabbccddeeff", Stream: envelope.Legal}}

// grow appends n events to a chain and returns its branch then.
func grow(ctx context.Context, s *postgres.Store, id ingest.ChainID, n int, received time.Time) (b ingest.Branch, err error) {
	err = s.Ingest(ctx, []ingest.ChainID{id}, func(tx ingest.Tx) error {
		bs, err := tx.Branches(ctx)
		if err != nil {
			return err
		}
		if b = (ingest.Branch{ID: id, From: 1, Head: envelope.Genesis(id.Chain)}); len(bs) > 0 {
			b = bs[0]
		}
		var rows []ingest.Row
		for range n {
			r := ingest.Row{ID: id, Seq: b.Seq + 1, Encoded: []byte("event"), Happened: received, Certain: true}
			r.Hash = b.Head.Next(r.Encoded)
			b.Seq, b.Head = r.Seq, r.Hash
			rows = append(rows, r)
		}
		return tx.Write(ctx, ingest.Changes{Received: received, Rows: rows, Branches: []ingest.Branch{b}})
	})
	return b, err
}

// held returns the first branch of a chain.
func held(t *testing.T, s *postgres.Store, id ingest.ChainID) (b ingest.Branch) {
	t.Helper()
	err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error {
		bs, err := tx.Branches(t.Context())
		if err == nil && len(bs) > 0 {
			b = bs[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// whole fails the test unless a chain has all its events, once each.
func whole(t *testing.T, s *postgres.Store, id ingest.ChainID, atLeast uint64) {
	t.Helper()
	b := held(t, s, id)
	if b.Seq < atLeast {
		t.Errorf("%d events, of %d that were confirmed", b.Seq, atLeast)
	}
	err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error {
		rows, err := tx.Rows(t.Context(), id, 0, 1, 1<<40)
		if err != nil || uint64(len(rows)) != b.Seq {
			t.Errorf("%d rows, %v, want %d", len(rows), err, b.Seq)
		}
		h := envelope.Genesis(id.Chain)
		for i, r := range rows {
			if h = h.Next(r.Encoded); r.Seq != uint64(i+1) || r.Hash != h {
				t.Fatalf("row %d has number %d, hash %v", i, r.Seq, r.Hash)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestManyHubsMigrateAtOnce(t *testing.T) {
	dsn := pgtest.New(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := openAt(t, dsn, time.Now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := grow(t.Context(), open(t, dsn), legal, 3, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("a newer schema", func(t *testing.T) {
		dsn := pgtest.New(t)
		open(t, dsn)
		pgtest.SQL(t, dsn, "UPDATE schema_version SET version = 99")
		if _, err := openAt(t, dsn, time.Now); !errors.Is(err, postgres.ErrNewer) {
			t.Errorf("got %v, want ErrNewer", err)
		}
		if v := pgtest.SQL(t, dsn, "SELECT version FROM schema_version"); v != "99" {
			t.Errorf("version is %s now", v)
		}
	})
	for _, tt := range []struct{ name, dsn string }{
		{"an address that is none", "postgres://hub:s3cret@%zz/"},
		{"nobody there", "postgres://hub:s3cret@127.0.0.1:1/hub?connect_timeout=2"},
		{"a setting that is none", "postgres://hub:s3cret@127.0.0.1/hub?pool_max_conns=many"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := openAt(t, tt.dsn, time.Now); err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMonths(t *testing.T) {
	dsn := pgtest.New(t)
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	s, err := openAt(t, dsn, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	parts := func() string {
		t.Helper()
		return pgtest.SQL(t, dsn, "SELECT string_agg(relid::regclass::text || '=' || (xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM ' || relid::regclass, false, true, '')))[1]::text, ' ' ORDER BY relid::regclass::text) FROM pg_partition_tree('event') WHERE isleaf")
	}
	if got, want := parts(), "event_202611=0 event_202612=0 event_202701=0 event_other=0"; got != want {
		t.Errorf("at first: %s, want %s", got, want)
	}
	var last ingest.Branch
	for _, at := range []time.Time{now, now.AddDate(0, 1, 0), now.AddDate(0, 3, 0), now.AddDate(0, 3, 1), now.AddDate(30, 0, 0), now.AddDate(-4, 0, 0)} {
		if last, err = grow(t.Context(), s, legal, 1, at); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := parts(), "event_202611=1 event_202612=1 event_202701=0 event_other=4"; got != want {
		t.Errorf("with months that were not there: %s, want %s", got, want)
	}
	now = now.AddDate(0, 4, 0)
	s, err = openAt(t, dsn, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := parts(), "event_202211=1 event_202611=1 event_202612=1 event_202701=0 event_202702=2 event_202703=0 event_202704=0 event_202705=0 event_other=1"; got != want {
		t.Errorf("four months later: %s, want %s", got, want)
	}
	whole(t, s, legal, last.Seq)
}

// A copy of the database holds a lock on every table for as long as it takes.
func TestMonthsDuringABackup(t *testing.T) {
	dsn := pgtest.New(t)
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	if _, err := openAt(t, dsn, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	reader, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close(context.Background()) }()
	if _, err := reader.Exec(t.Context(), "BEGIN; LOCK TABLE event_other IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(0, 6, 0)
	s, err := openAt(t, dsn, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if b, err := grow(t.Context(), s, legal, 3, now); err != nil || b.Seq != 3 {
		t.Errorf("during a copy: %+v, %v", b, err)
	}
	if _, err := reader.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if s, err = openAt(t, dsn, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.SQL(t, dsn, "SELECT count(*) FROM event_202705"); n != "3" {
		t.Errorf("%s events in the partition made afterwards, want 3", n)
	}
	whole(t, s, legal, 3)
}

func TestRestart(t *testing.T) {
	c := pgtest.Start(t)
	s := open(t, c.New(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const workers = 4
	var confirmed [workers]uint64
	var wg sync.WaitGroup
	ids := make([]ingest.ChainID, workers)
	for w := range workers {
		ids[w] = legal
		ids[w].Box = uint32(w + 1)
		wg.Go(func() {
			for ctx.Err() == nil {
				b, err := grow(ctx, s, ids[w], 3, time.Now())
				if err == nil {
					confirmed[w] = b.Seq
				}
			}
		})
	}
	for _, hard := range []bool{true, false, true} {
		time.Sleep(300 * time.Millisecond)
		c.Restart(t, hard)
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	wg.Wait()
	for w, id := range ids {
		if confirmed[w] == 0 {
			t.Errorf("box %d came through with nothing", id.Box)
		}
		whole(t, s, id, confirmed[w])
	}
	if _, err := grow(t.Context(), s, legal, 1, time.Now()); err != nil {
		t.Errorf("after the last restart: %v", err)
	}
}

func TestSafeOnAReplica(t *testing.T) {
	c := pgtest.Start(t, "synchronous_standby_names=replica", "synchronous_commit=local", "wal_keep_size=64MB")
	dsn := c.New(t)
	s := open(t, dsn)
	if b, err := grow(t.Context(), s, legal, 5, time.Now()); err != nil || b.Seq != 5 {
		t.Fatal(b, err)
	}
	if b := held(t, s, legal); b.Safe != 0 {
		t.Errorf("%d safe without a replica", b.Safe)
	}
	standby := c.Standby(t, "replica")
	waitFor(t, "the standby", func() bool {
		return c.SQL(t, "postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'") == "1"
	})
	if b := held(t, s, legal); b.Safe != 0 {
		t.Errorf("%d safe although commits do not wait for the replica", b.Safe)
	}
	c.SQL(t, "postgres", "ALTER DATABASE t1 SET synchronous_commit = on")
	s = open(t, dsn)
	if _, err := grow(t.Context(), s, legal, 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "what is safe", func() bool { b := held(t, s, legal); return b.Seq == 7 && b.Safe == 7 })
	c.Stop(t)
	standby.Promote(t)
	whole(t, open(t, standby.DSN("t1")), legal, 7)
}

// A commit that waits for nobody is on no replica, whatever was so when its transaction began.
func TestNotSafeWithoutTheReplica(t *testing.T) {
	c := pgtest.Start(t, "wal_keep_size=64MB")
	standbys := func(names string) {
		c.SQL(t, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
		c.SQL(t, "postgres", "SELECT pg_reload_conf()")
	}
	s := open(t, c.New(t))
	standby := c.Standby(t, "replica")
	standbys("replica")
	if _, err := grow(t.Context(), s, legal, 3, time.Now()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "what is safe", func() bool { return held(t, s, legal).Safe == 3 })
	err := s.Ingest(t.Context(), []ingest.ChainID{legal}, func(tx ingest.Tx) error {
		bs, err := tx.Branches(t.Context())
		if err != nil {
			return err
		}
		b := bs[0]
		r := ingest.Row{ID: legal, Seq: b.Seq + 1, Encoded: []byte("event"), Certain: true}
		r.Hash = b.Head.Next(r.Encoded)
		b.Seq, b.Head = r.Seq, r.Hash
		if err := tx.Write(t.Context(), ingest.Changes{Received: time.Now(), Rows: []ingest.Row{r}, Branches: []ingest.Branch{b}}); err != nil {
			return err
		}
		standby.Stop(t)
		standbys("")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := held(t, s, legal); b.Seq != 4 || b.Safe != 3 {
		t.Errorf("%d of %d safe, want 3 of 4", b.Safe, b.Seq)
	}
	if _, err := grow(t.Context(), s, legal, 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	if b := held(t, s, legal); b.Seq != 6 || b.Safe != 3 {
		t.Errorf("%d of %d safe, want 3 of 6", b.Safe, b.Seq)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s did not come within 30 seconds", what)
		}
	}
}

func TestBackup(t *testing.T) {
	dsn := pgtest.New(t)
	s := open(t, dsn)
	if _, err := grow(t.Context(), s, legal, 5, time.Now()); err != nil {
		t.Fatal(err)
	}
	m, err := s.Moments(bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	err = m.Change(t.Context(), moment.Space{Name: "login"}, "somebody", func(e *moment.Entry, _ bool) error {
		e.Value, e.Until = []byte("Maria"), time.Now().Add(time.Hour)
		return nil
	})
	if n := pgtest.SQL(t, dsn, "SELECT count(*) FROM moment"); err != nil || n != "1" {
		t.Fatalf("%s entries, %v", n, err)
	}
	file := filepath.Join(t.TempDir(), "hub.dump")
	if err := s.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want a file of one's own", st, err)
	}
	if _, err := os.Stat(file + ".part"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a backup is left: %v", err)
	}
	if _, err := grow(t.Context(), s, legal, 4, time.Now()); err != nil {
		t.Fatal(err)
	}
	if b := held(t, s, legal); b.Seq != 9 || b.Safe != 5 {
		t.Errorf("%d of %d safe, want 5 of 9", b.Safe, b.Seq)
	}
	if err := s.Backup(t.Context(), file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v", err)
	}

	// Restored into another database, which a hub then opens: it has five, and takes the others again.
	restored := pgtest.New(t)
	pgtest.Restore(t, restored, file)
	r := open(t, restored)
	if n := pgtest.SQL(t, restored, "SELECT count(*) FROM moment"); n != "0" {
		t.Errorf("%s logins under way are in the copy", n)
	}
	if b := held(t, r, legal); b.Seq != 5 {
		t.Errorf("restored: number %d, want 5", b.Seq)
	}
	whole(t, r, legal, 5)
	if b, err := grow(t.Context(), r, legal, 4, time.Now()); err != nil || b != held(t, s, legal) && b.Head != held(t, s, legal).Head {
		t.Errorf("delivered again: %+v, %v", b, err)
	}
	whole(t, r, legal, 9)

	// The same in place, under a hub that runs on: what it remembers of the database is not so any more.
	other := legal
	other.Chain.Epoch = "ffeeddccbbaa99887766554433221100"
	if _, err := grow(t.Context(), s, other, 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	pgtest.Restore(t, dsn, file)
	third := other
	third.Chain.Epoch = "0123456789abcdef0123456789abcdef"
	if _, err := grow(t.Context(), open(t, dsn), third, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	if b, err := grow(t.Context(), s, other, 2, time.Now()); err != nil || b.Seq != 2 {
		t.Errorf("after a restore in place: %+v, %v", b, err)
	}
	whole(t, s, legal, 5)
}
