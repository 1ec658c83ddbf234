package faults_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
)

// TestFullDisk fills a small disk under a box: with its own events while the line is down, and then with a file of
// somebody else's to the last byte, while the line is up. Legal events that the kiosk was told are stored all arrive;
// of the others each arrives or is named as let go; and once there is room, the box goes on by itself.
func TestFullDisk(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	d := newDisk(t, 256)
	w := newTown(t.Context(), t, fastDir(t), none)
	defer w.close()
	u := w.units[0]
	if err := u.store.Close(); err != nil {
		t.Fatal(err)
	}
	u.dir, u.limit = d.dir, 1024 // 4 MB
	w.start(u)

	// The line is down, and citizens come for weeks.
	refused := 0
	for i := 0; refused < 20 && i < 40_000; i++ {
		stream := []envelope.Stream{envelope.Stats, envelope.Diag, envelope.Session, envelope.Session}[i%4]
		if i%2 == 0 {
			stream = envelope.Legal
		}
		w.next++
		switch err := u.put(w.ctx, w.next, stream); {
		case err == nil:
			w.fates[w.next] = &fate{stream: stream, promised: true}
		case errors.Is(err, kiosk.ErrDiskFull):
			refused++
		default:
			t.Fatalf("event %d: %v", w.next, err)
		}
	}
	if refused < 20 {
		t.Fatal("the queue never was full")
	}
	if s := u.store.DiskState(); s != "full" {
		t.Errorf("the disk is %s, want full", s)
	}

	// Somebody else takes what is left of the disk, and the line comes back.
	ballast := filepath.Join(d.dir, "ballast")
	fillUp(t, ballast)
	before := time.Now()
	err := u.put(w.ctx, w.next+1, envelope.Legal)
	if err == nil {
		w.next++
		w.fates[w.next] = &fate{stream: envelope.Legal, promised: true}
	} else if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Errorf("a legal event on a full disk: %v, want %v", err, kiosk.ErrDiskFull)
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("the kiosk waited %v to hear that", took)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.drain(u)
	// What is safe is forgotten, which makes room; then the box says what it could not store.
	w.backUp()
	w.drain(u)
	for _, stream := range []envelope.Stream{envelope.Legal, envelope.Session} {
		w.next++
		if err := u.put(w.ctx, w.next, stream); err != nil {
			t.Fatalf("with room again, a %s event: %v", stream, err)
		}
		w.fates[w.next] = &fate{stream: stream, promised: true}
	}
	for end := time.Now().Add(5 * time.Second); u.store.DiskState() != "ok"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("everything is safe, and the disk is %s", u.store.DiskState())
		}
	}
	w.drain(u)
	w.count(t)
}

// fillUp writes to a file until the disk is full.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(bytes.Repeat([]byte{1}, size)); err != nil {
			size /= 2
		}
	}
	_ = f.Sync()
}

// count checks that each event of the town arrived once, or, unless it is legal, was let go with a word on it.
func (w *town) count(t *testing.T) {
	t.Helper()
	s, err := w.hub.stored(w.ctx, w.units[0].chains)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for id, f := range w.fates {
		switch n := s.count[id]; {
		case n > 1:
			t.Errorf("event %d is at the hub %d times", id, n)
		case n == 0 && f.stream == envelope.Legal:
			t.Errorf("legal event %d is not at the hub", id)
		case n == 0:
			gone++
		}
	}
	if gone > len(s.named)+s.refused {
		t.Errorf("%d events are not at the hub, which knows of %d that never come, and of %d that were never stored", gone, len(s.named), s.refused)
	}
	if s.legal > 0 {
		t.Errorf("%d stretches of legal events were let go", s.legal)
	}
	t.Logf("%d events, %d of them let go for want of room or not stored, and counted, the others at the hub", len(w.fates), gone)
}
