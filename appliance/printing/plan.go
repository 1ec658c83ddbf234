package printing

import (
	"slices"
	"strings"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
)

// Plan says how a document is printed on p: as PDF, on A4, on one side. When it cannot be, the Trouble says why:
// TroubleFormat and TroubleMedia for what p is or has in its trays. It looks at nothing but p.
//
// A4 must be something p knows and has: a printer that is asked for paper it has not may take Letter instead and cut
// off the end of every line.
func Plan(p ipp.Printer) (ipp.Ticket, kiosk.Trouble) {
	if !slices.Contains(p.Formats, ipp.PDF) {
		return ipp.Ticket{}, kiosk.TroubleFormat
	}
	if !supportsA4(p) || !a4Ready(p) {
		return ipp.Ticket{}, kiosk.TroubleMedia
	}
	t := ipp.Ticket{Format: ipp.PDF}
	if slices.Contains(p.MediaCol, "media-size") {
		t.Size = ipp.A4
	} else {
		t.Media = ipp.A4Name
	}
	t.Sides = wish(p.Sides, "one-sided")
	t.ColorMode = wish(p.ColorModes, "monochrome", "auto")
	// A4 goes on A4 as it is; some printers shrink every page unless told.
	t.Scaling = wish(p.Scalings, "none", "auto-fit", "auto")
	if slices.Contains(p.Qualities, 4) {
		t.Quality = 4
	}
	return t, kiosk.TroubleNone
}

// wish returns the first of the wanted values that is supported; "" leaves the printer its default.
func wish(supported []string, wanted ...string) string {
	for _, w := range wanted {
		if slices.Contains(supported, w) {
			return w
		}
	}
	return ""
}

func supportsA4(p ipp.Printer) bool {
	return slices.Contains(p.MediaSupported, ipp.A4Name) || slices.Contains(p.SizesReady, ipp.A4)
}

// a4Ready reports whether A4 is in a tray. A printer that does not say what is in its trays is believed to hold its
// default.
func a4Ready(p ipp.Printer) bool {
	if len(p.MediaReady) == 0 && len(p.SizesReady) == 0 {
		return p.MediaDefault == ipp.A4Name
	}
	return slices.Contains(p.SizesReady, ipp.A4) || slices.ContainsFunc(p.MediaReady, isA4)
}

// isA4 also takes "iso_a4_210x297mm.borderless", which is the same paper.
func isA4(media string) bool {
	name, _, _ := strings.Cut(media, ".")
	return name == ipp.A4Name
}

// mediaRefused reports whether a printer has said that it would not use the paper it was asked for.
func mediaRefused(attributes []string) bool {
	return slices.ContainsFunc(attributes, func(a string) bool {
		return a == "media" || a == "media-col" || strings.HasPrefix(a, "media-size")
	})
}

// words maps printer-state-reasons (RFC 8011 §5.4.12, PWG 5100.9) to what a person must do, the most urgent first.
var words = []struct {
	trouble kiosk.Trouble
	reasons []string
}{
	{kiosk.TroubleJam, []string{"media-jam"}},
	{kiosk.TroubleCover, []string{"cover-open", "door-open", "interlock-open"}},
	{kiosk.TroubleTray, []string{"input-tray-missing"}},
	{kiosk.TroublePaper, []string{"media-empty", "media-needed"}},
	{kiosk.TroubleToner, []string{"toner-empty", "marker-supply-empty"}},
	{kiosk.TroubleOutputFull, []string{"output-area-full"}},
	{kiosk.TroublePaused, []string{"paused", "moving-to-paused", "stopped-partly", "stopping"}},
	{kiosk.TroubleUnreachable, []string{"shutdown", "timed-out", "connecting-to-device"}},
}

// troubleOf says what keeps p from printing. A reason counts when it is an error, when p has stopped, and when it can
// mean nothing else than that p waits for a hand: some printers never say "error". A reason we have no word for counts
// only when p has stopped; the others are for the staff.
func troubleOf(p ipp.Printer) kiosk.Trouble {
	stopped := p.State == ipp.PrinterStopped
	for _, w := range words {
		for _, r := range p.Reasons {
			reason, severity := severityOf(r)
			if !slices.Contains(w.reasons, reason) {
				continue
			}
			switch {
			case stopped, reason == "media-needed", reason == "media-empty" && traysEmpty(p):
				return w.trouble
			case severity == "error" && w.trouble != kiosk.TroubleUnreachable:
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

// traysEmpty reports whether every tray that knows how many sheets it holds holds none.
func traysEmpty(p ipp.Printer) bool {
	return len(p.TrayLevels) > 0 && !slices.ContainsFunc(p.TrayLevels, func(n int) bool { return n > 0 })
}
