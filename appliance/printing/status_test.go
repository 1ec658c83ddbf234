package printing_test

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*ipptest.Printer)
		want kiosk.PrinterStatus
	}{
		{"ready", func(*ipptest.Printer) {}, kiosk.PrinterStatus{State: kiosk.PrinterReady}},
		{"little paper is for the staff", func(p *ipptest.Printer) { p.SetPaper(3) }, kiosk.PrinterStatus{State: kiosk.PrinterReady}},
		{"busy", func(p *ipptest.Printer) { p.Busy(true) }, kiosk.PrinterStatus{State: kiosk.PrinterBusy}},
		{"no paper", func(p *ipptest.Printer) { p.SetPaper(0) }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroublePaper}},
		{"jam", func(p *ipptest.Printer) { p.Jam(true) }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleJam}},
		{"cover", func(p *ipptest.Printer) { p.Cover(true) }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleCover}},
		{"format", func(p *ipptest.Printer) { p.Formats("image/urf") }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleFormat}},
		{"Letter", func(p *ipptest.Printer) { p.Media("na_letter_8.5x11in") }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleMedia}},
		{"gone", func(p *ipptest.Printer) { _ = p.Gone(true) }, kiosk.PrinterStatus{State: kiosk.PrinterOffline, Trouble: kiosk.TroubleUnreachable}},
		{"frozen", func(p *ipptest.Printer) { p.Freeze(true) }, kiosk.PrinterStatus{State: kiosk.PrinterOffline, Trouble: kiosk.TroubleUnreachable}},
		{"another machine", func(p *ipptest.Printer) { p.SetUUID("x") }, kiosk.PrinterStatus{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleIdentity}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{Name: "Anagrafe"})
			s := spooler(t, quick(p, &memory{}))
			changes := make(chan kiosk.PrinterStatus, 100)
			s.Watch(func(now kiosk.PrinterStatus) { changes <- now })
			run(t, s)
			until(t, "ready first", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
			before := time.Now()
			tt.do(p)
			until(t, tt.name, 20*time.Second, func() bool {
				now := s.Status()
				return now.State == tt.want.State && now.Trouble == tt.want.Trouble
			})
			now := s.Status()
			if now.Name != "Anagrafe" {
				t.Errorf("its name is %q", now.Name)
			}
			if tt.want.State == kiosk.PrinterReady {
				return
			}
			if now.Since.Before(before) {
				t.Errorf("since %v, before it happened", now.Since)
			}
			var last kiosk.PrinterStatus
			until(t, "watchers are told the same", 20*time.Second, func() bool {
				for len(changes) > 0 {
					last = <-changes
				}
				return last == s.Status()
			})
		})
	}
}

// service is the printer's announcement, as dnssd would find it.
func service(t *testing.T, p *ipptest.Printer, uuid string) dnssd.Service {
	t.Helper()
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	typ := "_ipp._tcp"
	if strings.HasPrefix(p.URI(), "ipps:") {
		typ = "_ipps._tcp"
	}
	return dnssd.Service{
		Instance: "x", Type: typ, Host: "x.local", Port: n,
		Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, TXT: map[string]string{"uuid": uuid, "rp": "ipp/print"},
	}
}

// TestWithoutAPrinter looks several times at a branch that has none: that is told once, with the time since when.
func TestWithoutAPrinter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick(ipptest.New(ipptest.Config{}), &memory{})
		cfg.Adopted = nil
		s := spooler(t, cfg)
		began := s.Status()
		told := 0
		s.Watch(func(kiosk.PrinterStatus) { told++ })
		for range 3 {
			time.Sleep(time.Minute)
			if err := s.Adopt(nil); err != nil {
				t.Fatal(err)
			}
		}
		if now := s.Status(); now != began || now.State != kiosk.PrinterNone || told != 0 {
			t.Errorf("told %d times: %+v, first %+v", told, now, began)
		}
	})
}

