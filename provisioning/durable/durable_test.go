package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sportello.example/provisioning/durable"
)

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := durable.Dir(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x")
	for _, tt := range []struct {
		name string
		do   func(string, []byte) error
		text string
		want string
		err  error
	}{
		{"create makes it", durable.Create, "1", "1", nil},
		{"create leaves it alone", durable.Create, "2", "1", fs.ErrExist},
		{"write replaces it", durable.Write, "3", "3", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(path, []byte(tt.text)); !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != tt.want {
				t.Errorf("file holds %q, %v, want %q", b, err, tt.want)
			}
		})
	}
	t.Run("nothing else is left and nobody else reads", func(t *testing.T) {
		es, err := os.ReadDir(dir)
		if err != nil || len(es) != 1 {
			t.Errorf("%v, %v", es, err)
		}
		for p, mode := range map[string]fs.FileMode{dir: 0o700, path: 0o600} {
			if st, err := os.Stat(p); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v, want %v", p, st.Mode(), err, mode)
			}
		}
	})
	t.Run("a failure is said and leaves nothing", func(t *testing.T) {
		if err := durable.Write(filepath.Join(dir, "no", "x"), nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := durable.Write(filepath.Join(dir, "d"), nil); err == nil {
			t.Error("replaced a directory")
		}
		if es, err := os.ReadDir(dir); err != nil || len(es) != 2 {
			t.Errorf("%v, %v", es, err)
		}
	})
}
