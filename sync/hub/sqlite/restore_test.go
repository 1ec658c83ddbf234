package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
)

// TestRestoreCutOff ends a restore after each of its steps. The old database has what came last in its log only, as after
// the power was cut: without the log it opens, and is older than what boxes were told.
func TestRestoreCutOff(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 30, 0, 0, time.UTC)
	backup, files := killed(t, now)
	halfMoved := func(t *testing.T, path string) {
		t.Helper()
		b, err := os.ReadFile(path + markFile)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(string(b), "\n")
		if err := os.Rename(path+"-wal", filepath.Join(filepath.Dir(path), name)+"-wal"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, step string
		more       func(*testing.T, string)
	}{
		{"before anything is moved", "verified", nil},
		{"marked", "marked", nil},
		{"only the log is moved", "marked", halfMoved},
		{"all is moved", "aside", nil},
		{"the backup is in place", "published", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hub.db")
			for suffix, b := range files {
				if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cutOff(t, path, backup, tt.step, now)
			if tt.more != nil {
				tt.more(t, path)
			}
			s, err := Open(t.Context(), path)
			if tt.step == "verified" {
				if err != nil {
					t.Fatal(err)
				}
				if got := notices(t, s); !slices.Equal(got, []string{"saved", "since"}) {
					t.Errorf("nothing was moved, and the hub has %v", got)
				}
			} else if !errors.Is(err, ErrRestoring) {
				t.Fatalf("a hub starts: %v, want ErrRestoring", err)
			}
			again := now.Add(time.Minute)
			if _, err := Restore(t.Context(), path, filepath.Join(t.TempDir(), "none"), again); err == nil {
				t.Error("restored from nothing")
			}
			if _, err := Restore(t.Context(), path, backup, again); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if got := notices(t, s); !slices.Equal(got, []string{"saved"}) {
				t.Errorf("restored, the hub has %v", got)
			}
			kept, err := filepath.Glob(path + asideName + "*Z")
			if err != nil || len(kept) == 0 {
				t.Fatalf("nothing is kept of the old database: %v", err)
			}
			if s, err = Open(t.Context(), kept[0]); err != nil {
				t.Fatal(err)
			}
			if got := notices(t, s); !slices.Equal(got, []string{"saved", "since"}) {
				t.Errorf("set aside with %v", got)
			}
			for _, left := range []string{markFile, ".restoring"} {
				if _, err := os.Lstat(path + left); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: %v", left, err)
				}
			}
		})
	}
}

// killed returns a backup of a database that has more since, and the database's files as a power cut leaves them.
func killed(t *testing.T, now time.Time) (backup string, files map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "hub.db"), filepath.Join(dir, "backup.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	add := func(id string) {
		t.Helper()
		n := content.Notice{Notice: desired.Notice{ID: id, Severity: desired.Info, Text: map[string]string{"it": "x"}}, Created: now}
		if err := s.AddNotice(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	add("saved")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	add("since")
	files = map[string][]byte{}
	for _, suffix := range []string{"", "-wal"} {
		if files[suffix], err = os.ReadFile(path + suffix); err != nil || len(files[suffix]) == 0 {
			t.Fatalf("hub.db%s: %d bytes, %v", suffix, len(files[suffix]), err)
		}
	}
	return backup, files
}

// cutOff restores and comes no further than a step.
func cutOff(t *testing.T, path, backup, step string, now time.Time) {
	t.Helper()
	const cut = "the power is cut"
	defer func() {
		if r := recover(); r != cut {
			t.Fatalf("got %v", r)
		}
	}()
	_, err := restore(t.Context(), path, backup, now, func(at string) {
		if at == step {
			panic(cut)
		}
	})
	t.Errorf("no step %q: %v", step, err)
}

// notices returns the IDs of a hub's notices, and closes it.
func notices(t *testing.T, s *Store) (ids []string) {
	t.Helper()
	k, err := s.Kept(t.Context())
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, n := range k.Notices {
		ids = append(ids, n.ID)
	}
	return ids
}
