package ipp

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/OpenPrinting/goipp"
)

// PrinterState is printer-state (RFC 8011 §5.4.11). 0 means that the printer did not say.
type PrinterState int

// The states of a printer.
const (
	PrinterIdle       PrinterState = 3
	PrinterProcessing PrinterState = 4
	PrinterStopped    PrinterState = 5
)

// JobState is job-state (RFC 8011 §5.3.7). 0 means that the printer did not say: then nothing is known.
type JobState int

// The states of a job.
const (
	JobPending           JobState = 3
	JobPendingHeld       JobState = 4
	JobProcessing        JobState = 5
	JobProcessingStopped JobState = 6
	JobCanceled          JobState = 7
	JobAborted           JobState = 8
	JobCompleted         JobState = 9
)

var jobStates = map[JobState]string{
	JobPending: "pending", JobPendingHeld: "pending-held", JobProcessing: "processing",
	JobProcessingStopped: "processing-stopped", JobCanceled: "canceled", JobAborted: "aborted", JobCompleted: "completed",
}

func (s JobState) String() string {
	if n, ok := jobStates[s]; ok {
		return n
	}
	return "unknown(" + strconv.Itoa(int(s)) + ")"
}

// Ended reports whether the job will not change any more.
func (s JobState) Ended() bool { return s == JobCanceled || s == JobAborted || s == JobCompleted }

// Size is a size of paper in hundredths of a millimetre, portrait.
type Size struct{ Width, Height int }

// A4 is ISO 216's, and its PWG 5101.1 name.
var A4 = Size{21000, 29700}

// A4Name is the keyword for A4 in media attributes.
const A4Name = "iso_a4_210x297mm"

// Ticket is what is wished of a job. Empty fields are not sent.
type Ticket struct {
	Name      string // job-name: shown on the printer's panel and kept in its log
	Format    string // document-format
	Media     string // either the keyword
	Size      Size   // or media-col with a media-size
	Sides     string
	ColorMode string // print-color-mode
	Scaling   string // print-scaling
	Quality   int    // print-quality: 4 is normal
}

// Printer is what a printer says of itself. Texts are cleaned for display. A list is empty when the printer does not say.
type Printer struct {
	UUID           string // lower case, without "urn:uuid:"
	Name           string // printer-info, else printer-make-and-model, else printer-name
	State          PrinterState
	StateMessage   string
	Reasons        []string // printer-state-reasons without "none"
	Accepting      bool     // printer-is-accepting-jobs; true when it does not say
	UpTime         int      // seconds; falls when it restarts
	Queued         int
	Formats        []string // document-format-supported
	MediaSupported []string
	MediaReady     []string
	MediaDefault   string
	SizesReady     []Size // of media-col-ready
	MediaCol       []string
	Sides          []string
	ColorModes     []string
	Scalings       []string
	Qualities      []int
	Operations     []int
	TrayLevels     []int // printer-input-tray: sheets, of the trays that know it
	Make           string
	Serial         string // printer-device-id's SN, or printer-serial-number; "" when it does not say
	Trays          []Tray
	Supplies       []Supply
	URF            []string // urf-supported: "W8", "SRGB24", "RS300-600", "DM1"
	PWGTypes       []string // pwg-raster-document-type-supported: "sgray_8", "srgb_8", "black_1"
	PWGResolutions []int    // pwg-raster-document-resolution-supported in dpi, of those with the same both ways
	PWGBack        string   // pwg-raster-document-sheet-back
	Auth           bool     // uri-authentication-supported asks for a user for the URI it was asked at
	HoldUntil      []string // job-hold-until-supported
	Identify       []string // identify-actions-supported
	Count          int      // printer-impressions-completed, -1 when it does not say
}

// Job is what a printer says of a job.
type Job struct {
	ID          int
	UUID        string // lower case, without "urn:uuid:"; "" when the printer gives none
	Name        string
	State       JobState
	Reasons     []string
	Impressions int // job-impressions-completed, -1 when the printer does not say
}

var jobAttributes = []string{"job-id", "job-uuid", "job-name", "job-state", "job-state-reasons", "job-impressions-completed"}

// printerAttributes is what is asked of a printer: never whole groups, because media-col-database alone can be half a
// megabyte.
var printerAttributes = []string{
	"printer-name", "printer-info", "printer-make-and-model", "printer-uuid", "printer-state",
	"printer-state-reasons", "printer-state-message", "printer-is-accepting-jobs", "printer-up-time", "printer-input-tray",
	"queued-job-count", "document-format-supported", "media-supported", "media-ready", "media-default", "media-col-ready",
	"media-col-supported", "sides-supported", "print-color-mode-supported", "print-scaling-supported",
	"print-quality-supported", "operations-supported", "printer-device-id", "printer-serial-number", "printer-supply",
	"printer-supply-description", "marker-names", "marker-types", "marker-levels", "marker-low-levels", "urf-supported",
	"pwg-raster-document-type-supported", "pwg-raster-document-resolution-supported", "pwg-raster-document-sheet-back",
	"printer-uri-supported", "uri-authentication-supported", "job-hold-until-supported", "identify-actions-supported",
	"printer-impressions-completed",
}

