// Package sqldb opens SQLite files the way this project needs them: every commit is on the disk before it is
// confirmed, a file has one writer, and its schema is brought up to date or refused.
//
// It also tells apart what callers must tell apart about a database file: corrupt, written by a newer program, full.
package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strconv"
	"syscall"

	"modernc.org/sqlite" // registers driver "sqlite"
	lib "modernc.org/sqlite/lib"
)

var (
	// ErrNewer means that the file was written by a newer program. It has not been changed.
	ErrNewer = errors.New("database was written by a newer program")
	// ErrCorrupt means that the file is not, or is no longer, a sound database. Use Corrupt to test for it: the
	// driver has errors of its own that mean the same.
	ErrCorrupt = errors.New("database is corrupt")
)

// Options are the settings that differ between databases. The zero value is usable.
type Options struct {
	// MaxPages is the largest size the file may grow to, in pages of 4 KiB; 0 means no limit. Keep it below the size
	// of the disk: when SQLite hits its own limit, DELETE still works and makes room; when the disk is full it does not.
	MaxPages int
	// LogPages is how long the write-ahead log grows before its pages go to the database, in pages of 4 KiB; 0 means
	// 1000. A longer log costs disk and saves writes, when many transactions change the same pages.
	LogPages int
	// CacheKiB is how much of the database the writer keeps in memory, in KiB; 0 means SQLite's 2000.
	CacheKiB int
}

// Open opens the database file at path for writing, creating it with mode 0600 if needed, and applies those of the
// migrations (files *.sql of migrations, in the order of their names) that the file has not seen, each in a
// transaction of its own.
//
// The handle has one connection, so writers queue up in this process; transactions take the write lock when they
// begin. Errors: ErrNewer, and those for which Corrupt or Full is true. In every case the file is left as it was.
//
// A file that has seen migrations which this program does not know is used as it is when it says that programs as old
// as this one can: a box that falls back to its older program goes on with what the newer one has queued. A file says so
// in PRAGMA application_id, the number of migrations that a program must know to use it, 0 for all that the file has
// seen; the migrations set it.
func Open(ctx context.Context, path string, migrations fs.FS, o Options) (*sql.DB, error) {
	if err := create(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, o))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// OpenRead opens an existing database for reading, with a few connections of its own so that a long report never
// holds up the writer. Close every Rows soon: while one is open the write-ahead log cannot shrink.
func OpenRead(ctx context.Context, path string) (*sql.DB, error) {
	q := url.Values{"mode": {"ro"}, "_defensive": {"1"}, "_pragma": {"busy_timeout(5000)", "query_only(on)"}}
	db, err := sql.Open("sqlite", uri(path, q))
	if err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for reading: %w", path, err), db.Close())
	}
	return db, nil
}

// create makes an empty file that only its owner can read. SQLite gives the -wal and -shm files the same mode.
func create(path string) error {
	// O_EXCL, because opening and closing a database that this process has open already would drop its locks.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string, o Options) string {
	pragmas := []string{
		"busy_timeout(5000)", // milliseconds; first, so that the pragmas after it wait for a lock too
		"journal_mode(wal)",
		"synchronous(full)", // with "normal" a power cut takes the last commits with it
		"foreign_keys(on)",
		"wal_autocheckpoint(" + strconv.Itoa(cmp.Or(o.LogPages, 1000)) + ")",
		"journal_size_limit(8388608)", // bytes: shrink the log again after a burst
	}
	if o.CacheKiB > 0 {
		pragmas = append(pragmas, "cache_size(-"+strconv.Itoa(o.CacheKiB)+")")
	}
	if o.MaxPages > 0 {
		pragmas = append(pragmas, "max_page_count("+strconv.Itoa(o.MaxPages)+")")
	}
	return uri(path, url.Values{
		"_txlock":    {"immediate"}, // a transaction that reads first and writes later can fail at once, whatever the timeout
		"_defensive": {"1"},
		"_pragma":    pragmas,
	})
}

func uri(path string, q url.Values) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// migrate brings the schema up to date. PRAGMA user_version counts the migrations that a file has seen.
func migrate(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	names, err := fs.Glob(migrations, "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > len(names) {
		var need int
		if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&need); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if need <= 0 || need > len(names) {
			return fmt.Errorf("schema version %d, this program knows %d: %w", have, len(names), ErrNewer)
		}
		return nil
	}
	for i, name := range names {
		if i < have {
			continue
		}
		if err := apply(ctx, db, migrations, name, i); err != nil {
			return fmt.Errorf("migration %s: %w", path.Base(name), err)
		}
	}
	return nil
}

// apply runs migration number n, counted from 0, unless another process has done so in the meantime.
func apply(ctx context.Context, db *sql.DB, migrations fs.FS, name string, n int) error {
	text, err := fs.ReadFile(migrations, name)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	var have int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > n {
		return nil
	}
	if _, err := tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "PRAGMA user_version = "+strconv.Itoa(n+1)); err != nil {
		return err
	}
	return tx.Commit()
}

// Corrupt reports whether err says that a database file is damaged or no database at all. SetAside is the remedy.
func Corrupt(err error) bool {
	if errors.Is(err, ErrCorrupt) {
		return true
	}
	switch code(err) & 0xff {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return true
	}
	return false
}

// Misfit reports whether err says that a statement does not fit the tables of the file. Of statements that were tested
// this means that the schema, or the version of it that the file claims, is damaged; SQLite does not call that corrupt.
func Misfit(err error) bool { return code(err) == lib.SQLITE_ERROR }

// Full reports whether err says that there is no room: the database has reached Options.MaxPages, or the disk is full.
// The transaction was rolled back; the same work succeeds later, when there is room again.
func Full(err error) bool {
	c := code(err)
	if c&0xff == lib.SQLITE_FULL || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	switch c {
	// The unix layer of SQLite reports a full disk in this way when it extends the shared-memory file, or when the
	// file system takes the bytes and complains only when they are synced.
	case lib.SQLITE_IOERR_SHMSIZE, lib.SQLITE_IOERR_WRITE, lib.SQLITE_IOERR_FSYNC, lib.SQLITE_IOERR_TRUNCATE:
		return true
	}
	return false
}

// code returns SQLite's extended result code, 0 when err is not from SQLite.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