func TestFollowsAnnouncements(t *testing.T) {
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	t.Run("finds an adopted printer without an address", func(t *testing.T) {
		p := start(t, ipptest.Config{UUID: uuid})
		cfg := quick(p, &memory{})
		cfg.Adopted = []staff.Adopted{{UUID: "urn:uuid:" + strings.ToUpper(uuid), PDF: true}}
		s := spooler(t, cfg)
		run(t, s)
		s.Found([]dnssd.Service{service(t, p, uuid)})
		until(t, "ready", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
		if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil {
			t.Error(err)
		}
	})
	t.Run("follows it to a new address", func(t *testing.T) {
		p := start(t, ipptest.Config{UUID: uuid})
		s := spooler(t, quick(p, &memory{}))
		run(t, s)
		until(t, "ready", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
		p.Close()
		until(t, "offline", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterOffline })
		moved := start(t, ipptest.Config{UUID: uuid})
		s.Found([]dnssd.Service{service(t, moved, uuid)})
		until(t, "ready again", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
	})
	t.Run("does not believe an announcement", func(t *testing.T) {
		imposter := start(t, ipptest.Config{UUID: "bbbbbbbb-2222-4333-8444-555555555555"})
		cfg := quick(imposter, &memory{})
		cfg.Adopted = []staff.Adopted{{UUID: uuid, PDF: true}}
		s := spooler(t, cfg)
		run(t, s)
		s.Found([]dnssd.Service{service(t, imposter, uuid)})
		until(t, "identity", 20*time.Second, func() bool { return s.Status().Trouble == kiosk.TroubleIdentity })
		if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "identity nothing_printed" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("never falls back from ipps to ipp", func(t *testing.T) {
		plain := start(t, ipptest.Config{UUID: uuid})
		secure := start(t, ipptest.Config{UUID: uuid, TLS: true})
		cfg := quick(plain, &memory{})
		cfg.Adopted = []staff.Adopted{{UUID: uuid, Keys: []string{secure.Pin()}, PDF: true}}
		s := spooler(t, cfg)
		run(t, s)
		s.Found([]dnssd.Service{service(t, plain, uuid)})
		time.Sleep(200 * time.Millisecond)
		if st := s.Status(); st.State != kiosk.PrinterOffline || plain.Requests("Get-Printer-Attributes") > 0 {
			t.Errorf("%+v, %d plain requests", st, plain.Requests("Get-Printer-Attributes"))
		}
		s.Found([]dnssd.Service{service(t, plain, uuid), service(t, secure, uuid)})
		until(t, "ready", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
		if n := plain.Requests("Get-Printer-Attributes"); n > 0 {
			t.Errorf("%d plain requests", n)
		}
	})
	t.Run("another key is another machine", func(t *testing.T) {
		secure := start(t, ipptest.Config{UUID: uuid, TLS: true})
		cfg := quick(secure, &memory{})
		cfg.Adopted[0].Keys = []string{strings.Repeat("0", 64)}
		s := spooler(t, cfg)
		run(t, s)
		until(t, "identity", 20*time.Second, func() bool { return s.Status().Trouble == kiosk.TroubleIdentity })
	})
}

func TestPrefersTheReadyPrinter(t *testing.T) {
	first := start(t, ipptest.Config{Name: "uno"})
	second := start(t, ipptest.Config{Name: "due"})
	cfg := quick(first, &memory{})
	cfg.Adopted = append(cfg.Adopted, staff.Adopted{UUID: second.UUID(), URI: second.URI(), PDF: true})
	s := spooler(t, cfg)
	run(t, s)
	until(t, "the first", 20*time.Second, func() bool { st := s.Status(); return st.State == kiosk.PrinterReady && st.Name == "uno" })
	first.Jam(true)
	until(t, "the second", 20*time.Second, func() bool { st := s.Status(); return st.State == kiosk.PrinterReady && st.Name == "due" })
	if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil || len(second.Documents()) != 1 {
		t.Errorf("%v, %d documents", err, len(second.Documents()))
	}
}

func TestAnnouncedPrinterPrints(t *testing.T) {
	p := start(t, ipptest.Config{Name: "Sala prove " + strconv.FormatInt(time.Now().UnixNano(), 36)})
	cfg := quick(p, &memory{})
	cfg.Adopted[0].URI = ""
	s := spooler(t, cfg)
	run(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- p.Announce(ctx, []string{"lo"}) }()
	b := dnssd.Browser{Types: []string{"_ipp._tcp", "_ipps._tcp"}, Interfaces: []string{"lo"}, Log: cfg.Log, Now: time.Now}
	go func() { done <- b.Run(ctx, s.Found) }()
	until(t, "ready", 20*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
	if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil {
		t.Error(err)
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	p := ipptest.New(ipptest.Config{})
	good := quick(p, &memory{})
	for name, change := range map[string]func(*printing.Config){
		"no UUID":        func(c *printing.Config) { c.Adopted[0].UUID = "" },
		"no URI":         func(c *printing.Config) { c.Adopted[0].URI = "http://x" },
		"a pin for ipp":  func(c *printing.Config) { c.Adopted[0].Keys = []string{strings.Repeat("0", 64)} },
		"a bad pin":      func(c *printing.Config) { c.Adopted[0] = staff.Adopted{UUID: "x", Keys: []string{"zz"}} },
		"the same twice": func(c *printing.Config) { c.Adopted = append(c.Adopted, c.Adopted[0]) },
		"no journal":     func(c *printing.Config) { c.Journal = nil },
	} {
		cfg := good
		cfg.Adopted = append([]staff.Adopted(nil), good.Adopted...)
		change(&cfg)
		if _, err := printing.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
