package box

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestCrowd has one machine hold every connection that it gets, as long as it is let.
func TestCrowd(t *testing.T) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0") //nolint:gosec // every loopback address shall reach it
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c := newCrowd(ln)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(c) }()
	t.Cleanup(func() { _ = srv.Close() })

	dial := func(from, to string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(to, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	served := func(conn net.Conn) bool {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		b := make([]byte, 12)
		_, err := io.ReadFull(conn, b)
		return err == nil && string(b) == "HTTP/1.1 200"
	}
	held := make([]net.Conn, crowdHere)
	for i := range held {
		held[i] = dial("127.0.0.9", "127.0.0.1")
		if !served(held[i]) {
			t.Fatalf("connection %d is not served", i)
		}
	}
	if served(dial("127.0.0.9", "127.0.0.1")) {
		t.Error("one machine holds more than it may")
	}
	if !served(dial("127.0.0.2", "127.0.0.1")) {
		t.Error("another machine finds no room")
	}
	_ = held[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !served(dial("127.0.0.9", "127.0.0.1")) {
		if ctx.Err() != nil {
			t.Fatal("a place that was left is not free")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestCrowdOfAll counts what all hold together, and that everything is given back.
func TestCrowdOfAll(t *testing.T) {
	c := newCrowd(nil)
	n := 0
	for c.enter(string(rune('a' + n/crowdHere))) {
		n++
	}
	if n != crowdAll {
		t.Errorf("%d connections, want %d", n, crowdAll)
	}
	for i := range n {
		c.leave(string(rune('a' + i/crowdHere)))
	}
	if c.all != 0 || len(c.open) != 0 {
		t.Errorf("%d and %v are left", c.all, c.open)
	}
}
