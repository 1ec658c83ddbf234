package interleave_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

// errDead is what a killed box gets from everything.
var errDead = errors.New("the box is dead")

// box is one life of the box, from its start to when it is killed or stopped: desk and spooler, with a network and a
// journal that are deaf to what a dead one still says.
type box struct {
	town  *town
	spool *printing.Spooler
	desk  *kiosk.Desk
	store store
	stop  context.CancelFunc
	over  chan struct{} // closed when it is killed or told to stop
	gone  chan struct{} // closed when nothing of it runs any more

	mu    sync.Mutex
	dead  bool
	conns map[net.Conn]bool
}

// start starts a box.
func (t *town) start() *box {
	ctx, stop := context.WithCancel(context.Background())
	b := &box{town: t, stop: stop, over: make(chan struct{}), gone: make(chan struct{}), conns: map[net.Conn]bool{}}
	var err error
	if b.store, err = t.how.open(); err != nil {
		t.Fatal(err)
	}
	b.spool, err = printing.New(printing.Config{
		Adopted: t.adopted(), Journal: (*boxJournal)(b), Alarm: b.alarm, Cleared: b.cleared, Dial: b.dial,
		Attended: func() bool { return true },
		Idle:     10 * time.Second, Active: 5 * time.Second, Poll: time.Second,
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.desk = kiosk.NewDesk(kiosk.Config{
		Place: func() (string, int) { return "Harar", kiosks }, Catalogue: t.catalogue, Journal: (*boxJournal)(b), Hub: nil, Logins: noLogins{},
		Printer: t.how.wrap(b.spool), Viewer: viewer{}, Papers: drawer{t.ledger, t.luck("papers")}, LineUp: func() bool { return true },
		Disk: func(bool) {}, Kick: func() {}, Drain: func(context.Context) {}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Languages: func(string) bool { return true },
	})
	var running sync.WaitGroup
	running.Go(func() { _ = b.spool.Run(ctx) })
	running.Go(func() { _ = b.desk.Run(ctx) })
	if t.how.beside != nil {
		running.Go(func() { t.how.beside(ctx, b) })
	}
	go func() {
		running.Wait()
		t.must(b.store.Close())
		close(b.gone)
	}()
	return b
}

// kill is a power cut: from now on nothing that the box does has an effect. It may be called from inside the box.
func (b *box) kill() {
	b.mu.Lock()
	if b.dead {
		b.mu.Unlock()
		return
	}
	b.dead = true
	conns := b.conns
	b.conns = map[net.Conn]bool{}
	b.mu.Unlock()
	b.town.ledger.cut()
	b.end()
	for c := range conns {
		if l, ok := c.(interface{ SetLinger(int) error }); ok {
			_ = l.SetLinger(0)
		}
		_ = c.Close()
	}
	b.stop()
}

// shut stops the box properly.
func (b *box) shut() {
	b.town.ledger.cut()
	b.end()
	b.stop()
}

func (b *box) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.over:
	default:
		close(b.over)
	}
}

func (b *box) isDead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

// dial connects the box to the printers.
func (b *box) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if b.isDead() {
		return nil, errDead
	}
	c, err := b.town.net.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		_ = c.Close()
		return nil, errDead
	}
	b.conns[c] = true
	return &line{Conn: c, box: b}, nil
}

// line is a connection that its box forgets when it is closed.
type line struct {
	net.Conn
	box *box
}

func (l *line) Close() error {
	l.box.mu.Lock()
	delete(l.box.conns, l.Conn)
	l.box.mu.Unlock()
	return l.Conn.Close()
}

func (b *box) alarm(a staff.Alarm) {
	if !b.isDead() {
		b.town.ledger.raise(a)
	}
}

func (b *box) cleared(kind staff.AlarmKind, subject string) {
	if !b.isDead() {
		b.town.ledger.clear(kind, subject)
	}
}

// boxJournal is the journal as a box has it: the ledger looks at every row before it is stored, and the box may be
// killed right before or right after that.
type boxJournal box

func (j *boxJournal) SavePrint(ctx context.Context, row printing.Row) error {
	b := (*box)(j)
	if b.isDead() {
		return errDead
	}
	before, after := b.town.killNow()
	if before {
		b.kill()
		return errDead
	}
	if row.Verdict == "" {
		b.town.ledger.row(row)
	}
	err := b.store.SavePrint(ctx, row)
	if after {
		b.kill()
		return errDead
	}
	return err
}

func (j *boxJournal) OpenPrints(ctx context.Context) ([]printing.Row, error) {
	return j.store.OpenPrints(ctx)
}

func (j *boxJournal) UndecidedPrints(ctx context.Context) ([]printing.Row, error) {
	return j.store.UndecidedPrints(ctx)
}

func (j *boxJournal) SheetsSince(ctx context.Context, t time.Time) (map[string]int, error) {
	return j.store.SheetsSince(ctx, t)
}

// Record implements kiosk.Journal.
func (j *boxJournal) Record(ctx context.Context, row kiosk.SessionRow, e event.Event) error {
	if (*box)(j).isDead() {
		return errDead
	}
	return j.store.Record(ctx, row, e)
}

// noLogins is for a desk where nobody logs in.
type noLogins struct{ kiosk.Logins }

func (noLogins) Cancel(int) {}

// viewer counts pages.
type viewer struct{}

var count = regexp.MustCompile(`/Count (\d+)`)

func (viewer) Draw(_ context.Context, pdf []byte, _ bool) ([][]byte, error) {
	n, err := strconv.Atoi(string(count.FindSubmatch(pdf)[1]))
	return make([][]byte, n), err
}

// drawer makes the document of the visit whose session was typed as the family name: so it is the desk that says whose
// document is whose.
type drawer struct {
	ledger *ledger
	luck   *luck
}

func (p drawer) Declaration(f paper.DeclarationForm) ([]byte, error) {
	size := 500
	if p.luck.one(20) {
		size = 100_000
	}
	return p.ledger.draw(strings.TrimSpace(f.Person.FamilyName), 1+p.luck.n(3), size).given, nil
}

func (drawer) Slip(paper.SlipForm) ([]byte, error) { return nil, errors.ErrUnsupported }
