package printing_test

import (
	"testing"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
)

// TestNumberOfAJobIsNotBelievedAfterAPowerCut has box and printer lose power together soon after the printer was switched
// on, so that it is up for longer than before when the box asks; its job-uuid is made out of the job's number.
func TestNumberOfAJobIsNotBelievedAfterAPowerCut(t *testing.T) {
	p := start(t, ipptest.Config{})
	c, err := ipp.New(ipp.Config{URI: p.URI(), UUID: p.UUID()})
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := c.Create(t.Context(), ipp.Ticket{Name: "somebody else's", Format: ipp.PDF, Media: ipp.A4Name})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), other.ID, ipp.PDF, pdf(1, 100)); err != nil {
		t.Fatal(err)
	}
	until(t, "the other job ended", 5*time.Second, func() bool {
		other, err = c.Job(t.Context(), other.ID)
		return err == nil && other.State.Ended()
	})
	j := &memory{rows: []printing.Row{{
		ID: "ours", Session: "s", Kiosk: 1, Kind: "certificate", Pages: 1, PrinterUUID: p.UUID(), PrinterURI: p.URI(),
		State: printing.Sent, JobID: other.ID, JobUUID: other.UUID, UpTime: 1, Updated: time.Now().Add(-time.Hour),
	}}}
	run(t, spooler(t, quick(p, j)))
	until(t, "the row closed", 5*time.Second, func() bool { return !j.all()[0].State.Open() })
	if row := j.all()[0]; row.State != printing.Uncertain || !row.Restarted {
		t.Errorf("%s, restarted %v: another's job is taken for the citizen's", row.State, row.Restarted)
	}
}
