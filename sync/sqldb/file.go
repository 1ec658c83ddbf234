package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sportello.example/provisioning/durable"
)

// Check reads the whole database and fails with an error for which Corrupt is true when its structure is damaged. It
// takes about a second per 500 MB. SQLite has no checksums: a flipped bit inside a value is not noticed.
func Check(ctx context.Context, db *sql.DB) error { return check(ctx, db, "1") }

// CheckTable is Check for one table.
func CheckTable(ctx context.Context, db *sql.DB, table string) error {
	return check(ctx, db, "'"+strings.ReplaceAll(table, "'", "''")+"'")
}

func check(ctx context.Context, db *sql.DB, what string) error {
	rows, err := db.QueryContext(ctx, "PRAGMA quick_check("+what+")")
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var verdict string
		if err := rows.Scan(&verdict); err != nil {
			return fmt.Errorf("check database: %w", err)
		}
		if verdict != "ok" {
			return fmt.Errorf("check database: %s: %w", verdict, ErrCorrupt)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	return nil
}

// SetAside renames the database at path and the files that belong to it, so that a new one can be begun and the old
// one still be looked at, and returns the new name of the database. Nobody may have the database open.
//
// Were the power cut halfway, the database would stand there without its log: as it was some minutes before, or damaged
// still. In the first case nothing in the file says so: whoever calls this needs a witness beside the database that knows
// how far it had come, as a box has, or a mark that a move is under way.
func SetAside(path string, now time.Time) (moved string, err error) {
	moved, err = Unused(path + ".corrupt-" + now.UTC().Format("20060102T150405Z"))
	if err != nil {
		return "", err
	}
	return moved, Move(path, moved)
}

// Move renames a database that nobody has open, with the files that belong to it, in one folder. It fails with
// fs.ErrNotExist when there is no database, and has moved what else was there.
func Move(path, moved string) error {
	// The log goes first: were the power cut in between, a new database would not be mixed with the log of the old one.
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, moved+suffix); err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("set aside %s: %w", path, err)
		}
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Unused returns name, or name with a number when there is such a file: a box without a clock may wake up at the same
// second twice.
func Unused(name string) (string, error) {
	for i := range 1000 {
		try := name
		if i > 0 {
			try = fmt.Sprintf("%s-%d", name, i)
		}
		if _, err := os.Lstat(try); errors.Is(err, fs.ErrNotExist) {
			return try, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("too many files named %s", name)
}
