// Package escpostest is a receipt printer that has no paper: it speaks ESC/POS on a port like the ones sold for 9100, keeps
// what would have come out, line by line, and can be told to run out of paper, to open its lid, to be one of the cheap
// ones that never say how they are, or to vanish.
package escpostest

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Config is how a printer is when it is switched on.
type Config struct {
	Addr string // where to listen; "" means a free port of 127.0.0.1
	// Listen opens its port instead of Addr; it may be that of an ipptest.Net.
	Listen func() (net.Listener, error)
	// Feed is how long a line takes; 0 means no time.
	Feed time.Duration
	// Chinese makes it one that begins in its double-byte mode.
	Chinese bool
}

const (
	buffer  = 4096 // bytes it takes without printing them
	backlog = 8    // connections that wait for their turn, unheard
)

// Printer is a simulated receipt printer. It hears one connection at a time; others wait, as
// they do in the queue of a listening socket. Its methods may be called at any
// time from any goroutine.
type Printer struct {
	cfg     Config
	running sync.WaitGroup

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced whenever anything below changes
	addr      string
	l         net.Listener // nil while it is gone
	conn      net.Conn     // nil without one
	closed    bool
	in        Interpreter
	pending   []byte
	lines     int // until the paper ends; -1: never
	nearEnd   bool
	cover     bool
	failure   bool
	mute      bool
	noGSr     bool
	cutAfter  int // bytes; -1: never
	automatic bool
	received  int
}

// New returns a printer that is switched off: call Start.
func New(cfg Config) *Printer {
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	return &Printer{
		cfg: cfg, addr: cfg.Addr, changed: make(chan struct{}), in: Interpreter{double: cfg.Chinese}, lines: -1, cutAfter: -1,
	}
}

// Start switches the printer on. It must be closed.
func (p *Printer) Start() error {
	if err := p.listen(); err != nil {
		return err
	}
	p.running.Go(p.engine)
	return nil
}

func (p *Printer) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l != nil || p.closed {
		return nil
	}
	listen := p.cfg.Listen
	if listen == nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", p.addr) }
	}
	l, err := listen()
	if err != nil {
		return fmt.Errorf("receipt printer: %w", err)
	}
	p.l, p.addr = l, l.Addr().String()
	waiting := make(chan net.Conn, backlog)
	p.running.Go(func() { p.accept(l, waiting) })
	p.running.Go(func() {
		for c := range waiting {
			p.serve(c)
		}
	})
	return nil
}

// Close switches the printer off and waits until nothing of it runs. What it printed can still be asked for.
func (p *Printer) Close() {
	p.set(func() { p.closed = true })
	p.hangUp(false)
	p.running.Wait()
}

// hangUp closes the port and the connection, with a reset if it is to be abrupt.
func (p *Printer) hangUp(abrupt bool) {
	p.mu.Lock()
	l, c := p.l, p.conn
	p.l = nil
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	if c != nil {
		reset(c, abrupt)
	}
}

func reset(c net.Conn, abrupt bool) {
	if s, ok := c.(interface{ SetLinger(sec int) error }); ok && abrupt {
		_ = s.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Printer) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.notify()
}

func (p *Printer) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait gives mu up until something changes or the timer fires.
func (p *Printer) wait(timer <-chan time.Time) {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
	case <-timer:
	}
}

// URI is the printer's: socket://host:port.
func (p *Printer) URI() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "socket://" + p.addr
}

// Paper puts in a roll that ends after so many lines; negative means one that never ends.
func (p *Printer) Paper(lines int) { p.set(func() { p.lines = lines }) }

// NearEnd lets the sensor say that the roll is nearly at its end.
func (p *Printer) NearEnd(on bool) { p.set(func() { p.nearEnd = on }) }

// Cover opens the lid or closes it.
func (p *Printer) Cover(open bool) { p.set(func() { p.cover = open }) }

// Failure jams the knife, or not.
func (p *Printer) Failure(on bool) { p.set(func() { p.failure = on }) }

// Mute makes it a printer that never answers.
func (p *Printer) Mute(on bool) { p.set(func() { p.mute = on }) }

// WithoutGSr makes it a printer that answers DLE EOT only.
func (p *Printer) WithoutGSr(on bool) { p.set(func() { p.noGSr = on }) }

// Automatic makes it a printer that also sends four bytes of status unasked, when it is connected.
func (p *Printer) Automatic(on bool) { p.set(func() { p.automatic = on }) }

