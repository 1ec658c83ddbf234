package web_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// ask asks the hub for something as a box, or as nobody without an identity.
func (h *hub) ask(t testing.TB, id *identity.Identity, path string, header ...string) (answer, []byte) {
	t.Helper()
	tc := &tls.Config{InsecureSkipVerify: true}
	if id != nil {
		conf, err := id.TLSConfig(h.clock)
		if err != nil {
			t.Fatal(err)
		}
		tc.GetClientCertificate = conf.GetClientCertificate
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.boxes.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return answer{resp.StatusCode, resp.Header}, b
}

func (h *hub) office() *content.Office { return &content.Office{Store: h.store, Now: h.clock} }

func TestState(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	_, other := h.enrol(t, "Biblioteca Niguarda")
	if _, err := h.office().AddNotice(t.Context(), content.Notice{
		Notice: desired.Notice{Severity: desired.Warning, Text: map[string]string{"it": "Chiuso"}}, Branch: "Biblioteca Harar",
	}); err != nil {
		t.Fatal(err)
	}
	open := func(box uint32, b []byte) desired.Document {
		t.Helper()
		var s desired.Signed
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		d, err := s.Open(box, []ed25519.PublicKey{h.sign.Public().(ed25519.PublicKey)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := h.ask(t, id, wire.PathState)
	tag := a.header.Get("ETag")
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(tag, `"`) {
		t.Fatalf("got %d %v", a.code, a.header)
	}
	if d := open(1, b); d.Version != 1 || len(d.Notices) != 1 {
		t.Errorf("got %+v", d)
	}
	if _, b := h.ask(t, other, wire.PathState); len(open(2, b).Notices) != 0 {
		t.Error("another branch's notice")
	}
	for _, inm := range []string{tag, `"x", ` + tag, "W/" + tag, "*"} {
		if a, b := h.ask(t, id, wire.PathState, "If-None-Match", inm); a.code != http.StatusNotModified || len(b) > 0 || a.header.Get("ETag") != tag {
			t.Errorf("with %s: %d %v", inm, a.code, a.header)
		}
	}
	if a, _ := h.ask(t, id, wire.PathState, "If-None-Match", `"x"`); a.code != http.StatusOK {
		t.Errorf("with another tag: %d", a.code)
	}
	begin := time.Now()
	if a, _ := h.ask(t, id, wire.PathState, "If-None-Match", tag, "Prefer", "wait=1"); a.code != http.StatusNotModified || time.Since(begin) < time.Second ||
		a.header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("held: %d %v after %v", a.code, a.header, time.Since(begin))
	}
	for prefer, want := range map[string]string{
		"wait=5": "wait=5", "respond-async, Wait = 5;x=y": "wait=5", "wait=100": "wait=55", "wait=99999999999999999999": "wait=55", `wait="7"`: "wait=7",
		"wait": "", "wait=-1": "", "wait=x": "", "waiting=5": "", "": "",
	} {
		if a, _ := h.ask(t, id, wire.PathState, "Prefer", prefer); a.code != http.StatusOK || a.header.Get("Preference-Applied") != want {
			t.Errorf("Prefer: %s: %d, applied %q, want %q", prefer, a.code, a.header.Get("Preference-Applied"), want)
		}
	}
	if a, _ := h.ask(t, nil, wire.PathState); a.code < 400 {
		t.Errorf("without a certificate: %d", a.code)
	}
	if err := h.fleet.Revoke(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if a, _ := h.ask(t, other, wire.PathState); a.code != http.StatusForbidden {
		t.Errorf("shut out: %d", a.code)
	}
}

func TestBlobs(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	_, other := h.enrol(t, "Biblioteca Niguarda")
	body := bytes.Repeat([]byte("0123456789"), content.PartSize/10+1234)
	i, err := h.office().PutFile(t.Context(), "large.bin", 1, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	path, tag := wire.PathBlobs+i.SHA256, `"`+i.SHA256+`"`
	for name, tt := range map[string]struct {
		header []string
		status int
		want   []byte
	}{
		"whole":                 {nil, 200, body},
		"from the middle":       {[]string{"Range", "bytes=262140-"}, 206, body[262140:]},
		"some":                  {[]string{"Range", "bytes=262140-262150", "If-Range", tag}, 206, body[262140:262151]},
		"the end":               {[]string{"Range", "bytes=-5"}, 206, body[len(body)-5:]},
		"of another file":       {[]string{"Range", "bytes=5-", "If-Range", `"x"`}, 200, body},
		"past the end":          {[]string{"Range", "bytes=99999999-"}, 416, nil},
		"what the box has":      {[]string{"If-None-Match", tag}, 304, []byte{}},
		"a range nobody speaks": {[]string{"Range", "lines=1-2"}, 416, nil},
	} {
		a, b := h.ask(t, id, path, tt.header...)
		if a.code != tt.status || tt.want != nil && !bytes.Equal(b, tt.want) || tt.status < 400 && a.header.Get("ETag") != tag {
			t.Errorf("%s: %d, %d bytes, %v", name, a.code, len(b), a.header)
		}
	}
	for _, p := range []string{wire.PathBlobs + strings.Repeat("0", 64), wire.PathBlobs, wire.PathBlobs + "..%2f..%2fhub.db"} {
		if a, _ := h.ask(t, id, p); a.code != http.StatusNotFound {
			t.Errorf("%s: %d", p, a.code)
		}
	}
	if a, _ := h.ask(t, other, path); a.code != http.StatusNotFound {
		t.Errorf("another box: %d", a.code)
	}
	if a, _ := h.ask(t, nil, path); a.code < 400 {
		t.Errorf("without a certificate: %d", a.code)
	}
	if log := h.logs.String(); strings.Contains(log, "ERROR") {
		t.Errorf("logged: %s", log)
	}
}

// counting counts the bytes of the connections that a listener accepts, in both directions.
type counting struct {
	net.Listener
	bytes, conns *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.conns.Add(1)
	return countingConn{c, l.bytes}, err
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c countingConn) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b))) // first: whoever reads it looks at the sum
	return c.Conn.Write(b)
}

// BenchmarkIdleLink measures what a box costs that has nothing to say: a report each minute, and a request for the
// desired state that is held for 55 s after another, at the hub's real handler over mutual TLS. MB/day are what TLS hands
// to TCP; MB/day-ip adds what the headers of TCP and IP come to (52 bytes a packet, two packets and their
// acknowledgements an exchange).
func BenchmarkIdleLink(b *testing.B) {
	var n, conns atomic.Int64
	h := start(b, func(l net.Listener) net.Listener { return counting{l, &n, &conns} })
	_, id := h.enrol(b, "Biblioteca Harar")
	now := h.clock()
	report := wire.Report{
		Time: now, Clock: "synced", Release: "v1.12.3", Epoch: "00112233445566778899aabbccddeeff",
		Disk: wire.DiskReport{State: "ok", Used: 123456789, Limit: 2 << 30, Free: 12 << 30}, State: 1, SealKeys: []string{"0011223344556677"},
	}
	for _, s := range envelope.Streams() {
		report.Streams = append(report.Streams, wire.StreamReport{Stream: s, Kept: 12345, LastAck: &now})
	}
	line, err := uplink.New(h.boxes.URL, id, uplink.Options{Now: h.clock, Report: func(context.Context) (wire.Report, error) { return report, nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer line.Close()
	_, tag, _, err := line.State(b.Context(), "", 0)
	if err != nil {
		b.Fatal(err)
	}
	hold := make(chan error, 1)
	go func() { // the two connections that an idle box has
		_, _, _, err := line.State(b.Context(), tag, time.Second)
		hold <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if _, err := line.Report(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := <-hold; err != nil {
		b.Fatal(err)
	}
	before := conns.Load()
	var news, reports, states, rounds int64
	for b.Loop() {
		report.Dead++ // one in 15 reports is made in full, as if there were news
		n.Store(0)
		if _, err := line.Report(b.Context()); err != nil {
			b.Fatal(err)
		}
		news += n.Swap(0)
		if _, err := line.Report(b.Context()); err != nil {
			b.Fatal(err)
		}
		reports += n.Swap(0)
		if _, _, changed, err := line.State(b.Context(), tag, time.Second); err != nil || changed {
			b.Fatal(changed, err)
		}
		states += n.Swap(0) + 2 // wait=55 is two characters longer than wait=1, there and back
		rounds++
	}
	if conns.Load() != before {
		b.Errorf("%d connections were made for %d rounds", conns.Load()-before, rounds)
	}
	const headers = 4 * 52
	day := func(extra int64) float64 {
		return (float64((news+14*reports)/15/rounds+extra)*24*60 + float64(states/rounds+extra)*24*3600/55) / 1e6
	}
	b.ReportMetric(float64(news/rounds), "B/report")
	b.ReportMetric(float64(reports/rounds), "B/ping")
	b.ReportMetric(float64(states/rounds), "B/state")
	b.ReportMetric(day(0), "MB/day")
	b.ReportMetric(day(headers), "MB/day-ip")
}

// TestFollower has a box follow the hub: its files come, and it goes back when the hub lets it.
func TestFollower(t *testing.T) {
	h := start(t)
	line, _ := h.enrol(t, "Biblioteca Harar")
	ctx, stop := context.WithCancel(context.Background())
	f, err := desired.New(desired.Options{
		Dir: t.TempDir(), Box: 1, Source: line, Now: h.clock,
		Keys: func() []ed25519.PublicKey { return []ed25519.PublicKey{h.sign.Public().(ed25519.PublicKey)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- h.docs.Run(ctx) }()
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	holds := func(version uint64, want []byte) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); f.Version() != version; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("at version %d, want %d", f.Version(), version)
			}
		}
		r, err := f.Open("prices.bin")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at version %d: %d bytes, %v, want %d", version, len(got), err, len(want))
		}
	}
	put := func(b []byte) {
		t.Helper()
		if _, err := h.office().PutFile(t.Context(), "prices.bin", 0, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	first, second := bytes.Repeat([]byte("a"), 600_000), bytes.Repeat([]byte("b"), 10)
	for f.Version() != 1 { // a document without files
		time.Sleep(5 * time.Millisecond)
	}
	put(first)
	holds(2, first)
	put(second)
	holds(3, second)
	if err := h.store.GoBack(t.Context(), 1, 2, h.clock()); err != nil {
		t.Fatal(err)
	}
	holds(2, first)
	if err := h.store.RemoveItem(t.Context(), "", 1, h.clock()); err != nil {
		t.Fatal(err)
	}
	holds(4, second)
}