const (
	maxValues  = 4096 // of one attribute
	maxKeyword = 255
	maxName    = 127
)

// parsePrinter reads what a printer says of itself that was asked at uri.
func parsePrinter(m answer, uri string) Printer {
	a := m.Printer
	p := Printer{
		UUID:           uuid(first(a, "printer-uuid", maxKeyword)),
		Name:           first(a, "printer-info", maxName),
		State:          PrinterState(number(a, "printer-state", 0)),
		StateMessage:   first(a, "printer-state-message", maxKeyword),
		Reasons:        slices.DeleteFunc(all(a, "printer-state-reasons"), func(s string) bool { return s == "none" }),
		Accepting:      flag(a, "printer-is-accepting-jobs", true),
		UpTime:         number(a, "printer-up-time", 0),
		Queued:         number(a, "queued-job-count", 0),
		Formats:        all(a, "document-format-supported"),
		MediaSupported: all(a, "media-supported"),
		MediaReady:     all(a, "media-ready"),
		MediaDefault:   first(a, "media-default", maxKeyword),
		MediaCol:       all(a, "media-col-supported"),
		Sides:          all(a, "sides-supported"),
		ColorModes:     all(a, "print-color-mode-supported"),
		Scalings:       all(a, "print-scaling-supported"),
		Qualities:      numbers(a, "print-quality-supported"),
		Operations:     numbers(a, "operations-supported"),
		Make:           first(a, "printer-make-and-model", maxName),
		Serial:         serial(a),
		Trays:          trays(a),
		Supplies:       supplies(a),
		URF:            all(a, "urf-supported"),
		PWGTypes:       all(a, "pwg-raster-document-type-supported"),
		PWGResolutions: resolutions(a),
		PWGBack:        first(a, "pwg-raster-document-sheet-back", maxKeyword),
		Auth:           auth(a, uri),
		HoldUntil:      all(a, "job-hold-until-supported"),
		Identify:       all(a, "identify-actions-supported"),
		Count:          max(-1, number(a, "printer-impressions-completed", -1)),
	}
	for _, name := range []string{"printer-make-and-model", "printer-name"} {
		if p.Name == "" {
			p.Name = first(a, name, maxName)
		}
	}
	for _, v := range values(a, "media-col-ready") {
		col, _ := v.(goipp.Collection)
		if size, ok := sizeOf(goipp.Attributes(col)); ok {
			p.SizesReady = append(p.SizesReady, size)
		}
	}
	for _, v := range values(a, "printer-input-tray") {
		if n := level(fields(str(v))["level"]); n >= 0 {
			p.TrayLevels = append(p.TrayLevels, n)
		}
	}
	return p
}

func parseJob(a goipp.Attributes) Job {
	return Job{
		ID:          number(a, "job-id", 0),
		UUID:        uuid(first(a, "job-uuid", maxKeyword)),
		Name:        first(a, "job-name", maxKeyword),
		State:       JobState(number(a, "job-state", 0)),
		Reasons:     slices.DeleteFunc(all(a, "job-state-reasons"), func(s string) bool { return s == "none" }),
		Impressions: number(a, "job-impressions-completed", -1),
	}
}

func uuid(s string) string {
	return strings.ToLower(strings.TrimPrefix(strings.ToLower(s), "urn:uuid:"))
}

func values(as goipp.Attributes, name string) []goipp.Value {
	for _, a := range as {
		if a.Name == name {
			var vs []goipp.Value
			for _, v := range a.Values[:min(len(a.Values), maxValues)] {
				vs = append(vs, v.V)
			}
			return vs
		}
	}
	return nil
}

// str is the text of a value that is one, else "".
func str(v goipp.Value) string {
	switch v := v.(type) {
	case goipp.String:
		return string(v)
	case goipp.TextWithLang:
		return v.Text
	case goipp.Binary:
		return string(v)
	}
	return ""
}

func first(as goipp.Attributes, name string, limit int) string {
	for _, v := range values(as, name) {
		if s := text(str(v), limit); s != "" {
			return s
		}
	}
	return ""
}

func all(as goipp.Attributes, name string) []string {
	var ss []string
	for _, v := range values(as, name) {
		if s := text(str(v), maxKeyword); s != "" {
			ss = append(ss, s)
		}
	}
	return ss
}

func numbers(as goipp.Attributes, name string) []int {
	var ns []int
	for _, v := range values(as, name) {
		if n, ok := v.(goipp.Integer); ok {
			ns = append(ns, int(n))
		}
	}
	return ns
}

func number(as goipp.Attributes, name string, otherwise int) int {
	if ns := numbers(as, name); len(ns) > 0 {
		return ns[0]
	}
	return otherwise
}

func flag(as goipp.Attributes, name string, otherwise bool) bool {
	for _, v := range values(as, name) {
		if b, ok := v.(goipp.Boolean); ok {
			return bool(b)
		}
	}
	return otherwise
}

// text makes a printer's text fit to be shown and logged: valid UTF-8 on one line, at most limit bytes.
func text(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "") {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
