package adoption_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// TestAdoption goes the whole way: an announced printer prints its page, a person types the code, a restart changes nothing,
// and retiring ends it.
func TestAdoption(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Città – Sala 1", UUID: "a", TLS: true, TwoKeys: true})
	b.Found([]dnssd.Service{service("_ipps._tcp", "x", "192.0.2.7:631", "a"), service("_ipp._tcp", "x", "192.0.2.7:80", "a")})
	c := b.only()
	if c.UUID != "a" || c.Name != "Città – Sala 1" || c.Make != "ACME 9" || c.URI != "ipps://192.0.2.7:631/ipp/print" || c.Source != "dnssd" ||
		!c.TLS || c.Known || c.Refused != "" || len(c.Keys) == 0 {
		t.Errorf("candidate %+v", c)
	}
	if b.uuids() != "" {
		t.Fatalf("adopted %s before anybody has done so", b.uuids())
	}

	tr, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi")
	if err != nil || tr.Format != ipp.PDF || tr.Left != 3 || tr.Ends.Sub(tr.Started) != 10*time.Minute || tr.UUID != "a" {
		t.Fatalf("trial %+v, %v", tr, err)
	}
	code := read(t, p)
	if b.uuids() != "" {
		t.Error("adopted without the code")
	}
	b.alarms.Raise(staff.Alarm{Kind: staff.AlarmKey, Subject: "a"})
	b.alarms.Raise(staff.Alarm{Kind: staff.AlarmIdentity, Subject: "a"})
	b.alarms.Raise(staff.Alarm{Kind: staff.AlarmSheet, Subject: "a"})
	if _, err := b.Confirm(t.Context(), c.ID, wrong(code), true, "Rossi"); !errors.Is(err, staff.ErrCode) {
		t.Errorf("wrong code: %v", err)
	}
	a, err := b.Confirm(t.Context(), c.ID, " "+code[:2]+" "+code[2:]+" ", true, " Rossi\n")
	if err != nil {
		t.Fatal(err)
	}
	pins := p.Pins()
	slices.Sort(pins)
	if a.UUID != "a" || a.Serial != "N-192.0.2.7:631" || a.Make != "ACME 9" || !slices.Equal(a.Keys, pins) || a.Link != staff.LinkTLS || !a.PDF || a.Raster ||
		a.By != "Rossi" || !a.At.Equal(b.clock()) || a.URI != c.URI {
		t.Errorf("adopted %+v, want keys %v", a, pins)
	}
	if got := kinds(&b.alarms); got != "sheet a" {
		t.Errorf("alarms %q, want only that a sheet may come out", got)
	}
	if _, err := b.Confirm(t.Context(), c.ID, code, true, "Rossi"); !errors.Is(err, staff.ErrOver) {
		t.Errorf("the code was good twice: %v", err)
	}
	if cs := b.candidates(); len(cs) != 0 {
		t.Errorf("it is adopted and a candidate: %+v", cs)
	}

	b.restart()
	if b.uuids() != "a" || !slices.Equal(b.adopted[0].Keys, pins) {
		t.Errorf("after a restart %+v", b.adopted)
	}
	if err := b.SetRaster(t.Context(), "URN:UUID:A", true); err != nil || !b.adopted[0].Raster {
		t.Errorf("%v, %+v", err, b.adopted)
	}
	if err := b.Retire(t.Context(), "a", "Bianchi"); err != nil || b.uuids() != "" {
		t.Errorf("%v, adopted %q after it was retired", err, b.uuids())
	}
	for _, err := range []error{b.Retire(t.Context(), "a", "Bianchi"), b.SetRaster(t.Context(), "a", false)} {
		if !errors.Is(err, staff.ErrGone) {
			t.Errorf("of a printer that was retired: %v", err)
		}
	}
	b.restart()
	stored, err := b.store.Printers(t.Context())
	if err != nil || b.uuids() != "" || len(stored) != 1 || stored[0].RetiredBy != "Bianchi" || !stored[0].Raster {
		t.Errorf("stored %+v, %v; adopted %q", stored, err, b.uuids())
	}
	if got := strings.Join(b.notes, ", "); got != "printer.adopted tls, printer.retired tls" {
		t.Errorf("noted %q", got)
	}
	if s := b.log.String(); strings.Contains(s, code) || strings.Contains(s, "Rossi") {
		t.Errorf("the log says the code, or who:\n%s", s)
	}
}

