package printing_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// file is a journal that survives the death of its process: one line of JSON per row.
type file struct {
	mu     sync.Mutex
	path   string
	before func(printing.Row)
	after  func(printing.Row)
}

func (f *file) SavePrint(_ context.Context, row printing.Row) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before != nil {
		f.before(row)
	}
	line, err := json.Marshal(row)
	if err != nil {
		return err
	}
	w, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if f.after != nil {
		f.after(row)
	}
	return nil
}

func (f *file) rows() ([]printing.Row, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := os.ReadFile(f.path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var rows []printing.Row
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var row printing.Row
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(rows, func(r printing.Row) bool { return r.ID == row.ID }); i >= 0 {
			rows[i] = row
		} else {
			rows = append(rows, row)
		}
	}
	return rows, err
}

func (f *file) OpenPrints(context.Context) ([]printing.Row, error) {
	rows, err := f.rows()
	return slices.DeleteFunc(rows, func(r printing.Row) bool { return !r.State.Open() }), err
}

func (f *file) UndecidedPrints(context.Context) ([]printing.Row, error) {
	rows, err := f.rows()
	return undecided(rows), err
}

func (f *file) SheetsSince(_ context.Context, t time.Time) (map[string]int, error) {
	rows, err := f.rows()
	return sheetsSince(rows, t), err
}

const crashPages = 2

func crashDocument() []byte { return pdf(crashPages, 4_000_000) }

// TestMain is also the program that is killed: with PRINT_JOURNAL set it prints one document and dies where it is told.
func TestMain(m *testing.M) {
	path := os.Getenv("PRINT_JOURNAL")
	if path == "" {
		flag.Parse()
		// These tests wait for printers, not for the processor.
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }
	state, when := printing.State(os.Getenv("PRINT_STATE")), os.Getenv("PRINT_WHEN")
	j := &file{path: path}
	j.before = func(row printing.Row) {
		if row.State == state && when == "before" {
			die()
		}
	}
	j.after = func(row printing.Row) {
		if row.State != state || when == "before" {
			return
		}
		delay, err := time.ParseDuration(when)
		if err != nil {
			panic(err)
		}
		if delay == 0 {
			die()
		}
		go func() { time.Sleep(delay); die() }()
	}
	cfg := quick(ipptest.New(ipptest.Config{}), j)
	cfg.Adopted = []staff.Adopted{{UUID: os.Getenv("PRINT_UUID"), URI: os.Getenv("PRINT_URI"), PDF: true}}
	s, err := printing.New(cfg)
	if err == nil {
		err = s.Print(context.Background(), jobOf(crashDocument(), crashPages), func(kiosk.PrintProgress) {})
	}
	fmt.Println("not killed:", err)
	os.Exit(3)
}

// TestKilled kills the program with SIGKILL at every step of a print and looks at what the next one makes of it.
func TestKilled(t *testing.T) {
	for _, state := range []printing.State{printing.Queued, printing.Creating, printing.Created, printing.Sending, printing.Sent, printing.Printing, printing.Done} {
		for _, when := range []string{"before", "0s", "1ms", "4ms", "30ms", "90ms"} {
			for _, abort := range []bool{false, true} {
				if abort && state != printing.Sending {
					continue // differs only for half a document
				}
				t.Run(fmt.Sprintf("%s %s abort %v", state, when, abort), func(t *testing.T) {
					t.Parallel()
					pageTime := 40 * time.Millisecond
					if state == printing.Printing {
						pageTime = 500 * time.Millisecond // else a slow machine never sees the printer print
					}
					p := start(t, ipptest.Config{PageTime: pageTime})
					p.AbortOnCut(abort)
					killed(t, p, state, when)
				})
			}
		}
	}
}

