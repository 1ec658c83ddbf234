package ipptest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be on their way in one direction, as in the buffers of a real connection.
const window = 64 << 10

// Net is a network in memory: what dials an address reaches what listens there. All waiting in it is on channels and
// timers, so that it works in the fake time of a testing/synctest bubble. The zero value works.
type Net struct {
	mu     sync.Mutex
	at     map[string]*listener
	silent map[string]bool
}

// Silence lets nobody answer at an address, as when a machine is switched off: dialling it ends when its context does.
func (n *Net) Silence(addr string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent == nil {
		n.silent = map[string]bool{}
	}
	n.silent[addr] = on
}

// Listen opens an address, "192.0.2.7:631": any text that clients dial.
func (n *Net) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: address(addr), Err: syscall.EADDRINUSE}
	}
	if n.at == nil {
		n.at = map[string]*listener{}
	}
	l := &listener{net: n, addr: address(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	n.at[addr] = l
	return l, nil
}

// Dial connects to what listens at addr, else the connection is refused. It has the signature of a dialer's.
func (n *Net) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	l, silent := n.at[addr], n.silent[addr]
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: ctx.Err()}
	}
	refused := &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	ours, theirs := connect(address("client"), address(addr))
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: ctx.Err()}
	}
}

type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }

type listener struct {
	net    *Net
	addr   address
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.at, string(l.addr))
		l.net.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	buf     []byte
	ended   bool // by its writer
	left    bool // by its reader
	reset   bool
}

// notify wakes both ends. The caller holds mu.
func (s *stream) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// take reads what has arrived. With nothing and no error it returns what to wait for.
func (s *stream) take(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left:
		return 0, nil, net.ErrClosed
	case s.reset:
		return 0, nil, syscall.ECONNRESET
	case len(p) == 0:
		return 0, nil, nil
	case len(s.buf) > 0:
		n = copy(p, s.buf)
		s.buf = s.buf[n:]
		s.notify()
		return n, nil, nil
	case s.ended:
		return 0, nil, io.EOF
	}
	return 0, s.changed, nil
}

// put writes what there is room for. When that is nothing it returns what to wait for.
func (s *stream) put(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(len(p), window-len(s.buf))
	switch {
	case s.ended:
		return 0, nil, net.ErrClosed
	case s.left || s.reset:
		return 0, nil, syscall.EPIPE
	case n == 0 && len(p) > 0:
		return 0, s.changed, nil
	}
	s.buf = append(s.buf, p[:n]...)
	s.notify()
	return n, nil, nil
}

// end is what happens to a stream when its writer closes, reset when its reader is to lose what is on its way.
func (s *stream) end(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.reset = true, s.reset || reset
	s.notify()
}

// leave is what happens to a stream when its reader closes.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.buf = true, nil
	s.notify()
}

func connect(a, b net.Addr) (net.Conn, net.Conn) {
	there, back := &stream{changed: make(chan struct{})}, &stream{changed: make(chan struct{})}
	return &conn{in: back, out: there, local: a, remote: b, read: newDeadline(), write: newDeadline()},
		&conn{in: there, out: back, local: b, remote: a, read: newDeadline(), write: newDeadline()}
}

// conn is one end of a connection.
type conn struct {
	in, out       *stream
	local, remote net.Addr
	read, write   *deadline
	mu            sync.Mutex
	abrupt        bool
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		passed := c.read.wait()
		select {
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		default:
		}
		n, wait, err := c.in.take(p)
		if wait == nil {
			return n, err
		}
		select {
		case <-wait:
		case <-passed:
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	for written := 0; ; {
		passed := c.write.wait()
		select {
		case <-passed:
			return written, os.ErrDeadlineExceeded
		default:
		}
		n, wait, err := c.out.put(p[written:])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		if wait == nil {
			continue
		}
		select {
		case <-wait:
		case <-passed:
		}
	}
}

// Close ends the connection: the other end reads what is on its way and then the end of it.
func (c *conn) Close() error {
	c.mu.Lock()
	abrupt := c.abrupt
	c.mu.Unlock()
	c.out.end(abrupt)
	c.in.leave()
	c.read.set(time.Time{})
	c.write.set(time.Time{})
	return nil
}

// SetLinger with 0 makes Close a reset, as that of net.TCPConn.
func (c *conn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abrupt = sec == 0
	return nil
}

func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetReadDeadline(t time.Time) error  { c.read.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.write.set(t); return nil }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// deadline is a point in time that may be moved.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when it has passed, replaced when it is moved after that; then it wakes nobody
	over   bool
}

func newDeadline() *deadline { return &deadline{passed: make(chan struct{})} }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over {
		d.passed, d.over = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	expire := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.passed == passed && !d.over {
			d.over = true
			close(passed)
		}
	}
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, expire)
		return
	}
	d.over = true
	close(passed)
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}
