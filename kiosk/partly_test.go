package kiosk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestPartOfTheSheetsWaitsForNobody(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		w.print = func(context.Context, PrintJob, func(PrintProgress)) error {
			return &PrintError{Trouble: TroubleJam, Outcome: PartlyPrinted, Print: "a", Err: errors.New("jam")}
		}
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		if v := s.View(); v.Problem == nil || v.Problem.Waiting || d.Waiting("a") || v.Document != "" {
			t.Errorf("it waits for a decision that nobody is asked for: %+v", v.Problem)
		}
	})
}
