package uplink_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/provisioning/ca"
	"sportello.example/sync/envelope"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// counted counts the bytes of the connections that it accepts, in both directions.
type counted struct {
	net.Listener
	bytes, conns atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.conns.Add(1)
	}
	return &countedConn{c, l}, err
}

type countedConn struct {
	net.Conn
	l *counted
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.bytes.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.l.bytes.Add(int64(n))
	return n, err
}

// TestIdleLine measures what a box costs that has nothing to say: a look at the line and one at the desired state a minute.
// A day of it must be little more than a megabyte, even if there was a new connection with every report that is whole.
func TestIdleLine(t *testing.T) {
	a, err := ca.Create(t.TempDir()+"/ca", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == wire.PathState {
			w.Header().Set("ETag", `"1234"`)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"version":2,"time":"2026-11-22T09:00:00Z","anpr":true}`)
	}))
	l := &counted{Listener: srv.Listener}
	srv.Listener = l
	srv.TLS = a.TLSConfig()
	srv.StartTLS()
	srv.TLS.Certificates = nil
	defer srv.Close()
	h := &hub{Server: srv, ca: a}
	now := time.Now()
	report := wire.Report{
		Time: now, Clock: "synced", Release: "v1.12.3", Epoch: "00112233445566778899aabbccddeeff",
		Disk: wire.DiskReport{State: "ok", Used: 123456789, Limit: 2 << 30, Free: 12 << 30}, State: 1234, SealKeys: []string{"0011223344556677"},
	}
	for _, s := range envelope.Streams() {
		report.Streams = append(report.Streams, wire.StreamReport{Stream: s, Kept: 12345, LastAck: &now})
	}
	c := h.client(t, uplink.Options{Report: func(context.Context) (wire.Report, error) { return report, nil }})
	tell := func() {
		if _, err := c.Report(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look := func() {
		if _, _, changed, err := c.State(t.Context(), `"1234"`, 0); err != nil || changed {
			t.Fatal(changed, err)
		}
	}
	cost := func(n int64, do func()) int64 {
		before := l.bytes.Load()
		for range n {
			do()
		}
		return (l.bytes.Load() - before) / n
	}
	first := cost(1, tell) // with the handshake, and everything that a report says
	again, state := cost(20, tell), cost(20, look)
	// Four times an hour a report is whole.
	day := 24*4*first + 24*60*(again+state)
	t.Logf("a first report is %d B, another one %d B, a look %d B: %d kB a day", first, again, state, day/1000)
	if day > 1.3e6 {
		t.Errorf("%d bytes a day", day)
	}
}
