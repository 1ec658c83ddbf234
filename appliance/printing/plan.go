package printing

import (
	"slices"
	"strconv"
	"strings"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// Planned is how a document is printed.
type Planned struct {
	Ticket ipp.Ticket
	Raster *raster.PrintOptions // what picture is made of it first; nil: it is sent as PDF
}

// Plan says how a document is printed on p, which was adopted as a: on A4, on one side, as PDF when p takes it and its
// drawing was judged right, else as a picture. When it cannot be, the Trouble says why: TroubleAuth, TroubleFormat and
// TroubleMedia for what p is or has in its trays. It looks at nothing but p and a.
//
// A4 must be something p knows and has: a printer that is asked for paper it has not may take Letter instead and cut
// off the end of every line.
func Plan(p ipp.Printer, a staff.Adopted) (Planned, kiosk.Trouble) {
	if p.Auth {
		return Planned{}, kiosk.TroubleAuth
	}
	format, picture := formatFor(p, a)
	if format == "" {
		return Planned{}, kiosk.TroubleFormat
	}
	if !supportsA4(p) || !a4Ready(p) {
		return Planned{}, kiosk.TroubleMedia
	}
	t := ipp.Ticket{Format: format}
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
	return Planned{t, picture}, kiosk.TroubleNone
}

// formatFor is what a document goes as, "" for nothing: what p guesses (application/octet-stream) it guesses wrongly.
func formatFor(p ipp.Printer, a staff.Adopted) (string, *raster.PrintOptions) {
	if slices.Contains(p.Formats, ipp.PDF) && a.PDF && !a.Raster {
		return ipp.PDF, nil
	}
	if slices.Contains(p.Formats, ipp.URF) {
		if o, ok := urf(p.URF); ok {
			return ipp.URF, &o
		}
	}
	if slices.Contains(p.Formats, ipp.PWG) {
		o := raster.PrintOptions{Format: raster.PWG, DPI: resolution(p.PWGResolutions)}
		for _, c := range []raster.Color{raster.Gray, raster.RGB, raster.Black} {
			if slices.Contains(p.PWGTypes, string(c)) && o.DPI > 0 {
				o.Color = c
				return ipp.PWG, &o
			}
		}
	}
	return "", nil
}

// urf reads urf-supported: "W8" and "SRGB24" are pixels, "RS300-600" resolutions.
func urf(supported []string) (raster.PrintOptions, bool) {
	o := raster.PrintOptions{Format: raster.URF}
	for _, s := range supported {
		rs, ok := strings.CutPrefix(s, "RS")
		if !ok {
			continue
		}
		var all []int
		for part := range strings.SplitSeq(rs, "-") {
			if n, err := strconv.Atoi(part); err == nil {
				all = append(all, n)
			}
		}
		o.DPI = resolution(all)
	}
	switch {
	case slices.Contains(supported, "W8"):
		o.Color = raster.Gray
	case slices.Contains(supported, "SRGB24"):
		o.Color = raster.RGB
	}
	return o, o.DPI > 0 && o.Color != ""
}

// resolution picks one of those supported, in dpi: what text needs and no more, for a picture takes time to send. It is
// 0 when none can be made.
func resolution(supported []int) int {
	best := 0
	for _, n := range supported {
		switch {
		case n < 150 || n > 600:
		case n == 300:
			return n
		case best == 600:
		case n == 600, best == 0, abs(n-300) < abs(best-300):
			best = n
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

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
