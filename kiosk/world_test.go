package kiosk

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/citizen"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// world is everything outside a desk, in fake time: what its methods do is set by the fields. The real peers are in
// the tests of folder appliance.
type world struct {
	mu     sync.Mutex
	lineUp bool
	full   bool // the disk

	noLegal bool // it is full for legal events: others are let go in silence
	token   bool // the phone has finished
	refuse  error
	code    string
	wrong   int
	printed [][]byte
	jobs    int
	print   func(ctx context.Context, job PrintJob, report func(PrintProgress)) error
	events  []event.Event
	rows    []SessionRow
	private [][]byte // what only the hub may read
	cancels int
	slow    time.Duration // for drawing
	drawn   error
	docs    [][]byte // every document the desk got hold of, and every picture of one
	others  []PrinterStatus
}

func (w *world) Record(_ context.Context, row SessionRow, e event.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full || w.noLegal && e.Kind.Stream() == envelope.Legal {
		return ErrDiskFull
	}
	if e.Private != nil {
		w.private = append(w.private, bytes.Clone(e.Private))
	}
	w.events, w.rows = append(w.events, e), append(w.rows, row)
	return nil
}

func (w *world) Login(ctx context.Context, _ string, wait time.Duration) (Login, error) {
	end := time.Now().Add(wait)
	for {
		w.mu.Lock()
		up, token := w.lineUp, w.token
		w.mu.Unlock()
		switch {
		case !up:
			return Login{}, ErrOffline
		case token:
			return Login{State: wire.LoginDone, Token: []byte("sealed")}, nil
		case !time.Now().Before(end):
			return Login{State: wire.LoginWaiting}, nil
		}
		sleep(ctx, time.Second)
		if err := ctx.Err(); err != nil {
			return Login{}, err
		}
	}
}

func (w *world) Family(context.Context, string) ([]wire.Member, error) {
	return []wire.Member{{Ref: "0", Name: "Ada"}, {Ref: "1", Name: "Ugo"}}, w.refuse
}

func (w *world) Certificate(context.Context, wire.CertificateRequest) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.lineUp {
		return nil, ErrOffline
	}
	return w.handOver("%PDF certificate"), w.refuse
}

func (w *world) Collect(context.Context, string) (wire.Request, error) {
	return wire.Request{Certificates: []string{"residenza"}, Recipient: "private", Holder: "self"}, w.refuse
}

func (w *world) Begin(int) (Challenge, error) {
	return Challenge{URL: "HTTPS://HUB/P/X", Nonce: "00"}, nil
}

func (w *world) Enter(_ int, code string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code == w.code {
		return 0, nil
	}
	if w.wrong++; w.wrong == 3 {
		return 0, ErrLoginDead
	}
	return 3 - w.wrong, ErrCodeWrong
}

func (w *world) Open(int, string, []byte) (Person, error) {
	return NewPerson(citizen.NewName("Ada"), citizen.NewName("Canarini")), nil
}

func (w *world) Cancel(int) { w.mu.Lock(); w.cancels++; w.mu.Unlock() }

func (w *world) Print(ctx context.Context, job PrintJob, report func(PrintProgress)) error {
	w.mu.Lock()
	w.jobs++
	f := w.print
	w.mu.Unlock()
	if f != nil {
		if err := f(ctx, job, report); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.printed = append(w.printed, bytes.Clone(job.PDF))
	return nil
}

func (w *world) Printers() []PrinterStatus { return append([]PrinterStatus{w.Status()}, w.others...) }

// handOver returns a document that the desk has to destroy.
func (w *world) handOver(text string) []byte {
	doc := []byte(text)
	w.docs = append(w.docs, doc)
	return doc
}

// left returns what can still be read of the documents.
func (w *world) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	for _, doc := range w.docs {
		if !bytes.Equal(doc, make([]byte, len(doc))) {
			left = append(left, string(doc))
		}
	}
	return left
}

func (w *world) Status() PrinterStatus { return PrinterStatus{State: PrinterReady} }

func (w *world) Draw(ctx context.Context, _ []byte, _ bool) ([][]byte, error) {
	sleep(ctx, w.slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	return [][]byte{w.handOver("png")}, w.drawn
}

func (w *world) Declaration(paper.DeclarationForm) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.handOver("%PDF declaration"), nil
}

func (w *world) Slip(f paper.SlipForm) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.handOver("%PDF slip " + f.Code), nil
}

func (w *world) set(f func()) { w.mu.Lock(); f(); w.mu.Unlock() }

func (w *world) kinds() []event.Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ks []event.Kind
	for _, e := range w.events {
		ks = append(ks, e.Kind)
	}
	return ks
}

// run gives f a desk that runs in fake time until f returns.
func run(t *testing.T, f func(t *testing.T, w *world, d *Desk)) {
	t.Helper()
	c := catalogue(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{lineUp: true, code: "12345678"}
		d := NewDesk(Config{
			Place: func() (string, int) { return "Harar", 2 }, Catalogue: c, Journal: w, Hub: w, Logins: w, Printer: w, Viewer: w, Papers: w,
			LineUp: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.lineUp }, Disk: func(bool) {}, Kick: func() {}, Drain: func(context.Context) {},
			Now: time.Now, Log: slog.New(slog.DiscardHandler), Languages: func(tag string) bool { return tag == "it" },
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		f(t, w, d)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, d *Desk, kiosk int) *Session {
	t.Helper()
	s, err := d.Start(t.Context(), kiosk, "it", SelfService)
	must(t, err)
	return s
}

// answerAll answers every question of a certificate for a bank.
func answerAll(t *testing.T, d *Desk, s *Session) {
	t.Helper()
	ctx := t.Context()
	must(t, d.SetService(ctx, s, Certificates))
	must(t, d.SetRecipient(ctx, s, ToPrivate))
	must(t, d.ToggleCertificate(ctx, s, "residenza"))
	must(t, d.ConfirmCertificates(ctx, s))
	must(t, d.SetHolder(ctx, s, Self))
	must(t, d.SetStamp(ctx, s, StampDue))
}

// logIn goes from the QR to "yes, that is me".
func logIn(t *testing.T, w *world, d *Desk, s *Session) {
	t.Helper()
	must(t, d.BeginLogin(t.Context(), s))
	w.set(func() { w.token = true })
	must(t, d.EnterCode(t.Context(), s, "12345678"))
	time.Sleep(2 * time.Second)
	synctest.Wait()
	must(t, d.Accept(t.Context(), s, true))
}

// toPreview goes all the way to a certificate on the screen.
func toPreview(t *testing.T, w *world, d *Desk, s *Session) {
	t.Helper()
	answerAll(t, d, s)
	logIn(t, w, d, s)
	must(t, d.Prepare(t.Context(), s))
	synctest.Wait()
	if st := s.View().Stage; st != StagePreview {
		t.Fatalf("stage %s, want preview", st)
	}
}

func declaration(t *testing.T, d *Desk, s *Session) {
	t.Helper()
	must(t, d.SetService(t.Context(), s, SelfDeclaration))
	must(t, d.SetFacts(t.Context(), s, AllFacts()))
	must(t, d.SetFill(t.Context(), s, Blank))
	must(t, d.Prepare(t.Context(), s))
	synctest.Wait()
}
