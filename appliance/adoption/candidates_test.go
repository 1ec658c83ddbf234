package adoption_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/kiosk/staff"
)

// shown are candidates as a person would see them: UUID, how it is spoken to, why not.
func shown(cs []staff.Candidate) string {
	var out []string
	for _, c := range cs {
		way, _, _ := strings.Cut(c.URI, ":")
		out = append(out, strings.TrimSpace(fmt.Sprint(c.UUID, " ", way, " ", c.Refused)))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestCandidates(t *testing.T) {
	ipps := func(addr, uuid string) dnssd.Service { return service("_ipps._tcp", "n-"+uuid, addr, uuid) }
	tls := ipptest.Config{UUID: "a", TLS: true}
	for _, tt := range []struct {
		name string
		do   func(b *branch) []dnssd.Service
		want string
	}{
		{"nothing", func(*branch) []dnssd.Service { return nil }, ""},
		{"one printer by ipp and ipps, at two addresses", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls)
			b.printer("192.0.2.7:80", ipptest.Config{UUID: "a"})
			one := ipps("192.0.2.7:631", "a")
			one.Addrs = append(one.Addrs, netip.MustParseAddr("2001:db8::7")) // where nobody answers
			return []dnssd.Service{service("_ipp._tcp", "n-a", "192.0.2.7:80", "a"), one}
		}, "a ipps"},
		{"what it says it is counts, not what is announced", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls)
			return []dnssd.Service{ipps("192.0.2.7:631", "someone-else")}
		}, "a ipps"},
		{"two machines that claim to be one printer", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls)
			b.printer("192.0.2.66:631", tls)
			return []dnssd.Service{ipps("192.0.2.7:631", "a"), ipps("192.0.2.66:631", "a")}
		}, "a ipps, a ipps"},
		{"a machine in the clear that claims to be a printer", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls)
			b.printer("192.0.2.66:631", ipptest.Config{UUID: "a"})
			return []dnssd.Service{ipps("192.0.2.7:631", "a"), service("_ipp._tcp", "other", "192.0.2.66:631", "a")}
		}, "a ipp plain, a ipps"},
		{"ten queues of a print server", func(b *branch) []dnssd.Service {
			var all []dnssd.Service
			for i := range 10 {
				addr := fmt.Sprintf("192.0.2.7:%d", 8000+i)
				b.printer(addr, ipptest.Config{UUID: fmt.Sprint(i), TLS: true})
				all = append(all, ipps(addr, fmt.Sprint(i)))
			}
			return all
		}, "0 ipps, 1 ipps, 2 ipps, 3 ipps, 4 ipps, 5 ipps, 6 ipps, 7 ipps, 8 ipps, 9 ipps"},
		{"no TLS", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", ipptest.Config{UUID: "a"})
			return []dnssd.Service{service("_ipp._tcp", "x", "192.0.2.7:631", "a")}
		}, "a ipp plain"},
		{"ipp-usb", func(b *branch) []dnssd.Service {
			b.printer("127.0.0.1:60000", ipptest.Config{UUID: "a"})
			return []dnssd.Service{cable("127.0.0.1:60000", "a")}
		}, "a ipp"},
		{"the box's own services are not asked", func(b *branch) []dnssd.Service {
			b.printer("127.0.0.1:8080", ipptest.Config{UUID: "a"})
			b.printer("127.0.0.1:60000", ipptest.Config{UUID: "b"})
			other := cable("127.0.0.1:60000", "b")
			other.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.66")}
			return []dnssd.Service{cable("127.0.0.1:8080", "a"), other}
		}, ""},
		{"a printer of labels", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls).Formats("application/vnd.zebra")
			return []dnssd.Service{ipps("192.0.2.7:631", "a")}
		}, "a ipps no_format"},
		{"a printer that asks for a password", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls).Password("u", "p")
			return []dnssd.Service{ipps("192.0.2.7:631", "a")}
		}, "a ipps auth"},
		{"a printer that is off", func(*branch) []dnssd.Service {
			return []dnssd.Service{ipps("192.0.2.7:631", "a")}
		}, "ipps unreachable"},
		{"an office printer's raw port, and LPD", func(*branch) []dnssd.Service {
			pdl := service("_pdl-datastream._tcp", "x", "192.0.2.7:9100", "")
			pdl.TXT["pdl"] = "application/vnd.hp-PCL,application/postscript"
			return []dnssd.Service{pdl, service("_printer._tcp", "y", "192.0.2.8:515", "")}
		}, "lpd raw, socket raw"},
		{"the raw ports of a printer that speaks IPP", func(b *branch) []dnssd.Service {
			b.printer("192.0.2.7:631", tls)
			return []dnssd.Service{
				ipps("192.0.2.7:631", "a"), service("_pdl-datastream._tcp", "n-a", "192.0.2.7:9100", ""), service("_printer._tcp", "n-a", "192.0.2.7:515", ""),
			}
		}, "a ipps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBranch(t)
			b.Found(tt.do(b))
			cs := b.candidates()
			if got := shown(cs); got != tt.want {
				t.Errorf("got %s\nwant %s\n%+v", got, tt.want, cs)
			}
			for i, c := range cs {
				if c.ID == "" || slices.ContainsFunc(cs[:i], func(o staff.Candidate) bool { return o.ID == c.ID }) {
					t.Errorf("ID %q", c.ID)
				}
			}
		})
	}
}

