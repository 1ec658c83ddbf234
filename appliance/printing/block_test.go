package printing_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// stuck leaves a job in p whose cancel is not confirmed: it is out of paper, and only marks the job. It returns how Print
// ended.
func stuck(t *testing.T, s *printing.Spooler, p *ipptest.Printer) *kiosk.PrintError {
	t.Helper()
	p.SetPaper(1)
	p.StickyCancel(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job := jobOf(pdf(3, 1000), 3)
	job.Printer = p.UUID()
	err := s.Print(ctx, job, func(now kiosk.PrintProgress) {
		if now.State == kiosk.PrintStopped {
			cancel()
		}
	})
	if got := describe(err); got != "paper uncertain" {
		t.Fatalf("the stuck job: %s (%v)", got, err)
	}
	return kiosk.AsPrintError(err)
}

// TestBlocked lets a visit end while its job waits for paper in a printer that does not let go of it.
func TestBlocked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		free func(t *testing.T, p *ipptest.Printer, s *printing.Spooler)
		want string // the printer's last word about the job begins so; "" when it has none
	}{
		{"until paper is loaded and the sheet is out", func(_ *testing.T, p *ipptest.Printer, _ *printing.Spooler) { p.SetPaper(10) }, "canceled"},
		{"until the printer is switched off and on", func(t *testing.T, p *ipptest.Printer, _ *printing.Spooler) {
			if err := p.Restart(); err != nil {
				until(t, "its port is free", 20*time.Second, func() bool { return p.Gone(false) == nil })
			}
			p.SetPaper(10)
		}, ""},
		{"until staff has looked", func(t *testing.T, p *ipptest.Printer, s *printing.Spooler) {
			if err := s.Free(t.Context(), p.UUID(), "Anna Neri"); err != nil {
				t.Error(err)
			}
			if err := s.Free(t.Context(), p.UUID(), "Anna Neri"); !errors.Is(err, staff.ErrGone) {
				t.Errorf("freed twice: %v", err)
			}
		}, "processing"},
	} {
		for _, restart := range []bool{false, true} {
			name := tt.name
			if restart {
				name += ", after a restart of the box"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p, other := start(t, ipptest.Config{PageTime: 10 * time.Millisecond}), start(t, ipptest.Config{})
				j := &file{path: filepath.Join(t.TempDir(), "journal")}
				var b bell
				cfg := quick(p, j)
				cfg.Grace = 300 * time.Millisecond
				b.use(&cfg)
				s := spooler(t, cfg)
				pe := stuck(t, s, p)
				if !b.has(staff.AlarmSheet) || !b.has(staff.AlarmUncertain) {
					t.Fatalf("when Print returned staff had been told %+v", b.List())
				}
				if restart {
					b = bell{}
					s = spooler(t, cfg)
				}
				run(t, s)
				until(t, "blocked", 10*time.Second, func() bool {
					d := device(t, s)
					return d.Blocked == pe.Print && d.Trouble == kiosk.TroubleBlocked && b.has(staff.AlarmSheet)
				})
				sent := p.Requests("Send-Document")
				if got := describe(s.Print(t.Context(), jobOf(pdf(1, 10), 1), func(kiosk.PrintProgress) {})); got != "blocked nothing_printed" {
					t.Errorf("the next visitor's: %s", got)
				}
				if err := s.Decide(t.Context(), pe.Print, kiosk.VerdictReprint, "Anna Neri"); kiosk.AsPrintError(err).Trouble != kiosk.TroubleBlocked {
					t.Errorf("a verdict while the sheet may still come: %v", err)
				}
				if err := s.Adopt(append(cfg.Adopted, staff.Adopted{UUID: other.UUID(), URI: other.URI(), PDF: true})); err != nil {
					t.Fatal(err)
				}
				if err := s.Print(t.Context(), jobOf(pdf(1, 10), 1), func(kiosk.PrintProgress) {}); err != nil || len(other.Documents()) != 1 {
					t.Errorf("with another printer: %v, %d documents there", err, len(other.Documents()))
				}
				if _, err := s.Trial(t.Context(), cfg.Adopted[0], pdf(1, 10), false); describe(err) != "blocked nothing_printed" {
					t.Errorf("an adoption page: %v", err)
				}
				if p.Requests("Send-Document") != sent {
					t.Error("something was sent to the blocked printer")
				}

				tt.free(t, p, s)
				until(t, "free", 20*time.Second, func() bool { return device(t, s).Blocked == "" && !b.has(staff.AlarmSheet) })
				if !b.has(staff.AlarmUncertain) {
					t.Error("nobody has decided, and the alarm is over")
				}
				all, err := s.Undecided(t.Context())
				if err != nil || len(all) != 1 || !strings.HasPrefix(all[0].JobState, tt.want) || tt.want == "" && all[0].JobState != "" {
					t.Fatalf("undecided %+v, %v: want job %q", all, err, tt.want)
				}
				if err := s.Decide(t.Context(), pe.Print, kiosk.VerdictNothing, "Anna Neri"); err != nil || b.has(staff.AlarmUncertain) {
					t.Errorf("decided: %v, alarms %+v", err, b.List())
				}
				if strings.HasPrefix(tt.name, "until staff") {
					if rows, err := j.rows(); err != nil || rows[0].ID != pe.Print || rows[0].FreedBy != "Anna Neri" {
						t.Errorf("who freed the printer is not in the journal: %+v, %v", rows, err)
					}
					return // the old job is still in the printer's way: staff said that this is well
				}
				job := jobOf(pdf(1, 10), 1)
				job.Printer = p.UUID()
				if err := s.Print(t.Context(), job, func(kiosk.PrintProgress) {}); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// TestBlockedByAPrinterThatVanished loses the printer while it prints: what it does then nobody knows.
func TestBlockedByAPrinterThatVanished(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{PageTime: 20 * time.Millisecond})
	var b bell
	cfg := quick(p, &memory{})
	b.use(&cfg)
	s := spooler(t, cfg)
	run(t, s)
	p.SetPaper(1)
	p.OnSheet(func(ipptest.Sheet) { _ = p.Gone(true) })
	if got := describe(s.Print(t.Context(), jobOf(pdf(2, 10), 2), func(kiosk.PrintProgress) {})); got != "unreachable uncertain" {
		t.Fatal(got)
	}
	if !b.has(staff.AlarmSheet) {
		t.Error("staff was not told")
	}
	if got := describe(s.Print(t.Context(), jobOf(pdf(1, 10), 1), func(kiosk.PrintProgress) {})); got != "blocked nothing_printed" {
		t.Errorf("the next: %s", got)
	}
	until(t, "its cable is back", 20*time.Second, func() bool { return p.Gone(false) == nil })
	until(t, "its job is cancelled", 20*time.Second, func() bool { return s.Status().Trouble == kiosk.TroublePaper && !b.has(staff.AlarmSheet) })
	if n := len(p.Sheets()); n != 1 {
		t.Errorf("%d sheets", n)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{})
	j := &file{path: filepath.Join(t.TempDir(), "journal")}
	var b bell
	cfg := quick(p, j)
	b.use(&cfg)
	s := spooler(t, cfg)
	doc := pdf(1, 300_000)
	uncertain := func(job kiosk.PrintJob) *kiosk.PrintError {
		t.Helper()
		p.CutAfter(100_000)
		p.PageTime(time.Nanosecond)
		err := s.Print(t.Context(), job, func(kiosk.PrintProgress) {})
		if got := describe(err); got != "unreachable uncertain" {
			t.Fatalf("%s: %v", got, err)
		}
		return kiosk.AsPrintError(err)
	}
	first := uncertain(jobOf(doc, 1))
	again := jobOf(doc, 1)
	again.Reprint = &kiosk.Reprint{Of: first.Print, Number: 1}
	refused := func(why string) {
		t.Helper()
		before := p.Requests("Create-Job")
		if got := describe(s.Print(t.Context(), again, func(kiosk.PrintProgress) {})); got != "other nothing_printed" || p.Requests("Create-Job") != before {
			t.Errorf("%s: %s", why, got)
		}
	}
	refused("nobody has decided")

	// Another program finds what is known.
	b = bell{}
	s = spooler(t, cfg)
	run(t, s)
	all, err := s.Undecided(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	until(t, "the alarm after a restart", 10*time.Second, func() bool { return b.has(staff.AlarmUncertain) })
	if u := all[0]; u.ID != first.Print || u.Kiosk != 1 || u.Kind != "certificate" || u.Pages != 1 || u.Bytes != len(doc) || u.Sent < 100_000 ||
		u.JobState != "completed" || u.Sheets != 1 || u.Restarted || u.Why == "" || u.Number != 0 || u.Printer != p.UUID() {
		t.Errorf("evidence %+v", u)
	}
	if err := s.Decide(t.Context(), first.Print, "perhaps", "Anna Neri"); err == nil {
		t.Error("a verdict that is none")
	}
	if err := s.Decide(t.Context(), "x", kiosk.VerdictOut, "Anna Neri"); !errors.Is(err, staff.ErrGone) {
		t.Errorf("no such print: %v", err)
	}
	if err := s.Decide(t.Context(), first.Print, kiosk.VerdictReprint, "Anna Neri"); err != nil || b.has(staff.AlarmUncertain) {
		t.Fatalf("%v, alarms %+v", err, b.List())
	}
	if err := s.Decide(t.Context(), first.Print, kiosk.VerdictOut, "Anna Neri"); !errors.Is(err, staff.ErrGone) {
		t.Errorf("decided twice: %v", err)
	}
	other := again
	again = jobOf(pdf(1, 10), 1)
	again.Reprint = other.Reprint
	refused("another document")
	again = other

	// The reprint fails in the same way, and there is another; one that printed nothing does not count.
	second := uncertain(again)
	refused("it has been printed again")
	if err := s.Decide(t.Context(), second.Print, kiosk.VerdictReprint, "Anna Neri"); err != nil {
		t.Fatal(err)
	}
	p.Refuse("Create-Job", 0x0403)
	if got := describe(s.Print(t.Context(), again, func(kiosk.PrintProgress) {})); got != "other nothing_printed" {
		t.Errorf("refused: %s", got)
	}
	p.Refuse("Create-Job", 0)
	if err := s.Print(t.Context(), again, func(kiosk.PrintProgress) {}); err != nil {
		t.Errorf("printed again: %v", err)
	}
	refused("it has been printed")
	rows, err := j.rows()
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if last.State != printing.Done || last.Of != first.Print || last.Number != 2 {
		t.Errorf("row of the second reprint: %+v", last)
	}
	if r := rows[0]; r.Verdict != kiosk.VerdictReprint || r.DecidedBy != "Anna Neri" || r.DecidedAt.IsZero() {
		t.Errorf("row of the first print: %+v", r)
	}
}

// TestRetiredAndBlocked retires a printer that still holds a sheet: staff see it until they have looked.
func TestRetiredAndBlocked(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{PageTime: 10 * time.Millisecond})
	var b bell
	cfg := quick(p, &memory{})
	cfg.Grace = 300 * time.Millisecond
	b.use(&cfg)
	s := spooler(t, cfg)
	run(t, s)
	pe := stuck(t, s, p)
	if err := s.Adopt(nil); err != nil {
		t.Fatal(err)
	}
	if d := device(t, s); d.Blocked != pe.Print || len(s.Printers()) != 0 || s.Status().State != kiosk.PrinterNone {
		t.Errorf("device %+v, printers %+v, status %+v", d, s.Printers(), s.Status())
	}
	if err := s.Free(t.Context(), p.UUID(), "Anna Neri"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is forgotten", 10*time.Second, func() bool { return len(s.Devices()) == 0 && !b.has(staff.AlarmSheet) })
	if err := s.Decide(t.Context(), pe.Print, kiosk.VerdictOut, "Anna Neri"); err != nil {
		t.Error(err)
	}
}

// TestFreedMeanwhile frees a printer and decides about its print in the moment in which the row is closed: what was known
// is never overwritten by who saw the row before.
func TestFreedMeanwhile(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{})
	first := &memory{}
	if err := spooler(t, quick(p, first)).Print(t.Context(), jobOf(pdf(1, 10), 1), func(kiosk.PrintProgress) {}); err != nil {
		t.Fatal(err)
	}
	interrupted := first.all()[0]
	interrupted.State = printing.Printing
	for range 20 {
		j := &memory{rows: []printing.Row{interrupted}}
		var s *printing.Spooler
		var staffAtWork sync.WaitGroup
		j.onRow = func(row printing.Row) {
			if row.State != printing.Done || row.ID != interrupted.ID {
				return
			}
			for range 2 {
				staffAtWork.Go(func() { _ = s.Free(context.WithoutCancel(t.Context()), p.UUID(), "Anna Neri") })
				staffAtWork.Go(func() {
					_ = s.Decide(context.WithoutCancel(t.Context()), interrupted.ID, kiosk.VerdictReprint, "Anna Neri")
				})
			}
		}
		cfg := quick(p, j)
		s = spooler(t, cfg)
		run(t, s)
		until(t, "the row is closed", 20*time.Second, func() bool { return !j.all()[0].State.Open() })
		until(t, "the printer is free", 20*time.Second, func() bool { return device(t, s).Blocked == "" })
		staffAtWork.Wait()
		if got := j.history(); got != "done" || j.all()[0].Verdict != "" {
			t.Fatalf("the row became %q, then %+v", got, j.all()[0])
		}
	}
}
