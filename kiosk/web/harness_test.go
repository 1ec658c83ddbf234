package web

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"sync"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/kiosk/paper"
	"sportello.example/sync/citizen"
	"sportello.example/sync/desired"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
	"sportello.example/sync/wire"
)

// challenge is what the QR holds in tests: as long as a real one.
const challenge = "HTTPS://HUB.SPORTELLO.EXAMPLE/P/AEAAAAAAAEBAAAAAAAGWTQKZ6TZ4JXH2Q7N3VFM5R6ABCDEF"

// rightCode is the code that the phone shows in tests.
const rightCode = "48217730"

// branch is everything that stands around the pages: a real Desk, and in the place of the hub, the printer and the
// disk something that does as it is told.
type branch struct {
	t     testing.TB
	web   *Server
	desk  *kiosk.Desk
	board *health.Board
	stop  context.CancelFunc

	mu       sync.Mutex
	clock    time.Time
	lineUp   bool
	full     bool            // the disk
	login    wire.LoginState // the phone's side
	enter    error           // what checking a code answers, nil: compares with rightCode
	tries    int
	registry error         // what Family and Certificate answer
	hold     chan struct{} // Certificate waits for it
	collect  error
	printer  kiosk.PrinterStatus
	others   []kiosk.PrinterStatus // besides printer
	jobs     []kiosk.PrintJob
	job      chan error // ends the job at the printer
	report   func(kiosk.PrintProgress)
	pages    int
	members  []wire.Member
	events   []event.Kind
	picture  []byte
	notices  []desired.Posted
}

// readOnce reads the pages for all tests: two hundred branches show the same ones.
var readOnce = sync.OnceValues(func() (*Server, error) {
	texts, err := locale.Load()
	if err != nil {
		return nil, err
	}
	return New(Config{Texts: texts})
})

func newBranch(t testing.TB) *branch {
	t.Helper()
	b := &branch{
		t: t, clock: time.Date(2026, 3, 10, 11, 5, 0, 0, time.UTC), lineUp: true, login: wire.LoginWaiting, tries: 3, pages: 1,
		printer: kiosk.PrinterStatus{State: kiosk.PrinterReady}, job: make(chan error, 1), picture: sheet(t, 60),
		members: []wire.Member{
			{Ref: "m1", Name: "Mario", FamilyName: "Rossi", YearOfBirth: 1950}, {Ref: "m2", Name: "Lucia", FamilyName: "Rossi", YearOfBirth: 1985},
		},
	}
	cat, err := kiosk.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	b.board = health.New(b.now)
	log := slog.New(slog.DiscardHandler)
	b.desk = kiosk.NewDesk(kiosk.Config{
		Place: func() (string, int) { return "Biblioteca Harar", 2 }, Catalogue: cat, Journal: b, Hub: b, Logins: b, Printer: b, Viewer: b, Papers: b,
		LineUp: b.line, Disk: func(bool) {}, Kick: func() {}, Drain: func(context.Context) {}, Now: b.now, Log: log, Languages: texts.Has,
	})
	first, err := readOnce()
	if err != nil {
		t.Fatal(err)
	}
	b.web, err = newServer(Config{
		Desk: b.desk, Board: b.board, Printer: b, Texts: texts, Now: b.now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Hosts: []string{"box.sportello.internal"}, Staff: "/staff/",
		Notices: func() []desired.Posted { b.mu.Lock(); defer b.mu.Unlock(); return b.notices },
	}, first.static, first.pages)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.desk.Run(ctx) }()
	b.stop = func() {
		b.web.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(b.stop)
	b.setLine(true)
	return b
}

func (b *branch) now() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.clock }
func (b *branch) line() bool     { b.mu.Lock(); defer b.mu.Unlock(); return b.lineUp }

func (b *branch) set(f func()) { b.mu.Lock(); defer b.mu.Unlock(); f() }

func (b *branch) pass(d time.Duration) { b.set(func() { b.clock = b.clock.Add(d) }) }

// setLine cuts the line or restores it.
func (b *branch) setLine(up bool) {
	b.set(func() { b.lineUp = up })
	state := health.Down
	if up {
		state = health.Up
	}
	b.board.Set(health.Network, health.Up, "")
	b.board.Set(health.Hub, state, "")
	b.board.Set(health.Registry, state, "")
}

