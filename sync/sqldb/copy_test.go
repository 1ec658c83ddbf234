package sqldb_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"sportello.example/sync/sqldb"
)

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "a.db"), filepath.Join(dir, "b #1?.db")
	migrations := fstest.MapFS{"1.sql": &fstest.MapFile{Data: []byte(`CREATE TABLE x (n INTEGER NOT NULL) STRICT`)}}
	db, err := sqldb.Open(t.Context(), path, migrations, sqldb.Options{LogPages: 10_000, CacheKiB: 4000})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `INSERT INTO x VALUES (1), (2)`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	// Somebody is writing: what is not committed is not copied.
	if tx, err = db.BeginTx(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `INSERT INTO x VALUES (3)`); err != nil {
		t.Fatal(err)
	}
	if err := sqldb.Copy(t.Context(), path, file); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	got, err := sqldb.Open(t.Context(), file, migrations, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Close() }()
	var n int
	if err := got.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM x`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
	if err := sqldb.Copy(t.Context(), path, file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	if err := sqldb.Copy(t.Context(), filepath.Join(dir, "none.db"), filepath.Join(dir, "c.db")); err == nil {
		t.Error("copied what is not there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sqldb.Copy(ctx, path, filepath.Join(dir, "d.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