// TestAttackersAnnouncements has somebody announce as much as the box takes.
func TestAttackersAnnouncements(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Uno", UUID: "a", TLS: true})
	var all []dnssd.Service
	for i := range 5000 {
		sv := service("_ipps._tcp", fmt.Sprintf("AAA %d", i), "192.0.2.66:631", fmt.Sprint(i))
		for j := range 40 {
			sv.Addrs = append(sv.Addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + j)}))
		}
		all = append(all, sv)
	}
	b.Found(append(all, service("_ipps._tcp", "x", "192.0.2.7:631", "a")))
	cs := b.candidates()
	if len(cs) > 64 || cs[0].UUID != "a" || cs[0].Refused != "" {
		t.Fatalf("%d candidates, first %+v", len(cs), cs[0])
	}
	b.adopt(cs[0].ID, p)
}

func TestAdd(t *testing.T) {
	b := newBranch(t)
	for _, uri := range []string{
		"", "192.0.2.7", "http://192.0.2.7/ipp/print", "ipps://user:secret@192.0.2.7/ipp", "ipp:///ipp/print", "lpd://192.0.2.7/q",
		"socket://:9100", "socket://192.0.2.7:9100/x", "file:///etc/passwd", "file:///dev/usb/lp0/../../sda",
		"ipps://192.0.2.7/" + strings.Repeat("x", 1024),
	} {
		if c, err := b.Add(t.Context(), uri); !errors.Is(err, staff.ErrAddress) {
			t.Errorf("%.60q: got %+v, %v; want ErrAddress", uri, c, err)
		}
	}
	c, err := b.Add(t.Context(), " ipps://192.0.2.7/ipp/print\n")
	if err != nil || c.Refused != "unreachable" || c.Source != "manual" {
		t.Errorf("where nobody is: %+v, %v", c, err)
	}
	if _, err := b.Begin(t.Context(), c.ID, false, nil, "Rossi"); !errors.Is(err, staff.ErrRefused) {
		t.Errorf("got %v", err)
	}
	p := b.printer("192.0.2.7:631", ipptest.Config{UUID: "a", TLS: true})
	b.adopt(b.only().ID, p)
	if c := b.only(); !c.Known || c.Refused != "" { // what somebody typed stays there
		t.Errorf("got %+v", c)
	}
}

