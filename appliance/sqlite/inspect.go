package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/sqldb"
	"sportello.example/sync/wire"
)

// Inspect reports on the queue of a box that does not run, and lists its dead events: as Report and Dead, from outside.
// The database is opened for reading only, in whatever version it is, and stays as it is. maxPages is Config.MaxPages. It
// fails with an error that is fs.ErrNotExist when there is no database.
func Inspect(ctx context.Context, path string, maxPages int) (r wire.Report, dead []DeadEvent, err error) {
	if _, err := os.Stat(path); err != nil {
		return wire.Report{}, nil, fmt.Errorf("box database: %w", err)
	}
	s := &Store{cfg: Config{Path: path, MaxPages: maxPages}, log: slog.New(slog.DiscardHandler), open: map[string]bool{}}
	s.readers, s.interrupt = context.WithCancel(ctx)
	defer s.interrupt()
	if s.read, err = sqldb.OpenRead(ctx, path); err != nil {
		return wire.Report{}, nil, fmt.Errorf("box database: %w", err)
	}
	defer func() { err = errors.Join(err, s.read.Close()) }()
	if s.conn, err = s.read.Conn(ctx); err != nil {
		return wire.Report{}, nil, fmt.Errorf("box database: %w", err)
	}
	defer func() { err = errors.Join(err, s.conn.Close()) }()
	var version int
	if err := s.conn.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return wire.Report{}, nil, fmt.Errorf("box database: %w", err)
	}
	known, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return wire.Report{}, nil, err
	}
	if version < len(known) {
		r, err := s.inspectV1(ctx)
		return r, nil, err
	}
	if _, err := s.load(ctx); err != nil {
		return wire.Report{}, nil, fmt.Errorf("box database: %w", err)
	}
	if maxPages > 0 {
		s.measure()
	}
	if r, err = s.Report(ctx); err != nil {
		return wire.Report{}, nil, err
	}
	dead, err = s.Dead(ctx)
	return r, dead, err
}

// inspectV1 reports on a database that a program of the first release has left.
func (s *Store) inspectV1(ctx context.Context) (wire.Report, error) {
	st := wire.StreamReport{Stream: envelope.All}
	var oldest sql.NullString
	var r wire.Report
	err := s.conn.QueryRowContext(ctx, `SELECT count(*), min(at), (SELECT value FROM meta WHERE name = 'epoch') FROM event`).Scan(&st.Queued, &oldest, &r.Epoch)
	if err != nil {
		return wire.Report{}, fmt.Errorf("box database: %w", err)
	}
	if t, err := time.Parse(time.RFC3339Nano, oldest.String); err == nil {
		st.Oldest = &t
	}
	r.Streams = []wire.StreamReport{st}
	return r, nil
}
