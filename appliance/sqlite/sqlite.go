// Package sqlite is all of the box's SQL: sessions, the queue of events for the hub, and the journal of print jobs.
//
// What happened and the event that reports it are one transaction. When a method returns nil, what it wrote survives a
// pulled plug.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a box's database. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	epoch   string
	now     func() time.Time
	clockOK func() bool

	mu   sync.Mutex      // guards the field that follows
	open map[string]bool // print jobs that were open when the program started
}

// Config is how a Store is opened.
type Config struct {
	Path     string
	Now      func() time.Time
	ClockOK  func() bool // nil: the clock is believed
	MaxPages int         // of 4 KiB, 0: no limit
}

// Open opens the database, making it when there is none. A file that is corrupt is set aside, never deleted, and a new
// one begun in its place: setAside is then its new name, and the first event of the new file says that it happened.
// Sessions that a crash left open are closed.
func Open(ctx context.Context, cfg Config) (s *Store, setAside string, err error) {
	s, err = open(ctx, cfg)
	if err != nil && sqldb.Corrupt(err) {
		if setAside, err = sqldb.SetAside(cfg.Path, cfg.Now()); err != nil {
			return nil, "", fmt.Errorf("box database: %w", err)
		}
		if s, err = open(ctx, cfg); err == nil {
			err = s.Record(ctx, kiosk.SessionRow{}, event.Event{Kind: event.DatabaseSetAside})
		}
	}
	if err != nil {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return nil, setAside, fmt.Errorf("box database: %w", err)
	}
	return s, setAside, nil
}

func open(ctx context.Context, cfg Config) (*Store, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := sqldb.Open(ctx, cfg.Path, sub, sqldb.Options{MaxPages: cfg.MaxPages})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, now: cfg.Now, clockOK: cfg.ClockOK, open: map[string]bool{}}
	if s.clockOK == nil {
		s.clockOK = func() bool { return true }
	}
	if err := sqldb.Check(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// begin gives a new file its epoch and closes what a crash left open.
func (s *Store) begin(ctx context.Context) error {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO meta (name, value) VALUES ('epoch', ?), ('next_seq', '1')`, hex.EncodeToString(b[:])); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'epoch'`).Scan(&s.epoch)
	})
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error { return s.closeOpen(ctx, tx) })
	if err != nil && !sqldb.Full(err) { // with a full disk they stay open until the next start
		return err
	}
	prints, err := s.OpenPrints(ctx)
	if err != nil {
		return err
	}
	for _, row := range prints {
		s.open[row.ID] = true
	}
	return nil
}

// keepSessions is how long the row of an ended visit stays: long enough to look into what somebody complains about.
const keepSessions = 24 * time.Hour

func (s *Store) closeOpen(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT id, kiosk FROM session WHERE ended = 0`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	type visit struct {
		id    string
		kiosk int
	}
	var open []visit
	for rows.Next() {
		var v visit
		if err := rows.Scan(&v.id, &v.kiosk); err != nil {
			return err
		}
		open = append(open, v)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, v := range open {
		e := event.Event{Kind: event.SessionEnded, Session: v.id, Kiosk: v.kiosk, Detail: event.Detail{Outcome: "crashed"}}
		if err := s.appendEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE session SET ended = 1 WHERE ended = 0`); err != nil {
		return err
	}
	return s.prune(ctx, tx)
}

// Prune deletes the rows of visits and jobs that ended longer than a day ago.
func (s *Store) Prune(ctx context.Context) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return s.prune(ctx, tx) })
}