// TestWithoutTLS adopts printers that have no key by which they could be known again.
func TestWithoutTLS(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{Name: "Vecchia", UUID: "a"})
	b.Found([]dnssd.Service{service("_ipp._tcp", "x", "192.0.2.7:631", "a")})
	c := b.only()
	now := b.clock()
	good := staff.Risk{By: "Bianchi", Why: "si cambia a giugno", Until: now.AddDate(1, 0, 0)}
	for _, tt := range []struct {
		name string
		risk func(*staff.Risk) *staff.Risk
		want error
	}{
		{"nobody answers for it", func(*staff.Risk) *staff.Risk { return nil }, staff.ErrRefused},
		{"nobody by name", func(r *staff.Risk) *staff.Risk { r.By = " \n"; return r }, staff.ErrRisk},
		{"for no reason", func(r *staff.Risk) *staff.Risk { r.Why = ""; return r }, staff.ErrRisk},
		{"without an end", func(r *staff.Risk) *staff.Risk { r.Until = time.Time{}; return r }, staff.ErrRisk},
		{"until yesterday", func(r *staff.Risk) *staff.Risk { r.Until = now.AddDate(0, 0, -1); return r }, staff.ErrRisk},
		{"for longer than a year", func(r *staff.Risk) *staff.Risk { r.Until = now.AddDate(1, 0, 1); return r }, staff.ErrRisk},
	} {
		r := good
		if _, err := b.Begin(t.Context(), c.ID, false, tt.risk(&r), "Rossi"); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if n := p.Requests("Create-Job"); n != 0 {
		t.Fatalf("%d jobs for nobody's risk", n)
	}
	if _, err := b.Begin(t.Context(), c.ID, false, &good, "Rossi"); err != nil {
		t.Fatal(err)
	}
	a, err := b.Confirm(t.Context(), c.ID, read(t, p), true, "Rossi")
	if err != nil || a.Link != staff.LinkRisk || a.Risk == nil || a.Risk.By != "Bianchi" || !a.Risk.At.Equal(now) || len(a.Keys) != 0 {
		t.Fatalf("adopted %+v, %v", a, err)
	}
	if cs := b.candidates(); len(cs) != 0 {
		t.Errorf("candidates %+v", cs)
	}
	b.pass(340 * 24 * time.Hour)
	b.Settle(t.Context())
	if got := kinds(&b.alarms); got != "risk a" || b.uuids() != "a" {
		t.Errorf("a month before the end: alarms %q, adopted %q", got, b.uuids())
	}
	b.pass(30 * 24 * time.Hour)
	b.Settle(t.Context())
	if got := kinds(&b.alarms); got != "risk a" || b.uuids() != "" {
		t.Errorf("after the end: alarms %q, adopted %q", got, b.uuids())
	}
	if c := b.only(); !c.Known || c.Refused != "plain" {
		t.Errorf("candidate %+v", c)
	}
	good.Until = b.clock().AddDate(0, 6, 0)
	if _, err := b.Begin(t.Context(), c.ID, false, &good, "Rossi"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Confirm(t.Context(), c.ID, read(t, p), true, "Rossi"); err != nil || kinds(&b.alarms) != "" || b.uuids() != "a" {
		t.Errorf("accepted anew: %v, alarms %q, adopted %q", err, kinds(&b.alarms), b.uuids())
	}

	// On a cable nothing is risked.
	usb := b.printer("127.0.0.1:60000", ipptest.Config{UUID: "u"})
	b.Found([]dnssd.Service{cable("127.0.0.1:60000", "u")})
	c = b.only()
	if _, err := b.Begin(t.Context(), c.ID, false, &good, "Rossi"); !errors.Is(err, staff.ErrRisk) {
		t.Errorf("a risk for a printer on a cable: %v", err)
	}
	if a := b.adopt(c.ID, usb); a.Link != staff.LinkUSB || c.Source != "usb" {
		t.Errorf("adopted %+v", a)
	}
}

// TestReceiptPrinter adopts what can print slips only.
func TestReceiptPrinter(t *testing.T) {
	b := newBranch(t)
	p := b.receipts("192.0.2.20:9100")
	sv := service("_pdl-datastream._tcp", "Scontrini", "192.0.2.20:9100", "")
	b.Found([]dnssd.Service{sv})
	c := b.only()
	if !c.Receipt || c.UUID != "" || c.Name != "Scontrini" || c.URI != "socket://192.0.2.20:9100" || c.Refused != "plain" {
		t.Fatalf("candidate %+v", c)
	}
	risk := staff.Risk{By: "Bianchi", Why: "non sa fare altro", Until: b.clock().AddDate(1, 0, 0)}
	adopt := func(right bool) (staff.Adopted, error) {
		t.Helper()
		if _, err := b.Begin(t.Context(), c.ID, false, &risk, "Rossi"); err != nil {
			t.Fatal(err)
		}
		text := p.last()
		m := digits.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no code on the slip:\n%s", text)
		}
		return b.Confirm(t.Context(), c.ID, m[1], right, "Rossi")
	}
	if a, err := adopt(false); !errors.Is(err, staff.ErrRefused) {
		t.Errorf("a slip that is not right: %+v, %v", a, err)
	}
	a, err := adopt(true)
	if err != nil || !a.Receipt || a.PDF || a.Raster || a.Link != staff.LinkRisk || len(a.UUID) != 36 || a.URI != c.URI {
		t.Errorf("adopted %+v, %v", a, err)
	}
	if cs := b.candidates(); len(cs) != 0 {
		t.Errorf("candidates %+v", cs)
	}
	if c, err = b.Add(t.Context(), c.URI); err != nil || !c.Known {
		t.Fatalf("candidate %+v, %v", c, err)
	}
	if again, err := adopt(true); err != nil || again.UUID != a.UUID || b.uuids() != a.UUID {
		t.Errorf("adopted anew %+v, %v: it is another one now", again, err)
	}
}

