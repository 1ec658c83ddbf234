package printing

import (
	"slices"
	"strings"
	"testing"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

func office() ipp.Printer {
	return ipp.Printer{
		State: ipp.PrinterIdle, Accepting: true, Formats: []string{"application/octet-stream", "image/urf", ipp.PDF},
		MediaSupported: []string{ipp.A4Name, "na_letter_8.5x11in"}, MediaReady: []string{ipp.A4Name}, MediaDefault: ipp.A4Name,
		SizesReady: []ipp.Size{ipp.A4}, MediaCol: []string{"media-size", "media-source"}, Sides: []string{"two-sided-long-edge", "one-sided"},
		ColorModes: []string{"color", "auto", "monochrome"}, Scalings: []string{"auto", "none"}, Qualities: []int{3, 4, 5},
	}
}

func TestPlan(t *testing.T) {
	whole := ipp.Ticket{Format: ipp.PDF, Size: ipp.A4, Sides: "one-sided", ColorMode: "monochrome", Scaling: "none", Quality: 4}
	with := func(change func(*ipp.Ticket)) ipp.Ticket { t := whole; change(&t); return t }
	for _, tt := range []struct {
		name    string
		change  func(*ipp.Printer)
		want    ipp.Ticket
		trouble kiosk.Trouble
	}{
		{"an office printer", func(*ipp.Printer) {}, whole, ""},
		{"Letter is the default, A4 is loaded", func(p *ipp.Printer) {
			p.MediaDefault, p.MediaReady = "na_letter_8.5x11in", []string{"na_letter_8.5x11in", ipp.A4Name}
		}, whole, ""},
		{"only Letter is loaded", func(p *ipp.Printer) {
			p.MediaReady, p.SizesReady = []string{"na_letter_8.5x11in"}, []ipp.Size{{Width: 21590, Height: 27940}}
		}, ipp.Ticket{}, kiosk.TroubleMedia},
		{"A4 is not known", func(p *ipp.Printer) {
			p.MediaSupported, p.MediaReady, p.SizesReady = []string{"na_letter_8.5x11in"}, []string{"na_letter_8.5x11in"}, nil
		}, ipp.Ticket{}, kiosk.TroubleMedia},
		{"does not say what is loaded, A4 is the default", func(p *ipp.Printer) { p.MediaReady, p.SizesReady = nil, nil }, whole, ""},
		{"does not say what is loaded, Letter is the default", func(p *ipp.Printer) {
			p.MediaReady, p.SizesReady, p.MediaDefault = nil, nil, "na_letter_8.5x11in"
		}, ipp.Ticket{}, kiosk.TroubleMedia},
		{"names borderless A4 only", func(p *ipp.Printer) { p.MediaReady, p.SizesReady = []string{ipp.A4Name + ".borderless"}, nil }, whole, ""},
		{"sizes are in media-col-ready only", func(p *ipp.Printer) { p.MediaReady = nil }, whole, ""},
		{
			"knows no media-col", func(p *ipp.Printer) { p.MediaCol = nil },
			with(func(t *ipp.Ticket) { t.Size, t.Media = ipp.Size{}, ipp.A4Name }), "",
		},
		{"takes raster only", func(p *ipp.Printer) { p.Formats = []string{"image/urf", "image/pwg-raster"} }, ipp.Ticket{}, kiosk.TroubleFormat},
		{"guesses formats", func(p *ipp.Printer) { p.Formats = []string{"application/octet-stream"} }, ipp.Ticket{}, kiosk.TroubleFormat},
		{
			"says nothing of the rest", func(p *ipp.Printer) { p.Sides, p.ColorModes, p.Scalings, p.Qualities = nil, nil, nil, nil },
			ipp.Ticket{Format: ipp.PDF, Size: ipp.A4},
			"",
		},
		{
			"has no monochrome", func(p *ipp.Printer) { p.ColorModes = []string{"color", "auto"} },
			with(func(t *ipp.Ticket) { t.ColorMode = "auto" }), "",
		},
		{"says nothing at all", func(p *ipp.Printer) { *p = ipp.Printer{} }, ipp.Ticket{}, kiosk.TroubleFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := office()
			tt.change(&p)
			if got, trouble := Plan(p, staff.Adopted{PDF: true}); got.Ticket != tt.want || trouble != tt.trouble {
				t.Errorf("got %+v, %q; want %+v, %q", got, trouble, tt.want, tt.trouble)
			}
		})
	}
}

