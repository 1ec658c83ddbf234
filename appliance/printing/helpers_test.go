package printing_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// memory is a journal that can fail.
type memory struct {
	mu    sync.Mutex
	rows  []printing.Row
	steps []string // of all rows, in order
	full  bool
	onRow func(printing.Row)
}

var errFull = errors.New("no space left on device")

func (m *memory) SavePrint(_ context.Context, row printing.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onRow != nil {
		m.onRow(row)
	}
	if m.full {
		return errFull
	}
	m.steps = append(m.steps, string(row.State))
	if i := slices.IndexFunc(m.rows, func(r printing.Row) bool { return r.ID == row.ID }); i >= 0 {
		m.rows[i] = row
	} else {
		m.rows = append(m.rows, row)
	}
	return nil
}

func (m *memory) OpenPrints(context.Context) ([]printing.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.rows), func(r printing.Row) bool { return !r.State.Open() }), nil
}

func (m *memory) UndecidedPrints(context.Context) ([]printing.Row, error) {
	return undecided(m.all()), nil
}

func (m *memory) SheetsSince(_ context.Context, t time.Time) (map[string]int, error) {
	return sheetsSince(m.all(), t), nil
}

func undecided(rows []printing.Row) []printing.Row {
	return slices.DeleteFunc(rows, func(r printing.Row) bool { return r.State != printing.Uncertain || r.Verdict != "" })
}

func sheetsSince(rows []printing.Row, t time.Time) map[string]int {
	n := map[string]int{}
	for _, r := range rows {
		if r.State == printing.Done && !r.Updated.Before(t) {
			n[r.PrinterUUID] += r.Pages
		}
	}
	return n
}

func (m *memory) all() []printing.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rows)
}

func (m *memory) history() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.steps, " ")
}

// pdf is a document of n pages of about the given size.
func pdf(n, size int) []byte {
	var b strings.Builder
	b.WriteString("%PDF-1.4\n")
	for i := range n {
		fmt.Fprintf(&b, "%d 0 obj <</Type /Page >> endobj\n", i+1)
	}
	b.WriteString(strings.Repeat("x", size))
	b.WriteString("\n%%EOF\n")
	return []byte(b.String())
}

func jobOf(doc []byte, pages int) kiosk.PrintJob {
	return kiosk.PrintJob{Session: "s", Kiosk: 1, Kind: "certificate", PDF: doc, SHA256: sha256.Sum256(doc), Pages: pages}
}

func start(t *testing.T, cfg ipptest.Config) *ipptest.Printer {
	t.Helper()
	p := ipptest.New(cfg)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// dial calls n with the time-out that the network has.
func dial(n *ipptest.Net) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return n.Dial(ctx, network, address)
	}
}

// quick is a configuration with short waits for p.
func quick(p *ipptest.Printer, j printing.Journal) printing.Config {
	return printing.Config{
		Adopted: []staff.Adopted{{UUID: p.UUID(), URI: p.URI(), PDF: true}}, Journal: j,
		Idle: 50 * time.Millisecond, Active: 20 * time.Millisecond, Poll: 10 * time.Millisecond,
		Gone: 500 * time.Millisecond, Busy: 3 * time.Second, Grace: time.Second,
		Log: slog.New(slog.NewTextHandler(discard{}, nil)), Now: time.Now,
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func spooler(t *testing.T, cfg printing.Config) *printing.Spooler {
	t.Helper()
	s, err := printing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// used lets p print a sheet for somebody else, so that its history shows that it counts, and says how many documents
// came out.
func used(t *testing.T, p *ipptest.Printer) int {
	t.Helper()
	if err := spooler(t, quick(p, &memory{})).Print(t.Context(), jobOf(pdf(1, 10), 1), func(kiosk.PrintProgress) {}); err != nil {
		t.Fatal(err)
	}
	return len(p.Documents())
}

// run runs s until the test ends and waits until its printer has been seen.
func run(t *testing.T, s *printing.Spooler) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func until(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// progress collects what is reported.
type progress struct {
	mu   sync.Mutex
	seen []kiosk.PrintProgress
	on   func(kiosk.PrintProgress)
}

func (p *progress) report(now kiosk.PrintProgress) {
	p.mu.Lock()
	p.seen = append(p.seen, now)
	p.mu.Unlock()
	if p.on != nil {
		p.on(now)
	}
}

func (p *progress) has(state kiosk.PrintState, trouble kiosk.Trouble) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.seen, func(s kiosk.PrintProgress) bool { return s.State == state && s.Trouble == trouble })
}

// describe says how a print ended: "done", or "trouble outcome".
func describe(err error) string {
	if err == nil {
		return "done"
	}
	pe := kiosk.AsPrintError(err)
	return fmt.Sprintf("%s %s", pe.Trouble, pe.Outcome)
}
