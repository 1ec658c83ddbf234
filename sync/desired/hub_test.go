package desired

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/wire"
)

const boxNumber = 7

// hub speaks the hub's side of the protocol, and misbehaves when told to.
type hub struct {
	t   testing.TB
	key ed25519.PrivateKey

	mu      sync.Mutex
	signed  Signed
	etag    string
	changed chan struct{}
	blobs   map[string][]byte
	served  int64         // bytes of blobs
	asked   []time.Time   // requests for the document
	tags    []string      // what they said the box has
	hold    bool          // requests are held
	down    bool          // every answer is a portal's page
	stall   chan struct{} // blobs wait for it after half of their bytes
	wrong   bool          // blobs have another byte
	now     func() time.Time
}

func newHub(t testing.TB) *hub {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &hub{t: t, key: key, changed: make(chan struct{}), blobs: map[string][]byte{}, hold: true, now: time.Now}
}

func (h *hub) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// blob makes a file known.
func (h *hub) blob(name string, body []byte) Blob {
	sum := sha256.Sum256(body)
	b := Blob{Name: name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(body))}
	h.set(func() { h.blobs[b.SHA256] = body })
	return b
}

// publish signs a document for the box and hands it out from now on.
func (h *hub) publish(d Document) Document {
	h.t.Helper()
	if d.Box == 0 {
		d.Box = boxNumber
	}
	if d.Issued.IsZero() {
		d.Issued = h.now().UTC().Truncate(time.Second)
	}
	if d.Expires.IsZero() {
		d.Expires = d.Issued.Add(time.Hour)
	}
	s, err := Sign(d, h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.send(s, fmt.Sprintf(`"%d.%x"`, d.Version, s.Sig[:4]))
	return d
}

// send hands out this very document.
func (h *hub) send(s Signed, etag string) {
	h.set(func() {
		h.signed, h.etag = s, etag
		close(h.changed)
		h.changed = make(chan struct{})
	})
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	down := h.down
	h.mu.Unlock()
	if down {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<h1>Benvenuti nel nostro Wi-Fi</h1>")
		return
	}
	if sum, ok := strings.CutPrefix(r.URL.Path, wire.PathBlobs); ok {
		h.serveBlob(w, r, sum)
		return
	}
	h.serveState(w, r)
}

func (h *hub) serveState(w http.ResponseWriter, r *http.Request) {
	wait := time.Duration(0)
	if n, err := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Prefer"), "wait=")); err == nil {
		wait = time.Duration(n) * time.Second
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	h.set(func() {
		h.asked = append(h.asked, h.now())
		h.tags = append(h.tags, r.Header.Get("If-None-Match"))
	})
	for {
		h.mu.Lock()
		s, etag, changed, hold := h.signed, h.etag, h.changed, h.hold
		h.mu.Unlock()
		if etag != "" && !strings.Contains(r.Header.Get("If-None-Match"), etag) {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(s)
			return
		}
		if !hold || wait == 0 {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			w.WriteHeader(http.StatusNotModified)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (h *hub) serveBlob(w http.ResponseWriter, r *http.Request, sum string) {
	h.mu.Lock()
	body, ok := h.blobs[sum]
	stall, wrong := h.stall, h.wrong
	h.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if wrong {
		body = append([]byte(nil), body...)
		body[len(body)/2] ^= 1
	}
	w.Header().Set("ETag", `"`+sum+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	from := 0
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		if _, err := fmt.Sscanf(spec, "%d-", &from); err != nil || from >= len(body) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	rest := body[from:]
	if stall != nil {
		n, _ := w.Write(rest[:len(rest)/2])
		h.set(func() { h.served += int64(n) })
		http.NewResponseController(w).Flush()
		select {
		case <-stall:
		case <-r.Context().Done():
			return
		}
		rest = rest[len(rest)/2:]
	}
	n, _ := w.Write(rest)
	h.set(func() { h.served += int64(n) })
}

// serve puts the hub behind a real TLS listener and returns the source that a box has of it.
func (h *hub) serve() *HTTP {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.StartTLS()
	h.t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return &HTTP{Client: srv.Client(), Base: srv.URL}
}

func (h *hub) keys() []ed25519.PublicKey {
	return []ed25519.PublicKey{h.key.Public().(ed25519.PublicKey)}
}

// options are those of a box that follows the hub, with a folder of its own.
func (h *hub) options(src Source) Options {
	return Options{
		Dir: filepath.Join(h.t.TempDir(), "desired"), Box: boxNumber, Keys: h.keys, Source: src, Release: "v1.2.3", Now: h.now,
		Log: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
	}
}

// follow starts a follower; stop ends it and waits.
func follow(t testing.TB, o Options) (f *Follower, stop func()) {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

// until waits for something to become true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

func at(t testing.TB, f *Follower, version uint64) {
	t.Helper()
	until(t, fmt.Sprint("version ", version), func() bool { return f.Version() == version })
}

// read returns a file of the box's document.
func read(t testing.TB, f *Follower, name string) string {
	t.Helper()
	r, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// stored lists the files that a box keeps.
func stored(t testing.TB, o Options) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(o.Dir, blobDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cutter is a proxy that cuts each connection after so many bytes from the hub.
type cutter struct {
	ln    net.Listener
	to    string
	after int64
}

func (h *hub) behindCutter(after int64) *HTTP {
	src := h.serve()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = ln.Close() })
	c := &cutter{ln, strings.TrimPrefix(src.Base, "https://"), after}
	go c.run()
	src.Base = "https://" + ln.Addr().String()
	return src
}

func (c *cutter) run() {
	for {
		in, err := c.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = in.Close()
			return
		}
		go func() { _, _ = io.Copy(out, in) }()
		go func() {
			_, _ = io.CopyN(in, out, c.after)
			_, _ = in.Close(), out.Close()
		}()
	}
}
