package printing_test

import (
	"net"
	"net/netip"
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

func listen(n *ipptest.Net, addr string) func() (net.Listener, error) {
	return func() (net.Listener, error) { return n.Listen(addr) }
}

// newKey gives p another key. Meanwhile its port may be lent to somebody's connection.
func newKey(t *testing.T, p *ipptest.Printer) {
	t.Helper()
	if err := p.NewKey(); err != nil {
		until(t, "its port is free", 20*time.Second, func() bool { return p.Gone(false) == nil })
	}
}

// device is how staff see the first printer.
func device(t *testing.T, s *printing.Spooler) staff.Device {
	t.Helper()
	all := s.Devices()
	if len(all) == 0 {
		t.Fatal("no device")
	}
	return all[0]
}

// TestPowerCut pulls the plug at every moment between two looks, in fake time and with the durations of a branch.
func TestPowerCut(t *testing.T) {
	for _, tt := range []struct {
		name     string
		attended bool
		wake     bool
		limit    time.Duration
	}{
		{"while somebody is at a kiosk", true, false, 10 * time.Second},
		{"when somebody comes", false, true, 5 * time.Second},
		{"at night", false, false, 40 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for phase := range 6 {
				synctest.Test(t, func(t *testing.T) {
					var n ipptest.Net
					p := start(t, ipptest.Config{Listen: listen(&n, "127.0.0.1:631")})
					cfg := quick(p, &memory{})
					cfg.Idle, cfg.Active, cfg.Session, cfg.Poll, cfg.Grace = 0, 0, 0, 0, 0
					cfg.Dial = dial(&n)
					cfg.Attended = func() bool { return tt.attended }
					s := spooler(t, cfg)
					run(t, s)
					time.Sleep(time.Minute + time.Duration(phase)*time.Second)
					if got := device(t, s).Presence; got != staff.Online {
						t.Fatalf("before: %s", got)
					}
					p.Freeze(true)
					n.Silence("127.0.0.1:631", true)
					cut := time.Now()
					if tt.wake {
						s.Wake()
					}
					for device(t, s).Presence != staff.Unreachable {
						if time.Since(cut) > tt.limit {
							t.Fatalf("not noticed within %v: %+v", tt.limit, device(t, s))
						}
						time.Sleep(10 * time.Millisecond)
					}
					synctest.Wait() // in the same instant
					if st := s.Status(); st.State != kiosk.PrinterOffline {
						t.Errorf("status %+v", st)
					}
					p.Freeze(false)
					n.Silence("127.0.0.1:631", false)
					time.Sleep(5 * time.Second)
					if got := device(t, s).Presence; got != staff.Online {
						t.Errorf("afterwards: %s", got)
					}
				})
			}
		})
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, p *ipptest.Printer, s *printing.Spooler)
		want staff.Presence
	}{
		{"there", func(*testing.T, *ipptest.Printer, *printing.Spooler) {}, staff.Online},
		{"not announced any more", func(t *testing.T, p *ipptest.Printer, s *printing.Spooler) {
			s.Found([]dnssd.Service{service(t, p, uuid)})
			s.Found(nil)
		}, staff.Asleep},
		{"does not answer, and its port is open", func(_ *testing.T, p *ipptest.Printer, _ *printing.Spooler) { p.Freeze(true) }, staff.Asleep},
		{"hangs", func(t *testing.T, p *ipptest.Printer, s *printing.Spooler) {
			s.Found([]dnssd.Service{service(t, p, uuid)})
			p.Freeze(true)
		}, staff.Unreachable},
		{"gone", func(_ *testing.T, p *ipptest.Printer, _ *printing.Spooler) { _ = p.Gone(true) }, staff.Unreachable},
		{"another machine", func(_ *testing.T, p *ipptest.Printer, _ *printing.Spooler) { p.SetUUID("x") }, staff.WrongIdentity},
		{"another key", func(t *testing.T, p *ipptest.Printer, _ *printing.Spooler) {
			newKey(t, p)
		}, staff.WrongIdentity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{UUID: uuid, TLS: true})
			cfg := quick(p, &memory{})
			cfg.Adopted[0].Keys, cfg.Adopted[0].Link = p.Pins(), staff.LinkTLS
			s := spooler(t, cfg)
			run(t, s)
			until(t, "online first", 10*time.Second, func() bool { return device(t, s).Presence == staff.Online })
			tt.do(t, p, s)
			until(t, tt.name, 20*time.Second, func() bool { return device(t, s).Presence == tt.want })
			d := device(t, s)
			if wrongKey := tt.name == "another key"; wrongKey && d.Fault != p.Pin() || !wrongKey && d.Fault != "" {
				t.Errorf("fault %q, its key is %q", d.Fault, p.Pin())
			}
			// A printer that is not announced, or says goodbye, stays adopted.
			if d.UUID != uuid || len(s.Printers()) != 1 {
				t.Errorf("device %+v", d)
			}
		})
	}
}

