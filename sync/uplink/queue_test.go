package uplink_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

var (
	_ outbox.Hub     = (*uplink.Client)(nil)
	_ desired.Source = (*uplink.Client)(nil)
)

// oneRun returns a batch with one event.
func oneRun() envelope.Batch {
	c := envelope.Chain{Epoch: "00112233445566778899aabbccddeeff", Stream: envelope.Legal}
	b, err := envelope.Envelope{Box: 7, Chain: c, Seq: 1, Kind: "k", Schema: 2, Body: []byte("{}")}.Append(nil)
	if err != nil {
		panic(err)
	}
	run := envelope.Run{Chain: c, First: 1, Prev: envelope.Genesis(c), Entries: []envelope.Entry{{Encoded: b}}}
	run.Head = run.Prev.Next(b)
	return envelope.Batch{Box: 7, Runs: []envelope.Run{run}}
}

func TestDeliver(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{})
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != wire.PathEvents2 ||
			r.Header.Get("Content-Type") != wire.TypeBatch || r.Header.Get("Content-Encoding") != "zstd" {
			t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
		}
		z, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		plain, err := wire.Unzip(z, envelope.MaxBatch)
		if err != nil {
			t.Error(err)
		}
		b, err := envelope.ParseBatch(plain)
		if err != nil || b.Box != 7 || len(b.Runs) != 1 {
			t.Errorf("%+v, %v", b, err)
		}
		run := b.Runs[0]
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(wire.Reply{Acks: []wire.Ack{
			wire.Ack{Box: 7, Chain: run.Chain, Seq: run.Last(), Head: run.Head, Issued: time.Now()}.Sign(key),
		}})
	})
	r, err := c.Deliver(t.Context(), oneRun())
	if err != nil || len(r.Acks) != 1 || r.Acks[0].Seq != 1 || r.Acks[0].Verify(7, []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}) != nil {
		t.Errorf("%+v, %v", r, err)
	}

	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   error
	}{
		{"a hub of the first release", 404, "application/json", `{"message":"Not Found"}`, uplink.ErrOldHub},
		{"the hub cannot read it", 400, "application/json", `{"code":"malformed"}`, envelope.ErrMalformed},
		{"the hub cannot read it and says no more", 400, "text/plain", ``, envelope.ErrMalformed},
		{"a proxy finds it too large", 413, "text/html", `<html>`, envelope.ErrMalformed},
		{"a proxy that does not know zstd", 415, "text/html", `<html>`, envelope.ErrMalformed},
		{"somebody else's JSON", 200, "application/json", `{"status":"ok"}`, uplink.ErrOffline},
		{"a reply without acks", 200, "application/json", `{"acks":[]}`, uplink.ErrOffline},
		{"an ack for an array", 200, "application/json", `[{"acks":1}]`, uplink.ErrOffline},
		{"a page of a captive portal", 200, "text/html", `<html>Accept our terms`, uplink.ErrOffline},
		{"a gigantic reply", 200, "application/json", `{"acks":[` + strings.Repeat(`{},`, wire.MaxJSON/3) + `{}]}`, uplink.ErrOffline},
		{"a reply that is cut", 200, "application/json", `{"acks":[{"box":7,`, uplink.ErrOffline},
		{"a redirect", 307, "text/html", ``, uplink.ErrOffline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.answer(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "https://portal.example/")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			if r, err := c.Deliver(t.Context(), oneRun()); !errors.Is(err, tt.want) || len(r.Acks) != 0 {
				t.Errorf("got %+v, %v, want %v", r, err, tt.want)
			}
		})
	}
	t.Run("a batch that cannot be encoded", func(t *testing.T) {
		b := oneRun()
		b.Runs[0].Chain.Epoch = "no epoch"
		if _, err := c.Deliver(t.Context(), b); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBusyHub(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Now: func() time.Time { return time.Now().Add(-30 * 365 * 24 * time.Hour) }}) // a wrong clock
	for _, tt := range []struct {
		name   string
		status int
		field  string
		body   string
		want   time.Duration
	}{
		{"seconds", 503, "120", "", 2 * time.Minute},
		{"too many", 429, "7", "", 7 * time.Second},
		{"with a code", 429, "7", `{"code":"too_many"}`, 7 * time.Second},
		{"a time by the hub's clock", 503, "Sun, 22 Nov 2026 10:02:00 GMT", "", 2 * time.Minute},
		{"a time that is past", 503, "Sun, 22 Nov 2026 09:02:00 GMT", "", 0},
		{"a year", 503, "31536000", "", time.Hour},
		{"more than a number holds", 503, strings.Repeat("9", 40), "", time.Hour},
		{"nothing", 503, "", "", 0},
		{"nonsense", 503, "soon", "", 0},
		{"negative", 503, "-5", "", 0},
		{"of an answer that is no such thing", 500, "120", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Retry-After", tt.field)
				w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := c.Deliver(t.Context(), oneRun())
			var busy interface{ RetryAfter() time.Duration }
			if !errors.As(err, &busy) || busy.RetryAfter() != tt.want {
				t.Errorf("got %v, want to wait %v", err, tt.want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	h := startHub(t)
	queued := wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 10}, {Stream: envelope.Diag, Queued: 7}}, Dead: 1}
	var failing atomic.Bool
	clock := time.Now()
	o := uplink.Options{Now: func() time.Time { return clock }, Report: func(context.Context) (wire.Report, error) {
		if failing.Load() {
			return wire.Report{}, errors.New("disk")
		}
		return queued, nil
	}}
	var asked []string
	serve := func(known bool) {
		asked = nil
		h.answer(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("pending"))
			if r.URL.Path == wire.PathReport {
				var got wire.Report
				if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got.Queued() != 17 || got.Dead != 1 {
					t.Errorf("%+v, %v", got, err)
				}
				if !known {
					http.NotFound(w, r)
					return
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"version":2,"anpr":true}`)
		})
	}
	for _, tt := range []struct {
		name    string
		known   bool
		failing bool
		want    string
	}{
		{"a hub that knows reports", true, false, "[POST /box/v2/report ]"},
		{"a hub of the first release", false, false, "[POST /box/v2/report  GET /box/v1/ping 17]"},
		{"a queue that cannot be read", true, true, "[GET /box/v1/ping ]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			serve(tt.known)
			failing.Store(tt.failing)
			c := h.client(t, o)
			if p, err := c.Report(t.Context()); err != nil || !p.ANPR || fmt.Sprint(asked) != tt.want {
				t.Errorf("%+v, %v, asked %v, want %v", p, err, asked, tt.want)
			}
		})
	}
	t.Run("no news", func(t *testing.T) {
		serve(true)
		failing.Store(false)
		c := h.client(t, o)
		say := func(want string) {
			t.Helper()
			asked = nil
			if p, err := c.Report(t.Context()); err != nil || !p.ANPR || fmt.Sprint(asked) != want {
				t.Errorf("%+v, %v, asked %v, want %v", p, err, asked, want)
			}
		}
		const report, ping = "[POST /box/v2/report ]", "[GET /box/v1/ping 17]"
		say(report)
		clock, queued.Time, queued.Disk.Free = clock.Add(time.Minute), clock, 12345
		say(ping)
		queued.State++
		say(report)
		say(ping)
		clock = clock.Add(15 * time.Minute)
		say(report)
		clock = clock.Add(-time.Hour) // set back
		say(report)
		h.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		queued.State++
		if _, err := c.Report(t.Context()); err == nil {
			t.Error("no error")
		}
		queued.State--
		serve(true)
		say(report) // nobody knows what the hub has
	})
}

func TestState(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Timeout: 500 * time.Millisecond})
	doc := `{"body":"` + strings.Repeat("QUJD", 300_000) + `","sig":"AQI="}` // longer than other answers may be
	h.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.PathState || r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if p := r.Header.Get("Prefer"); p != "" {
			if p != "wait=2" {
				t.Errorf("Prefer: %s", p)
			}
			time.Sleep(time.Second) // longer than other calls may take
		}
		w.Header().Set("ETag", `"2"`)
		if r.Header.Get("If-None-Match") == `"2"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, doc)
	})
	s, tag, changed, err := c.State(t.Context(), "", 2500*time.Millisecond)
	if err != nil || tag != `"2"` || !changed || len(s.Body) != 900_000 {
		t.Errorf("got %d bytes, %q, %v, %v", len(s.Body), tag, changed, err)
	}
	if s, tag, changed, err = c.State(t.Context(), `"2"`, 0); err != nil || tag != `"2"` || changed || s.Body != nil {
		t.Errorf("got %v, %q, %v, %v, want nothing new", s, tag, changed, err)
	}
	if _, _, changed, err = c.State(t.Context(), `"1"`, 0); err != nil || !changed {
		t.Errorf("got %v, %v, want the new one", changed, err)
	}
	for _, tt := range []struct {
		name string
		do   http.HandlerFunc
		want error
	}{
		{"a hub of the first release", http.NotFound, uplink.ErrOldHub},
		{"not modified, to somebody who has none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, uplink.ErrOffline},
		{"no document", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("ETag", `"3"`)
			_, _ = io.WriteString(w, `{}`)
		}, uplink.ErrOffline},
		{"too long", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("ETag", `"3"`)
			_, _ = io.WriteString(w, `{"sig":"AQI=","body":"`+strings.Repeat("QUJD", desired.MaxDocument/3+1000)+`"}`)
		}, uplink.ErrOffline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.answer(tt.do)
			if _, _, _, err := c.State(t.Context(), "", 0); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestLongPollsThatAreCut stands behind something that ends calls on which nothing moves.
func TestLongPollsThatAreCut(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(w http.ResponseWriter)
	}{
		{"by a gateway", func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout) }},
		{"without a word", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t)
			c := h.client(t, uplink.Options{})
			var asked []string
			h.answer(func(w http.ResponseWriter, r *http.Request) {
				p := r.Header.Get("Prefer")
				asked = append(asked, p)
				var wait int
				_, _ = fmt.Sscanf(p, "wait=%d", &wait)
				if wait > 3 {
					time.Sleep(3 * time.Second)
					tt.cut(w)
					return
				}
				time.Sleep(time.Duration(wait) * time.Second)
				w.WriteHeader(http.StatusNotModified)
			})
			for range 3 {
				if _, _, changed, err := c.State(t.Context(), `"1"`, 50*time.Second); err != nil || changed {
					t.Errorf("got %v, %v, want nothing new", changed, err)
				}
			}
			if got, want := fmt.Sprint(asked), "[wait=50  wait=2 wait=3]"; got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
		})
	}
}

