package lan_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/lan/lantest"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/raster"
	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
)

// printerTypes are what a box browses for.
var printerTypes = []string{"_ipps._tcp", "_ipp._tcp", "_pdl-datastream._tcp", "_printer._tcp"}

// browsing is what a box hears on a network.
type browsing struct {
	*dnssd.Browser
	mu       sync.Mutex
	services []dnssd.Service
	since    map[string]time.Time // when an instance was whole for the first time
}

// browse listens to l until the test ends. told is called at every change; nil: nobody is.
func browse(t testing.TB, l *lantest.LAN, told func([]dnssd.Service)) *browsing {
	t.Helper()
	b := &browsing{Browser: &dnssd.Browser{
		Types: printerTypes, Interfaces: []string{l.Interface()}, Log: logger(t), Now: time.Now,
	}, since: map[string]time.Time{}}
	background(t, func(ctx context.Context) error {
		return b.Run(ctx, func(s []dnssd.Service) {
			b.mu.Lock()
			b.services = slices.Clone(s)
			for _, sv := range s {
				if b.since[sv.Instance].IsZero() && whole(s, sv.Instance) {
					b.since[sv.Instance] = time.Now()
				}
			}
			b.mu.Unlock()
			if told != nil {
				told(s)
			}
		})
	})
	return b
}

