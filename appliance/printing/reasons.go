package printing

import (
	"slices"
	"strings"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// words maps printer-state-reasons (RFC 8011 §5.4.12, PWG 5100.9 §4.1) to what a person must do, the most urgent first.
var words = []struct {
	trouble kiosk.Trouble
	weak    bool // counts only when the printer has stopped
	reasons []string
}{
	{kiosk.TroubleJam, false, []string{"media-jam"}},
	{kiosk.TroubleCover, false, []string{"cover-open", "door-open", "interlock-open"}},
	{kiosk.TroubleTray, false, []string{"input-tray-missing"}},
	{kiosk.TroublePaper, false, []string{"media-empty", "media-needed"}},
	{kiosk.TroubleToner, false, []string{"toner-empty", "marker-supply-empty", "developer-empty"}},
	{kiosk.TroubleWaste, false, []string{"marker-waste-full"}},
	{kiosk.TroubleOutputFull, false, []string{"output-area-full"}},
	{kiosk.TroubleHot, false, []string{"fuser-over-temp"}},
	{kiosk.TroublePaused, false, []string{"paused", "moving-to-paused", "stopped-partly", "stopping", "deactivated"}},
	{kiosk.TroubleBusy, false, []string{"spool-area-full"}},
	{kiosk.TroubleOther, false, []string{"opc-life-over"}},
	{kiosk.TroubleUnreachable, true, []string{"shutdown", "power-down", "timed-out", "connecting-to-device"}},
	// Some printers always have one of these: what it means nobody can say.
	{kiosk.TroubleOther, true, []string{"interpreter-resource-unavailable", "output-tray-missing", "other", "unknown"}},
	// For the staff: nothing waits for it.
	{kiosk.TroubleNone, true, []string{
		"toner-low", "marker-supply-low", "developer-low", "marker-waste-almost-full", "media-low", "output-area-almost-full",
		"opc-near-eol", "fuser-under-temp", "identify-printer-requested", "hibernate", "standby", "testing",
	}},
}

// Reasons returns the keywords of printer-state-reasons that have a meaning here, without severity, sorted: each has a
// text for staff, and every other is "other".
func Reasons() []string {
	var all []string
	for _, w := range words {
		all = append(all, w.reasons...)
	}
	slices.Sort(all)
	return all
}

// troubleOf says what keeps p from printing. A reason counts when it is an error, when p has stopped, and when it can
// mean nothing else than that p waits for a hand: some printers never say "error". A reason we have no word for counts
// only when p has stopped; the others are for the staff.
func troubleOf(p ipp.Printer) kiosk.Trouble {
	stopped := p.State == ipp.PrinterStopped
	for _, w := range words {
		for _, r := range p.Reasons {
			reason, severity := severityOf(r)
			if w.trouble == kiosk.TroubleNone || !slices.Contains(w.reasons, reason) {
				continue
			}
			switch {
			case stopped, reason == "media-needed", reason == "media-empty" && traysEmpty(p), w.trouble == kiosk.TroubleToner && blackEmpty(p):
				return w.trouble
			case severity == "error" && !w.weak:
				return w.trouble
			}
		}
	}
	switch {
	case stopped:
		return kiosk.TroubleOther
	case !p.Accepting:
		return kiosk.TroublePaused
	}
	return kiosk.TroubleNone
}

// severityOf splits "media-empty-error"; a reason without a severity is an error (RFC 8011 §5.4.12).
func severityOf(r string) (reason, severity string) {
	for _, s := range []string{"report", "warning", "error"} {
		if reason, ok := strings.CutSuffix(r, "-"+s); ok {
			return reason, s
		}
	}
	return r, "error"
}

// reasonsFor is what staff see of printer-state-reasons: what keeps the printer from printing first. When a printer has
// stopped, what can stop it did, whatever it calls it.
func reasonsFor(p ipp.Printer) []staff.Reason {
	var all []staff.Reason
	for _, r := range p.Reasons {
		reason, severity := severityOf(r)
		harmless := slices.Contains(words[len(words)-1].reasons, reason)
		switch {
		case harmless && severity == "error":
			severity = "warning"
		case p.State == ipp.PrinterStopped && !harmless:
			severity = "error"
		}
		all = append(all, staff.Reason{Keyword: reason, Severity: severity})
	}
	rank := []string{"error", "warning", "report"}
	slices.SortStableFunc(all, func(a, b staff.Reason) int {
		return slices.Index(rank, a.Severity) - slices.Index(rank, b.Severity)
	})
	return all
}

// blackEmpty reports whether a toner or an ink that prints black has run out, as far as its name says; one that stands alone
// does.
func blackEmpty(p ipp.Printer) bool {
	var inks, empty int
	for _, s := range p.Supplies {
		kind := strings.ToLower(s.Kind)
		if strings.Contains(kind, "waste") || !strings.Contains(kind, "toner") && !strings.Contains(kind, "ink") {
			continue
		}
		inks++
		if s.Level == 0 {
			empty++
			if strings.Contains(strings.ToLower(s.Name), "black") {
				return true
			}
		}
	}
	return inks == 1 && empty == 1
}

// traysEmpty reports whether every tray that knows how many sheets it holds holds none.
func traysEmpty(p ipp.Printer) bool {
	return len(p.TrayLevels) > 0 && !slices.ContainsFunc(p.TrayLevels, func(n int) bool { return n > 0 })
}