func TestBlob(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Timeout: 500 * time.Millisecond})
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.PathBlobs+name {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"`+name+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
	h.answer(serve)
	for _, from := range []int64{0, 1, 70_000, int64(len(content)) - 1, int64(len(content))} {
		var got bytes.Buffer
		if err := c.Blob(t.Context(), name, from, &got); err != nil || !bytes.Equal(got.Bytes(), content[from:]) {
			t.Errorf("from %d: %d bytes, %v, want %d", from, got.Len(), err, len(content)-int(from))
		}
	}
	t.Run("resumes where it was cut", func(t *testing.T) {
		h.answer(func(w http.ResponseWriter, r *http.Request) {
			serve(&cutWriter{ResponseWriter: w, left: 300_000}, r)
		})
		var got bytes.Buffer
		for tries := 0; got.Len() < len(content) && tries < 10; tries++ {
			if err := c.Blob(t.Context(), name, int64(got.Len()), &got); err != nil && !errors.Is(err, uplink.ErrOffline) {
				t.Error(err)
			}
		}
		if !bytes.Equal(got.Bytes(), content) {
			t.Errorf("%d bytes, want %d", got.Len(), len(content))
		}
	})
	t.Run("a hub that does not know ranges", func(t *testing.T) {
		h.answer(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			serve(w, r)
		})
		var got bytes.Buffer
		if err := c.Blob(t.Context(), name, 70_000, &got); err != nil || !bytes.Equal(got.Bytes(), content[70_000:]) {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
	})
	for _, tt := range []struct {
		name string
		from int64
		do   http.HandlerFunc
	}{
		{"another file", 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"other"`)
			_, _ = io.WriteString(w, "other")
		}},
		{"a captive portal", 0, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
		{"another part", 10, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"`+name+`"`)
			w.Header().Set("Content-Range", "bytes 5-9/100")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "12345")
		}},
		{"a file shorter than what is there", 10, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */5")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}},
		{"no such file", 0, http.NotFound},
		{"longer than any", desired.MaxBlob - 10, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"`+name+`"`)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", desired.MaxBlob-10, desired.MaxBlob+10))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 20))
		}},
		{"stands still", 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"`+name+`"`)
			_, _ = io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.answer(tt.do)
			if err := c.Blob(t.Context(), name, tt.from, io.Discard); !errors.Is(err, uplink.ErrOffline) {
				t.Errorf("got %v, want ErrOffline", err)
			}
		})
	}
	t.Run("a disk that is full", func(t *testing.T) {
		h.answer(serve)
		if err := c.Blob(t.Context(), name, 0, fullDisk{}); !errors.Is(err, errFull) || errors.Is(err, uplink.ErrOffline) {
			t.Errorf("got %v", err)
		}
	})
	for _, bad := range []string{"", "..", strings.Repeat("g", 64), strings.ToUpper(name), name + "0"} {
		if err := c.Blob(t.Context(), bad, 0, io.Discard); err == nil || errors.Is(err, uplink.ErrOffline) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

var errFull = errors.New("no space left")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// cutWriter cuts the connection after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		_, _ = w.ResponseWriter.Write(b[:w.left])
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(b)
	return w.ResponseWriter.Write(b)
}
