package server

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/provisioning/enroll"
	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// keysOf opens the keys of a hub in dir as the commands do.
func keysOf(t *testing.T, dir string) *keyDesk {
	t.Helper()
	r, err := openRecords(t.Context(), dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	k := &keyDesk{dir: filepath.Join(dir, "keys"), place: time.UTC, store: r.store, fleet: r.fleet}
	if err := makeFirstKey(k.dir); err != nil {
		t.Fatal(err)
	}
	k.load(t)
	if err := registerKeys(t.Context(), k.store, [][]byte{k.files[0].Public()}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keyDesk) load(t *testing.T) {
	t.Helper()
	var err error
	if k.files, err = loadSealKeys(k.dir); err != nil {
		t.Fatal(err)
	}
}

// letIn adds a box that has enrolled.
func letIn(t *testing.T, f *fleet.Fleet) uint32 {
	t.Helper()
	b, token, err := f.Add(t.Context(), "Biblioteca Harar", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Use(t.Context(), enroll.HashToken(token), enroll.Key{ID: "key", TokenKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	return b.Number
}

func TestRetireWaitsForEveryBox(t *testing.T) {
	k := keysOf(t, t.TempDir())
	old := k.files[0].ID().String()
	if err := k.rotate(t.Context(), &bytes.Buffer{}, false); err != nil {
		t.Fatal(err)
	}
	k.load(t)
	if len(k.files) != 2 {
		t.Fatalf("%d keys", len(k.files))
	}
	n := letIn(t, k.fleet)
	gone := letIn(t, k.fleet)
	if err := k.fleet.Revoke(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.fleet.Add(t.Context(), "Never came", 1); err != nil {
		t.Fatal(err)
	}
	refused := func(why string) {
		t.Helper()
		var out bytes.Buffer
		if err := k.retire(t.Context(), &out, old, false); err == nil || !strings.Contains(err.Error(), "box 1 "+why) || strings.Contains(err.Error(), "box 2") {
			t.Errorf("got %v (%s), want that box 1 %s", err, out.String(), why)
		}
	}
	heard := func(r wire.Report) {
		t.Helper()
		if err := k.fleet.Heard(t.Context(), n, fleet.Report{Pending: 0, Time: time.Now(), Queue: &r}); err != nil {
			t.Fatal(err)
		}
	}
	refused("has never said what it holds")
	heard(wire.Report{Time: time.Now(), Clock: "synced", SealKeys: []string{old}})
	refused("holds events sealed to it")
	heard(wire.Report{Time: time.Now(), Clock: "synced", Dead: 3, SealKeys: []string{old}})
	refused("holds events sealed to it, and keeps 3 that it can never deliver")
	heard(wire.Report{Time: time.Now().Add(-2 * time.Hour), Clock: "synced"})
	refused("has not been heard of since the key was replaced")
	heard(wire.Report{Time: time.Unix(60, 0), Clock: "unknown"})
	refused("has not asked which key to use")
	// It asks, but has not taken the document yet.
	issue := func(version uint64) {
		t.Helper()
		err := k.store.Issue(t.Context(), []uint32{n}, func(content.Issued, uint64) (content.Issued, bool, error) {
			return content.Issued{
				Box: n, Version: version, Highest: version, Core: []byte{1}, Issued: time.Now(), Expires: time.Now(),
				Signed: desired.Signed{Body: []byte("b"), Sig: []byte("s")},
			}, true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	issue(4)
	heard(wire.Report{Time: time.Now(), Clock: "synced", State: 3})
	refused("has not said yet that it uses the new key")
	heard(wire.Report{Time: time.Now(), Clock: "synced", State: 4})
	var out bytes.Buffer
	if err := k.retire(t.Context(), &out, old, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "seal.key.retired") {
		t.Errorf("said %q", out.String())
	}
	k.load(t)
	if len(k.files) != 1 || k.files[0].ID().String() == old {
		t.Errorf("%d keys are read", len(k.files))
	}
}

func TestRetireByForce(t *testing.T) {
	k := keysOf(t, t.TempDir())
	letIn(t, k.fleet)
	old := k.files[0].ID().String()
	if err := k.retire(t.Context(), &bytes.Buffer{}, old, true); err == nil {
		t.Error("the key in use can be given up")
	}
	if err := k.rotate(t.Context(), &bytes.Buffer{}, false); err != nil {
		t.Fatal(err)
	}
	k.load(t)
	if err := k.retire(t.Context(), &bytes.Buffer{}, old, true); err != nil {
		t.Error(err)
	}
	if err := k.retire(t.Context(), &bytes.Buffer{}, "0011223344556677", true); !errors.Is(err, content.ErrNoKey) {
		t.Errorf("got %v", err)
	}
}

// TestKeyringFollowsRotation has a hub that runs while its key is changed beside it.
func TestKeyringFollowsRotation(t *testing.T) {
	dir := t.TempDir()
	k := keysOf(t, dir)
	clock := time.Now()
	ring, err := openKeyring(k.dir, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	if err := k.rotate(t.Context(), &bytes.Buffer{}, false); err != nil {
		t.Fatal(err)
	}
	public := presentKey(t.Context(), k.store, nil)
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(public); err != nil {
		t.Fatal(err)
	}
	sealed, err := sealer.Seal([]byte("aad"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Second)
	if plain, err := ring.Ring().Open([]byte("aad"), sealed); err != nil || string(plain) != "secret" {
		t.Errorf("got %q, %v", plain, err)
	}
	if n := len(ring.Ring()); n != 2 {
		t.Errorf("%d keys open", n)
	}
	if string(ring.Public()[0]) != string(public) {
		t.Error("the newest key is not the first")
	}
	// What is known of keys is not changed by starting again.
	if err := registerKeys(context.Background(), k.store, ring.Public(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := presentKey(t.Context(), k.store, nil); string(got) != string(public) {
		t.Error("another key is used after a start")
	}
}

func TestWhen(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 9, 30, 15, 0, rome)
	for _, tt := range []struct {
		in   string
		end  bool
		want string
	}{
		{"2h", true, "2026-11-25T11:30:15+01:00"},
		{"18:00", true, "2026-11-25T18:00:00+01:00"},
		{"2026-12-08", false, "2026-12-08T00:00:00+01:00"},
		{"2026-12-08", true, "2026-12-09T00:00:00+01:00"},
		{"2026-12-08 18:00", true, "2026-12-08T18:00:00+01:00"},
		{"2026-12-08T18:00", true, "2026-12-08T18:00:00+01:00"},
		{"2026-12-08T18:00:00Z", true, "2026-12-08T18:00:00Z"},
	} {
		if got, err := when(tt.in, now, tt.end); err != nil || got.Format(time.RFC3339) != tt.want {
			t.Errorf("%s: got %v, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"yesterday", "25:00", "-2h", "2026-13-01", "8/12/2026"} {
		if got, err := when(in, now, true); err == nil {
			t.Errorf("%s: got %v", in, got)
		}
	}
	if got, err := when("", now, true); err != nil || !got.IsZero() {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

// TestReadingMakesNoKeys reads the folder, as a hub does every second, while keys in it are given up.
func TestReadingMakesNoKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := makeFirstKey(dir); err != nil {
		t.Fatal(err)
	}
	made := []string{filepath.Join(dir, firstSealKey)}
	for i := range 100 {
		k, err := newSealKey(dir, time.Unix(int64(i), 0))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, k.path)
	}
	done := make(chan error, 1)
	go func() {
		var errs []error
		for _, path := range made[:len(made)-1] {
			errs = append(errs, os.Rename(path, path+retiredEnd))
		}
		done <- errors.Join(errs...)
	}()
	for over := false; !over; {
		select {
		case err := <-done:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		if ring, _, err := loadRing(dir); err != nil || len(ring) == 0 {
			t.Fatalf("%d keys, %v", len(ring), err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "seal*.key"))
	if err != nil || len(left) != 1 || left[0] != made[len(made)-1] {
		t.Errorf("keys after all but one were given up: %v, %v", left, err)
	}
	// Nor does a start, when the last one is.
	if err := os.Rename(left[0], left[0]+retiredEnd); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeyring(dir, time.Now); err == nil {
		t.Error("a hub starts without a key")
	}
	if left, err = filepath.Glob(filepath.Join(dir, "seal*.key")); err != nil || len(left) != 0 {
		t.Errorf("made %v, %v", left, err)
	}
}