func (s *Store) prune(ctx context.Context, tx *sql.Tx) error {
	old := stamp(s.now().Add(-keepSessions))
	if _, err := tx.ExecContext(ctx, `DELETE FROM session WHERE ended = 1 AND updated < ?`, old); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM print WHERE closed = 1 AND updated < ?`, old)
	return err
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Epoch returns the random name of this file's numbering, 16 hexadecimal digits (outbox.Queue).
func (s *Store) Epoch(context.Context) (string, error) { return s.epoch, nil }

// Record stores row and e in one transaction (kiosk.Journal). A row without ID stores the event alone. It returns
// kiosk.ErrDiskFull when there is no room.
func (s *Store) Record(ctx context.Context, row kiosk.SessionRow, e event.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		if row.ID != "" {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO session (id, kiosk, mode, language, service, stage, started, updated, ended)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, language = excluded.language, service = excluded.service,
				  stage = excluded.stage, updated = excluded.updated, ended = excluded.ended`,
				row.ID, row.Kiosk, string(row.Mode), row.Language, string(row.Service), string(row.Stage), stamp(row.Started), stamp(s.now()), row.Ended)
			if err != nil {
				return fmt.Errorf("session %s: %w", row.ID, err)
			}
		}
		return s.appendEvent(ctx, tx, e)
	})
}

func (s *Store) appendEvent(ctx context.Context, tx *sql.Tx, e event.Event) error {
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.Kind, err)
	}
	var next string
	if err := tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'next_seq'`).Scan(&next); err != nil {
		return fmt.Errorf("event %s: %w", e.Kind, err)
	}
	seq, err := strconv.ParseInt(next, 10, 64)
	if err != nil {
		return fmt.Errorf("event %s: next_seq: %w", e.Kind, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO event (seq, at, clock_ok, kind, session, kiosk, detail, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		seq, stamp(s.now()), s.clockOK(), string(e.Kind), e.Session, e.Kiosk, string(detail), e.Sealed)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.Kind, err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE meta SET value = ? WHERE name = 'next_seq'`, strconv.FormatInt(seq+1, 10)); err != nil {
		return fmt.Errorf("event %s: %w", e.Kind, err)
	}
	return nil
}

// Pending returns up to n events that the hub has not acknowledged, oldest first (outbox.Queue).
func (s *Store) Pending(ctx context.Context, n int) ([]event.Event, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT seq, at, clock_ok, kind, session, kiosk, detail, sealed FROM event ORDER BY seq LIMIT ?`, n)
	if err != nil {
		return nil, fmt.Errorf("pending events: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var evs []event.Event
	for rows.Next() {
		var (
			e      event.Event
			at     string
			kind   string
			detail string
		)
		if err := rows.Scan(&e.Seq, &at, &e.ClockOK, &kind, &e.Session, &e.Kiosk, &detail, &e.Sealed); err != nil {
			return nil, fmt.Errorf("pending events: %w", err)
		}
		e.Kind = event.Kind(kind)
		var bad error
		e.At, bad = time.Parse(time.RFC3339Nano, at)
		if bad = errors.Join(bad, json.Unmarshal([]byte(detail), &e.Detail)); bad != nil {
			e.Detail = event.Detail{Reason: "unreadable"} // one damaged row must not stop all that come after it
		}
		evs = append(evs, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("pending events: %w", err)
	}
	return evs, nil
}

// Acked forgets every event up to and including seq (outbox.Queue).
func (s *Store) Acked(ctx context.Context, seq uint64) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM event WHERE seq <= ?`, seq)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget events up to %d: %w", seq, err)
	}
	return nil
}

// Queued returns how many events wait for the hub and when the oldest one happened (zero when none waits).
func (s *Store) Queued(ctx context.Context) (n int, oldest time.Time, err error) {
	var at sql.NullString
	err = s.db.QueryRowContext(ctx, `SELECT count(*), min(at) FROM event`).Scan(&n, &at)
	if err == nil && at.Valid {
		oldest, err = time.Parse(time.RFC3339Nano, at.String)
	}
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("queue: %w", err)
	}
	return n, oldest, nil
}

// tx runs f in a transaction. A full disk is kiosk.ErrDiskFull.
func (s *Store) tx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err == nil {
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		if err = f(tx); err == nil {
			err = tx.Commit()
		}
	}
	if err != nil && sqldb.Full(err) {
		return fmt.Errorf("%w: %w", kiosk.ErrDiskFull, err)
	}
	return err
}

// stamp writes a time so that it sorts as text.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }
