// Package sqlite is the hub's database: all of its SQL is here.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A delivery to a thousand boxes' chains changes a page for each of them, and the next one the same pages again: the log
// is longer, and the cache larger, than a box's.
const (
	logPages = 4000
	cacheKiB = 32 << 10
)

// Store is the hub's database. Its methods may be called at the same time; writers wait for each other.
type Store struct {
	write, read *sql.DB
	path        string
	held        *os.File // keeps Restore away

	findChain, addChain, putBranch, addEntry, addPlain, putRequest, countEpochs, hasEpoch *sql.Stmt // of write
	findBox                                                                               *sql.Stmt // of read
}

var (
	_ fleet.Store   = (*Store)(nil)
	_ pickup.Store  = (*Store)(nil)
	_ ingest.Store  = (*Store)(nil)
	_ stats.Counter = (*Store)(nil)
)

// Open opens the database file at path, creating it if needed. Another process may have it open too. It fails with
// ErrLocked while the file is being restored from a backup, and with ErrRestoring when that was cut off.
func Open(ctx context.Context, path string) (*Store, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	s := &Store{path: path}
	if s.held, err = hold(path, false); err != nil {
		return nil, err
	}
	if err := unmarked(path); err != nil {
		return nil, errors.Join(err, s.held.Close())
	}
	if s.write, err = sqldb.Open(ctx, path, sub, sqldb.Options{LogPages: logPages, CacheKiB: cacheKiB}); err != nil {
		return nil, errors.Join(err, s.held.Close())
	}
	if s.read, err = sqldb.OpenRead(ctx, path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, p := range []struct {
		db   *sql.DB
		to   **sql.Stmt
		text string
	}{
		{s.write, &s.findChain, findChain},
		{s.write, &s.addChain, addChain},
		{s.write, &s.putBranch, putBranch},
		{s.write, &s.addEntry, addEntry},
		{s.write, &s.addPlain, addPlain},
		{s.write, &s.putRequest, putRequest},
		{s.write, &s.countEpochs, countEpochs},
		{s.write, &s.hasEpoch, hasEpoch},
		{s.read, &s.findBox, findBox},
	} {
		if *p.to, err = p.db.PrepareContext(ctx, p.text); err != nil { //nolint:sqlclosecheck // Close closes them
			return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.Close())
		}
	}
	return s, nil
}

// Close closes the database. Closing it again does nothing.
func (s *Store) Close() error {
	var errs []error
	for _, st := range []*sql.Stmt{s.findChain, s.addChain, s.putBranch, s.addEntry, s.addPlain, s.putRequest, s.countEpochs, s.hasEpoch, s.findBox} {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	errs = append(errs, s.write.Close())
	if err := s.held.Close(); !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

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