// CutAfter cuts the connection once, n bytes after it was made; negative takes it back.
func (p *Printer) CutAfter(n int) { p.set(func() { p.cutAfter = n }) }

// Gone pulls the cable, or puts it back.
func (p *Printer) Gone(on bool) error {
	if on {
		p.hangUp(true)
		return nil
	}
	return p.listen()
}

// Slips returns what has been cut off, oldest first.
func (p *Printer) Slips() []Slip {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.in.Slips())
}

// Rest is what hangs out of the printer, uncut.
func (p *Printer) Rest() Slip {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.Rest()
}

// accept takes connections, which then wait for their turn.
func (p *Printer) accept(l net.Listener, waiting chan<- net.Conn) {
	defer close(waiting)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case waiting <- c:
		default:
			_ = c.Close()
		}
	}
}

// serve hears one connection to its end.
func (p *Printer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	p.mu.Lock()
	if p.closed || p.l == nil {
		p.mu.Unlock()
		return
	}
	p.conn, p.received = c, 0
	hello := p.automatic
	p.notify()
	p.mu.Unlock()
	if hello {
		_, _ = c.Write([]byte{0x10, 0, 0, 0x0f})
	}
	p.read(c)
	p.set(func() { p.conn = nil })
}

// read takes what is sent: it answers real-time requests at once, wherever they are, and leaves the rest to the engine.
func (p *Printer) read(c net.Conn) {
	var rest []byte
	buf := make([]byte, 256)
	for {
		n, err := c.Read(buf)
		rest = append(rest, buf[:n]...)
		p.mu.Lock()
		p.received += n
		cut := p.cutAfter >= 0 && p.received >= p.cutAfter
		if cut {
			rest = rest[:max(0, len(rest)-(p.received-p.cutAfter))]
			p.cutAfter = -1
		}
		for len(rest) > 0 {
			if rest[0] == 0x10 {
				if len(rest) < 3 {
					break
				}
				p.answer(c, rest[1], rest[2])
				rest = rest[3:]
				continue
			}
			for len(p.pending) >= buffer && !p.closed && p.l != nil {
				p.wait(nil)
			}
			p.pending = append(p.pending, rest[0])
			rest = rest[1:]
		}
		p.notify()
		p.mu.Unlock()
		if cut {
			reset(c, true)
		}
		if err != nil || cut {
			return
		}
	}
}

// answer answers DLE EOT n. The caller holds mu.
func (p *Printer) answer(c net.Conn, command, n byte) {
	if p.mute || command != 0x04 {
		return
	}
	b := byte(0x12)
	flag := func(on bool, bits byte) {
		if on {
			b |= bits
		}
	}
	switch n {
	case 1:
		flag(p.stopped(), 0x08)
	case 2:
		flag(p.cover, 0x04)
		flag(p.lines == 0, 0x20)
		flag(p.failure, 0x40)
	case 3:
		flag(p.failure, 0x08)
	case 4:
		flag(p.nearEnd, 0x0c)
		flag(p.lines == 0, 0x60)
	default:
		return
	}
	p.mu.Unlock()
	_, _ = c.Write([]byte{b})
	p.mu.Lock()
}

// stopped reports whether it prints nothing now. The caller holds mu.
func (p *Printer) stopped() bool { return p.cover || p.failure || p.lines == 0 }

// engine prints what is pending.
func (p *Printer) engine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		n := Next(p.pending)
		if n == 0 || p.stopped() {
			p.wait(nil)
			continue
		}
		one := p.pending[:n]
		before, asked := len(p.in.Rest().Lines), p.in.asked
		p.in.Feed(one)
		p.pending = p.pending[n:]
		if fed := len(p.in.Rest().Lines) - before; fed > 0 {
			if p.lines > 0 {
				p.lines = max(0, p.lines-fed)
			}
			p.rest(time.Duration(fed) * p.cfg.Feed)
		}
		if p.in.asked > asked && !p.mute && !p.noGSr && p.conn != nil {
			c := p.conn
			p.mu.Unlock()
			_, _ = c.Write([]byte{0})
			p.mu.Lock()
		}
		p.notify()
	}
}

// rest lets d pass. The caller holds mu.
func (p *Printer) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	done := false
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !done && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			done = true
		}
		p.mu.Lock()
	}
}