// TestConfirmRefuses has something be wrong between the page and the code.
func TestConfirmRefuses(t *testing.T) {
	confirm := func(b *branch, id, code string, right bool) error {
		_, err := b.Confirm(b.t.Context(), id, code, right, "Rossi")
		return err
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, b *branch, p *ipptest.Printer, id, code string) error // between the two
		want error
		more error // what the right code then gives
	}{
		{"another key", func(t *testing.T, b *branch, p *ipptest.Printer, id, code string) error {
			if err := p.NewKey(); err != nil {
				t.Fatal(err)
			}
			return confirm(b, id, code, true)
		}, staff.ErrChanged, staff.ErrOver},
		{"another printer with the same address", func(_ *testing.T, b *branch, p *ipptest.Printer, id, code string) error {
			p.SetUUID("other")
			return confirm(b, id, code, true)
		}, staff.ErrChanged, staff.ErrOver},
		{"another machine that says it is the same printer", func(_ *testing.T, b *branch, p *ipptest.Printer, id, code string) error {
			p.Close()
			b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
			return confirm(b, id, code, true)
		}, staff.ErrChanged, staff.ErrOver},
		{"three wrong codes", func(_ *testing.T, b *branch, _ *ipptest.Printer, id, code string) error {
			for range 2 {
				if err := confirm(b, id, wrong(code), true); !errors.Is(err, staff.ErrCode) {
					b.t.Errorf("got %v", err)
				}
			}
			return confirm(b, id, wrong(code), true)
		}, staff.ErrOver, staff.ErrOver},
		{"ten minutes", func(_ *testing.T, b *branch, _ *ipptest.Printer, id, code string) error {
			b.pass(10 * time.Minute)
			return confirm(b, id, code, true)
		}, staff.ErrOver, staff.ErrOver},
		{"a clock that was set back", func(_ *testing.T, b *branch, _ *ipptest.Printer, id, code string) error {
			b.pass(-time.Minute)
			return confirm(b, id, code, true)
		}, staff.ErrOver, staff.ErrOver},
		{"a restart", func(_ *testing.T, b *branch, _ *ipptest.Printer, id, code string) error {
			b.restart()
			return confirm(b, id, code, true)
		}, staff.ErrOver, staff.ErrOver},
		{"a second page", func(t *testing.T, b *branch, p *ipptest.Printer, id, code string) error {
			if _, err := b.Begin(t.Context(), id, false, nil, "Rossi"); err != nil {
				t.Fatal(err)
			}
			if read(t, p) == code {
				t.Error("the second page has the code of the first")
			}
			return confirm(b, id, code, true)
		}, staff.ErrCode, staff.ErrCode},
		{"a page that is not right", func(_ *testing.T, b *branch, _ *ipptest.Printer, id, code string) error {
			return confirm(b, id, code, false)
		}, staff.ErrRefused, staff.ErrOver},
		{"a cable that is out: the code is good when it is in again", func(t *testing.T, b *branch, p *ipptest.Printer, id, code string) error {
			if err := p.Gone(true); err != nil {
				t.Fatal(err)
			}
			err := confirm(b, id, code, true)
			if err := p.Gone(false); err != nil {
				t.Fatal(err)
			}
			return err
		}, staff.ErrGone, nil},
		{"no page at all", func(_ *testing.T, b *branch, _ *ipptest.Printer, _, code string) error {
			return confirm(b, "another", code, true)
		}, staff.ErrOver, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBranch(t)
			p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
			b.Found([]dnssd.Service{service("_ipps._tcp", "x", "192.0.2.7:631", "a")})
			c := b.only()
			if _, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi"); err != nil {
				t.Fatal(err)
			}
			code := read(t, p)
			if err := tt.do(t, b, p, c.ID, code); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if b.uuids() != "" {
				t.Errorf("adopted %q", b.uuids())
			}
			if err := confirm(b, c.ID, code, true); !errors.Is(err, tt.more) {
				t.Errorf("then %v, want %v", err, tt.more)
			}
		})
	}
}

