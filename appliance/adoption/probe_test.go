package adoption

import (
	"fmt"
	"testing"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk/staff"
)

// TestRefused is about printers that no simulator is.
func TestRefused(t *testing.T) {
	good := ipp.Printer{UUID: "a", Formats: []string{ipp.URF}, MediaSupported: []string{"na_letter_8.5x11in", ipp.A4Name}}
	for _, tt := range []struct {
		name string
		set  func(*answer)
		want string
	}{
		{"a good one", func(*answer) {}, ""},
		{"one that does not say what paper it takes", func(a *answer) { a.printer.MediaSupported = nil }, ""},
		{"letter only", func(a *answer) { a.printer.MediaSupported = []string{"na_letter_8.5x11in"} }, noA4},
		{"letter by name, with A4 in the tray", func(a *answer) {
			a.printer.MediaSupported, a.printer.SizesReady = []string{"na_letter_8.5x11in"}, []ipp.Size{ipp.A4}
		}, ""},
		{"one that does not say which it is", func(a *answer) { a.printer.UUID = "" }, noUUID},
		{"a password for everything", func(a *answer) { a.err = fmt.Errorf("ask: %w", ipp.ErrAuth) }, auth},
		{"a password for jobs", func(a *answer) { a.printer.Auth = true }, auth},
		{"no language that we speak", func(a *answer) { a.printer.Formats = []string{"application/octet-stream"} }, noFormat},
	} {
		a := answer{endpoint: endpoint{uri: "ipps://192.0.2.7/ipp/print"}, printer: good, keys: []string{"k"}}
		tt.set(&a)
		if c := (&Service{}).judge(a, staff.Adopted{}, false); c.Refused != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, c.Refused, tt.want)
		}
	}
}

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		" Rossi\t Anna\n": "Rossi Anna", "configuration": "“configuration”", "Configuration ": "“Configuration”", "a\u202eb\xff": "a b", "": "",
	} {
		if got := who(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