// TestAlarmsDoNotFlood lets a machine at the printer's address say something else every time, for 20 minutes.
func TestAlarmsDoNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n ipptest.Net
		p := start(t, ipptest.Config{Listen: listen(&n, "127.0.0.1:631")})
		var b bell
		cfg := quick(p, &memory{})
		cfg.Idle, cfg.Active, cfg.Session, cfg.Dial = 0, 0, 0, n.Dial
		b.use(&cfg)
		s := spooler(t, cfg)
		run(t, s)
		own := p.UUID()
		for i := range 1200 {
			p.SetUUID(strings.Repeat("x", i%7))
			if i%10 == 0 {
				p.SetUUID(own)
			}
			time.Sleep(time.Second)
		}
		if rung := b.rung.Load(); rung < 2 || rung > 21 {
			t.Errorf("%d alarms in 20 minutes", rung)
		}
		p.SetUUID(own)
		time.Sleep(10 * time.Second)
		if len(b.List()) > 0 {
			t.Errorf("afterwards: %+v", b.List())
		}
	})
}

func TestMoves(t *testing.T) {
	t.Parallel()
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	p := start(t, ipptest.Config{UUID: uuid})
	var b bell
	cfg := quick(p, &memory{})
	b.use(&cfg)
	moved := make(chan string, 10)
	cfg.Moved = func(_, uri string) { moved <- uri }
	s := spooler(t, cfg)
	run(t, s)
	s.Found([]dnssd.Service{service(t, p, uuid)})
	until(t, "ready", 10*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
	p.Close()
	now := start(t, ipptest.Config{UUID: uuid})
	s.Found([]dnssd.Service{service(t, now, uuid)})
	until(t, "ready again", 10*time.Second, func() bool { return device(t, s).URI == now.URI() && s.Status().State == kiosk.PrinterReady })
	if got := <-moved; got != now.URI() || len(moved) > 0 {
		t.Errorf("moved to %s, want %s once", got, now.URI())
	}
	if all := b.List(); len(all) > 0 {
		t.Errorf("a printer with another address is no alarm: %+v", all)
	}
}

// TestDuplicates announces one printer in every way that one printer is announced, and others that claim to be it.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	const uuid = "aaaaaaaa-2222-4333-8444-555555555555"
	as := func(s dnssd.Service, host, instance string) dnssd.Service {
		s.Host, s.Instance = host, instance
		return s
	}
	for _, tt := range []struct {
		name   string
		secure bool
		others func(t *testing.T, own dnssd.Service) []dnssd.Service
		want   bool
	}{
		{"alone", false, func(*testing.T, dnssd.Service) []dnssd.Service { return nil }, false},
		{"over IPv6 too", false, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			own.Addrs = append(own.Addrs, netip.MustParseAddr("::1"))
			return []dnssd.Service{own}
		}, false},
		{"over ipp and ipps", true, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			plain := start(t, ipptest.Config{UUID: uuid})
			return []dnssd.Service{service(t, plain, uuid)}
		}, false},
		{"on a second cable, with its key", true, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			own.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
			return []dnssd.Service{as(own, "y.local", "y")}
		}, false},
		{"another machine says it is it, in the clear", false, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			return []dnssd.Service{as(service(t, start(t, ipptest.Config{UUID: uuid}), uuid), "evil.local", "y")}
		}, true},
		{"another machine announces it", false, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			return []dnssd.Service{as(service(t, start(t, ipptest.Config{}), uuid), "evil.local", "y")}
		}, true},
		{"another machine with another key", true, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			return []dnssd.Service{as(service(t, start(t, ipptest.Config{UUID: uuid, TLS: true}), uuid), "evil.local", "y")}
		}, true},
		{"another machine that has no key", true, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			return []dnssd.Service{as(service(t, start(t, ipptest.Config{UUID: uuid}), uuid), "evil.local", "y")}
		}, true},
		{"another machine has its name", false, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			p := start(t, ipptest.Config{})
			return []dnssd.Service{as(service(t, p, p.UUID()), "evil.local", own.Instance)}
		}, true},
		{"nobody answers where it is announced", false, func(t *testing.T, own dnssd.Service) []dnssd.Service {
			p := start(t, ipptest.Config{UUID: uuid})
			other := as(service(t, p, uuid), "old.local", "y")
			p.Close()
			return []dnssd.Service{other}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{UUID: uuid, TLS: tt.secure})
			var b bell
			cfg := quick(p, &memory{})
			cfg.Adopted[0].Keys = p.Pins()
			b.use(&cfg)
			s := spooler(t, cfg)
			run(t, s)
			own := service(t, p, uuid)
			s.Found([]dnssd.Service{own})
			until(t, "ready", 10*time.Second, func() bool { return s.Status().State == kiosk.PrinterReady })
			s.Found(append(tt.others(t, own), own))
			if tt.want {
				until(t, "the alarm", 20*time.Second, func() bool { return b.has(staff.AlarmDuplicate) })
				if a, _ := b.get(staff.AlarmDuplicate); a.Subject != uuid || a.Old != p.URI() || a.New == "" || a.New == a.Old {
					t.Errorf("alarm %+v", a)
				}
			}
			asked := p.Requests("Get-Printer-Attributes")
			until(t, "a few looks more", 20*time.Second, func() bool { return p.Requests("Get-Printer-Attributes") > asked+5 })
			if n := int(b.rung.Load()); n != 1 && tt.want || n != 0 && !tt.want {
				t.Errorf("%d alarms: %+v", n, b.List())
			}
			if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil || len(p.Documents()) != 1 {
				t.Errorf("printing: %v, %d documents", err, len(p.Documents()))
			}
			s.Found([]dnssd.Service{own})
			until(t, "the end of the alarm", 20*time.Second, func() bool { return len(b.List()) == 0 })
		})
	}
}