func TestPlanOfPictures(t *testing.T) {
	all := []string{"application/octet-stream", ipp.PDF, ipp.URF, ipp.PWG}
	apple := []string{"V1.4", "CP1", "W8", "SRGB24", "RS300-600"}
	judged := staff.Adopted{PDF: true}
	for _, tt := range []struct {
		name    string
		p       ipp.Printer
		a       staff.Adopted
		format  string
		want    *raster.PrintOptions
		trouble kiosk.Trouble
	}{
		{"PDF that was judged right", ipp.Printer{Formats: all, URF: apple}, judged, ipp.PDF, nil, ""},
		{"PDF that was not", ipp.Printer{Formats: all, URF: apple}, staff.Adopted{}, ipp.URF, &raster.PrintOptions{Format: "image/urf", Color: "sgray_8", DPI: 300}, ""},
		{"raster always", ipp.Printer{Formats: all, URF: apple}, staff.Adopted{PDF: true, Raster: true}, ipp.URF, &raster.PrintOptions{Format: "image/urf", Color: "sgray_8", DPI: 300}, ""},
		{"PDF only, not judged right", ipp.Printer{Formats: []string{ipp.PDF}}, staff.Adopted{}, "", nil, kiosk.TroubleFormat},
		{"colour only, 600 dpi only", ipp.Printer{Formats: []string{ipp.URF}, URF: []string{"SRGB24", "RS600"}}, judged, ipp.URF, &raster.PrintOptions{Format: "image/urf", Color: "srgb_8", DPI: 600}, ""},
		{"URF that says nothing, PWG that does", ipp.Printer{Formats: all[2:], PWGTypes: []string{"black_1", "srgb_8"}, PWGResolutions: []int{200, 1200}}, judged, ipp.PWG, &raster.PrintOptions{Format: "image/pwg-raster", Color: "srgb_8", DPI: 200}, ""},
		{"URF of resolutions nobody can draw", ipp.Printer{Formats: []string{ipp.URF}, URF: []string{"W8", "RS1200"}}, judged, "", nil, kiosk.TroubleFormat},
		{"bits only", ipp.Printer{Formats: []string{ipp.PWG}, PWGTypes: []string{"black_1"}, PWGResolutions: []int{150, 200}}, judged, ipp.PWG, &raster.PrintOptions{Format: "image/pwg-raster", Color: "black_1", DPI: 200}, ""},
		{"600 before 400", ipp.Printer{Formats: []string{ipp.PWG}, PWGTypes: []string{"sgray_8"}, PWGResolutions: []int{400, 600}}, judged, ipp.PWG, &raster.PrintOptions{Format: "image/pwg-raster", Color: "sgray_8", DPI: 600}, ""},
		{"PWG without types", ipp.Printer{Formats: []string{ipp.PWG}, PWGResolutions: []int{300}}, judged, "", nil, kiosk.TroubleFormat},
		{"guesses", ipp.Printer{Formats: all[:1]}, judged, "", nil, kiosk.TroubleFormat},
		{"wants a password", ipp.Printer{Formats: all, URF: apple, Auth: true}, judged, "", nil, kiosk.TroubleAuth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.p.MediaSupported, tt.p.MediaReady = []string{ipp.A4Name}, []string{ipp.A4Name}
			got, trouble := Plan(tt.p, tt.a)
			if got.Ticket.Format != tt.format || trouble != tt.trouble || (got.Raster == nil) != (tt.want == nil) || tt.want != nil && *got.Raster != *tt.want {
				t.Errorf("got %+v, %+v, %q; want %s, %+v, %q", got.Ticket, got.Raster, trouble, tt.format, tt.want, tt.trouble)
			}
		})
	}
}

func TestReasonsAreWorded(t *testing.T) {
	all := Reasons()
	if len(all) < 40 || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("%d keywords: %v", len(all), all)
	}
	// Those of RFC 8011 §5.4.12 all have a meaning, but for "none".
	for _, r := range strings.Fields(`other connecting-to-device cover-open developer-empty developer-low door-open fuser-over-temp
		fuser-under-temp input-tray-missing interlock-open interpreter-resource-unavailable marker-supply-empty marker-supply-low
		marker-waste-almost-full marker-waste-full media-empty media-jam media-low media-needed moving-to-paused opc-life-over
		opc-near-eol output-area-almost-full output-area-full output-tray-missing paused shutdown spool-area-full stopped-partly
		stopping timed-out toner-empty toner-low`) {
		if !slices.Contains(all, r) {
			t.Errorf("%s has no meaning", r)
		}
	}
}

