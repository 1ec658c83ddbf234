package printing_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// bell collects alarms as the box does, and counts the new ones.
type bell struct {
	staff.Alarms
	rung atomic.Int32
}

func (b *bell) use(cfg *printing.Config) {
	cfg.Alarm = func(a staff.Alarm) {
		if b.Raise(a) {
			b.rung.Add(1)
		}
	}
	cfg.Cleared = b.Clear
}

func (b *bell) get(kind staff.AlarmKind) (staff.Alarm, bool) {
	for _, a := range b.List() {
		if a.Kind == kind {
			return a, true
		}
	}
	return staff.Alarm{}, false
}

func (b *bell) has(kind staff.AlarmKind) bool {
	_, ok := b.get(kind)
	return ok
}

// risk is an acceptance that lasts from now.
func risk(d time.Duration) *staff.Risk {
	now := time.Now()
	return &staff.Risk{By: "Anna Neri", Why: "old printer", At: now, Until: now.Add(d)}
}

func TestWhereDocumentsMayGo(t *testing.T) {
	key := strings.Repeat("0", 64)
	year := risk(300 * 24 * time.Hour)
	for _, tt := range []struct {
		name string
		a    staff.Adopted
		want string // in the error, "" for none
	}{
		{"ipps with its keys", staff.Adopted{URI: "ipps://192.0.2.7/p", Keys: []string{key}, Link: staff.LinkTLS}, ""},
		{"ipps with its keys, by an old configuration", staff.Adopted{URI: "ipps://192.0.2.7/p", Keys: []string{key}}, ""},
		{"ipps without keys", staff.Adopted{URI: "ipps://192.0.2.7/p", Link: staff.LinkTLS}, "adopt it again"},
		{"ipps without keys, by an old configuration", staff.Adopted{URI: "ipps://192.0.2.7/p"}, "with its keys"},
		{"TLS without an address and keys", staff.Adopted{Link: staff.LinkTLS}, "keys are not known"},
		{"keys, and in the clear", staff.Adopted{URI: "ipp://192.0.2.7/p", Keys: []string{key}, Link: staff.LinkRisk, Risk: year}, "ipps"},
		{"TLS, and in the clear", staff.Adopted{URI: "ipp://127.0.0.1/p", Link: staff.LinkTLS}, "ipps"},
		{"in the clear", staff.Adopted{URI: "ipp://192.0.2.7/p"}, "accept the risk"},
		{"USB", staff.Adopted{URI: "ipp://127.0.0.1:60000/p", Link: staff.LinkUSB}, ""},
		{"USB by IPv6", staff.Adopted{URI: "ipp://[::1]:60000/p", Link: staff.LinkUSB}, ""},
		{"USB that is not here", staff.Adopted{URI: "ipp://192.0.2.7/p", Link: staff.LinkUSB}, "USB"},
		{"a port of its own", staff.Adopted{URI: "ipp://192.0.2.7/p", Link: staff.LinkDedicated, Interface: "eth1"}, ""},
		{"a port without a name", staff.Adopted{URI: "ipp://192.0.2.7/p", Link: staff.LinkDedicated}, "name the interface"},
		{"an accepted risk", staff.Adopted{URI: "ipp://192.0.2.7/p", Link: staff.LinkRisk, Risk: year}, ""},
		{"a risk nobody accepted", staff.Adopted{URI: "ipp://192.0.2.7/p", Link: staff.LinkRisk}, "by name"},
		{"a risk, without an address", staff.Adopted{Link: staff.LinkRisk, Risk: year}, "where it was adopted"},
		{"a retired one counts for nothing", staff.Adopted{URI: "ipp://192.0.2.7/p", Retired: time.Now()}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spooler(t, quick(ipptest.New(ipptest.Config{}), &memory{}))
			before := len(s.Printers())
			tt.a.UUID = "aaaaaaaa-2222-4333-8444-555555555555"
			err := s.Adopt([]staff.Adopted{tt.a})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && len(s.Printers()) != before {
				t.Error("it was refused, and something has changed")
			}
		})
	}
}

