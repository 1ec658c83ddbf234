package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// settled waits until nothing more is being let go.
func settledDisk(t *testing.T, s *Store) {
	t.Helper()
	for {
		tidy := false
		if err := s.writeAlone(t.Context(), func(*work) error { tidy = s.tidy; return nil }); err != nil {
			t.Fatal(err)
		}
		if !tidy {
			return
		}
	}
}

// stats stores n statistics, as they come at a counter.
func stats(t *testing.T, s *Store, n int) {
	t.Helper()
	var es []event.Event
	for i := range n {
		es = append(es, event.Event{
			Kind: event.StepAnswered, Session: fmt.Sprintf("0192f0c1-7a00-7000-8000-%012d", i), Kiosk: 1 + i%2,
			Detail: event.Detail{Step: []string{"need", "who", "why"}[i%3], Service: "certificate"},
		})
	}
	if err := s.Enqueue(t.Context(), es...); err != nil {
		t.Fatal(err)
	}
}

// TestStatisticsAreCountedTogether fills 70 % of the room with statistics.
func TestStatisticsAreCountedTogether(t *testing.T) {
	t.Parallel()
	c := newClock()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openWith(t, Config{Path: path, Now: c.now, MaxPages: 200})
	chain := present(s, envelope.Stats)
	stats(t, s, 100)
	if err := s.Acked(t.Context(), chain, 30, 30); err != nil {
		t.Fatal(err)
	}
	total := 70
	for total < 8000 {
		stats(t, s, 100)
		total += 100
		c.pass(20 * time.Minute)
	}
	c.pass(time.Hour)
	for range 5 {
		stats(t, s, 20)
		total += 20
	}
	settledDisk(t, s)
	if s.DiskState() != "ok" {
		t.Errorf("the disk is %s afterwards", s.DiskState())
	}
	for _, when := range []string{"", " after a restart"} {
		raw, counted, missing := 0, 0, 0
		for _, e := range all(t, s, chain, 700) {
			switch {
			case e.missing != nil:
				if e.missing.Reason != envelope.RolledUp {
					t.Errorf("missing for %s", e.missing.Reason)
				}
				missing += int(e.missing.Count)
			case e.Kind == string(event.StatsRolled):
				d := e.body.Detail
				if d.Of != event.StepAnswered || d.Service != "certificate" || d.Step == "" || d.Epoch != chain.Epoch || d.Stream != "stats" || d.From == 0 ||
					d.To < d.From || d.Hour < "2026-11-22T09" || d.Hour > hour(c.now()) {
					t.Errorf("got %+v", d)
				}
				counted += d.Count
			default:
				raw++
			}
		}
		if raw+counted != total || counted != missing || counted < 2000 {
			t.Errorf("%d raw and %d counted%s, %d are missing; want %d in all", raw, counted, when, missing, total)
		}
		shut(t, s)
		s = openWith(t, Config{Path: path, Now: c.now, MaxPages: 200})
	}
}