func TestConfigured(t *testing.T) {
	key, other := strings.Repeat("AB", 32), strings.Repeat("cd", 32)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	risk := &staff.Risk{By: "Verdi", Why: "vecchia", At: at, Until: at.AddDate(0, 3, 0)}
	file := []adoption.Configured{
		{UUID: "urn:uuid:Z-1", URI: "ipps://192.0.2.1/ipp/print", Keys: []string{key}},
		{UUID: "port", URI: "ipp://192.0.2.2/ipp/print", Interface: "enp2s0"},
		{UUID: "risk", URI: "ipp://192.0.2.3/ipp/print", Risk: risk},
		{UUID: "usb", URI: "ipp://localhost:60000/ipp/print"},
		{UUID: "only-a-name"},
		{URI: "ipps://192.0.2.9/ipp/print"},
	}
	b := newBranch(t, file...)
	if got := b.uuids(); got != "z-1 port risk usb" {
		t.Fatalf("adopted %q", got)
	}
	want := []staff.Link{staff.LinkTLS, staff.LinkDedicated, staff.LinkRisk, staff.LinkUSB}
	for i, a := range b.adopted {
		if a.Link != want[i] || a.By != "configuration" || !a.PDF || a.Raster || (a.Interface == "enp2s0") != (i == 1) || (a.Risk != nil) != (i == 2) {
			t.Errorf("adopted %+v, want link %s", a, want[i])
		}
	}
	if !slices.Equal(b.adopted[0].Keys, []string{strings.ToLower(key)}) {
		t.Errorf("keys %v", b.adopted[0].Keys)
	}

	// With nothing but an address it is a candidate.
	p := b.printer("192.0.2.9:631", ipptest.Config{Name: "Nove", UUID: "a9", TLS: true})
	if c := b.only(); c.UUID != "a9" || c.Source != "manual" {
		t.Errorf("candidate %+v", c)
	} else {
		b.adopt(c.ID, p)
	}
	if got := b.uuids(); got != "z-1 port risk usb a9" {
		t.Errorf("adopted %q", got)
	}

	// What is said at the box of a printer of the file: it is retired, gets pictures, has moved.
	if err := b.Retire(t.Context(), "port", "Rossi"); err != nil {
		t.Fatal(err)
	}
	if err := b.SetRaster(t.Context(), "usb", true); err != nil {
		t.Fatal(err)
	}
	b.Moved("z-1", "ipps://192.0.2.50/ipp/print")
	b.Settle(t.Context())
	b.restart(file...)
	if got := b.uuids(); got != "z-1 risk usb a9" || b.adopted[0].URI != "ipps://192.0.2.50/ipp/print" || !b.adopted[2].Raster {
		t.Errorf("after a restart %+v", b.adopted)
	}
	// The file changes: it is obeyed as before, but not where somebody has said something else.
	file[0].Keys = []string{other}
	b.restart(file[:2]...)
	if got := b.uuids(); got != "z-1 a9" || b.adopted[0].Keys[0] != other {
		t.Errorf("with a shorter file %+v", b.adopted)
	}
	// A printer of the file whose key has changed is adopted anew: then the file's key counts no more.
	p = b.printer("192.0.2.50:631", ipptest.Config{UUID: "z-1", TLS: true})
	i := slices.IndexFunc(b.candidates(), func(c staff.Candidate) bool { return c.UUID == "z-1" })
	if i < 0 {
		t.Fatalf("candidates %+v", b.candidates())
	}
	b.adopt(b.candidates()[i].ID, p)
	b.restart(file...)
	if a := b.adopted[0]; a.UUID != "z-1" || !slices.Equal(a.Keys, p.Pins()) || a.By != "Rossi" {
		t.Errorf("adopted %+v", a)
	}
}