// TestHeld changes the key of one of two printers: its job is held, and goes to the other when the citizen wants that.
func TestHeld(t *testing.T) {
	t.Parallel()
	bad, good := start(t, ipptest.Config{TLS: true}), start(t, ipptest.Config{})
	var b bell
	cfg := quick(bad, &memory{})
	b.use(&cfg)
	cfg.Adopted[0].Keys, cfg.Adopted[0].Link = bad.Pins(), staff.LinkTLS
	cfg.Adopted = append(cfg.Adopted, staff.Adopted{UUID: good.UUID(), URI: good.URI(), PDF: true})
	old := bad.Pin()
	s := spooler(t, cfg)
	run(t, s)
	newKey(t, bad)
	job := jobOf(pdf(1, 100), 1)
	job.Printer = bad.UUID()
	if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != "identity nothing_printed" {
		t.Errorf("the printer with another key: %s", got)
	}
	until(t, "alarm", 10*time.Second, func() bool { return b.has(staff.AlarmKey) })
	if a, _ := b.get(staff.AlarmKey); a.Old != old || a.New != bad.Pin() || a.Subject != bad.UUID() {
		t.Errorf("alarm %+v: want keys %s and %s", a, old, bad.Pin())
	}
	if n := bad.Requests("Create-Job") + bad.Requests("Validate-Job"); n > 0 {
		t.Errorf("%d requests to the machine with another key", n)
	}
	all := s.Printers()
	if len(all) != 2 || all[0].Trouble != kiosk.TroubleIdentity || all[1].Trouble != "" {
		t.Errorf("printers %+v", all)
	}
	job.Printer = strings.ToUpper(good.UUID())
	if err := s.Print(t.Context(), job, func(kiosk.PrintProgress) {}); err != nil || len(good.Documents()) != 1 {
		t.Errorf("the other printer: %v, %d documents", err, len(good.Documents()))
	}
	job.Printer = "11111111-2222-4333-8444-555555555555"
	if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != "none nothing_printed" {
		t.Errorf("a printer that is not adopted: %s", got)
	}

	again := cfg.Adopted[0]
	again.Keys = bad.Pins()
	if err := s.Adopt([]staff.Adopted{again, cfg.Adopted[1]}); err != nil {
		t.Fatal(err)
	}
	until(t, "adopted again", 10*time.Second, func() bool { return !b.has(staff.AlarmKey) && s.Printers()[0].State == kiosk.PrinterReady })
}

// TestKeyChangesBeforeTheDocument changes who answers between the making of the job and the document.
func TestKeyChangesBeforeTheDocument(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, p *ipptest.Printer)
	}{
		{"another key", newKey},
		{"another printer", func(_ *testing.T, p *ipptest.Printer) { p.SetUUID("11111111-2222-4333-8444-555555555555") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{TLS: true})
			j := &memory{}
			j.onRow = func(row printing.Row) {
				if row.State == printing.Sending {
					tt.change(t, p)
				}
			}
			cfg := quick(p, j)
			cfg.Adopted[0].Keys, cfg.Adopted[0].Link = p.Pins(), staff.LinkTLS
			s := spooler(t, cfg)
			if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "identity nothing_printed" {
				t.Errorf("got %s", got)
			}
			if p.Requests("Send-Document")+p.Requests("Cancel-Job") > 0 {
				t.Errorf("%d documents, %d cancels for who is not the printer", p.Requests("Send-Document"), p.Requests("Cancel-Job"))
			}
			// The job without a document is cancelled when the printer is back, and keeps nobody from another.
			if row := j.all()[0]; row.State != printing.Created || device(t, s).Blocked != "" {
				t.Errorf("row %+v, device %+v", row, device(t, s))
			}
		})
	}
}
