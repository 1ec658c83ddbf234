package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// queue returns the queue of a box that seals to the hub.
func (h *hub) queue(t *testing.T, number uint32) *ingesttest.Box {
	t.Helper()
	b := ingesttest.New(number, "00112233445566778899aabbccddeeff", h.clock())
	s := seal.NewSealer(h.clock)
	if err := s.Use(h.key.Public()); err != nil {
		t.Fatal(err)
	}
	b.Seal(s.Seal)
	return b
}

// post posts as a box does, whatever it is; header holds pairs of names and values.
func (h *hub) post(t *testing.T, id *identity.Identity, path string, body []byte, header ...string) (answer, []byte) {
	t.Helper()
	conf, err := id.TLSConfig(h.clock)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: conf.GetClientCertificate}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.boxes.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
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

func TestBoxOfTheFirstRelease(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	batch := func(from uint64, sessions ...string) []byte {
		m := wire.BatchV1{Version: 1, Epoch: "00112233aabbccdd"}
		for i, s := range sessions {
			m.Events = append(m.Events, event.V1{Seq: from + uint64(i), At: h.clock(), ClockOK: true, Kind: event.SessionStarted, Session: s, Detail: event.Detail{Mode: "self"}})
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct {
		name   string
		body   []byte
		status int
		ack    uint64
	}{
		{"the first", batch(1, "a", "b"), 200, 2},
		{"again", batch(1, "a", "b"), 200, 2},
		{"a gap", batch(9, "x"), 409, 2},
		{"no events", batch(1), 400, 0},
		{"no JSON", []byte("<html>"), 400, 0},
		{"too long", batch(3, strings.Repeat("x", wire.MaxJSON)), 400, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, body := h.post(t, id, wire.PathEvents1, tt.body)
			var ack wire.AckV1
			if a.code != tt.status || json.Unmarshal(body, &ack) != nil || ack.Seq != tt.ack {
				t.Errorf("got %d %s", a.code, body)
			}
		})
	}
	if log := h.log(); !strings.Contains(log, "events of a box are missing") {
		t.Error(log)
	}
	// Its program is replaced: what it has not been told of comes as envelopes.
	b := ingesttest.New(1, "00112233aabbccdd", h.clock())
	b.Begin(b.Chain(envelope.All), 2)
	for i, s := range []string{"b", "c"} {
		var m wire.BatchV1
		if err := json.Unmarshal(batch(uint64(i)+2, s), &m); err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(m.Events[0])
		if err != nil {
			t.Fatal(err)
		}
		b.PutBody(t, envelope.All, event.SessionStarted, event.SchemaV1, body, nil)
	}
	reply := h.deliver(t, id, b.Batch())
	if len(reply.Acks) != 1 || reply.Acks[0].Seq != 3 || reply.Acks[0].Fork {
		t.Errorf("got %+v", reply)
	}
	_, page := h.get(t, "/api/summary")
	var sum stats.Summary
	if err := json.Unmarshal([]byte(page), &sum); err != nil || sum.Total.Self.Sessions != 3 {
		t.Errorf("%+v, %v", sum.Total, err)
	}
}

func (h *hub) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logs.String()
}

// deliver delivers a batch over the line.
func (h *hub) deliver(t *testing.T, id *identity.Identity, m envelope.Batch) (r wire.Reply) {
	t.Helper()
	plain, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := wire.Zip(plain)
	if err != nil {
		t.Fatal(err)
	}
	a, body := h.post(t, id, wire.PathEvents2, zipped, "Content-Type", wire.TypeBatch, "Content-Encoding", wire.Encoding)
	if err := json.Unmarshal(body, &r); err != nil || a.code != 200 {
		t.Fatalf("got %d %s", a.code, body)
	}
	return r
}

