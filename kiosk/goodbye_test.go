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

// TestExitWhereverOneWaits says goodbye while something is under way: nothing that comes late may bring anything back,
// and the kiosk is free for the next person.
func TestExitWhereverOneWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		to   func(t *testing.T, w *world, d *Desk, s *Session)
	}{
		{"while the sheet is drawn", func(t *testing.T, w *world, d *Desk, s *Session) {
			w.slow = 3 * time.Second
			must(t, d.SetService(t.Context(), s, SelfDeclaration))
			must(t, d.SetFacts(t.Context(), s, AllFacts()))
			must(t, d.SetFill(t.Context(), s, Blank))
			must(t, d.Prepare(t.Context(), s))
		}},
		{"while the phone logs in", func(t *testing.T, _ *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			must(t, d.BeginLogin(t.Context(), s))
		}},
		{"while the identity is awaited", func(t *testing.T, _ *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			must(t, d.BeginLogin(t.Context(), s))
			must(t, d.EnterCode(t.Context(), s, "12345678"))
		}},
		{"while the printer waits for paper", func(t *testing.T, w *world, d *Desk, s *Session) {
			w.print = func(ctx context.Context, _ PrintJob, report func(PrintProgress)) error {
				report(PrintProgress{State: PrintStopped, Trouble: TroublePaper})
				<-ctx.Done()
				return &PrintError{Trouble: TroublePaper, Outcome: NothingPrinted, Err: ctx.Err()}
			}
			toPreview(t, w, d, s)
			must(t, d.Print(t.Context(), s))
		}},
		{"while the slip is drawn", func(t *testing.T, w *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			w.set(func() { w.lineUp = false })
			w.slow = 3 * time.Second
			go func() { _ = d.LeaveRequest(t.Context(), s) }()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world, d *Desk) {
				s := start(t, d, 1)
				tt.to(t, w, d, s)
				synctest.Wait()
				d.Goodbye(t.Context(), s)
				w.set(func() { w.lineUp, w.token = true, true })
				time.Sleep(5 * time.Second)
				if v := s.View(); v.Stage != StageGoodbye || v.Document != "" || v.Masked != "" || s.Page(1) != nil || v.Slip != "" {
					t.Errorf("five seconds after goodbye: %+v", v)
				}
				if err := d.Print(t.Context(), s); !errors.Is(err, ErrNotNow) {
					t.Errorf("print after goodbye: %v", err)
				}
				time.Sleep(10 * time.Second)
				if len(w.printed) != 0 {
					t.Error("paper came out after goodbye")
				}
				if _, err := d.Session(1, ""); !errors.Is(err, ErrNoSession) {
					t.Error("the kiosk is not free")
				}
				n := 0
				for _, k := range w.kinds() {
					if k == event.SessionEnded {
						n++
					}
				}
				if n != 1 || slices.Contains(w.kinds(), event.RequestLeft) {
					t.Errorf("events %v: want one end, and no request without a slip", w.kinds())
				}
			})
		})
	}
}

func TestSecondPressIsNotHeard(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		s := start(t, d, 1)
		answerAll(t, d, s)
		w.set(func() { w.lineUp = false })
		w.slow = time.Second
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- d.LeaveRequest(t.Context(), s) }()
		}
		if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
			t.Errorf("two presses: %v and %v; want one heard", a, b)
		}
		if len(w.private) != 1 {
			t.Errorf("%d requests were left", len(w.private))
		}
	})
}

func TestSheetsThatAreOutAreNotPrintedAgain(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		w.print = func(context.Context, PrintJob, func(PrintProgress)) error {
			return &PrintError{Trouble: TroubleJam, Outcome: PartlyPrinted, Err: errors.New("jam")}
		}
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		v := s.View()
		if v.Stage != StageProblem || v.Problem.Kind != ProblemUncertain || v.Problem.CanRetry || v.Document != "" {
			t.Errorf("after a job of which sheets are out: %+v, %+v", v.Stage, v.Problem)
		}
	})
}
