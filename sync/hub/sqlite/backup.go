package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/sqldb"
)

const (
	listBranches  = `SELECT chain, number, seq, head FROM branch ORDER BY chain, number`
	headOf        = `SELECT missing, seq, hash FROM entry WHERE chain = ? AND branch = ? ORDER BY seq DESC LIMIT 1`
	countEntries  = `SELECT COUNT(*), COALESCE(SUM(max(missing, 1)), 0) FROM entry`
	countBranches = `SELECT COALESCE(SUM(seq - since + 1), 0) FROM branch`
	// Of what the file holds, never of what came in meanwhile.
	raiseSafe = `UPDATE branch SET safe = max(safe, min(seq, ?)) WHERE chain = ? AND number = ?`
)

// ErrBackup means that a file is not a sound backup of a hub's database.
var ErrBackup = errors.New("not a sound backup")

// Backup writes a copy of the database to a new file, which nobody may have begun, while the hub goes on. The copy is
// on the disk, was read as a whole and compared with itself when Backup returns; and what is in it counts as safe from
// then on: see ingest.Branch. It fails with ErrBackup when the copy is not sound. Then there is no file.
func (s *Store) Backup(ctx context.Context, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %s: %w", file, errors.Join(err, fs.ErrExist))
	}
	part := file + ".part"
	held, err := s.copyTo(ctx, part)
	if err == nil {
		err = publish(part, file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("backup to %s: %w", file, err), forget(part))
	}
	return s.within(ctx, func(tx *sql.Tx) error {
		for _, b := range held {
			if _, err := tx.ExecContext(ctx, raiseSafe, b.seq, b.chain, b.number); err != nil {
				return fmt.Errorf("backup to %s: %w", file, err)
			}
		}
		return nil
	})
}

// copyTo writes a copy of the database and returns the branches that are in it.
func (s *Store) copyTo(ctx context.Context, part string) ([]heldBranch, error) {
	if err := forget(part); err != nil { // of a backup that was cut off
		return nil, err
	}
	if err := sqldb.Copy(ctx, s.path, part); err != nil {
		return nil, err
	}
	return verify(ctx, part)
}

// heldBranch is a branch of a backup.
type heldBranch struct {
	chain  int64
	number int
	seq    uint64
}

// verify reads a whole backup: its structure, that it has as many events as its branches say, and that each branch ends
// with the event whose hash it names. It fails with ErrBackup.
func verify(ctx context.Context, file string) (out []heldBranch, err error) {
	db, err := sqldb.OpenRead(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := sqldb.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	var rows, events, want int64
	if err := db.QueryRowContext(ctx, countEntries).Scan(&rows, &events); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if err := db.QueryRowContext(ctx, countBranches).Scan(&want); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if events != want {
		return nil, fmt.Errorf("%w: %d events, its branches have %d", ErrBackup, events, want)
	}
	branches, err := db.QueryContext(ctx, listBranches)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer func() { _ = branches.Close() }()
	for branches.Next() {
		var b heldBranch
		var head []byte
		if err := branches.Scan(&b.chain, &b.number, &b.seq, &head); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBackup, err)
		}
		if err := b.verify(ctx, db, head); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	if err := branches.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	return out, nil
}

// verify compares what a branch says of its end with the row that is there.
func (b heldBranch) verify(ctx context.Context, db *sql.DB, head []byte) error {
	var missing, seq uint64
	var hash []byte
	err := db.QueryRowContext(ctx, headOf, b.chain, b.number).Scan(&missing, &seq, &hash)
	switch {
	case errors.Is(err, sql.ErrNoRows): // a branch without a row of its own
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBackup, err)
	case seq+max(missing, 1)-1 != b.seq || len(head) == envelope.HashSize && string(hash) != string(head):
		return fmt.Errorf("%w: branch %d of chain %d does not end with number %d", ErrBackup, b.number, b.chain, b.seq)
	}
	return nil
}

// Restore puts a backup in the place of the database at path, which must not be in use, and returns where what was there
// is now, "" when nothing was. The backup is verified before, and kept. It fails with ErrLocked and ErrBackup, and has
// changed nothing then.
func Restore(ctx context.Context, path, backup string, now time.Time) (aside string, err error) {
	held, err := hold(path, true)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	part := path + ".restoring"
	if err := copyFile(part, backup); err != nil {
		return "", errors.Join(fmt.Errorf("restore from %s: %w", backup, err), forget(part))
	}
	if _, err := verify(ctx, part); err != nil {
		return "", errors.Join(fmt.Errorf("restore from %s: %w", backup, err), forget(part))
	}
	if _, err := os.Lstat(path); err == nil {
		if aside, err = setAside(path, now); err != nil {
			return "", errors.Join(fmt.Errorf("restore: %w", err), forget(part))
		}
	}
	if err := publish(part, path); err != nil {
		return aside, fmt.Errorf("restore from %s: %w", backup, err)
	}
	return aside, nil
}

// setAside renames a database that was closed, with the files that belong to it.
func setAside(path string, now time.Time) (string, error) {
	moved := path + ".before-restore-" + now.UTC().Format("20060102T150405Z")
	for i := 2; ; i++ {
		if _, err := os.Lstat(moved); errors.Is(err, fs.ErrNotExist) {
			break
		}
		moved = fmt.Sprintf("%s.before-restore-%s-%d", path, now.UTC().Format("20060102T150405Z"), i)
	}
	// The log goes first: were the power cut in between, the backup would not be mixed with the log of the old one.
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, moved+suffix); err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return moved, nil
}

// publish gives a finished file its name.
func publish(part, name string) error {
	if err := forget(part + "-wal"); err != nil {
		return err
	}
	if err := forget(part + "-shm"); err != nil {
		return err
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyFile copies a file onto the disk, readable by its owner only.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// forget removes a file that may not be there.
func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
