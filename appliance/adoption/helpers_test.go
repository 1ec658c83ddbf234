package adoption_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/escpos/escpostest"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/pwgraster"
	"sportello.example/appliance/raster"
	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

// branch is a branch with its network and the box's database; Service may be made anew, as after a restart.
type branch struct {
	t     *testing.T
	net   ipptest.Net
	store *sqlite.Store
	log   bytes.Buffer // read it when nothing runs
	*adoption.Service

	mu      sync.Mutex
	now     time.Time
	adopted []staff.Adopted // as Adopt was told last
	told    int             // times
	notes   []string
	alarms  staff.Alarms
	during  func(a staff.Adopted, pdf []byte) // called while a page is being printed
}

func newBranch(t *testing.T, configured ...adoption.Configured) *branch {
	t.Helper()
	b := &branch{t: t, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	store, aside, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: b.clock})
	if err != nil || aside != "" {
		t.Fatal(aside, err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b.store = store
	b.restart(configured...)
	return b
}

// restart makes the service anew: what it kept in RAM is gone.
func (b *branch) restart(configured ...adoption.Configured) {
	b.t.Helper()
	s, err := b.start(configured...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Service = s
}

func (b *branch) start(configured ...adoption.Configured) (*adoption.Service, error) {
	spool, err := printing.New(printing.Config{
		Journal: b.store, Raster: blank{}, Dial: b.net.Dial, Poll: 5 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Now: b.clock,
	})
	if err != nil {
		return nil, err
	}
	return adoption.New(b.t.Context(), adoption.Config{
		Store: b.store, Printer: office{spool, b}, Branch: func() string { return "Valvassori Peroni" }, Dial: b.net.Dial,
		Adopt: func(all []staff.Adopted) error {
			b.mu.Lock()
			b.adopted = all
			b.told++
			b.mu.Unlock()
			return spool.Adopt(all)
		},
		Alarm: func(a staff.Alarm) { b.alarms.Raise(a) }, Cleared: b.alarms.Clear,
		Note: func(k event.Kind, d event.Detail) { b.notes = append(b.notes, fmt.Sprint(k, " ", d.Reason)) },
		Log:  slog.New(slog.NewTextHandler(&b.log, nil)), Now: b.clock,
	}, configured)
}

func (b *branch) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *branch) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// printer puts a printer at an address of the network.
func (b *branch) printer(addr string, cfg ipptest.Config) *ipptest.Printer {
	b.t.Helper()
	cfg.Listen = func() (net.Listener, error) { return b.net.Listen(addr) }
	cfg.Serial, cfg.Make, cfg.PageTime = "N-"+addr, "ACME 9", time.Millisecond
	p := ipptest.New(cfg)
	if err := p.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(p.Close)
	return p
}

// service is what a printer announces.
func service(typ, instance, addr, uuid string) dnssd.Service {
	ap := netip.MustParseAddrPort(addr)
	return dnssd.Service{
		Instance: instance, Type: typ, Host: instance + ".local", Port: int(ap.Port()), Addrs: []netip.Addr{ap.Addr()},
		TXT: map[string]string{"uuid": uuid, "rp": "ipp/print"},
	}
}

// cable is what ipp-usb announces, on the box itself.
func cable(addr, uuid string) dnssd.Service {
	sv := service("_ipp._tcp", "usb-"+uuid, addr, uuid)
	sv.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	return sv
}

// office is the box's spooler, with somebody watching what it prints.
type office struct {
	*printing.Spooler
	b *branch
}

func (o office) Trial(ctx context.Context, a staff.Adopted, pdf []byte, raster bool) (string, error) {
	o.b.mu.Lock()
	during := o.b.during
	o.b.mu.Unlock()
	if during != nil {
		during(a, pdf)
	}
	return o.Spooler.Trial(ctx, a, pdf, raster)
}

// blank draws every document white: what the page looks like is not what is tested here.
type blank struct{}

func (blank) Print(_ context.Context, _ []byte, o raster.PrintOptions) ([]byte, error) {
	var b bytes.Buffer
	w, err := pwgraster.NewWriter(&b, pwgraster.Format(o.Format), 1)
	if err != nil {
		return nil, err
	}
	page := pwgraster.A4().Page(max(o.DPI, 300), pwgraster.Color(cmp.Or(o.Color, raster.Gray)))
	if err := w.Page(page); err != nil {
		return nil, err
	}
	line := bytes.Repeat([]byte{0xff}, page.Stride())
	for range page.Height {
		if err := w.Line(line); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}

// roll is a receipt printer that is always well.
type roll struct {
	mu    sync.Mutex
	paper escpostest.Interpreter
}

// receipts puts a receipt printer at an address of the network.
func (b *branch) receipts(addr string) *roll {
	b.t.Helper()
	l, err := b.net.Listen(addr)
	if err != nil {
		b.t.Fatal(err)
	}
	r := &roll{}
	var serving sync.WaitGroup
	b.t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(c) })
		}
	})
	return r
}