// TestRoom fills the room with everything, and looks at what is let go, and what never is.
func TestRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	cfg := Config{Path: path, MaxPages: 400}
	s := openWith(t, cfg)
	big := strings.Repeat("x", 800)
	fill := func(k event.Kind, n int) error {
		es := make([]event.Event, n)
		for i := range es {
			es[i] = event.Event{Kind: k, Detail: event.Detail{Certificates: []string{big}}}
		}
		err := s.Enqueue(t.Context(), es...)
		settledDisk(t, s)
		return err
	}
	count := func(stream envelope.Stream) (left, missing int) {
		for _, e := range all(t, s, present(s, stream), 500) {
			if e.missing != nil {
				missing += int(e.missing.Count)
			} else {
				left++
			}
		}
		return left, missing
	}
	reported := func(stream string, reason string) (n int) {
		for _, e := range ofKind(all(t, s, present(s, envelope.Legal), 500), event.QueueDropped) {
			if d := e.body.Detail; d.Stream == stream && d.Reason == reason {
				n += d.Count
			}
		}
		return n
	}
	legal := 0
	for _, k := range []event.Kind{event.SessionStarted, event.StepAnswered, event.BoxStarted} {
		if err := fill(k, 300); err != nil { // a fifth of the room each
			t.Fatal(err)
		}
	}
	if err := s.Acked(t.Context(), present(s, envelope.Session), 50, 0); err != nil {
		t.Fatal(err)
	}
	if s.DiskState() != "ok" {
		t.Fatalf("the disk is %s", s.DiskState())
	}
	for s.DiskState() != "full" && legal < 5000 {
		if err := fill(event.PrintDone, 10); err != nil {
			t.Fatalf("after %d: %v", legal, err)
		}
		legal += 10
		if diag, _ := count(envelope.Diag); diag > 0 {
			if n, gone := count(envelope.Session); n < 300-50 || gone > 0 {
				t.Fatalf("sessions are let go before diag: %d left, %d gone", n, gone)
			}
		}
	}
	for _, stream := range []envelope.Stream{envelope.Diag, envelope.Stats} {
		if n, gone := count(stream); n != 0 || gone != 300 || reported(stream.String(), "full") != 300 {
			t.Errorf("%s: %d left, %d missing, %d reported", stream, n, gone, reported(stream.String(), "full"))
		}
	}
	// Legal goes on until nothing else is there any more.
	var err error
	for err == nil && legal < 5000 {
		if err = s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone, Detail: event.Detail{Certificates: []string{big}}}); err == nil {
			legal++
		}
	}
	if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Fatalf("after %d events: %v, want ErrDiskFull", legal, err)
	}
	if n, gone := count(envelope.Session); n != 0 || gone != 250 || reported("session", "full") != 250 || reported("session", "no_backup") != 50 {
		t.Errorf("sessions: %d left, %d missing, %d and %d reported", n, gone, reported("session", "full"), reported("session", "no_backup"))
	}
	refused := 0
	for range 10 {
		if err := s.Enqueue(t.Context(), event.Event{Kind: event.SessionEnded}); err != nil {
			t.Errorf("who is at the counter must be able to finish: %v", err)
		}
		refused++
	}
	if got := len(ofKind(all(t, s, present(s, envelope.Legal), 500), event.PrintDone)); got != legal {
		t.Fatalf("%d of %d events of legal are left", got, legal)
	}
	shut(t, s)
	s = openWith(t, cfg)
	if s.DiskState() != "full" {
		t.Errorf("the disk is %s after a restart", s.DiskState())
	}
	// The line is back: the queue drains.
	chains, err := s.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		if err := s.Acked(t.Context(), c.Chain, c.Last, c.Last); err != nil {
			t.Fatal(err)
		}
	}
	settledDisk(t, s)
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.SessionEnded}); err != nil || s.DiskState() != "ok" {
		t.Errorf("after the queue was drained the disk is %s, %v", s.DiskState(), err)
	}
	settledDisk(t, s)
	lost := ofKind(everything(t, s), event.EventsLost)
	if len(lost) != 1 || lost[0].body.Detail.Count != refused {
		t.Errorf("got %+v, want one report of %d", lost, refused)
	}
	r, err := s.Report(t.Context())
	if err != nil || r.Dropped != uint64(300+300+250+refused) || r.Disk.State != "ok" || r.Disk.Limit != 400*pageSize || r.Disk.Used >= r.Disk.Limit {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestFullDisk runs on a file system that somebody else fills up.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("SPORTELLO_SMALL_DISK"); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
			t.Fatal(err)
		}
		onSmallDisk(t, dir)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
			t.Fatal(err)
		}
		besideOthers(t, dir)
		return
	}
	// A mount namespace of its own, and a user namespace for who is not root: the mount goes with the process.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), "SPORTELLO_SMALL_DISK="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: uid, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func onSmallDisk(t *testing.T, dir string) {
	path := filepath.Join(dir, "box.db")
	s := openAt(t, path)
	epoch := s.Epoch()
	put(t, s, event.PrintDone, 100)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk holds 8 MB: %v", err)
	}
	stored := 100
	var err error
	for err == nil && stored < 100_000 {
		if err = s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone, Detail: event.Detail{Count: stored + 1}}); err == nil {
			stored++
		}
	}
	if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Fatalf("after %d events: %v, want ErrDiskFull", stored, err)
	}
	if s.HasRoom(t.Context()) {
		t.Error("there is room when an event was refused")
	}
	for range 20 { // and again
		if err := s.Record(t.Context(), visit1("a"), event.Event{Kind: event.SessionStarted}); err == nil {
			break
		} else if !errors.Is(err, kiosk.ErrDiskFull) {
			t.Fatal(err)
		}
	}
	if got := len(all(t, s, present(s, envelope.Legal), 1000)); got != stored {
		t.Errorf("%d of %d events can be read", got, stored)
	}
	if err := s.Acked(t.Context(), present(s, envelope.Legal), uint64(stored/2), uint64(stored/2)); err != nil && !errors.Is(err, kiosk.ErrDiskFull) {
		t.Error(err)
	}
	_ = s.Close() // what there is to say about that has been said
	if s, _, err = Open(context.Background(), Config{Path: path}); err == nil {
		_ = s.Close()
	} else if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Errorf("start on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	if !s.HasRoom(t.Context()) {
		t.Error("there is no room when somebody has made some")
	}
	if s.Epoch() != epoch {
		t.Errorf("a new epoch: %+v", everything(t, s))
	}
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone, Detail: event.Detail{Count: stored + 1}}); err != nil {
		t.Fatal(err)
	}
	es := ofKind(all(t, s, present(s, envelope.Legal), 1000), event.PrintDone)
	if last := es[len(es)-1]; last.Seq != uint64(stored+1) || last.body.Detail.Count != stored+1 {
		t.Errorf("the last event is %+v, want number %d", last, stored+1)
	}
}
