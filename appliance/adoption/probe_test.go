package adoption

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sportello.example/appliance/dnssd"
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

// FuzzAnnounced has somebody announce anything: the box asks at the announced address and port only, in a way it knows.
func FuzzAnnounced(f *testing.F) {
	f.Add("_ipps._tcp", "Città – Sala", "a.local", "ipp/print", "urn:uuid:A", "application/pdf", "192.0.2.7", uint16(631))
	f.Add("_ipp._tcp", "x", "", "//evil/@:80/%zz?#\x00", "", "", "fe80::1%eth0", uint16(1))
	f.Add("_ipp._tcp", "x", "", "", "", "", "fe80::1%#000", uint16(1))
	f.Add("_pdl-datastream._tcp", "x", "b", "", "", "PCL", "2001:db8::1", uint16(9100))
	f.Add("_printer._tcp", "", "", "q", "", "", "127.0.0.1", uint16(515))
	f.Fuzz(func(t *testing.T, typ, instance, host, rp, uuid, pdl, addr string, port uint16) {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return
		}
		sv := dnssd.Service{
			Instance: instance, Type: typ, Host: host, Port: int(port), Addrs: []netip.Addr{a}, TXT: map[string]string{"rp": rp, "uuid": uuid, "pdl": pdl},
		}
		for _, e := range (&Service{found: []dnssd.Service{sv}}).announced() {
			u, err := url.Parse(e.uri)
			if err != nil {
				t.Fatal(err)
			}
			if u.Hostname() != a.String() || u.Port() != fmt.Sprint(port) || u.User != nil || !slices.Contains([]string{"ipp", "ipps", "socket", "lpd"}, u.Scheme) {
				t.Errorf("asks at %q", e.uri)
			}
			if a.IsLoopback() {
				t.Errorf("asks itself at %q", e.uri)
			}
		}
	})
}

// FuzzAddress has somebody type anything.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"ipps://192.0.2.7/ipp/print", "ipp://localhost:60000/ipp/print", "socket://h:9100", "file:///dev/usb/lp0", "ipp://[fe80::1%25eth0]/", "http://h/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if checkAddress(uri) != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.User != nil || !slices.Contains([]string{"ipp", "ipps", "socket", "file"}, u.Scheme) {
			t.Errorf("took %q", uri)
		}
		if u.Scheme == "file" && !strings.HasPrefix(u.Path, "/dev/") {
			t.Errorf("took file %q", uri)
		}
		if _, err := (&Service{}).client(uri, "", nil); err != nil && !receipt(uri) {
			t.Errorf("took %q, and cannot ask there: %v", uri, err)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add(" a\tb\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := line(s, 10); !utf8.ValidString(got) || utf8.RuneCountInString(got) > 10 || line(got, 10) != got {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}
