package lan_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// cable is a way to a printer that breaks the connection on which a document travels, once. It breaks after so many
// bytes that go one way without an answer; with answer it carries all, and nothing comes back.
type cable struct {
	bytes  int
	answer bool
	cut    func(net.Conn) error // how it breaks, and what the box is told
	broken atomic.Bool
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn, cable: c}, nil
}

type connection struct {
	net.Conn
	cable *cable
	sent  atomic.Int64 // since something came back
}

// SetLinger is *net.TCPConn's: what the box wants of a connection reaches the real one.
func (c *connection) SetLinger(seconds int) error { return c.Conn.(*net.TCPConn).SetLinger(seconds) }

func (c *connection) Write(b []byte) (int, error) {
	sent := c.sent.Add(int64(len(b)))
	over := int(sent) - c.cable.bytes
	if c.cable.answer || over < 0 || c.cable.broken.Swap(true) {
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:max(0, len(b)-over)])
	return n, c.cable.cut(c.Conn)
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cable.answer && int(c.sent.Load()) >= c.cable.bytes && !c.cable.broken.Swap(true) {
		return 0, c.cable.cut(c.Conn)
	}
	c.sent.Store(0)
	return n, err
}

// reset ends a connection as a switch does that was switched off and on: the other end is told that it is broken.
func reset(conn net.Conn) error {
	return errors.Join(syscall.ECONNRESET, conn.(*net.TCPConn).SetLinger(0), conn.Close())
}

// hangUp ends a connection as a program does that ends: the other end may take what it got for all there was.
func hangUp(conn net.Conn) error { return errors.Join(syscall.ECONNRESET, conn.Close()) }

// TestCut breaks the connection at several places of a document. What is on paper then is never on paper again, unless
// it is known that it was not; and half a document is never called done, though the printer does. Without TLS
// ippeveprinter calls whatever it got completed when the connection just ends.
func TestCut(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	tests := []struct {
		percent int
		plain   bool
		cut     func(net.Conn) error
	}{
		{0, false, reset},
		{1, false, reset},
		{50, false, reset},
		{99, false, reset},
		{100, false, reset},
		{1, true, hangUp},
		{50, true, hangUp},
		{99, true, hangUp},
		{100, true, hangUp},
	}
	var cfgs []lantest.Config
	for i := range tests {
		cfgs = append(cfgs, lantest.Config{Host: fmt.Sprintf("p%d", i), N: 11 + i, Name: fmt.Sprintf("Tagliata %d", i)})
	}
	l := lantest.New(t)
	printers := l.Printers(t, cfgs...)
	for i, tt := range tests {
		p, name := printers[i], fmt.Sprintf("reset at %d percent", tt.percent)
		a := adopt(t, p)
		if tt.plain {
			name = fmt.Sprintf("ended in the clear at %d percent", tt.percent)
			a.URI, a.Keys, a.Link = p.URI("ipp"), nil, staff.LinkRisk
			a.Risk = &staff.Risk{By: "Anna", Why: "prova", At: time.Now().Add(-time.Hour), Until: time.Now().Add(90 * 24 * time.Hour)}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := long(document(t, p.Instance()), size)
			// No question has so much.
			way := &cable{cut: tt.cut, bytes: 4<<10 + tt.percent*len(doc)/100, answer: tt.percent == 100}
			if way.answer {
				way.bytes = len(doc)
			}
			b := newBox(t, l, setup{deaf: true, with: func(c *printing.Config) { c.Dial = way.dial }}, a)
			b.online(t, p)
			err := b.print(t.Context(), p, doc, nil)
			if !way.broken.Load() {
				t.Fatal("nothing was cut")
			}
			whole, all := copies(t, p, doc)
			t.Logf("%s: %d whole of %d documents received, %d cancelled", ended(err), whole, all, operations(t, p, "Cancel-Job"))
			// It may have said by itself that it gave up.
			if operations(t, p, "Cancel-Job") == 0 && !strings.Contains(p.Log(t), "job-state (enum) aborted") {
				t.Error("the printer was not told to stop")
			}
			switch outcome := kiosk.AsPrintError(err).Outcome; {
			case whole > 1:
				t.Errorf("%d copies", whole)
			case err == nil && (whole != 1 || all != 1):
				t.Errorf("done, and %d copies of %d documents", whole, all)
			case err != nil && outcome == kiosk.NothingPrinted && all != 0:
				t.Errorf("%s, and %d documents", ended(err), all)
			}
			if b.device(p).Blocked != "" {
				if err := b.Free(t.Context(), p.UUID(), "Anna"); err != nil {
					t.Fatal(err)
				}
			}
			next := document(t, "dopo")
			if err := b.print(t.Context(), p, next, nil); err != nil {
				t.Errorf("the next print: %v", err)
			}
			if n, _ := copies(t, p, next); n != 1 {
				t.Errorf("%d copies of the next document", n)
			}
		})
	}
}