func TestConfiguredWrongly(t *testing.T) {
	key := strings.Repeat("ab", 32)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := newBranch(t)
	for _, tt := range []struct {
		name string
		file []adoption.Configured
		want string
	}{
		{"nothing", []adoption.Configured{{}}, "uuid"},
		{"keys of nobody", []adoption.Configured{{URI: "ipps://h/ipp", Keys: []string{key}}}, "uuid"},
		{"half a key", []adoption.Configured{{UUID: "a", Keys: []string{"abcd"}}}, "SHA-256"},
		{"keys in the clear", []adoption.Configured{{UUID: "a", URI: "ipp://h/ipp", Keys: []string{key}}}, "ipps"},
		{"an address of something else", []adoption.Configured{{UUID: "a", URI: "https://h/ipp"}}, "address"},
		{"a risk wherever it is", []adoption.Configured{{UUID: "a", Risk: &staff.Risk{By: "x", Why: "y", At: at, Until: at.AddDate(0, 6, 0)}}}, "uri"},
		{"a risk for ever", []adoption.Configured{{UUID: "a", URI: "ipp://h/ipp", Risk: &staff.Risk{By: "x", Why: "y", At: at, Until: at.AddDate(2, 0, 0)}}}, "risk"},
		{"the same printer twice", []adoption.Configured{{UUID: "A"}, {UUID: "urn:uuid:a"}}, "twice"},
	} {
		if _, err := b.start(tt.file...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want something about %s", tt.name, err, tt.want)
		}
	}
}

// TestRun stops Run: what a printer's new address is gets to the disk before it returns.
func TestRun(t *testing.T) {
	b := newBranch(t)
	p := b.printer("192.0.2.7:631", ipptest.Config{UUID: "a", TLS: true})
	c, err := b.Add(t.Context(), "ipps://192.0.2.7/ipp/print")
	if err != nil {
		t.Fatal(err)
	}
	b.adopt(c.ID, p)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	b.Moved("a", "ipps://192.0.2.8/ipp/print")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all, err := b.store.Printers(t.Context())
	if err != nil || len(all) != 1 || all[0].URI != "ipps://192.0.2.8/ipp/print" {
		t.Errorf("stored %+v, %v", all, err)
	}
	if b.told != 2 {
		t.Errorf("Adopt was told %d times, want 2: a new address is nothing new to it", b.told)
	}
}