func TestTroubleOf(t *testing.T) {
	for _, tt := range []struct {
		name    string
		state   ipp.PrinterState
		reasons []string
		trays   []int
		want    kiosk.Trouble
	}{
		{"nothing", ipp.PrinterIdle, nil, nil, ""},
		{"an error", ipp.PrinterIdle, []string{"media-empty-error"}, nil, kiosk.TroublePaper},
		{"no severity is an error", ipp.PrinterIdle, []string{"cover-open"}, nil, kiosk.TroubleCover},
		{"a report of one tray of two", ipp.PrinterIdle, []string{"media-empty-report"}, []int{0, 100}, ""},
		{"a report of all trays", ipp.PrinterIdle, []string{"media-empty-report"}, []int{0, 0}, kiosk.TroublePaper},
		{"a warning while it prints", ipp.PrinterProcessing, []string{"media-empty-warning"}, nil, ""},
		{"it waits for paper, ippeveprinter's way", ipp.PrinterProcessing, []string{"media-empty-warning", "media-needed-warning"}, nil, kiosk.TroublePaper},
		{"stopped, whatever the severity", ipp.PrinterStopped, []string{"toner-empty-report"}, nil, kiosk.TroubleToner},
		{"jam before paper", ipp.PrinterStopped, []string{"media-empty-error", "media-jam-error"}, nil, kiosk.TroubleJam},
		{"low toner is for the staff", ipp.PrinterIdle, []string{"toner-low", "marker-supply-low-warning", "media-low-error"}, nil, ""},
		{"a reason we have no word for", ipp.PrinterIdle, []string{"fuser-under-temp-error"}, nil, ""},
		{"a reason we have no word for stops it", ipp.PrinterStopped, []string{"com.example-lamp-error"}, nil, kiosk.TroubleOther},
		{"too hot", ipp.PrinterIdle, []string{"fuser-over-temp-error"}, nil, kiosk.TroubleHot},
		{"waste full", ipp.PrinterIdle, []string{"toner-low", "marker-waste-full-error"}, nil, kiosk.TroubleWaste},
		{"waste almost full is for the staff", ipp.PrinterIdle, []string{"marker-waste-almost-full-error"}, nil, ""},
		{"says other for anything", ipp.PrinterIdle, []string{"other"}, nil, ""},
		{"its memory is full", ipp.PrinterIdle, []string{"spool-area-full-error"}, nil, kiosk.TroubleBusy},
		{"stopped without a reason", ipp.PrinterStopped, nil, nil, kiosk.TroubleOther},
		{"paused", ipp.PrinterStopped, []string{"paused"}, nil, kiosk.TroublePaused},
		{"connecting while it prints", ipp.PrinterProcessing, []string{"connecting-to-device"}, nil, ""},
		{"tray out", ipp.PrinterIdle, []string{"input-tray-missing-error"}, nil, kiosk.TroubleTray},
		{"output full", ipp.PrinterStopped, []string{"output-area-full-warning"}, nil, kiosk.TroubleOutputFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := ipp.Printer{State: tt.state, Accepting: true, Reasons: tt.reasons, TrayLevels: tt.trays}
			if got := troubleOf(p); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	supply := func(name, kind string, level int) ipp.Supply {
		return ipp.Supply{Name: name, Kind: kind, Level: level, Low: 10}
	}
	waste := supply("Waste", "waste-toner", 0)
	for _, tt := range []struct {
		name     string
		reason   string
		supplies []ipp.Supply
		want     kiosk.Trouble
	}{
		{"a report that the black toner is empty", "toner-empty-report", []ipp.Supply{waste, supply("Black Toner", "toner", 0)}, kiosk.TroubleToner},
		{"a warning about the only supply", "marker-supply-empty-warning", []ipp.Supply{supply("Cartridge 123", "toner-cartridge", 0)}, kiosk.TroubleToner},
		{"a colour", "marker-supply-empty-report", []ipp.Supply{supply("Black", "toner", 60), supply("Cyan", "toner", 0)}, ""},
		{"its level says otherwise", "toner-empty-report", []ipp.Supply{supply("Black Toner", "toner", 3)}, ""},
		{"nothing is said of levels", "toner-empty-report", []ipp.Supply{supply("Black Toner", "toner", -1)}, ""},
		{"an empty waste box", "toner-empty-report", []ipp.Supply{waste, supply("Black Toner", "toner", 50)}, ""},
		{"low", "toner-low-report", []ipp.Supply{supply("Black Toner", "toner", 0)}, ""},
	} {
		p := ipp.Printer{State: ipp.PrinterIdle, Accepting: true, Reasons: []string{tt.reason}, Supplies: tt.supplies}
		if got := troubleOf(p); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := troubleOf(ipp.Printer{State: ipp.PrinterIdle}); got != kiosk.TroublePaused {
		t.Errorf("not accepting jobs: got %q", got)
	}
}