func TestBatchOverTheLine(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	b := h.queue(t, 1)
	b.Visits(t, 2)
	plain, err := b.Batch().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := h.queue(t, 2)
	foreign.Visits(t, 1)
	other, err := foreign.Batch().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	zip := func(b []byte) []byte {
		z, err := wire.Zip(b)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	changed := bytes.Clone(plain)
	changed[len(changed)-1] ^= 1
	for _, tt := range []struct {
		name         string
		body         []byte
		kind, coding string
		status       int
	}{
		{"compressed", zip(plain), wire.TypeBatch, wire.Encoding, 200},
		{"plain", plain, wire.TypeBatch, "", 200},
		{"with a parameter", plain, wire.TypeBatch + "; charset=utf-8", "", 200},
		{"says it is compressed", plain, wire.TypeBatch, wire.Encoding, 400},
		{"compressed otherwise", zip(plain), wire.TypeBatch, "gzip", 415},
		{"JSON", []byte("{}"), "application/json", "", 415},
		{"of no type", plain, "", "", 415},
		{"cut off", zip(plain[:len(plain)-5]), wire.TypeBatch, wire.Encoding, 400},
		{"changed", zip(changed), wire.TypeBatch, wire.Encoding, 400},
		{"empty", nil, wire.TypeBatch, "", 400},
		{"a bomb", zip(make([]byte, envelope.MaxBatch*20)), wire.TypeBatch, wire.Encoding, 400},
		{"too long", make([]byte, envelope.MaxBatch+1), wire.TypeBatch, "", 413},
		{"another box's", zip(other), wire.TypeBatch, wire.Encoding, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, body := h.post(t, id, wire.PathEvents2, tt.body, "Content-Type", tt.kind, "Content-Encoding", tt.coding)
			if a.code != tt.status {
				t.Errorf("got %d %s, want %d", a.code, body, tt.status)
			}
			if tt.status != 200 && !strings.Contains(string(body), wire.ProblemMalformed) {
				t.Errorf("got %s", body)
			}
		})
	}
}

func TestReports(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"all there is", `{"time":"2026-11-22T09:00:00Z","clock":"synced","release":"2026.11","epoch":"00ff","streams":[{"stream":"legal","queued":1,"kept":2,"oldest":"2026-11-22T08:00:00Z"}],"dead":0,"gaps":0,"dropped":0,"disk":{"state":"ok","used":1,"limit":2,"free":3},"state":4,"seal_keys":["00"]}`, 200},
		{"from a newer box", `{"time":"2026-11-22T09:00:00Z","mood":"good","streams":[{"stream":"stream 9","queued":1}]}`, 200},
		{"no JSON", `<html>`, 400},
		{"nobody's time", `{"time":"0001-01-01T00:00:00Z"}`, 400},
		{"less than nothing", `{"time":"2026-11-22T09:00:00Z","streams":[{"stream":"legal","queued":-1}]}`, 400},
		{"a stream there cannot be", `{"time":"2026-11-22T09:00:00Z","streams":[{"stream":"Rossi"}]}`, 400},
		{"a long word", fmt.Sprintf(`{"time":"2026-11-22T09:00:00Z","release":%q}`, strings.Repeat("x", 1000)), 400},
		{"no epoch", `{"time":"2026-11-22T09:00:00Z","epoch":"<script>"}`, 400},
	} {
		if a, body := h.post(t, id, wire.PathReport, []byte(tt.body), "Content-Type", "application/json"); a.code != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, a.code, body, tt.status)
		}
	}
}

// slowDisk is a store whose transactions wait.
type slowDisk struct {
	ingest.Store
	began, gate chan struct{}
}

func (s *slowDisk) Ingest(ctx context.Context, ids []ingest.ChainID, do func(ingest.Tx) error) error {
	s.began <- struct{}{}
	<-s.gate
	return s.Store.Ingest(ctx, ids, do)
}

func TestTooManyAtOnce(t *testing.T) {
	h := start(t)
	_, id := h.enrol(t, "Biblioteca Harar")
	disk := &slowDisk{Store: h.store, began: make(chan struct{}, 9), gate: make(chan struct{})}
	h.ingest.Store, h.ingest.MaxWaiting = disk, 5
	b := h.queue(t, 1)
	b.Visits(t, 2)
	plain, err := b.Batch().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var first sync.WaitGroup
	first.Go(func() {
		if a, body := h.post(t, id, wire.PathEvents2, plain, "Content-Type", wire.TypeBatch); a.code != 200 {
			t.Errorf("the first: %d %s", a.code, body)
		}
	})
	<-disk.began
	for _, path := range []string{wire.PathEvents2, wire.PathEvents1} {
		body := plain
		if path == wire.PathEvents1 {
			body = []byte(`{"version":1,"epoch":"00ff","events":[{"seq":1},{"seq":2}]}`)
		}
		a, text := h.post(t, id, path, body, "Content-Type", wire.TypeBatch)
		if a.code != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "5" || !strings.Contains(string(text), wire.ProblemTooMany) {
			t.Errorf("%s: got %d, Retry-After %q, %s", path, a.code, a.header.Get("Retry-After"), text)
		}
	}
	close(disk.gate)
	first.Wait()
	if r := h.deliver(t, id, b.Batch()); r.Acks[0].Seq != 2 {
		t.Errorf("later: %+v", r)
	}
}