func killed(t *testing.T, p *ipptest.Printer, state printing.State, when string) {
	t.Helper()
	j := &file{path: filepath.Join(t.TempDir(), "journal")}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PRINT_JOURNAL="+j.path, "PRINT_STATE="+string(state), "PRINT_WHEN="+when,
		"PRINT_URI="+p.URI(), "PRINT_UUID="+p.UUID())
	out, err := cmd.CombinedOutput()
	// With a delay it may have been quicker than its death.
	if atOnce := when == "before" || when == "0s"; err == nil || atOnce && cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the program was not killed: %v %s", err, out)
	}

	s := spooler(t, quick(p, j))
	run(t, s)
	until(t, "no open row", 20*time.Second, func() bool {
		open, err := j.OpenPrints(t.Context())
		return err == nil && len(open) == 0 && s.Status().State == kiosk.PrinterReady
	})
	docs := p.Documents()
	if len(docs) > 1 {
		t.Errorf("%d documents came out", len(docs))
	}
	rows, err := j.rows()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		switch row.State {
		case printing.Failed:
			if len(docs) != 0 {
				t.Errorf("row %+v, but paper came out", row)
			}
		case printing.Done:
			if len(docs) != 1 || !bytes.Equal(docs[0], crashDocument()) || len(p.Sheets()) != crashPages {
				t.Errorf("row %+v, but %d sheets of %d documents came out", row, len(p.Sheets()), len(docs))
			}
		case printing.Uncertain:
			if row.Why == "" || row.Sent != len(crashDocument()) || row.Pursue {
				t.Errorf("row %+v: what is known of it is missing", row)
			}
		default:
			t.Errorf("row %+v", row)
		}
	}
	if d := s.Devices()[0]; d.Blocked != "" {
		t.Errorf("the printer is blocked: %+v", d)
	}
	// No orphan is left in the printer's way, and nothing of the first comes out later.
	busy := p.Requests("Create-Job")
	next := pdf(1, 10)
	if err := s.Print(t.Context(), jobOf(next, 1), func(kiosk.PrintProgress) {}); err != nil {
		t.Errorf("the next print: %v", err)
	}
	if n := p.Requests("Create-Job") - busy; n != 1 {
		t.Errorf("the next print needed %d Create-Job", n)
	}
	if after := p.Documents(); len(after) != len(docs)+1 || !bytes.Equal(after[len(after)-1], next) {
		t.Errorf("%d documents at the end, %d before", len(after), len(docs))
	}
}

func TestRestartedPrinter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, p *ipptest.Printer)
	}{
		{"during the job", func(t *testing.T, p *ipptest.Printer) {}},
		{"and it has somebody else's job with our number", func(t *testing.T, p *ipptest.Printer) {
			other := spooler(t, quick(p, &memory{}))
			p.PageTime(200 * time.Millisecond)
			go func() { _ = other.Print(context.Background(), jobOf(pdf(3, 10), 3), func(kiosk.PrintProgress) {}) }()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, ipptest.Config{PageTime: 100 * time.Millisecond})
			j := &memory{}
			s := spooler(t, quick(p, j))
			restarted := false
			err := s.Print(t.Context(), jobOf(pdf(3, 100), 3), func(now kiosk.PrintProgress) {
				if now.Page == 1 && !restarted {
					restarted = true
					if err := p.Restart(); err != nil {
						t.Error(err)
					}
					tt.do(t, p)
				}
			})
			if got := describe(err); got != "other uncertain" {
				t.Errorf("got %s (%v)", got, err)
			}
			if n := p.Requests("Cancel-Job"); n != 0 {
				t.Errorf("%d Cancel-Job for a job that is not ours", n)
			}
		})
	}
}

// TestOrphanIsCancelledWhenThePrinterReturns loses the printer right after Create-Job.
func TestOrphanIsCancelledWhenThePrinterReturns(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{})
	j := &memory{}
	j.onRow = func(row printing.Row) {
		if row.State == printing.Sending && row.JobID == 1 {
			_ = p.Gone(true)
		}
	}
	s := spooler(t, quick(p, j))
	run(t, s)
	err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})
	if got := describe(err); got != "unreachable nothing_printed" {
		t.Errorf("got %s (%v)", got, err)
	}
	if err := p.Gone(false); err != nil {
		t.Fatal(err)
	}
	until(t, "no open row", 20*time.Second, func() bool {
		open, err := j.OpenPrints(t.Context())
		return err == nil && len(open) == 0
	})
	if n := p.Requests("Cancel-Job"); n != 1 {
		t.Errorf("%d Cancel-Job, want 1", n)
	}
	if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil || len(p.Documents()) != 1 {
		t.Errorf("the next print: %v, %d documents", err, len(p.Documents()))
	}
}

func TestRowsOfAPrinterThatIsNotAdoptedAnyMore(t *testing.T) {
	p := start(t, ipptest.Config{})
	j := &memory{rows: []printing.Row{{ID: "a", State: printing.Printing, PrinterUUID: "gone"}, {ID: "b", State: printing.Created, PrinterUUID: "gone"}}}
	s := spooler(t, quick(p, j))
	run(t, s)
	until(t, "no open row", 20*time.Second, func() bool {
		rows := j.all()
		return rows[0].State == printing.Uncertain && rows[1].State == printing.Failed
	})
}
