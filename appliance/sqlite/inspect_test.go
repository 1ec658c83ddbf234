package sqlite_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

func TestInspect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	if _, _, err := sqlite.Inspect(t.Context(), path, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no database: %v", err)
	}
	s, _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Now: time.Now, MaxPages: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}, event.Event{Kind: event.LineUp}, event.Event{Kind: event.LineDown}); err != nil {
		t.Fatal(err)
	}
	want, err := s.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, dead, err := sqlite.Inspect(t.Context(), path, 1000)
	if err != nil || len(dead) != 0 {
		t.Fatalf("%v, dead %v", err, dead)
	}
	if got.Epoch != want.Epoch || got.Queued() != want.Queued() || got.Queued() < 3 || got.Disk.State != "ok" || got.Disk.Limit != 4096*1000 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the database was changed: %v", err)
	}
}

func TestInspectFirstRelease(t *testing.T) {
	b, err := os.ReadFile("../../testdata/queues/0001-box.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "box.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := sqlite.Inspect(t.Context(), path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Streams) != 1 || r.Streams[0].Stream != envelope.All || r.Queued() == 0 || r.Streams[0].Oldest == nil || !r.Epoch.Valid() {
		t.Errorf("got %+v", r)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(b, after) {
		t.Errorf("the database was changed: %v", err)
	}
}
