// Package sqlite is the hub's database: all of its SQL is here.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the hub's database. Its methods may be called at the same time; writers wait for each other.
type Store struct{ write, read *sql.DB }

var (
	_ fleet.Store   = (*Store)(nil)
	_ pickup.Store  = (*Store)(nil)
	_ stats.Store   = (*Store)(nil)
	_ stats.Counter = (*Store)(nil)
)

// Open opens the database file at path, creating it if needed. Another process may have it open too.
func Open(ctx context.Context, path string) (*Store, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	w, err := sqldb.Open(ctx, path, sub, sqldb.Options{})
	if err != nil {
		return nil, err
	}
	r, err := sqldb.OpenRead(ctx, path)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &Store{write: w, read: r}, nil
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// within runs do in a transaction that holds the write lock from its beginning.
func (s *Store) within(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// stamp is how times are stored: fixed width, so that text sorts as time does.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func parseStamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("stored time: %w", err)
	}
	return t, nil
}
