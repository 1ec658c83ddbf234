package kiosk

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoLeavesAnUncertainPrintIsNobodyForTheNext(t *testing.T) {
	run(t, func(t *testing.T, w *world, d *Desk) {
		var jobs []PrintJob
		w.print = uncertainly(&jobs, "a")
		s := start(t, d, 1)
		toPreview(t, w, d, s)
		must(t, d.Print(t.Context(), s))
		synctest.Wait()
		time.Sleep(2 * DefaultIdle) // they have gone; the document still waits for staff
		synctest.Wait()
		if !d.Waiting("a") {
			t.Fatal("the document does not wait for staff any more")
		}
		must(t, d.Settle(t.Context(), "a", VerdictNothing))
		d.Back(s) // the next citizen touches the screen
		v := s.View()
		if v.Stage == StageConfirmed || v.FirstName != "" || v.Masked != "" {
			t.Errorf("the next one is taken for %q (%q), at %s", v.FirstName, v.Masked, v.Stage)
		}
	})
}
