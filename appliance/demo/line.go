package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// lineState is how the line between the branch and the municipality is.
type lineState string

// The states of the line.
const (
	lineUp   lineState = "up"
	lineSlow lineState = "slow" // see slowDelay and slowRate
	lineCut  lineState = "cut"  // nothing listens, and what was open is reset
)

// What a slow line is: a bad mobile connection behind thick walls.
const (
	slowDelay = 400 * time.Millisecond // each way, so 800 ms there and back
	slowRate  = 32 << 10               // bytes a second, each way
)

// A line is the cable from the box to the hub: a TCP proxy that can be cut, slowed down and mended while it is used.
type line struct {
	addr string // where the box finds the hub's box interface
	to   string // where that really is

	wg sync.WaitGroup

	mu    sync.Mutex // guards the fields that follow
	state lineState
	ln    net.Listener
	open  map[net.Conn]struct{}
}

// newLine returns a line that is up, from a free port of the loopback to the address to.
func newLine(to string) (*line, error) {
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("line: %w", err)
	}
	l := &line{addr: ln.Addr().String(), to: to, open: map[net.Conn]struct{}{}}
	l.serve(ln)
	return l, nil
}

// serve begins to accept on ln. The caller holds the lock, or is the only one who knows the line.
func (l *line) serve(ln net.Listener) {
	l.ln, l.state = ln, lineUp
	l.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // cut or closed
			}
			l.wg.Go(func() { l.carry(c) })
		}
	})
}

// State returns how the line is.
func (l *line) State() lineState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Set changes the line. Connections that are open feel it at once.
func (l *line) Set(s lineState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s {
	case lineCut:
		l.state = lineCut
		if l.ln != nil {
			_ = l.ln.Close()
			l.ln = nil
		}
		for c := range l.open {
			reset(c)
		}
		return nil
	case lineUp, lineSlow:
		if l.ln == nil {
			ln, err := listen(l.addr)
			if err != nil {
				return fmt.Errorf("mend the line: %w", err)
			}
			l.serve(ln)
		}
		l.state = s
		return nil
	default:
		return fmt.Errorf("line %q: %w", s, errUnknown)
	}
}

// Close cuts the line for good and waits until nothing moves on it any more.
func (l *line) Close() error {
	err := l.Set(lineCut)
	l.wg.Wait()
	return err
}

// carry moves bytes both ways until either end hangs up.
func (l *line) carry(box net.Conn) {
	defer func() { _ = box.Close() }()
	if !l.hold(box) {
		reset(box)
		return
	}
	defer l.drop(box)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hub, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", l.to)
	if err != nil {
		reset(box) // as a router does when there is nobody at the other end
		return
	}
	defer func() { _ = hub.Close() }()
	if !l.hold(hub) {
		return
	}
	defer l.drop(hub)
	var pair sync.WaitGroup
	for _, way := range [][2]net.Conn{{box, hub}, {hub, box}} {
		pair.Go(func() {
			err := l.pump(ctx, way[1], way[0])
			switch t, ok := way[1].(*net.TCPConn); {
			case err != nil || l.State() == lineCut:
				reset(way[1]) // as the other end was
			case ok:
				_ = t.CloseWrite()
			}
		})
	}
	pair.Wait()
}

// pump copies from src to dst as fast as the line is. It returns nil when src has said all.
func (l *line) pump(ctx context.Context, dst io.Writer, src io.Reader) error {
	type packet struct {
		b   []byte
		due time.Time
	}
	way := make(chan packet, 64)
	var sender sync.WaitGroup
	sender.Go(func() {
		for p := range way {
			pause(ctx, p.due.Sub(now()))
			if l.State() == lineSlow {
				pause(ctx, time.Duration(len(p.b))*time.Second/slowRate)
			}
			if _, err := dst.Write(p.b); err != nil {
				for range way { // let the reader finish: its connection ends too
				}
				return
			}
		}
	})
	defer sender.Wait()
	defer close(way)
	for {
		b := make([]byte, 8<<10)
		n, err := src.Read(b)
		if n > 0 {
			due := now()
			if l.State() == lineSlow {
				due = due.Add(slowDelay)
			}
			way <- packet{b[:n], due}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hold remembers an open connection, and says false when the line was cut meanwhile.
func (l *line) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == lineCut {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// reset closes c so that the other end reads "connection reset", not the end of a file.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