// TestPageGoesToTheKeysThatWereShown changes the key while the page is on its way.
func TestPageGoesToTheKeysThatWereShown(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
	b.Found([]dnssd.Service{service("_ipps._tcp", "x", "192.0.2.7:631", "a")})
	c := b.only()
	if err := p.NewKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi"); !errors.Is(err, staff.ErrGone) {
		t.Errorf("begun with another key than was shown: %v", err)
	}
	c = b.only()
	b.during = func(staff.Adopted, []byte) {
		if err := p.NewKey(); err != nil {
			t.Error(err)
		}
	}
	_, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi")
	var pe *kiosk.PrintError
	if !errors.As(err, &pe) || !errors.Is(err, ipp.ErrKey) {
		t.Errorf("got %v, want a print error for the key", err)
	}
	if n := p.Requests("Create-Job"); n != 0 || len(p.Documents()) != 0 {
		t.Errorf("%d jobs, %d pages at a printer with another key", n, len(p.Documents()))
	}
	b.during = nil
	if _, err := b.Begin(t.Context(), "never", false, nil, "Rossi"); !errors.Is(err, staff.ErrGone) {
		t.Errorf("a candidate that was never there: %v", err)
	}
}

// TestReadoption changes an adopted printer's key, as a firmware update does.
func TestReadoption(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
	b.Found([]dnssd.Service{service("_ipps._tcp", "x", "192.0.2.7:631", "a")})
	old := b.adopt(b.only().ID, p)

	// Somebody says that they are this printer. It still answers itself: its paper would prove nothing.
	rogue := b.printer("192.0.2.66:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
	b.Found([]dnssd.Service{service("_ipps._tcp", "y", "192.0.2.66:631", "a")})
	if c := b.only(); c.Refused != "duplicate" || !c.Known {
		t.Errorf("candidate %+v", c)
	}
	if err := p.Gone(true); err != nil {
		t.Fatal(err)
	}
	c := b.only()
	if err := p.Gone(false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi"); !errors.Is(err, staff.ErrRefused) || len(rogue.Documents()) != 0 {
		t.Errorf("candidate %+v: got %v, %d pages", c, err, len(rogue.Documents()))
	}
	rogue.Close()

	if err := p.NewKey(); err != nil {
		t.Fatal(err)
	}
	b.Found(nil) // it is not announced: where it was adopted is known
	c = b.only()
	if !c.Known || !slices.Equal(c.OldKeys, old.Keys) || slices.Equal(c.Keys, old.Keys) || c.UUID != "a" {
		t.Errorf("candidate %+v", c)
	}
	if !slices.Equal(b.adopted[0].Keys, old.Keys) {
		t.Error("the new key counts before anybody has said so")
	}
	b.pass(time.Minute)
	a := b.adopt(c.ID, p)
	if slices.Equal(a.Keys, old.Keys) || len(a.Keys) != 1 || b.uuids() != "a" || !slices.Equal(b.adopted[0].Keys, a.Keys) {
		t.Errorf("adopted %+v, the new key only", b.adopted)
	}
}

// TestPagesHaveLimits has somebody play with the button.
func TestPagesHaveLimits(t *testing.T) {
	b := newBranch(t)
	const printers = 8
	var ids []string
	for i := range printers + 1 {
		addr := "192.0.2." + string(rune('1'+i)) + ":631"
		b.printer(addr, ipptest.Config{Name: addr, UUID: addr, TLS: true})
		c, err := b.Add(t.Context(), "ipps://"+addr+"/ipp/print")
		if err != nil || c.Refused != "" {
			t.Fatal(c, err)
		}
		ids = append(ids, c.ID)
	}
	var pe *kiosk.PrintError
	for i, id := range ids {
		_, err := b.Begin(t.Context(), id, false, nil, "Rossi")
		if i < printers && err != nil {
			t.Fatal(err)
		}
		if i == printers && (!errors.As(err, &pe) || pe.Trouble != kiosk.TroubleBusy || pe.Outcome != kiosk.NothingPrinted) {
			t.Errorf("a ninth page at once: %v", err)
		}
	}
	// After twenty pages it is over for an hour.
	n := printers
	for ; n < 100; n++ {
		if _, err := b.Begin(t.Context(), ids[n%printers], false, nil, "Rossi"); err != nil {
			if !errors.As(err, &pe) || pe.Trouble != kiosk.TroubleBusy {
				t.Error(err)
			}
			break
		}
	}
	if n != 20 {
		t.Errorf("%d pages in an hour, want 20", n)
	}
	b.pass(time.Hour)
	if _, err := b.Begin(t.Context(), ids[0], false, nil, "Rossi"); err != nil {
		t.Errorf("after an hour: %v", err)
	}
}

func TestPicture(t *testing.T) {
	for _, tt := range []struct {
		name            string
		formats         []string
		picture, right  bool
		want            error
		wantPDF, always bool
	}{
		{"PDF that is right", []string{ipp.PDF}, false, true, nil, true, false},
		{"PDF that is wrong", []string{ipp.PDF, ipp.URF}, false, false, staff.ErrRefused, false, false},
		{"a picture that is right", []string{ipp.PDF, ipp.URF}, true, true, nil, false, true},
		{"a picture that is not", []string{ipp.PDF, ipp.URF}, true, false, staff.ErrRefused, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBranch(t)
			p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
			p.Formats(tt.formats...)
			b.Found([]dnssd.Service{service("_ipps._tcp", "x", "192.0.2.7:631", "a")})
			c := b.only()
			var page []byte
			b.during = func(_ staff.Adopted, pdf []byte) { page = pdf }
			tr, err := b.Begin(t.Context(), c.ID, tt.picture, nil, "Rossi")
			if err != nil || (tr.Format == ipp.PDF) == tt.picture {
				t.Fatal(tr, err)
			}
			a, err := b.Confirm(t.Context(), c.ID, readPage(t, page), tt.right, "Rossi")
			if !errors.Is(err, tt.want) || a.PDF != tt.wantPDF || a.Raster != tt.always {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
	c, err := b.Add(t.Context(), "ipps://192.0.2.7/ipp/print")
	if err != nil || c.Source != "manual" {
		t.Fatal(c, err)
	}
	b.adopt(c.ID, p)
	stored := func() string {
		t.Helper()
		all, err := b.store.Printers(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].URI
	}
	b.Moved("a", "ipp://192.0.2.8/ipp/print") // never in the clear
	b.Settle(t.Context())
	if got := stored(); got != "ipps://192.0.2.7/ipp/print" {
		t.Errorf("moved to %s", got)
	}
	b.Moved("a", "ipps://192.0.2.8/ipp/print")
	b.Moved("a", "ipps://192.0.2.9/ipp/print")
	b.Moved("never", "ipps://192.0.2.9/ipp/print")
	b.Settle(t.Context())
	if got := stored(); got != "ipps://192.0.2.9/ipp/print" {
		t.Errorf("moved to %s", got)
	}
	b.restart()
	if b.uuids() != "a" || b.adopted[0].URI != "ipps://192.0.2.9/ipp/print" {
		t.Errorf("after a restart %+v", b.adopted)
	}
}
