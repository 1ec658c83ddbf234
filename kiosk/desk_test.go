package kiosk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

func TestCertificateFromTouchToPaper(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		if w.jobs != 0 {
			t.Fatal("something was printed before anybody pressed print")
		}
		must(t, d.Print(t.Context(), s))
		if err := d.Print(t.Context(), s); !errors.Is(err, ErrNotNow) {
			t.Errorf("second press: %v, want ErrNotNow", err)
		}
		synctest.Wait()
		must(t, d.Taken(t.Context(), s, true))
		if len(w.printed) != 1 || string(w.printed[0]) != "%PDF certificate" {
			t.Errorf("printed %q", w.printed)
		}
		if v := s.View(); v.FirstName != "" || v.Masked != "" || v.Answers.Certificates != nil || v.Pages != 0 {
			t.Errorf("goodbye still knows %+v", v)
		}
		time.Sleep(10 * time.Second)
		if _, err := d.Session(1, ""); !errors.Is(err, ErrNoSession) {
			t.Errorf("after goodbye: %v", err)
		}
		want := []event.Kind{event.LoginShown, event.LoginCodeOK, event.LoginIdentified, event.DocumentReceived, event.PrintStarted, event.PrintDone, event.SessionEnded}
		got := slices.DeleteFunc(w.kinds(), func(k event.Kind) bool { return !slices.Contains(want, k) })
		if !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
	})
}

func TestAbandoned(t *testing.T) {
	for _, tt := range []struct {
		name        string
		to          func(t *testing.T, w *world, d *Desk, s *Session)
		lasts, over time.Duration // still open after lasts, gone after over
	}{
		{"first question", func(*testing.T, *world, *Desk, *Session) {}, 149 * time.Second, 152 * time.Second},
		{"preview", toPreview, 149 * time.Second, 152 * time.Second},
		{"logging in on the phone takes minutes", func(t *testing.T, _ *world, d *Desk, s *Session) {
			answerAll(t, d, s)
			must(t, d.BeginLogin(t.Context(), s))
		}, 7*time.Minute + 55*time.Second, 11 * time.Minute},
		{"printer out of paper", func(t *testing.T, w *world, d *Desk, s *Session) {
			w.print = func(ctx context.Context, _ PrintJob, report func(PrintProgress)) error {
				report(PrintProgress{State: PrintStopped, Trouble: TroublePaper})
				<-ctx.Done()
				return &PrintError{Trouble: TroublePaper, Outcome: NothingPrinted, Err: ctx.Err()}
			}
			toPreview(t, w, d, s)
			must(t, d.Print(t.Context(), s))
		}, 119 * time.Second, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world, d *Desk) {
				s := start(t, d, 1)
				tt.to(t, w, d, s)
				time.Sleep(tt.lasts)
				if _, err := d.Session(1, s.Key); err != nil {
					t.Errorf("gone after %s already", tt.lasts)
				}
				time.Sleep(tt.over - tt.lasts)
				if _, err := d.Session(1, ""); !errors.Is(err, ErrNoSession) {
					t.Errorf("still open after %s: %+v", tt.over, s.View().Stage)
				}
				if len(w.printed) != 0 {
					t.Error("paper came out although nobody was there")
				}
			})
		})
	}
}

func TestEndCancelsTheJob(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		var intact bool
		w.print = func(ctx context.Context, job PrintJob, _ func(PrintProgress)) error {
			<-ctx.Done()
			intact = string(job.PDF) == "%PDF certificate" // while the printer may still be read it
			return &PrintError{Trouble: TroubleOther, Outcome: Uncertain, Err: ctx.Err()}
		}
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		d.End(t.Context(), s, OutcomeEnded)
		synctest.Wait()
		if !intact {
			t.Error("the document was overwritten while the job was at the printer")
		}
		if ks := w.kinds(); !slices.Contains(ks, event.PrintUncertain) {
			t.Errorf("events %v: nobody is told that a sheet may come out", ks)
		}
	})
}