// background runs f until the test ends.
func background(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// find returns the services of an instance, in the order of their types.
func (b *browsing) find(instance string) []dnssd.Service {
	b.mu.Lock()
	defer b.mu.Unlock()
	var of []dnssd.Service
	for _, s := range b.services {
		if s.Instance == instance {
			of = append(of, s)
		}
	}
	return of
}

// has says whether an instance is found whole.
func (b *browsing) has(instance string) bool { return whole(b.find(instance), instance) }

// whole says whether services has all of an instance, by ipp and by ipps.
func whole(services []dnssd.Service, instance string) bool {
	n := 0
	for _, s := range services {
		if s.Instance == instance && s.TXT["uuid"] != "" && len(s.Addrs) > 0 {
			n++
		}
	}
	return n == 2
}

// allWhole waits until the instances are found, and logs how long after began the last one was.
func (b *browsing) allWhole(t testing.TB, what string, began time.Time, promised time.Duration, instances ...string) {
	t.Helper()
	until(t, what, 4*promised, func() bool {
		return !slices.ContainsFunc(instances, func(i string) bool { return !b.has(i) })
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	var last time.Time
	for _, i := range instances {
		if b.since[i].After(last) {
			last = b.since[i]
		}
	}
	t.Logf("%s: %v (promised: %v)", what, last.Sub(began).Round(time.Millisecond), promised)
}

// box is what a box does about printers, wired as package box does it.
type box struct {
	*printing.Spooler
	*browsing
	alarms    staff.Alarms
	rows      *rows
	draw      *raster.Rasteriser
	adoptions *adoption.Service
	hears     atomic.Pointer[dnssd.Browser]
}

// drawing keeps the compiled PDF engine for all tests.
var drawing = sync.OnceValues(func() (*raster.Rasteriser, error) {
	dir, err := os.MkdirTemp("/run", "raster-") // which is in memory, and ends with the tests
	if err != nil {
		return nil, err
	}
	r := &raster.Rasteriser{CacheDir: dir}
	return r, r.Warm(context.Background())
})

// rows is the journal, and remembers what it was told.
type rows struct {
	*sqlite.Store
	mu   sync.Mutex
	last map[string]printing.Row // by ID
}

// SavePrint implements printing.Journal.
func (r *rows) SavePrint(ctx context.Context, row printing.Row) error {
	err := r.Store.SavePrint(ctx, row)
	if err == nil {
		r.mu.Lock()
		r.last[row.ID] = row
		r.mu.Unlock()
	}
	return err
}

// of returns the rows of a document, as they were last written.
func (r *rows) of(doc []byte) []printing.Row {
	sum := fmt.Sprintf("%x", sha256.Sum256(doc))
	r.mu.Lock()
	defer r.mu.Unlock()
	var of []printing.Row
	for _, row := range r.last {
		if row.SHA256 == sum {
			of = append(of, row)
		}
	}
	return of
}

// setup is how a box differs from the usual one.
type setup struct {
	dir      string // where its database is; "" means a new one
	deaf     bool   // it does not listen to multicast DNS
	adoption bool   // printers can be adopted, from those it finds
	with     func(*printing.Config)
}

// newBox starts a box on l to which the printers are adopted. It runs until the test ends.
func newBox(t testing.TB, l *lantest.LAN, s setup, adopted ...staff.Adopted) *box {
	t.Helper()
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	b := &box{rows: openRows(t, s.dir)}
	var err error
	if b.draw, err = drawing(); err != nil {
		t.Fatal(err)
	}
	cfg := configOf(adopted, b.rows, logger(t))
	cfg.Raster = b.draw
	cfg.Alarm = func(a staff.Alarm) {
		a.At = time.Now()
		if b.alarms.Raise(a) {
			t.Logf("alarm: %+v", a)
		}
	}
	cfg.Cleared = b.alarms.Clear
	cfg.Doubt = func(uuid string) {
		if browser := b.hears.Load(); browser != nil {
			browser.Doubt(uuid)
		}
	}
	if s.with != nil {
		s.with(&cfg)
	}
	if b.Spooler, err = printing.New(cfg); err != nil {
		t.Fatal(err)
	}
	spooler := b.Spooler
	background(t, spooler.Run)
	found := b.Found
	if s.adoption {
		b.adoptions, err = adoption.New(t.Context(), adoption.Config{
			Store: b.rows, Printer: b, Adopt: b.Adopt, Branch: t.Name, Alarm: cfg.Alarm, Cleared: cfg.Cleared, Log: cfg.Log, Now: time.Now,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		background(t, b.adoptions.Run)
		found = func(services []dnssd.Service) {
			b.Found(services)
			b.adoptions.Found(services)
		}
	}
	if !s.deaf {
		b.browsing = browse(t, l, found)
		b.hears.Store(b.Browser)
	}
	return b
}

func configOf(adopted []staff.Adopted, j printing.Journal, log *slog.Logger) printing.Config {
	return printing.Config{Adopted: adopted, Journal: j, Log: log, Now: time.Now}
}

func openRows(t testing.TB, dir string) *rows {
	t.Helper()
	store, aside, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "box.db"), Now: time.Now})
	if err != nil || aside != "" {
		t.Fatalf("database set aside as %q: %v", aside, err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rows{Store: store, last: map[string]printing.Row{}}
	// What a box before it left open.
	open, err := store.OpenPrints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range open {
		r.last[row.ID] = row
	}
	return r
}

// adopt is what the box stores when somebody has typed the code from the paper.
func adopt(t testing.TB, p *lantest.Printer) staff.Adopted {
	t.Helper()
	return staff.Adopted{
		UUID: p.UUID(), Name: p.Instance(), URI: p.URI("ipps"), Keys: []string{p.Pin(t)}, Link: staff.LinkTLS, PDF: true,
		By: "Anna", At: time.Now(),
	}
}

func adoptAll(t testing.TB, printers ...*lantest.Printer) []staff.Adopted {
	t.Helper()
	var all []staff.Adopted
	for _, p := range printers {
		all = append(all, adopt(t, p))
	}
	return all
}

// device is how the box thinks that p is.
func (b *box) device(p *lantest.Printer) staff.Device {
	for _, d := range b.Devices() {
		if d.UUID == p.UUID() {
			return d
		}
	}
	return staff.Device{}
}

// online waits until the box has seen that the printers can print.
func (b *box) online(t testing.TB, printers ...*lantest.Printer) {
	t.Helper()
	for _, p := range printers {
		until(t, p.Name()+" is ready", 60*time.Second, func() bool {
			d := b.device(p)
			return d.Presence == staff.Online && d.State == kiosk.PrinterReady
		})
	}
}

// said collects what is reported of a print.
type said struct {
	mu  sync.Mutex
	all []kiosk.PrintProgress
	on  func(kiosk.PrintProgress)
}

func (s *said) report(p kiosk.PrintProgress) {
	s.mu.Lock()
	s.all = append(s.all, p)
	s.mu.Unlock()
	if s.on != nil {
		s.on(p)
	}
}

func (s *said) has(state kiosk.PrintState, trouble kiosk.Trouble) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(p kiosk.PrintProgress) bool { return p.State == state && p.Trouble == trouble })
}

// print prints doc, a certificate, on p. It gives up after a minute and a half.
func (b *box) print(ctx context.Context, p *lantest.Printer, doc []byte, report func(kiosk.PrintProgress)) error {
	if report == nil {
		report = func(kiosk.PrintProgress) {}
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	return b.Print(ctx, jobFor(p.UUID(), doc), report)
}

func jobFor(uuid string, doc []byte) kiosk.PrintJob {
	return kiosk.PrintJob{
		Session: "6f1c2b1e-0000-4000-8000-000000000001", Kiosk: 1, Kind: "certificate", PDF: doc, SHA256: sha256.Sum256(doc), Pages: 1,
		Printer: uuid,
	}
}

// ended says how a print ended: "done", or trouble and outcome.
func ended(err error) string {
	if err == nil {
		return "done"
	}
	pe := kiosk.AsPrintError(err)
	return strings.TrimSpace(fmt.Sprintf("%s %s", pe.Trouble, pe.Outcome))
}

// document is a page of A4 that no other test prints.
func document(t testing.TB, about string) []byte {
	t.Helper()
	pdf, err := paper.TestPage(paper.AdoptionForm{Printer: about, Branch: t.Name(), At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return pdf
}

// long makes a document longer without changing what is on its page.
func long(doc []byte, size int) []byte {
	return append(slices.Clone(doc), "%"+strings.Repeat("s", size)+"\n%%EOF\n"...)
}

// received checks that p has received exactly these documents, byte for byte.
func received(t testing.TB, p *lantest.Printer, want ...[]byte) {
	t.Helper()
	docs := p.Docs(t)
	if len(docs) != len(want) {
		t.Fatalf("%s received %d documents, want %d", p.Name(), len(docs), len(want))
	}
	for i, d := range docs {
		if d.SHA256 != sha256.Sum256(want[i]) {
			t.Errorf("%s: document %d (%s, %d bytes) is not the one sent (%d bytes)", p.Name(), i+1, d.Name, len(d.Bytes), len(want[i]))
		}
	}
}

// until waits until ok, for at most limit.
func until(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// within waits until ok and logs how long that took since then. What is promised is for a machine that is not busy:
// only four times as long is an error.
func within(t testing.TB, what string, since time.Time, promised time.Duration, ok func() bool) {
	t.Helper()
	until(t, what, 4*promised, ok)
	t.Logf("%s: %v (promised: %v)", what, time.Since(since).Round(time.Millisecond), promised)
}

// logger writes what the box logs to the test's output, when it failed.
func logger(t testing.TB) *slog.Logger {
	w := &lines{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box's log:\n%s", w.text.String())
		}
	})
	return slog.New(slog.NewTextHandler(w, nil))
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// encode is for handing things to the box that is killed.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
