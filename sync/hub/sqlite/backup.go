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
	"strings"
	"time"

	"sportello.example/provisioning/durable"
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

// ErrRestoring means that a restore was cut off. The database is not used until it has been done again: what is there may
// be the old one without what came last, and a hub that starts with it would not notice.
var ErrRestoring = errors.New("a restore from a backup was begun and not finished")

// Restore puts a backup in the place of the database at path, which must not be in use, and returns where what was there
// is now, "" when nothing was. The backup is verified before, and kept. It fails with ErrLocked and ErrBackup, and has
// changed nothing then. When it is cut off Open fails with ErrRestoring, until Restore is called again.
func Restore(ctx context.Context, path, backup string, now time.Time) (aside string, err error) {
	return restore(ctx, path, backup, now, func(string) {})
}

// restore is Restore. It calls crash between its steps.
func restore(ctx context.Context, path, backup string, now time.Time, crash func(string)) (aside string, err error) {
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
	crash("verified")
	if aside, err = mark(path, now); err != nil {
		return "", errors.Join(fmt.Errorf("restore: %w", err), forget(part))
	}
	crash("marked")
	if err := sqldb.Move(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) { // none: the first, or an earlier try came so far
		return "", fmt.Errorf("restore: %w", err)
	}
	crash("aside")
	if err := publish(part, path); err != nil {
		return aside, fmt.Errorf("restore from %s: %w", backup, err)
	}
	crash("published")
	if err := unmark(path); err != nil {
		return aside, fmt.Errorf("restore from %s: %w", backup, err)
	}
	if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
		aside = ""
	}
	return aside, nil
}

// markFile is the end of the name of the file that stands beside a database while it is being replaced. Its first line is
// the name that what was there gets; the rest is for people.
const markFile = ".restore-unfinished"

// mark notes that a database is being replaced, on the disk, and returns the name that it gets. After an earlier try that
// was cut off it is the same one: its log may have that name already.
func mark(path string, now time.Time) (aside string, err error) {
	if b, err := os.ReadFile(path + markFile); err == nil {
		name, _, _ := strings.Cut(string(b), "\n")
		aside = filepath.Join(filepath.Dir(path), filepath.Base(name))
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(aside, path+asideName) {
			return aside, nil
		} // else the earlier try came so far that what is there now is a backup
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if aside, err = sqldb.Unused(path + asideName + now.UTC().Format("20060102T150405Z")); err != nil {
		return "", err
	}
	return aside, durable.Write(path+markFile, []byte(filepath.Base(aside)+"\n\n"+
		"A restore from a backup is under way, or was cut off. The hub does not start until it is finished:\n"+
		"run “hub restore FILE” again. What was there before is not deleted.\n"))
}

// asideName stands between the name of a database that was replaced and when that was.
const asideName = ".before-restore-"

func unmark(path string) error {
	if err := forget(path + markFile); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// unmarked fails with ErrRestoring while a database is being replaced, and after that was cut off.
func unmarked(path string) error {
	_, err := os.Lstat(path + markFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %w", path, ErrRestoring)
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
	return durable.SyncDir(filepath.Dir(name))
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