func TestLineCut(t *testing.T) {
	cut := func(w *world) { w.set(func() { w.lineUp = false }) }
	run(t, func(t *testing.T, w *world, d *Desk) { // before the login
		s := start(t, d, 1)
		answerAll(t, d, s)
		cut(w)
		if err := d.BeginLogin(t.Context(), s); !errors.Is(err, ErrOffline) {
			t.Errorf("login without a line: %v", err)
		}
		must(t, d.LeaveRequest(t.Context(), s))
		v := s.View()
		if v.Stage != StagePreview || v.Document != "slip" || len(v.Slip) != PickupDigits {
			t.Errorf("after leaving the request: %+v", v)
		}
		if len(w.private) != 1 || !bytes.Contains(w.private[0], []byte(v.Slip)) || bytes.Contains(w.private[0], []byte("Ada")) {
			t.Errorf("left %q", w.private)
		}
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		must(t, d.Taken(t.Context(), s, true))
		if e := w.events[len(w.events)-1]; e.Kind != event.SessionEnded || e.Detail.Outcome != string(OutcomeLeft) {
			t.Errorf("last event %+v", e)
		}
	})
	run(t, func(t *testing.T, w *world, d *Desk) { // after the QR is shown: the box checks the code alone
		s := start(t, d, 1)
		answerAll(t, d, s)
		must(t, d.BeginLogin(t.Context(), s))
		cut(w)
		must(t, d.EnterCode(t.Context(), s, "12345678"))
		time.Sleep(20 * time.Second)
		if v := s.View(); !v.Verified || v.Masked != "" {
			t.Errorf("without a line: %+v", v)
		}
		w.set(func() { w.lineUp, w.token = true, true })
		time.Sleep(3 * time.Second)
		if v := s.View(); v.Masked == "" {
			t.Error("the line is back and the identity has not arrived")
		}
	})
	run(t, func(t *testing.T, w *world, d *Desk) { // while preparing
		s := start(t, d, 1)
		answerAll(t, d, s)
		logIn(t, w, d, s)
		cut(w)
		must(t, d.Prepare(t.Context(), s))
		synctest.Wait()
		v := s.View()
		if v.Stage != StageProblem || v.Problem.Kind != ProblemOffline || !v.Problem.CanRetry || !v.Problem.CanLeave {
			t.Fatalf("stage %s, problem %+v", v.Stage, v.Problem)
		}
		w.set(func() { w.lineUp = true })
		must(t, d.Again(t.Context(), s))
		synctest.Wait()
		if st := s.View().Stage; st != StagePreview {
			t.Errorf("stage %s after trying again", st)
		}
	})
}

