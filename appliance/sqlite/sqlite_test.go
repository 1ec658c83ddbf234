package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
)

var (
	_ kiosk.Journal    = (*Store)(nil)
	_ outbox.Queue     = (*Store)(nil)
	_ printing.Journal = (*Store)(nil)
)

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, aside, err := Open(context.Background(), Config{Path: path, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if aside != "" {
		t.Fatalf("%s was set aside", path)
	}
	return s
}

func visit(id string) kiosk.SessionRow {
	return kiosk.SessionRow{ID: id, Kiosk: 1, Mode: kiosk.SelfService, Language: "it", Stage: kiosk.StageAsking, Started: time.Now()}
}

func TestEventsKeepTheirNumbersForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	for range 3 {
		if err := s.Record(t.Context(), visit("a"), event.Event{Kind: event.StepAnswered, Session: "a", Kiosk: 1, Detail: event.Detail{Step: "need"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Acked(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	epoch, _ := s.Epoch(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	defer s.Close()
	if again, _ := s.Epoch(t.Context()); again != epoch || len(epoch) != 16 {
		t.Errorf("epoch %q after a restart, %q before", again, epoch)
	}
	evs, err := s.Pending(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	// The visit was open when the program ended: the restart closed it.
	if len(evs) != 1 || evs[0].Seq != 4 || evs[0].Kind != event.SessionEnded || evs[0].Detail.Outcome != "crashed" {
		t.Errorf("pending %+v, want event 4 to say that the visit crashed", evs)
	}
}

func TestSessionAndEventAreOneTransaction(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "box.db"))
	defer s.Close()
	bad := visit("a")
	bad.Kiosk = 1
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Record(ctx, bad, event.Event{Kind: event.SessionStarted}); err == nil {
		t.Fatal("recorded although the context had ended")
	}
	var n int
	if err := s.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM event)`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v; want neither session nor event", n, err)
	}
}

func TestCorruptFileIsSetAside(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"garbage", func([]byte) []byte { return []byte(strings.Repeat("not a database ", 1000)) }},
		{"truncated", func(b []byte) []byte { return b[:len(b)/2+100] }},
		{"header overwritten", func(b []byte) []byte { copy(b, make([]byte, 64)); return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "box.db")
			s := openAt(t, path)
			for range 200 {
				if err := s.Record(t.Context(), visit("a"), event.Event{Kind: event.StepAnswered}); err != nil {
					t.Fatal(err)
				}
			}
			epoch, _ := s.Epoch(t.Context())
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s, aside, err := Open(t.Context(), Config{Path: path, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := os.Stat(aside); aside == "" || err != nil {
				t.Errorf("set aside as %q: %v", aside, err)
			}
			evs, err := s.Pending(t.Context(), 10)
			if err != nil || len(evs) != 1 || evs[0].Kind != event.DatabaseSetAside {
				t.Errorf("first events of the new file: %+v, %v", evs, err)
			}
			if again, _ := s.Epoch(t.Context()); again == epoch {
				t.Error("the new file has the epoch of the old one: its numbers would be taken for duplicates")
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s, _, err := Open(t.Context(), Config{Path: path, Now: time.Now, MaxPages: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := event.Event{Kind: event.RequestLeft, Sealed: make([]byte, 2000)}
	stored := 0
	for ; stored < 1000; stored++ {
		if err = s.Record(t.Context(), kiosk.SessionRow{}, big); err != nil {
			break
		}
	}
	if !errors.Is(err, kiosk.ErrDiskFull) {
		t.Fatalf("after %d events: %v, want ErrDiskFull", stored, err)
	}
	if err := s.SavePrint(t.Context(), printing.Row{ID: "p", State: printing.Queued, SHA256: strings.Repeat("0", 5000)}); !errors.Is(err, kiosk.ErrDiskFull) {
		t.Errorf("journal of prints on a full disk: %v, want ErrDiskFull", err)
	}
	evs, err := s.Pending(t.Context(), 2000)
	if err != nil || len(evs) != stored {
		t.Fatalf("%d of %d events can be read: %v", len(evs), stored, err)
	}
	if err := s.Acked(t.Context(), uint64(stored)); err != nil { // the line is back: the queue drains
		t.Fatal(err)
	}
	if err := s.Record(t.Context(), kiosk.SessionRow{}, big); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

func TestPrintThatACrashInterruptedIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	row := printing.Row{ID: "job-1", Session: "a", Kiosk: 2, Kind: "certificate", Pages: 1, State: printing.Sending, Updated: time.Now()}
	if err := s.SavePrint(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	defer s.Close()
	open, err := s.OpenPrints(t.Context())
	if err != nil || len(open) != 1 || open[0].ID != "job-1" {
		t.Fatalf("open prints %+v, %v", open, err)
	}
	row.State = printing.Uncertain
	for range 2 { // closing twice reports once
		if err := s.SavePrint(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	evs, err := s.Pending(t.Context(), 10)
	if err != nil || len(evs) != 1 || evs[0].Kind != event.PrintUncertain || evs[0].Kiosk != 2 {
		t.Errorf("events %+v, %v; want one uncertain print", evs, err)
	}
}

// TestKill kills a process that records events as fast as it can and checks that every event it was told is stored is.
func TestKill(t *testing.T) {
	if path := os.Getenv("SPORTELLO_KILL_DB"); path != "" {
		s := openAt(t, path)
		for i := 0; ; i++ {
			if err := s.Record(t.Context(), visit("a"), event.Event{Kind: event.StepAnswered, Detail: event.Detail{Count: i}}); err != nil {
				t.Fatal(err)
			}
			_, _ = os.Stdout.WriteString("stored " + strconv.Itoa(i) + "\n")
		}
	}
	path := filepath.Join(t.TempDir(), "box.db")
	confirmed := 0
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "SPORTELLO_KILL_DB="+path)
		out := &strings.Builder{}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(200+50*round) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said := strings.Count(out.String(), "\n")
		confirmed += said
		s := openAt(t, path)
		var kept, seqs int
		err := s.db.QueryRowContext(t.Context(), `SELECT count(*), coalesce(max(seq) - min(seq) + 1, 0) FROM event WHERE kind = 'step.answered'`).Scan(&kept, &seqs)
		if err != nil {
			t.Fatal(err)
		}
		if kept < said {
			t.Errorf("round %d: %d events confirmed, %d kept", round, said, kept)
		}
		var n sql.NullInt64
		if err := s.db.QueryRowContext(t.Context(), `SELECT max(seq) FROM event`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if err := s.Acked(t.Context(), uint64(n.Int64)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if confirmed == 0 {
		t.Error("nothing was confirmed before the kills: the test has tested nothing")
	}
}

// BenchmarkRecord stores a session's step with its event, against a bare insert of the same event in the same file.
func BenchmarkRecord(b *testing.B) {
	b.Run("step and event", func(b *testing.B) {
		s := openAt(b, filepath.Join(b.TempDir(), "box.db"))
		defer s.Close()
		for b.Loop() {
			if err := s.Record(b.Context(), visit("a"), event.Event{Kind: event.StepAnswered}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare insert", func(b *testing.B) {
		s := openAt(b, filepath.Join(b.TempDir(), "box.db"))
		defer s.Close()
		for i := 1; b.Loop(); i++ {
			if _, err := s.db.ExecContext(b.Context(), `INSERT INTO event VALUES (?, '2026-01-01T00:00:00Z', 1, 'step.answered', 'a', 1, '{}', NULL)`, i); err != nil {
				b.Fatal(err)
			}
		}
	})
}
