package adoption_test

import (
	"testing"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/kiosk/staff"
)

func TestRiskIsNotAcceptedForALaterYear(t *testing.T) {
	at := time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC) // the clock of the branch says 2026
	b := newBranch(t, adoption.Configured{UUID: "c", URI: "ipp://192.0.2.9/ipp/print", Risk: &staff.Risk{
		By: "A. Bianchi", Why: "old printer", At: at, Until: at.AddDate(1, 0, 0),
	}})
	if all, err := b.Adopted(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d printers in the clear, %v", len(all), err)
	}
}