func (b *branch) Record(_ context.Context, _ kiosk.SessionRow, e event.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return kiosk.ErrDiskFull
	}
	b.events = append(b.events, e.Kind)
	return nil
}

func (b *branch) Login(ctx context.Context, _ string, wait time.Duration) (kiosk.Login, error) {
	for end := time.Now().Add(wait); time.Now().Before(end); {
		b.mu.Lock()
		state, up := b.login, b.lineUp
		b.mu.Unlock()
		switch {
		case !up:
			return kiosk.Login{}, kiosk.ErrOffline
		case state != wire.LoginWaiting:
			return kiosk.Login{State: state, Token: []byte("sealed")}, nil
		}
		select {
		case <-ctx.Done():
			return kiosk.Login{}, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return kiosk.Login{State: wire.LoginWaiting}, nil
}

func (b *branch) Family(context.Context, string) ([]wire.Member, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.members, b.registry
}

func (b *branch) Certificate(ctx context.Context, _ wire.CertificateRequest) ([]byte, error) {
	b.mu.Lock()
	hold, err := b.hold, b.registry
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-hold:
		}
	}
	return []byte("%PDF-1.7"), err
}

func (b *branch) Collect(context.Context, string) (wire.Request, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return wire.Request{Certificates: []string{"residenza"}, Recipient: "private", Holder: "self"}, b.collect
}

func (b *branch) Begin(int) (kiosk.Challenge, error) {
	return kiosk.Challenge{URL: challenge, Nonce: "00112233445566778899"}, nil
}

func (b *branch) Enter(_ int, code string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.enter != nil:
		return 0, b.enter
	case code == rightCode:
		return 0, nil
	}
	if b.tries--; b.tries <= 0 {
		return 0, kiosk.ErrLoginDead
	}
	return b.tries, kiosk.ErrCodeWrong
}

func (b *branch) Open(int, string, []byte) (kiosk.Person, error) {
	return kiosk.NewPerson(citizen.NewName("Mario"), citizen.NewName("Rossi")), nil
}
func (b *branch) Cancel(int) {}

func (b *branch) Draw(context.Context, []byte, bool) ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all [][]byte
	for range b.pages {
		all = append(all, bytes.Clone(b.picture))
	}
	return all, nil
}

func (b *branch) Declaration(paper.DeclarationForm) ([]byte, error) { return []byte("%PDF-1.7"), nil }
func (b *branch) Slip(paper.SlipForm) ([]byte, error)               { return []byte("%PDF-1.7"), nil }

func (b *branch) Status() kiosk.PrinterStatus { b.mu.Lock(); defer b.mu.Unlock(); return b.printer }

func (b *branch) Printers() []kiosk.PrinterStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]kiosk.PrinterStatus{b.printer}, b.others...)
}

func (b *branch) Print(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
	b.set(func() { b.report, b.jobs = report, append(b.jobs, job) })
	report(kiosk.PrintProgress{State: kiosk.PrintPrinting})
	select {
	case err := <-b.job:
		return err
	case <-ctx.Done():
		return &kiosk.PrintError{Outcome: kiosk.NothingPrinted, Trouble: kiosk.TroublePaper, Err: ctx.Err()}
	}
}

// sheet draws something that looks like a page, w pixels wide.
func sheet(t testing.TB, w int) []byte {
	t.Helper()
	h := w * 297 / 210
	img := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.Gray{255}
			if l := y * 40 / h; l > 3 && l < 36 && l%2 == 0 && x > w/8 && x < w*7/8-(l*37%5)*w/20 && y*40%h*3 > h {
				c = color.Gray{90}
			}
			img.SetGray(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// await waits until the session of kiosk 1 is where it should be.
func (b *branch) await(what string, ok func(kiosk.View) bool) {
	b.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if s, err := b.desk.Session(1, ""); err == nil && ok(s.View()) {
			return
		}
	}
	s, err := b.desk.Session(1, "")
	if err != nil {
		b.t.Fatalf("waiting for %s: %v", what, err)
	}
	b.t.Fatalf("waiting for %s: at %s", what, s.View().Stage)
}

func (b *branch) stage(want kiosk.Stage) {
	b.t.Helper()
	b.await(string(want), func(v kiosk.View) bool { return v.Stage == want })
}

var errHub = errors.New("hub answers garbage")
