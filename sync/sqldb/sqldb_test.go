package sqldb_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sportello.example/sync/sqldb"
)

const first = `CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;`

func schema(files ...string) fs.FS {
	m := fstest.MapFS{}
	for i, f := range files {
		m[fmt.Sprintf("%04d.sql", i+1)] = &fstest.MapFile{Data: []byte(f)}
	}
	return m
}

func open(t *testing.T, path string, m fs.FS, o sqldb.Options) *sql.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func insert(t *testing.T, db *sql.DB, text string) error {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `INSERT INTO note (text) VALUES (?)`, text)
	return err
}

func count(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM note`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpen(t *testing.T) {
	t.Run("settings hold", func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "a b%3f?c#.db"), schema(first), sqldb.Options{MaxPages: 77})
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
			"wal_autocheckpoint": "1000", "journal_size_limit": "8388608", "max_page_count": "77", "user_version": "1",
		} {
			var got string
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: got %q, %v, want %q", pragma, got, err, want)
			}
		}
	})
	t.Run("nobody else reads the files", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		db := open(t, path, schema(first), sqldb.Options{})
		if err := insert(t, db, "x"); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if st, err := os.Stat(path + suffix); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("x.db%s: %v, %v, want mode 0600", suffix, st, err)
			}
		}
	})
	t.Run("later migrations are applied to an old file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		db := open(t, path, schema(first), sqldb.Options{})
		if err := insert(t, db, "kept"); err != nil {
			t.Fatal(err)
		}
		_ = db.Close()
		db = open(t, path, schema(first, `ALTER TABLE note ADD COLUMN more TEXT; UPDATE note SET more = text;`), sqldb.Options{})
		var more string
		if err := db.QueryRowContext(t.Context(), `SELECT more FROM note`).Scan(&more); err != nil || more != "kept" {
			t.Errorf("got %q, %v", more, err)
		}
	})
	t.Run("a migration that fails leaves nothing behind", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		_, err := sqldb.Open(t.Context(), path, schema(first, `CREATE TABLE two (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1);`), sqldb.Options{})
		if err == nil || !strings.Contains(err.Error(), "0002.sql") {
			t.Fatalf("got %v", err)
		}
		open(t, path, schema(first, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{})
	})
	t.Run("a file of a newer program is refused and left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		_ = open(t, path, schema(first, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{}).Close()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sqldb.Open(t.Context(), path, schema(first), sqldb.Options{})
		if !errors.Is(err, sqldb.ErrNewer) || sqldb.Corrupt(err) {
			t.Errorf("got %v, want ErrNewer", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("file changed (%v)", err)
		}
	})
	t.Run("a file of a newer program that says an older one can use it is used as it is", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		db := open(t, path, schema(first+`PRAGMA application_id = 1;`, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{})
		_ = db.Close()
		db = open(t, path, schema(first), sqldb.Options{})
		if err := insert(t, db, "by the older program"); err != nil {
			t.Fatal(err)
		}
		var version, tables int
		err := db.QueryRowContext(t.Context(), `SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version`).Scan(&version, &tables)
		if err != nil || version != 2 || tables != 2 {
			t.Errorf("version %d, %d tables, %v; want them left alone", version, tables, err)
		}
		_ = db.Close()
		db = open(t, path, schema(first+`PRAGMA application_id = 1;`, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{})
		if n := count(t, db); n != 1 {
			t.Errorf("the newer program sees %d rows, want the one of the older", n)
		}
	})
	t.Run("a file that needs more than this program knows is refused and left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		_ = open(t, path, schema(first, `PRAGMA application_id = 2;`, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{}).Close()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = sqldb.Open(t.Context(), path, schema(first), sqldb.Options{}); !errors.Is(err, sqldb.ErrNewer) {
			t.Errorf("got %v, want ErrNewer", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("file changed (%v)", err)
		}
	})
	t.Run("two programs may migrate at once", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		errs := make(chan error)
		for range 4 {
			go func() {
				db, err := sqldb.Open(t.Context(), path, schema(first, `CREATE TABLE two (a INTEGER) STRICT;`), sqldb.Options{})
				if err == nil {
					err = db.Close()
				}
				errs <- err
			}()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a reader sees commits and cannot write", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		w := open(t, path, schema(first), sqldb.Options{})
		r, err := sqldb.OpenRead(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if err := insert(t, w, "x"); err != nil {
			t.Fatal(err)
		}
		if n := count(t, r); n != 1 {
			t.Errorf("reader sees %d rows, want 1", n)
		}
		if err := insert(t, r, "y"); err == nil {
			t.Error("reader wrote")
		}
	})
	t.Run("reading what does not exist creates nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		if db, err := sqldb.OpenRead(t.Context(), path); err == nil {
			_ = db.Close()
			t.Error("opened")
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat: %v", err)
		}
	})
}

// filled makes a database of some hundred pages and closes it.
func filled(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path, schema(first), sqldb.Options{})
	for i := range 200 {
		if err := insert(t, db, fmt.Sprintf("%04d%s", i, strings.Repeat("x", 4000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCorrupt(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func([]byte) []byte
	}{
		{"header overwritten", func(b []byte) []byte { copy(b, "not a database at all"); return b }},
		{"garbage", func(b []byte) []byte {
			r := rand.NewChaCha8([32]byte{1})
			_, _ = r.Read(b)
			return b
		}},
		{"text", func([]byte) []byte { return []byte(strings.Repeat("garbage ", 1000)) }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"cut inside the first page", func(b []byte) []byte { return b[:1000] }},
		{"inner page zeroed", func(b []byte) []byte { clear(b[4096 : 3*4096]); return b }},
		{"page type flipped", func(b []byte) []byte { b[4096] ^= 0xff; return b }},
		{"schema overwritten", func(b []byte) []byte { clear(b[100:4096]); return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filled(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.do(b), 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := sqldb.Open(t.Context(), path, schema(first), sqldb.Options{})
			if err == nil {
				err = errors.Join(sqldb.Check(t.Context(), db), db.Close())
			}
			if !sqldb.Corrupt(err) || sqldb.Full(err) {
				t.Fatalf("got %v, want an error that is Corrupt", err)
			}
			damaged, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			moved, err := sqldb.SetAside(path, time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC))
			if err != nil || moved != path+".corrupt-20261122T093000Z" {
				t.Fatalf("got %q, %v", moved, err)
			}
			if kept, err := os.ReadFile(moved); err != nil || !bytes.Equal(kept, damaged) {
				t.Errorf("the damaged file was not kept as it was (%v)", err)
			}
			db = open(t, path, schema(first), sqldb.Options{})
			if err := insert(t, db, "new life"); err != nil {
				t.Error(err)
			}
			if err := sqldb.Check(t.Context(), db); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a sound file passes", func(t *testing.T) {
		db := open(t, filled(t), schema(first), sqldb.Options{})
		if err := sqldb.Check(t.Context(), db); err != nil {
			t.Error(err)
		}
	})
	t.Run("a statement that the tables do not fit is told apart", func(t *testing.T) {
		db := open(t, filled(t), schema(first), sqldb.Options{})
		_, err := db.ExecContext(t.Context(), `INSERT INTO note (nothing) VALUES (1)`)
		if !sqldb.Misfit(err) || sqldb.Misfit(nil) || sqldb.Misfit(sqldb.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		if err := sqldb.CheckTable(t.Context(), db, "note"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ordinary errors are neither corrupt nor full", func(t *testing.T) {
		db := open(t, filled(t), schema(first), sqldb.Options{})
		_, err := db.ExecContext(t.Context(), `INSERT INTO nowhere VALUES (1)`)
		if err == nil || sqldb.Corrupt(err) || sqldb.Full(err) || sqldb.Corrupt(nil) || sqldb.Full(nil) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSetAside(t *testing.T) {
	now := time.Date(1970, 1, 1, 0, 0, 7, 0, time.UTC)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	for i, want := range []string{"x.db.corrupt-19700101T000007Z", "x.db.corrupt-19700101T000007Z-1"} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.WriteFile(path+suffix, fmt.Appendf(nil, "%d%s", i, suffix), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		moved, err := sqldb.SetAside(path, now)
		if err != nil || moved != filepath.Join(dir, want) {
			t.Errorf("got %q, %v, want %s", moved, err, want)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			b, err := os.ReadFile(moved + suffix)
			if err != nil || string(b) != fmt.Sprintf("%d%s", i, suffix) {
				t.Errorf("%s%s: %q, %v", moved, suffix, b, err)
			}
			if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s%s is still there: %v", path, suffix, err)
			}
		}
	}
	if _, err := sqldb.SetAside(path, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: got %v", err)
	}
}

func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path, schema(first), sqldb.Options{MaxPages: 100})
	var err error
	n := 0
	for err == nil {
		if err = insert(t, db, strings.Repeat("x", 2000)); err == nil {
			n++
		}
	}
	if !sqldb.Full(err) || sqldb.Corrupt(err) {
		t.Fatalf("after %d rows: got %v, want an error that is Full", n, err)
	}
	if got := count(t, db); got != n {
		t.Errorf("%d rows, want the %d that were confirmed", got, n)
	}
	if _, err := db.ExecContext(t.Context(), `DELETE FROM note WHERE id <= 10`); err != nil {
		t.Fatalf("delete when full: %v", err)
	}
	if err := insert(t, db, "room again"); err != nil {
		t.Errorf("insert after making room: %v", err)
	}
	_ = db.Close()

	t.Run("a file above the limit can still be opened", func(t *testing.T) {
		db := open(t, path, schema(first), sqldb.Options{MaxPages: 10})
		if got := count(t, db); got != n-9 {
			t.Errorf("got %d rows, want %d", got, n-9)
		}
	})
}
