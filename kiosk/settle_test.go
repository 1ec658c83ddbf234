package kiosk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/event"
)

// uncertainly prints as a printer of which nobody knows what came out, under the IDs one after the other; after the last
// it prints well. It notes the jobs.
func uncertainly(jobs *[]PrintJob, ids ...string) func(context.Context, PrintJob, func(PrintProgress)) error {
	return func(_ context.Context, job PrintJob, _ func(PrintProgress)) error {
		*jobs = append(*jobs, job)
		if n := len(*jobs); n <= len(ids) {
			return &PrintError{Trouble: TroubleUnreachable, Outcome: Uncertain, Print: ids[n-1], Err: errors.New("the line broke")}
		}
		return nil
	}
}

func TestStaffDecideAboutAnUncertainPrint(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) { // every sheet is there
		var jobs []PrintJob
		w.print = uncertainly(&jobs, "a")
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		v := s.View()
		if v.Stage != StageProblem || v.Problem.Kind != ProblemUncertain || !v.Problem.Waiting || !d.Waiting("a") {
			t.Fatalf("after an uncertain print: %s, %+v, waiting %v", v.Stage, v.Problem, d.Waiting("a"))
		}
		if err := d.Settle(t.Context(), "b", VerdictOut); !errors.Is(err, ErrNoSession) {
			t.Errorf("another print: %v", err)
		}
		if err := d.Settle(t.Context(), "", VerdictOut); !errors.Is(err, ErrNoSession) {
			t.Errorf("no print: %v", err)
		}
		if err := d.Settle(t.Context(), "a", "maybe"); !errors.Is(err, ErrUnknown) {
			t.Errorf("no verdict: %v", err)
		}
		must(t, d.Settle(t.Context(), "a", VerdictOut))
		if st := s.View().Stage; st != StageTake || d.Waiting("a") || len(jobs) != 1 {
			t.Errorf("sheets are out: %s, waiting %v, %d jobs", st, d.Waiting("a"), len(jobs))
		}
		if left := w.left(); left != nil {
			t.Errorf("still readable: %q", left)
		}
		must(t, d.Taken(t.Context(), s, true))
	})
	run(t, func(t *testing.T, w *world, d *Desk) { // something is missing, and stays so
		var jobs []PrintJob
		w.print = uncertainly(&jobs, "a")
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		must(t, d.Settle(t.Context(), "a", VerdictNothing))
		if v := s.View(); v.Stage != StageProblem || v.Problem.Kind != ProblemNoted || v.Problem.CanRetry || v.Document != "" || w.left() != nil {
			t.Errorf("nothing is printed again: %s, %+v, left %q", v.Stage, v.Problem, w.left())
		}
		d.Back(s)
		if st := s.View().Stage; st != StageConfirmed || len(jobs) != 1 {
			t.Errorf("back to the questions: %s, %d jobs", st, len(jobs))
		}
	})
	run(t, func(t *testing.T, w *world, d *Desk) { // reprinted twice, on the printer that was chosen
		var jobs []PrintJob
		w.print = uncertainly(&jobs, "a", "b")
		w.others = []PrinterStatus{{UUID: "two", State: PrinterReady}}
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		if err := d.ChoosePrinter(s, "three"); !errors.Is(err, ErrUnknown) {
			t.Errorf("a printer that is not there: %v", err)
		}
		must(t, d.ChoosePrinter(s, "two"))
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		errs := make(chan error, 2)
		for range 2 { // two people press at once
			go func() { errs <- d.Settle(t.Context(), "a", VerdictReprint) }()
		}
		synctest.Wait()
		if x, y := <-errs, <-errs; (x == nil) == (y == nil) || !errors.Is(errors.Join(x, y), ErrNoSession) {
			t.Errorf("two decisions at once: %v and %v; want one heard", x, y)
		}
		synctest.Wait()
		if !d.Waiting("b") || d.Waiting("a") {
			t.Fatal("the reprint is uncertain too, and does not wait")
		}
		must(t, d.Settle(t.Context(), "b", VerdictReprint))
		synctest.Wait()
		if st := s.View().Stage; st != StageTake || w.left() != nil {
			t.Errorf("after the second reprint: %s, left %q", st, w.left())
		}
		if len(jobs) != 3 || jobs[0].Reprint != nil || *jobs[1].Reprint != (Reprint{"a", 1}) || *jobs[2].Reprint != (Reprint{"a", 2}) {
			t.Errorf("jobs %+v", jobs)
		}
		for _, j := range jobs {
			if j.Printer != "two" {
				t.Errorf("went to %q", j.Printer)
			}
		}
		if string(w.printed[0]) != "%PDF certificate" {
			t.Errorf("printed %q", w.printed)
		}
	})
}

func TestUncertainDocumentIsNotKeptForLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   string
		then func(t *testing.T, d *Desk, s *Session)
	}{
		{"the journal has no row for it", "", func(*testing.T, *Desk, *Session) {}},
		{"the citizen leaves", "a", func(t *testing.T, d *Desk, s *Session) { d.Goodbye(t.Context(), s) }},
		{"the visit ends", "a", func(t *testing.T, d *Desk, s *Session) { d.End(t.Context(), s, OutcomeStopped) }},
		{"nobody comes", "a", func(t *testing.T, d *Desk, s *Session) {
			time.Sleep(waitLife - 5*time.Second)
			if !d.Waiting("a") {
				t.Error("gone too soon: the citizen waits for staff, and touches nothing")
			}
			time.Sleep(7 * time.Second)
			if v := s.View(); v.Stage != StageProblem || v.Problem.Waiting {
				t.Errorf("after ten minutes: %s, %+v", v.Stage, v.Problem)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world, d *Desk) {
				var jobs []PrintJob
				w.print = uncertainly(&jobs, tt.id)
				s := start(t, d, 1)
				toPreview(t, w, d, s)
				must(t, d.Print(t.Context(), s))
				synctest.Wait()
				tt.then(t, d, s)
				if left := w.left(); left != nil {
					t.Errorf("still readable: %q", left)
				}
				if err := d.Settle(t.Context(), tt.id, VerdictReprint); !errors.Is(err, ErrNoSession) || len(jobs) != 1 {
					t.Errorf("reprint: %v, %d jobs", err, len(jobs))
				}
				time.Sleep(3 * time.Minute)
				if _, err := d.Session(1, ""); !errors.Is(err, ErrNoSession) {
					t.Error("the kiosk is not free")
				}
			})
		})
	}
}

func TestReprintNeedsRoomInTheJournal(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		var jobs []PrintJob
		w.print = uncertainly(&jobs, "a")
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		w.set(func() { w.full = true })
		if err := d.Settle(t.Context(), "a", VerdictReprint); !errors.Is(err, ErrDiskFull) {
			t.Errorf("%v", err)
		}
		if v := s.View(); v.Problem == nil || v.Problem.Kind != ProblemDiskFull || d.Waiting("a") || len(jobs) != 1 {
			t.Errorf("%s, %+v, %d jobs", v.Stage, v.Problem, len(jobs))
		}
	})
}

