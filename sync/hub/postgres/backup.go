package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"sportello.example/provisioning/durable"
)

const (
	exportSnapshot = `SELECT pg_export_snapshot()`
	allBranches    = `SELECT numbering, stream, number, seq FROM branch ORDER BY 1, 2, 3`
	// Only where there is something to raise, with the numberings held.
	raiseSafe = `
UPDATE branch AS b SET safe = s.seq
FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::bigint[]) AS s (numbering, stream, number, seq)
WHERE b.numbering = s.numbering AND b.stream = s.stream AND b.number = s.number AND b.safe < s.seq`
)

// ErrNoDump means that PostgreSQL's client programs are not installed.
var ErrNoDump = errors.New("pg_dump and pg_restore are not here: install them (apt install postgresql-client)")

// Backup writes a copy of the database to a new file, in pg_dump's custom format, reads it back whole and compares it
// with the database (see verify), and then raises to the state of that copy what boxes are told is safe. "pg_restore
// --clean --if-exists --no-owner -d ADDRESS FILE" restores it; boxes then deliver again what it does not have. It needs
// pg_dump of the server's release or a later one, and fails with fs.ErrExist when the file is there, and with ErrBackup
// when the copy is not sound: there is no file then. It takes as long as it takes: ctx ends it.
//
// What is of passing interest, such as logins under way, is not in the copy.
func (s *Store) Backup(ctx context.Context, file string) error {
	if err := s.backup(ctx, file); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// tips is how far all branches had come.
type tips struct {
	num    []int64
	stream []int16
	number []int32
	seq    []int64
}

func (s *Store) backup(ctx context.Context, file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s: %w", file, fs.ErrExist)
	}
	part, err := os.OpenFile(file+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	at, err := s.dump(ctx, part)
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	if err := verify(ctx, part.Name(), at); err != nil {
		return err
	}
	if err := place(part.Name(), file); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(file)); err != nil {
		return err
	}
	return s.raise(ctx, at.tips)
}

// place gives a finished file its name. It fails with fs.ErrExist when there is such a file.
func place(part, file string) error {
	err := os.Link(part, file) // unlike Rename, fails when the file is there
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	// A disk whose file system has no second names.
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", file, errors.Join(err, fs.ErrExist))
	}
	return os.Rename(part, file)
}

// dump writes the database as one transaction sees it, and returns what that transaction sees.
func (s *Store) dump(ctx context.Context, to *os.File) (at contents, err error) {
	program, err := program("pg_dump")
	if err != nil {
		return contents{}, err
	}
	address, env := s.address()
	o := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, o, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, noTimeout); err != nil {
			return err
		}
		var snapshot string
		if err := tx.QueryRow(ctx, exportSnapshot).Scan(&snapshot); err != nil {
			return err
		}
		if at, err = readContents(ctx, tx); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, program, "--format=custom", "--snapshot="+snapshot, "--no-unlogged-table-data", "--dbname="+address)
		var problem bytes.Buffer
		cmd.Env, cmd.Stdout, cmd.Stderr = env, to, &problem
		if err := cmd.Run(); err != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("pg_dump: %w: %s", err, strings.TrimSpace(problem.String())))
		}
		return nil
	})
	return at, err
}

func readTips(ctx context.Context, tx pgx.Tx) (at tips, err error) {
	rows, err := tx.Query(ctx, allBranches)
	if err != nil {
		return tips{}, err
	}
	var num, seq int64
	var stream int16
	var number int32
	_, err = pgx.ForEachRow(rows, []any{&num, &stream, &number, &seq}, func() error {
		at.num, at.stream, at.number, at.seq = append(at.num, num), append(at.stream, stream), append(at.number, number), append(at.seq, seq)
		return nil
	})
	return at, err
}

// raise says that everything up to at is in a backup, some branches at a time: boxes deliver meanwhile.
func (s *Store) raise(ctx context.Context, at tips) error {
	const most = 500
	for i := 0; i < len(at.num); i += most {
		j := min(i+most, len(at.num))
		nums := slices.Compact(slices.Clone(at.num[i:j])) // sorted
		err := s.within(ctx, func(tx pgx.Tx) error {
			// As who takes in events does, and in one order: nobody waits for somebody who waits for them.
			if _, err := tx.Exec(ctx, holdNumberings, nums); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, raiseSafe, at.num[i:j], at.stream[i:j], at.number[i:j], at.seq[i:j])
			return err
		})
		if err != nil {
			return fmt.Errorf("the copy is good, and boxes have not been told so: %w", err)
		}
	}
	return nil
}

// address returns where the database is, for PostgreSQL's programs, and their environment: a password among their
// arguments could be read by everybody on the machine.
func (s *Store) address() (dsn string, env []string) {
	env = os.Environ()
	if p := s.pool.Config().ConnConfig.Password; p != "" {
		env = append(env, "PGPASSWORD="+p)
	}
	dsn = s.dsn
	if u, err := url.Parse(dsn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
		q := u.Query()
		for k := range q {
			_, runtime := s.pool.Config().ConnConfig.RuntimeParams[k]
			if runtime && k != "application_name" && k != "options" || k == "password" || strings.HasPrefix(k, "pool_") || strings.HasPrefix(k, "default_query_") || k == "statement_cache_capacity" || k == "description_cache_capacity" {
				q.Del(k) // not libpq's
			}
		}
		u.RawQuery = q.Encode()
		return u.String(), env
	}
	c := s.pool.Config().ConnConfig
	quote := func(v string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'" }
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", quote(c.Host), c.Port, quote(c.User), quote(c.Database)), env
}

// program returns the path of one of PostgreSQL's programs: the newest that Debian has installed, or what is in PATH.
func program(name string) (string, error) {
	paths, err := filepath.Glob(filepath.Join("/usr/lib/postgresql/*/bin", name))
	if err != nil {
		return "", err
	}
	if len(paths) > 0 {
		return slices.MaxFunc(paths, func(a, b string) int { return release(a) - release(b) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", ErrNoDump
	}
	return path, nil
}

// release is the number in /usr/lib/postgresql/15/bin/pg_dump.
func release(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}
