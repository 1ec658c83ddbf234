package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// Copy writes a copy of the database at path to a new file, as it is at one moment, while others read and write it. The
// copy is compact, on the disk when Copy returns, and readable by its owner only. Until then the write-ahead log of the
// original cannot shrink. When Copy fails, a part of the file may be there.
func Copy(ctx context.Context, path, file string) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite would let others read it
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", uri(path, url.Values{"mode": {"ro"}, "_defensive": {"1"}, "_pragma": {"busy_timeout(5000)"}}))
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, file); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	if f, err = os.OpenFile(file, os.O_RDWR, 0); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