// TestRiskIsNotCarriedElsewhere announces another machine under the UUID of a printer without TLS that is switched off.
func TestRiskIsNotCarriedElsewhere(t *testing.T) {
	t.Parallel()
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	p, impostor := start(t, ipptest.Config{UUID: uuid}), start(t, ipptest.Config{UUID: uuid})
	cfg := quick(p, &memory{})
	cfg.Adopted[0].Link, cfg.Adopted[0].Risk = staff.LinkRisk, risk(60*24*time.Hour)
	cfg.Moved = func(_, uri string) { t.Errorf("it has moved to %s", uri) }
	s := spooler(t, cfg)
	run(t, s)
	s.Found([]dnssd.Service{service(t, p, uuid)})
	until(t, "ready", 10*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
	p.Close()
	s.Found([]dnssd.Service{service(t, impostor, uuid)})
	if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "unreachable nothing_printed" {
		t.Errorf("got %s", got)
	}
	if n := impostor.Requests("Create-Job") + len(impostor.Documents()); n > 0 {
		t.Errorf("the impostor got %d jobs and documents", n)
	}
}

// TestRiskEnds prints in the clear as long as somebody has accepted that, in fake time.
func TestRiskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net ipptest.Net
		p := start(t, ipptest.Config{Listen: listen(&net, "192.0.2.7:631")})
		cfg := quick(p, &memory{})
		cfg.Idle, cfg.Session, cfg.Active = 6*time.Hour, 6*time.Hour, 6*time.Hour
		cfg.Dial = net.Dial
		cfg.Adopted[0].Link, cfg.Adopted[0].Risk = staff.LinkRisk, risk(60*24*time.Hour)
		s := spooler(t, cfg)
		run(t, s)
		for _, tt := range []struct {
			day  int
			want string
		}{{0, "done"}, {59, "done"}, {61, "identity nothing_printed"}} {
			time.Sleep(time.Until(cfg.Adopted[0].Risk.At.AddDate(0, 0, tt.day)) + 7*time.Hour)
			if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != tt.want {
				t.Errorf("day %d: %s, want %s", tt.day, got, tt.want)
			}
		}
		again := cfg.Adopted[0]
		again.Risk = risk(300 * 24 * time.Hour)
		if err := s.Adopt([]staff.Adopted{again}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "done" {
			t.Errorf("accepted again: %s", got)
		}
	})
}

func TestAdoptWhileRunning(t *testing.T) {
	t.Parallel()
	first, second := start(t, ipptest.Config{Name: "uno", PageTime: 100 * time.Millisecond}), start(t, ipptest.Config{Name: "due"})
	cfg := quick(first, &memory{})
	one := cfg.Adopted[0]
	two := staff.Adopted{UUID: second.UUID(), URI: second.URI(), PDF: true}
	cfg.Adopted = nil
	s := spooler(t, cfg)
	run(t, s)
	if st := s.Status(); st.Trouble != kiosk.TroubleNoPrinter {
		t.Fatalf("without a printer: %+v", st)
	}
	if err := s.Adopt([]staff.Adopted{one}); err != nil {
		t.Fatal(err)
	}
	until(t, "the first", 10*time.Second, func() bool { st := s.Status(); return st.State == kiosk.PrinterReady && st.Name == "uno" })

	// Retired in the middle of a document, it finishes that and gets no other.
	var seen progress
	begun := make(chan struct{}, 100)
	seen.on = func(now kiosk.PrintProgress) {
		if now.State == kiosk.PrintPrinting {
			begun <- struct{}{}
		}
	}
	printed := make(chan error)
	go func() { printed <- s.Print(t.Context(), jobOf(pdf(3, 100), 3), seen.report) }()
	<-begun
	one.Retired = time.Now()
	if err := s.Adopt([]staff.Adopted{one, two}); err != nil {
		t.Fatal(err)
	}
	job := jobOf(pdf(1, 100), 1)
	job.Printer = one.UUID
	if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != "none nothing_printed" {
		t.Errorf("a retired printer: %s", got)
	}
	until(t, "the second", 10*time.Second, func() bool { st := s.Status(); return st.State == kiosk.PrinterReady && st.Name == "due" })
	if err := <-printed; err != nil || len(first.Sheets()) != 3 {
		t.Errorf("what was being printed: %v, %d sheets", err, len(first.Sheets()))
	}
	if all := s.Printers(); len(all) != 1 || all[0].UUID != two.UUID {
		t.Errorf("printers %+v", all)
	}
	asked := first.Requests("Get-Printer-Attributes")
	until(t, "nobody asks the first any more", 10*time.Second, func() bool {
		before := asked
		time.Sleep(3 * cfg.Idle)
		asked = first.Requests("Get-Printer-Attributes")
		return asked == before
	})
	if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil || len(second.Documents()) != 1 {
		t.Errorf("the second: %v, %d documents", err, len(second.Documents()))
	}
}
