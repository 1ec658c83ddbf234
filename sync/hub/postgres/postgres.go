// Package postgres is the database of a hub that has outgrown one machine: PostgreSQL, version 15 or later, which any
// number of hubs may use at once. All of its SQL is here.
//
// It keeps what package sqlite keeps and passes the same conformance suite, storetest. Beyond that it keeps for minutes
// what several hubs must know of a login; see package moment.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNewer means that a newer hub has brought the schema up to date. Nothing was changed.
var ErrNewer = errors.New("database was written by a newer program")

// Options are what a Store needs beside the address. Now and Log are needed.
type Options struct {
	Now func() time.Time
	Log *slog.Logger
	// Unchecked is for tests, whose databases do not wait for the disk and whose clocks are moved.
	Unchecked bool
}

// Store is the hub's database. Its methods may be called at the same time.
type Store struct {
	pool *pgxpool.Pool
	dsn  string
	now  func() time.Time
	log  *slog.Logger
	lax  bool // Options.Unchecked

	mu         sync.Mutex
	numberings map[numbering]int64 // of those seen lately
}

var (
	_ fleet.Store   = (*Store)(nil)
	_ ingest.Store  = (*Store)(nil)
	_ pickup.Store  = (*Store)(nil)
	_ stats.Counter = (*Store)(nil)
)

// Settings of every connection that the address does not set itself. A hub that is killed, or whose machine is gone,
// must not hold its locks for long.
var settings = map[string]string{
	"application_name":                    "sportello-hub",
	"timezone":                            "UTC",
	"statement_timeout":                   "60000", // milliseconds
	"lock_timeout":                        "20000",
	"idle_in_transaction_session_timeout": "30000",
	"tcp_keepalives_idle":                 "10", // seconds
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// Open connects to the database at dsn (postgres://user:password@host:port/name?pool_max_conns=8, or libpq's
// keyword=value form) and brings its schema up to date, in one transaction, while other hubs that start wait. It waits
// for the database until ctx ends or five seconds have passed without an answer. It fails with ErrNewer, and with
// ErrNotDurable and ErrClock before it has changed anything.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	conf, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", withoutDSN(err))
	}
	for k, v := range settings {
		if _, ok := conf.ConnConfig.RuntimeParams[k]; !ok {
			conf.ConnConfig.RuntimeParams[k] = v
		}
	}
	if conf.ConnConfig.ConnectTimeout == 0 {
		conf.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		conf.MaxConns = 8
	}
	conf.PingTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{pool: pool, dsn: dsn, now: o.Now, log: o.Log, lax: o.Unchecked, numberings: map[numbering]int64{}}
	sub, err := fs.Sub(migrations, "migrations")
	if err == nil && !s.lax {
		err = again(ctx, func() error { return errors.Join(s.checkDurable(ctx), s.checkClock(ctx)) })
	}
	if err == nil {
		err = s.migrate(ctx, sub)
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := s.prepareMonths(ctx); err != nil {
		// Events find a place without them, and Run tries again.
		s.log.WarnContext(ctx, "partitions of events not made", "err", err)
	}
	return s, nil
}

// withoutDSN keeps an address that cannot be read, and a password in it, out of messages.
func withoutDSN(err error) error {
	var e *pgconn.ParseConfigError
	if !errors.As(err, &e) {
		return errors.New("the address cannot be read: it looks like postgres://user:password@host:5432/name")
	}
	e.ConnString = "postgres://…"
	return e
}

// Close closes all connections. It waits for what is under way.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// lockSchema is the advisory lock under which the schema and the partitions change.
const lockSchema = 0x73706f7274656c6c // "sportell"

const (
	takeLock     = `SELECT pg_advisory_xact_lock($1)`
	makeVersion  = `CREATE TABLE IF NOT EXISTS schema_version (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL)`
	readVersion  = `SELECT version FROM schema_version`
	writeVersion = `INSERT INTO schema_version (version) VALUES ($1) ON CONFLICT (one) DO UPDATE SET version = excluded.version`
	// By a look into the table of tables: to_regclass may remember that there was none before the lock was had.
	haveTable = `SELECT EXISTS (SELECT FROM pg_class WHERE relname = $1 AND relnamespace = current_schema()::regnamespace)`
	noTimeout = `SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`
)

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context, from fs.FS) error {
	names, err := fs.Glob(from, "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	return s.within(ctx, func(tx pgx.Tx) error {
		// Another hub may be at it for long.
		if _, err := tx.Exec(ctx, noTimeout); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, takeLock, int64(lockSchema)); err != nil {
			return fmt.Errorf("wait for other hubs: %w", err)
		}
		have, there := 0, false
		if err := tx.QueryRow(ctx, haveTable, "schema_version").Scan(&there); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if there {
			if err := tx.QueryRow(ctx, readVersion).Scan(&have); err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("read schema version: %w", err)
			}
		}
		if have > len(names) {
			return fmt.Errorf("schema version %d, this program knows %d: %w", have, len(names), ErrNewer)
		}
		if have == len(names) {
			return nil
		}
		if _, err := tx.Exec(ctx, makeVersion); err != nil {
			return fmt.Errorf("make schema: %w", err)
		}
		for _, name := range names[have:] {
			text, err := fs.ReadFile(from, name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return fmt.Errorf("migration %s: %w", name, err)
			}
		}
		_, err := tx.Exec(ctx, writeVersion, len(names))
		return err
	})
}

// Run keeps the database in order until ctx ends: once an hour it makes the partitions of the months to come,
// forgets requests that nobody collected, and looks again at the database's settings and clock. What fails is logged and tried again.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := errors.Join(s.prepareMonths(ctx), s.forgetRequests(ctx)); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "database not put in order", "err", err, "retry_in", time.Hour)
		}
		if !s.lax {
			if err := errors.Join(s.checkDurable(ctx), s.checkClock(ctx)); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "database or clock is not fit for a hub", "err", err, "next_check_in", time.Hour)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// within runs do in a transaction, again when it could not be completed for a reason that passes.
func (s *Store) within(ctx context.Context, do func(pgx.Tx) error) error {
	return again(ctx, func() error {
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, do)
	})
}

// attempts is how often a transaction is tried in all.
const attempts = 5

// again runs do until it succeeds, fails for a reason that does not pass, or has been tried often enough. Everything
// that is written through it may be written twice: a connection can break after a commit that nobody heard of.
func again(ctx context.Context, do func() error) error {
	pause := 20 * time.Millisecond
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == attempts || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 3
	}
}

// passing reports whether the same transaction may succeed a moment later: it collided with another, or the connection
// was one that a restart of the database had cut.
func passing(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "40001", "40P01", // serialization failure, deadlock
			"57P01", "57P02", "57P03": // the database is being shut down, has crashed, is starting
			return true
		}
		return pg.Code[:2] == "08" // connection
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	_, isNet := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	return isNet || isConnect || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// stamp is how times are stored: NULL is never.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}

func unstamp(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// clean makes text that a box sent fit for a column: PostgreSQL takes neither broken UTF-8 nor NUL, and its indexes take
// no long ones. The event itself is stored as it came.
func clean(s string) string { return cleaned(s, 128) }

// cleanText is clean for a line that people read.
func cleanText(s string) string { return cleaned(s, 1000) }

func cleaned(s string, longest int) string {
	if len(s) > longest {
		s = s[:longest]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
