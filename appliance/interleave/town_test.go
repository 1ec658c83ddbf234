package interleave_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

const kiosks = 2

// store is where a box keeps what it must not forget.
type store interface {
	printing.Journal
	kiosk.Journal
	Close() error
}

// how says what a town is like.
type how struct {
	open   func() (store, error)             // opens the store of a box that starts; nil: one in memory
	alone  bool                              // a store cannot be opened before the box that had it is gone
	tls    bool                              // one of the printers has keys
	rough  bool                              // more goes wrong
	wrap   func(kiosk.Printer) kiosk.Printer // changes the spooler on its way to the desk
	beside func(ctx context.Context, b *box) // runs beside a box
}

// town is two kiosks, two printers, a facilitator and a box that is killed and started again.
type town struct {
	testing.TB
	how       how
	seed      uint64
	catalogue *kiosk.Catalogue
	net       *ipptest.Net
	ledger    *ledger
	machines  []*machine

	mu      sync.Mutex
	box     *box // nil while it is off
	changed chan struct{}
	left    int           // presses of "Stampa" that are to come
	calm    chan struct{} // closed when nothing breaks any more
	armed   int           // rows until the box is killed, 0: it is not
	after   bool          // … after it is stored
}

// luck is an actor's own source.
type luck struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (t *town) luck(actor string) *luck {
	h := fnv.New64a()
	_, _ = h.Write([]byte(actor))
	return &luck{r: rand.New(rand.NewPCG(t.seed, h.Sum64()))}
}

// n is one of 0 … n-1.
func (l *luck) n(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

// one is true one time in n.
func (l *luck) one(n int) bool { return l.n(n) == 0 }

// between is a time, to the nanosecond, so that little happens at once.
func (l *luck) between(from, to time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return from + time.Duration(l.r.Int64N(int64(to-from)))
}

// pause waits. It is false when over was closed meanwhile.
func pause(d time.Duration, over <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-over:
		return false
	}
}

// live has n documents printed and returns what must not have happened, and what did. It runs in fake time.
func live(tb testing.TB, seed uint64, n int, h how) (faults []string, figures map[string]int) {
	cat, err := kiosk.LoadCatalogue()
	if err != nil {
		tb.Fatal(err)
	}
	if h.wrap == nil {
		h.wrap = func(p kiosk.Printer) kiosk.Printer { return p }
	}
	if h.open == nil {
		memory := newJournal()
		h.open = func() (store, error) { return memory, nil }
	}
	t := &town{
		TB: tb, how: h, seed: seed, catalogue: cat, net: &ipptest.Net{}, ledger: newLedger(),
		changed: make(chan struct{}), left: n, calm: make(chan struct{}),
	}
	shape := t.luck("shape")
	for i := range 2 {
		t.machines = append(t.machines, t.machine(i, shape))
	}
	t.ledger.jobs = func(uuid string) []ipptest.Job {
		for _, m := range t.machines {
			if m.uuid == uuid {
				return m.Jobs()
			}
		}
		return nil
	}
	over := make(chan struct{}) // for who helps until the end
	t.switchOn(over)
	var visitors, chaos, helpers sync.WaitGroup
	for k := 1; k <= kiosks; k++ {
		visitors.Go(func() { t.visitors(k) })
	}
	for _, m := range t.machines {
		chaos.Go(func() { t.trouble(m) })
	}
	chaos.Go(t.powerCuts)
	helpers.Go(func() { t.staff(over) })
	visitors.Wait()
	close(t.calm)
	chaos.Wait()
	t.settle()
	b := t.running()
	close(over)
	helpers.Wait()
	b.shut()
	<-b.gone
	for _, m := range t.machines {
		m.Close()
	}
	if faults = t.ledger.broken(); len(faults) == 0 {
		faults = t.ledger.leftovers()
	}
	for _, m := range t.machines {
		for _, j := range m.Jobs() {
			if mayPrint(j) || j.State == "pending" {
				faults = append(faults, fmt.Sprintf("printer %s has job %s, which is %s:%s", last(m.uuid), j.Name, j.State, t.ledger.steps[j.Name]))
			}
		}
	}
	return faults, t.ledger.figures
}

// settle waits until staff has dealt with all that was left, for an hour at most.
func (t *town) settle() {
	for range 60 {
		time.Sleep(time.Minute)
		b := t.running()
		open, err := b.store.OpenPrints(context.Background())
		undecided, err2 := b.store.UndecidedPrints(context.Background())
		if err == nil && err2 == nil && len(open) == 0 && len(undecided) == 0 {
			return
		}
	}
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	t.ledger.fault("an hour after everybody has gone there are still prints that wait")
}

// press takes one of the presses that are to come; false when there are none.
func (t *town) press() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 || len(t.ledger.broken()) > 0 {
		return false
	}
	t.left--
	return true
}

func (t *town) more() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left > 0 && len(t.ledger.broken()) == 0
}

// running waits for a box that is on.
func (t *town) running() *box {
	for {
		t.mu.Lock()
		b, changed := t.box, t.changed
		t.mu.Unlock()
		if b != nil {
			return b
		}
		<-changed
	}
}

// switchOn starts the box, and starts it again some time after it was killed or stopped.
func (t *town) switchOn(over <-chan struct{}) {
	set := func(b *box) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.box = b
		close(t.changed)
		t.changed = make(chan struct{})
	}
	b := t.start()
	set(b)
	luck := t.luck("boot")
	go func() {
		for {
			<-b.over
			set(nil)
			if b.isDead() {
				time.Sleep(luck.between(time.Second, 20*time.Second))
			}
			if !b.isDead() || t.how.alone {
				<-b.gone
			}
			select {
			case <-over:
				return
			default:
			}
			b = t.start()
			t.ledger.count("starts of the box")
			t.ledger.up()
			set(b)
		}
	}()
}

// killNow says whether the box is to be killed before or after the row is stored that it stores now.
func (t *town) killNow() (before, after bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed == 0 {
		return false, false
	}
	if t.armed--; t.armed > 0 {
		return false, false
	}
	return !t.after, t.after
}

// powerCuts kills the box, at any time or at a step of the journal, and now and then stops it properly.
func (t *town) powerCuts() {
	luck := t.luck("power")
	for pause(luck.between(time.Minute, 10*time.Minute), t.calm) {
		switch kind := luck.n(10); {
		case kind < 5:
			t.mu.Lock()
			t.armed, t.after = 1+luck.n(12), luck.one(2)
			t.mu.Unlock()
			t.ledger.count("kills at a row")
		case kind < 8:
			t.running().kill()
			t.ledger.count("kills")
		default:
			t.running().shut()
			t.ledger.count("stops")
		}
	}
	t.mu.Lock()
	t.armed = 0
	t.mu.Unlock()
}

// adopted is what the box has stored of the printers.
func (t *town) adopted() []staff.Adopted {
	var all []staff.Adopted
	for _, m := range t.machines {
		all = append(all, m.adopted())
	}
	return all
}
