package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// besideOthers fills a disk that holds less than the queue may have by its configuration: first with the queue, then with
// something else. See TestFullDisk.
func besideOthers(t *testing.T, dir string) {
	path := filepath.Join(dir, "box.db")
	cfg := Config{Path: path, MaxPages: 262144}
	s := openWith(t, cfg)
	report := func() (state string, used, limit, free int64) {
		t.Helper()
		if err := s.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := s.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r.Disk.State, r.Disk.Used, r.Disk.Limit, r.Disk.Free
	}
	if state, used, limit, free := report(); state != "ok" || limit > used+free-leastReserve+1<<20 || limit < 20<<20 {
		t.Fatalf("%s: a limit of %d, %d are free", state, limit, free)
	}
	fill := func(k event.Kind, n int) (stored int) {
		big := strings.Repeat("x", 2000)
		es := make([]event.Event, 50)
		for i := range es {
			es[i] = event.Event{Kind: k, Detail: event.Detail{Certificates: []string{big}}}
		}
		for stored < n {
			if err := s.Enqueue(t.Context(), es...); errors.Is(err, kiosk.ErrDiskFull) {
				return stored
			} else if err != nil {
				t.Fatal(err)
			}
			stored += len(es)
		}
		return stored
	}
	fill(event.BoxStarted, 1000)
	fill(event.PrintDone, 1000)
	settledDisk(t, s)
	_, used, _, _ := report()
	// Somebody else takes all but 14 MB.
	_, _, _, free := report()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, free-14<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	state, _, limit, _ := report()
	if state != "full" || limit > used+1<<20 {
		t.Errorf("%s when others have filled the disk: a limit of %d, %d are used", state, limit, used)
	}
	settledDisk(t, s)
	if state, _, _, _ = report(); state != "ok" && state != "warn" {
		t.Errorf("%s after diag was let go", state)
	}
	stored := fill(event.PrintDone, 20_000)
	if _, _, _, free := report(); stored == 20_000 || free < 2<<20 {
		t.Errorf("%d more events, %d bytes are free", stored, free)
	}
	shut(t, s)
	s = openWith(t, cfg) // starts all the same
	more := fill(event.PrintDone, 500)
	if stored += more; more == 500 {
		t.Error("there is room after a start")
	}
	legal := present(s, envelope.Legal)
	if got := len(ofKind(all(t, s, legal, 500), event.PrintDone)); got != 1000+stored {
		t.Errorf("%d events are left, want %d", got, 1000+stored)
	}
	// The hub takes them, and nobody makes room on the disk.
	last := s.chain(legal).last.seq
	if err := s.Acked(t.Context(), legal, last, last); err != nil {
		t.Errorf("acknowledged on a full disk: %v", err)
	}
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}); err != nil {
		t.Errorf("after the hub has taken everything: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if state, used, limit, _ := report(); state != "ok" || limit < 20<<20 {
		t.Errorf("%s with room again: a limit of %d, %d are used", state, limit, used)
	}
	shut(t, s)
}

// TestStartWithoutRoom starts on a queue that has filled its room with what may not be let go.
func TestStartWithoutRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	cfg := Config{Path: path, MaxPages: 256}
	s := openWith(t, cfg)
	big := strings.Repeat("x", 1500)
	var err error
	stored := 0
	for ; err == nil && stored < 5000; stored++ {
		err = s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone, Detail: event.Detail{Certificates: []string{big}}})
	}
	if stored--; !errors.Is(err, kiosk.ErrDiskFull) {
		t.Fatal(err)
	}
	for range 3 {
		shut(t, s)
		s = openWith(t, cfg)
	}
	// The witness is gone: the start must begin an epoch, for which there is no room either.
	old := present(s, envelope.Legal)
	shut(t, s)
	remove(t, path+".witness")
	s = openWith(t, cfg)
	if s.Epoch() == old.Epoch {
		t.Error("no new epoch")
	}
	if got := len(all(t, s, old, 500)); got != stored {
		t.Errorf("%d of %d events are left", got, stored)
	}
	err = nil
	for i := 0; err == nil && i < 100; i++ {
		err = s.Record(t.Context(), visit1("a"), event.Event{Kind: event.PrintDone, Detail: event.Detail{Certificates: []string{strings.Repeat("x", 9000)}}})
	}
	if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Errorf("the room grows with every start: %v", err)
	}
}

// TestTakeOverWithoutRoom starts on the file of a first release that has filled its room.
func TestTakeOverWithoutRoom(t *testing.T) {
	t.Parallel()
	var m manifest
	for _, m = range manifests(t) {
		if m.Streams["all"].Last > 0 {
			break
		}
	}
	path := fromCorpus(t, m.File)
	const more = 3000
	tamper(t, path, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO event (seq, at, clock_ok, kind, session, kiosk, detail)
		SELECT (SELECT max(seq) FROM event) + i, '2026-01-01T00:00:00Z', 1, 'print.done', '', 1, '{"reason":"a"}' FROM n`, more)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Path: path, MaxPages: int(info.Size() / pageSize)}
	s := openWith(t, cfg)
	got := map[uint64]int{}
	chain := envelope.Chain{Epoch: m.Epoch, Stream: envelope.All}
	for range 10 { // what does not fit waits until the hub has the rest
		last := uint64(0)
		for _, e := range all(t, s, chain, 1000) {
			if last = e.Seq; e.missing == nil {
				got[e.Seq]++
			}
		}
		if err := s.Acked(t.Context(), chain, last, last); err != nil {
			t.Fatal(err)
		}
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.chain(chain) == nil {
			break
		}
	}
	if len(got) < more+60 {
		t.Errorf("%d events are there, want %d more than the first release had", len(got), more)
	}
	for seq, n := range got {
		if n != 1 {
			t.Errorf("number %d is there %d times", seq, n)
		}
	}
}
