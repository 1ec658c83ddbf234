package server

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestBackupsWithAClockThatIsBehind makes backups in a folder where there are newer ones by name, and keeps two.
func TestBackupsWithAClockThatIsBehind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"hub-20261124T093000Z.db", "hub-20261125T093000Z.db", "hub-note.db", "hub-20261126T093000Z.dump", "hub-20261126T093000Z_x.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		now        time.Time
		want, left string
	}{
		{time.Unix(60, 0), "hub-20261125T093000Z_0002.db", "hub-20261125T093000Z.db"},
		{time.Unix(60, 0), "hub-20261125T093000Z_0003.db", "hub-20261125T093000Z_0002.db"},
		{time.Date(2026, 11, 25, 9, 30, 0, 5, time.UTC), "hub-20261125T093000Z_0004.db", "hub-20261125T093000Z_0003.db"},
		{time.Date(2026, 11, 25, 9, 30, 1, 0, time.UTC), "hub-20261125T093001Z.db", "hub-20261125T093000Z_0004.db"},
		{time.Date(2026, 11, 25, 9, 30, 1, 0, time.UTC), "hub-20261125T093001Z_0002.db", "hub-20261125T093001Z.db"},
	} {
		file, in, err := backupFile(dir, ".db", tt.now)
		if err != nil || filepath.Base(file) != tt.want || in != dir {
			t.Fatalf("at %v: got %s in %s, %v, want %s", tt.now, file, in, err, tt.want)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := prune(file, dir, ".db", 2); err != nil {
			t.Fatal(err)
		}
		there, err := filepath.Glob(filepath.Join(dir, "hub-*.db"))
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range there {
			there[i] = filepath.Base(name)
		}
		want := []string{tt.left, tt.want, "hub-20261126T093000Z_x.db", "hub-note.db"}
		slices.Sort(there)
		slices.Sort(want)
		if !slices.Equal(there, want) {
			t.Errorf("at %v: left %v, want %v", tt.now, there, want)
		}
	}
	// Whatever the names say.
	made := filepath.Join(dir, "hub-19700101T000100Z.db")
	if err := os.WriteFile(made, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prune(made, dir, ".db", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made); err != nil {
		t.Errorf("what was just made is gone: %v", err)
	}
}