// serve prints what is sent, and answers DLE EOT and GS r.
func (r *roll) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	var pending []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		pending = append(pending, buf[:n]...)
		for {
			if len(pending) >= 3 && pending[0] == 0x10 {
				_, _ = c.Write([]byte{0x12})
				pending = pending[3:]
				continue
			}
			n := escpostest.Next(pending)
			if n == 0 || pending[0] == 0x10 {
				break
			}
			if pending[0] == 0x1d && pending[1] == 'r' {
				_, _ = c.Write([]byte{0})
			}
			r.mu.Lock()
			r.paper.Feed(pending[:n])
			r.mu.Unlock()
			pending = pending[n:]
		}
	}
}

// last is the text of the last slip.
func (r *roll) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slips := r.paper.Slips()
	if len(slips) == 0 {
		return ""
	}
	return slips[len(slips)-1].Text()
}

var digits = regexp.MustCompile(`(?m)^\s*(\d{4})\s*$`)

// read reads the code off the page that came out of a printer last, as a person does.
func read(t *testing.T, p *ipptest.Printer) string {
	t.Helper()
	docs := p.Documents()
	if len(docs) == 0 {
		t.Fatal("no page has come out")
	}
	return readPage(t, docs[len(docs)-1])
}

func readPage(t *testing.T, pdf []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "pdftotext", "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(pdf)
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	m := digits.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no code on the page:\n%s", text)
	}
	return string(m[1])
}

// wrong is a code that is not the one.
func wrong(code string) string {
	return code[:3] + string('0'+(code[3]-'0'+1)%10)
}

func (b *branch) candidates() []staff.Candidate {
	b.t.Helper()
	cs, err := b.Candidates(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return cs
}

// only returns the one candidate there is.
func (b *branch) only() staff.Candidate {
	b.t.Helper()
	cs := b.candidates()
	if len(cs) != 1 {
		b.t.Fatalf("candidates %+v, want one", cs)
	}
	return cs[0]
}

// uuids are those of what may be printed on, as Adopt was told; it must be what Adopted says.
func (b *branch) uuids() string {
	b.t.Helper()
	all, err := b.Adopted(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	list := func(as []staff.Adopted) string {
		var ids []string
		for _, a := range as {
			ids = append(ids, a.UUID)
		}
		return strings.Join(ids, " ")
	}
	if told := list(b.adopted); told != list(all) {
		b.t.Errorf("Adopt was told %q, adopted are %q", told, list(all))
	}
	return list(all)
}

// adopt does it all: it prints the page, reads it and types the code.
func (b *branch) adopt(id string, p *ipptest.Printer) staff.Adopted {
	b.t.Helper()
	if _, err := b.Begin(b.t.Context(), id, false, nil, "Rossi"); err != nil {
		b.t.Fatal(err)
	}
	a, err := b.Confirm(b.t.Context(), id, read(b.t, p), true, "Rossi")
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func kinds(al *staff.Alarms) string {
	var ks []string
	for _, a := range al.List() {
		ks = append(ks, string(a.Kind)+" "+a.Subject)
	}
	slices.Sort(ks)
	return strings.Join(ks, ", ")
}
