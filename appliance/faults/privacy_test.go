package faults_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/stick"
)

// TestCanary plants a citizen's data in events and looks for it in every byte that a box leaves anywhere: its disk while
// it runs, as a thief finds it, after it was stopped, and on a stick.
func TestCanary(t *testing.T) {
	town, err := hubtest.NewTown(t.Context(), t.TempDir(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	id, err := town.Identity(t.Context(), filepath.Join(t.TempDir(), "identity"), boxNumber)
	if err != nil {
		t.Fatal(err)
	}
	key, err := town.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	dir, out := t.TempDir(), t.TempDir()
	t.Setenv("SQLITE_TMPDIR", dir)
	u := newUnit("box", dir)
	if err := u.open(t.Context(), time.Now, key.Public()); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if err := u.put(t.Context(), i+1, envelope.Legal); err != nil {
			t.Fatal(err)
		}
	}
	clean(t, dir, "while the box runs")
	export(t, u, id, key.Public(), filepath.Join(out, "stick"))
	clean(t, out, "on the stick")
	if err := u.store.Close(); err != nil {
		t.Fatal(err)
	}
	clean(t, dir, "after the box was stopped")

	// The test would see it: what is put in clear is found.
	if err := os.WriteFile(filepath.Join(out, "clear"), bytes.ToLower([]byte(canary)), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := grep(out, canary); err != nil || len(found) != 1 {
		t.Errorf("the test finds %v, %v, and should find its own file", found, err)
	}
}

func clean(t *testing.T, dir, when string) {
	t.Helper()
	found, err := grep(dir, canary)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		t.Errorf("%s, a citizen's data is in clear in %v", when, found)
	}
}

// export writes what a box has queued on a stick.
func export(t *testing.T, u *unit, id *identity.Identity, hubKey []byte, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	e := stick.Export{Box: boxNumber, Queue: u.store, Signer: id, Key: hubKey, Now: time.Now}
	h, err := e.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := e.Write(t.Context(), f, h)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Events < 500 {
		t.Errorf("%d events on the stick, want 500", sum.Events)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