func TestDiskFull(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		w.set(func() { w.full = true })
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		if v := s.View(); v.Stage != StageProblem || v.Problem.Kind != ProblemDiskFull || w.jobs != 0 {
			t.Errorf("certificate with a full disk: %+v, %d jobs", v.Problem, w.jobs)
		}
		if err := d.LeaveRequest(t.Context(), s); !errors.Is(err, ErrDiskFull) || s.View().Slip != "" || w.private != nil {
			t.Errorf("request with a full disk: %v, slip %q", err, s.View().Slip)
		}
		other := start(t, d, 2)
		declaration(t, d, other)
		if v := other.View(); v.Stage != StageProblem || v.Problem.Kind != ProblemDiskFull {
			t.Errorf("a declaration that cannot be journalled was made: %s, %+v", v.Stage, v.Problem)
		}
		d.Back(other)
		w.set(func() { w.full, w.noLegal = false, true }) // the journal takes what is less urgent in silence, and lets it go
		d.End(t.Context(), s, OutcomeEnded)
		s = start(t, d, 1)
		answerAll(t, d, s)
		if err := d.BeginLogin(t.Context(), s); !errors.Is(err, ErrDiskFull) {
			t.Errorf("login although the print could not be journalled: %v", err)
		}
		w.set(func() { w.noLegal = false })
		must(t, d.Prepare(t.Context(), other))
		synctest.Wait()
		w.set(func() { w.full = true })
		must(t, d.Print(t.Context(), other))
		synctest.Wait()
		if v := other.View(); v.Stage != StageProblem || v.Problem.Kind != ProblemDiskFull || len(w.printed) != 0 {
			t.Errorf("declaration with a full disk: %s, %+v, %d printed", v.Stage, v.Problem, len(w.printed))
		}
		d.Back(other)
		w.set(func() { w.full = false })
		must(t, d.Prepare(t.Context(), other))
		synctest.Wait()
		must(t, d.Print(t.Context(), other))
		synctest.Wait()
		must(t, d.Taken(t.Context(), other, true))
		var lost int
		for _, e := range w.events {
			if e.Kind == event.EventsLost {
				lost += e.Detail.Count
			}
		}
		if lost == 0 {
			t.Error("nobody is told how many events were lost")
		}
	})
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want ProblemKind
	}{
		{&RegistryError{Code: wire.ProblemNotRegistered}, ProblemNotRegistered},
		{fmt.Errorf("certificate: %w", &RegistryError{Code: wire.ProblemNotCertifiable}), ProblemNotCertifiable},
		{ErrRegistryDown, ProblemRegistryDown},
		{ErrOffline, ProblemOffline},
		{ErrDocument, ProblemDocument},
		{ErrLoginOver, ProblemLoginOver},
		{errors.New("nobody foresaw this"), ProblemInternal},
	} {
		t.Run(string(tt.want), func(t *testing.T) {
			run(t, func(t *testing.T, w *world, d *Desk) {
				s := start(t, d, 1)
				answerAll(t, d, s)
				logIn(t, w, d, s)
				w.refuse = tt.err
				must(t, d.Prepare(t.Context(), s))
				synctest.Wait()
				v := s.View()
				if v.Stage != StageProblem || v.Problem.Kind != tt.want {
					t.Errorf("stage %s, problem %+v; want %s", v.Stage, v.Problem, tt.want)
				}
				if !slices.Contains(w.kinds(), event.DocumentRefused) {
					t.Error("no event says so")
				}
			})
		})
	}
}

func TestWrongCodes(t *testing.T) {
	run(t, func(t *testing.T, _ *world, d *Desk) {
		s := start(t, d, 1)
		answerAll(t, d, s)
		must(t, d.BeginLogin(t.Context(), s))
		for want := 2; want > 0; want-- {
			if err := d.EnterCode(t.Context(), s, "00000000"); !errors.Is(err, ErrCodeWrong) || s.View().TriesLeft != want {
				t.Errorf("%v, %d tries left; want %d", err, s.View().TriesLeft, want)
			}
		}
		if err := d.EnterCode(t.Context(), s, "00000000"); !errors.Is(err, ErrLoginDead) {
			t.Errorf("third wrong code: %v", err)
		}
		v := s.View()
		if v.QR != "" || v.Stage != StageAsking || !v.Answers.Chosen {
			t.Errorf("after three wrong codes: %+v; want a new login with the answers kept", v)
		}
		if err := d.EnterCode(t.Context(), s, "12345678"); !errors.Is(err, ErrNotNow) {
			t.Errorf("right code for a dead challenge: %v", err)
		}
	})
}

func TestKiosksDoNotMix(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		one, two := start(t, d, 1), start(t, d, 2)
		if _, err := d.Start(t.Context(), 1, "it", SelfService); !errors.Is(err, ErrKioskBusy) {
			t.Errorf("second session at the same kiosk: %v", err)
		}
		if _, err := d.Session(1, two.Key); !errors.Is(err, ErrNoSession) {
			t.Errorf("kiosk 2's session at kiosk 1: %v", err)
		}
		toPreview(t, w, d, one)
		if v := two.View(); v.Document != "" || v.Masked != "" || two.Page(1) != nil {
			t.Error("kiosk 2 sees what is kiosk 1's")
		}
	})
}