// TestTwoMinutesWithoutPaper touches the screen all the time: that does not load paper.
func TestTwoMinutesWithoutPaper(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		var began, ended time.Time
		w.print = func(ctx context.Context, _ PrintJob, report func(PrintProgress)) error {
			report(PrintProgress{State: PrintStopped, Trouble: TroubleCover})
			sleep(ctx, 30*time.Second)
			report(PrintProgress{State: PrintPrinting})
			sleep(ctx, 30*time.Second)
			report(PrintProgress{State: PrintStopped, Trouble: TroubleCover})
			began = time.Now()
			sleep(ctx, 30*time.Second)
			report(PrintProgress{State: PrintStopped, Trouble: TroublePaper})
			<-ctx.Done()
			ended = time.Now()
			return &PrintError{Trouble: TroublePaper, Outcome: NothingPrinted, Err: ctx.Err()}
		}
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		for range 40 {
			time.Sleep(5 * time.Second)
			d.Touch(s)
		}
		if took := ended.Sub(began); took < stoppedLife || took > stoppedLife+2*time.Second {
			t.Errorf("cancelled after %s", took)
		}
		if v := s.View(); v.Stage != StageProblem || !v.Problem.CanRetry || v.Document != "certificate" {
			t.Errorf("%s, %+v, document %q", v.Stage, v.Problem, v.Document)
		}
	})
}

func TestDocumentsAreDestroyed(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, w *world, d *Desk, s *Session)
	}{
		{"back to the questions", func(t *testing.T, w *world, d *Desk, s *Session) { toPreview(t, w, d, s); d.Back(s) }},
		{"an answer changes", func(t *testing.T, w *world, d *Desk, s *Session) {
			toPreview(t, w, d, s)
			must(t, d.SetStamp(t.Context(), s, StampExempt))
		}},
		{"goodbye", func(t *testing.T, w *world, d *Desk, s *Session) { toPreview(t, w, d, s); d.Goodbye(t.Context(), s) }},
		{"nobody there any more", func(t *testing.T, w *world, d *Desk, s *Session) { toPreview(t, w, d, s); time.Sleep(4 * time.Minute) }},
		{"printed", func(t *testing.T, w *world, d *Desk, s *Session) {
			toPreview(t, w, d, s)
			must(t, d.Print(t.Context(), s))
			synctest.Wait()
		}},
		{"not printed, and left", func(t *testing.T, w *world, d *Desk, s *Session) {
			w.print = func(context.Context, PrintJob, func(PrintProgress)) error {
				return &PrintError{Trouble: TroublePaper, Outcome: NothingPrinted, Err: errors.New("no paper")}
			}
			toPreview(t, w, d, s)
			must(t, d.Print(t.Context(), s))
			synctest.Wait()
			d.End(t.Context(), s, OutcomeEnded)
		}},
		{"gone while it is drawn", func(t *testing.T, w *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			logIn(t, w, d, s)
			w.slow = time.Second
			must(t, d.Prepare(t.Context(), s))
			synctest.Wait()
			d.End(t.Context(), s, OutcomeEnded)
		}},
		{"it cannot be drawn", func(t *testing.T, w *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			logIn(t, w, d, s)
			w.drawn = ErrDocument
			must(t, d.Prepare(t.Context(), s))
			synctest.Wait()
			w.docs = slices.DeleteFunc(w.docs, func(doc []byte) bool { return string(doc) == "png" }) // never handed over
		}},
		{"a declaration that cannot be journalled", func(t *testing.T, w *world, d *Desk, s *Session) {
			w.noLegal = true
			declaration(t, d, s)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world, d *Desk) {
				s := start(t, d, 1)
				tt.do(t, w, d, s)
				synctest.Wait()
				time.Sleep(2 * time.Second)
				if left := w.left(); len(w.docs) == 0 || left != nil {
					t.Errorf("of %d still readable: %q", len(w.docs), left)
				}
			})
		})
	}
}

func TestSlipGoesAlongForAReceiptPrinter(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		var jobs []PrintJob
		w.print = uncertainly(&jobs)
		s := start(t, d, 1)
		answerAll(t, d, s)
		must(t, d.LeaveRequest(t.Context(), s))
		code := s.View().Slip
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		if len(jobs) != 1 || jobs[0].Slip == nil || jobs[0].Slip.Code != code || jobs[0].Kind != "slip" {
			t.Errorf("jobs %+v", jobs)
		}
		if ks := w.kinds(); !slices.Contains(ks, event.PrintDone) {
			t.Errorf("events %v", ks)
		}
	})
}
