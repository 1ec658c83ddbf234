package box

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/health"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

var today = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time { t := today.Add(-d); return &t }

func TestTroubles(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    wire.Report
		want []string // words of each
	}{
		{"all is well", wire.Report{Clock: "synced", Disk: wire.DiskReport{State: "ok"}}, nil},
		{"a morning without a line", wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 3, Oldest: before(4 * time.Hour), LastAck: before(4 * time.Hour)}}}, nil},
		{"an old event, but the hub answers", wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Stats, Queued: 90_000, Oldest: before(50 * time.Hour), LastAck: before(time.Second)}}}, nil},
		{"a weekend without a line", wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 3, Oldest: before(50 * time.Hour), LastAck: before(51 * time.Hour)}}}, []string{"stream legal: the hub has acknowledged nothing for 2 days, and 3 events wait, the oldest for 2 days"}},
		{"never acknowledged", wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Diag, Queued: 1, Oldest: before(25 * time.Hour)}}}, []string{"nothing yet"}},
		{"dead", wire.Report{Dead: 2}, []string{"2 events can never be delivered"}},
		{"disk warns", wire.Report{Disk: wire.DiskReport{State: "warn"}}, nil},
		{"disk high", wire.Report{Disk: wire.DiskReport{State: "high", Used: 900_000_000, Limit: 1_000_000_000}}, []string{"900 MB of 1 GB"}},
		{"disk full", wire.Report{Disk: wire.DiskReport{State: "full"}}, []string{"queue is full"}},
		{"1970", wire.Report{Clock: "unknown"}, []string{"what time it is"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := SyncStatus{Report: tt.r}.troubles(today)
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %q", got, tt.want)
			}
			for i, g := range got {
				if !strings.Contains(g.What, tt.want[i]) || g.Hint == "" {
					t.Errorf("got %q (hint %q), want %q", g.What, g.Hint, tt.want[i])
				}
			}
		})
	}
}

func TestPrintSync(t *testing.T) {
	s := SyncStatus{
		Report: wire.Report{
			Time: today, Clock: "synced", Epoch: "0123456789abcdef0123456789abcdef", Dead: 1, Gaps: 2, Dropped: 3,
			Disk:    wire.DiskReport{State: "ok", Used: 12_300_000, Limit: 1 << 30, Free: 5e10},
			Streams: []wire.StreamReport{{Stream: envelope.All}, {Stream: envelope.Legal, Queued: 3, Kept: 12, Oldest: before(time.Hour), LastAck: before(time.Minute)}},
		},
		Running: true, Box: 7, Branch: "Biblioteca Harar", Link: LinkStatus{State: health.Up, Since: before(time.Hour)},
		Dead:    []sqlite.DeadEvent{{Chain: envelope.Chain{Epoch: "ab", Stream: envelope.Legal}, Seq: 9, Kind: "print.done", Reason: "damaged", At: today}},
		Trouble: []Trouble{{"something", "do this"}},
	}
	var b bytes.Buffer
	if err := printSync(&b, s, time.UTC, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"box    7, Biblioteca Harar\n", "line   up since 2026-11-25 09:00", "disk   ok: 12.3 MB of 1.1 GB, 50 GB free\n",
		"2 times events were found missing, 3 were let go", "legal   3       12    2026-11-25 09:00  2026-11-25 09:59\n",
		"ab/legal  9       print.done  damaged  2026-11-25 10:00\n", "WRONG something\n      → do this\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\nall ") {
		t.Errorf("the stream of the first release is shown although nothing is in it:\n%s", b.String())
	}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"dead":1`, `"dead_events":[`, `"stream":"legal"`, `"trouble":[{"what":`} {
		if !bytes.Contains(j, []byte(want)) {
			t.Errorf("%s is not in %s", want, j)
		}
	}
}

func TestOnlyTheBoxsOwnCommands(t *testing.T) {
	dir := t.TempDir()
	b := &Box{log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(b.commands(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }))
	defer srv.Close()
	if _, err := find(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("without files: %v", err)
	}
	token, remove, err := writeControl(dir, srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b.control.Store(&token)
	r, err := find(dir)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r running) error {
		resp, err := r.call(t.Context(), http.MethodPost, "/", nil)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := ask(r); err != nil {
		t.Errorf("with the word: %v", err)
	}
	if err := ask(running{addr: r.addr, token: "guess"}); err == nil || !strings.Contains(err.Error(), "data folder") {
		t.Errorf("with another: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example:80"
	req.Header.Set("Authorization", bearer+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("by another name: %s", resp.Status)
	}
	if st, err := os.Stat(filepath.Join(dir, controlFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the word can be read by others: %v, %v", st.Mode(), err)
	}
	srv.Close()
	if err := ask(r); !errors.Is(err, errNotRunning) {
		t.Errorf("files left over from a crash: %v", err)
	}
	remove()
	if _, err := find(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("stopped: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 1 << 20: "1 MB", 5e12: "5 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// heldLine is a hub that holds a request for the desired state until it is cancelled.
type heldLine struct{ asked chan struct{} }

func (h heldLine) State(ctx context.Context, _ string, _ time.Duration) (s desired.Signed, tag string, changed bool, err error) {
	close(h.asked)
	<-ctx.Done()
	return s, "", false, ctx.Err()
}

func (heldLine) Blob(context.Context, string, int64, io.Writer) error { return errNoLine }

// reply returns a file of the hub for box 7 with that desired state and file.
func reply(t *testing.T, key ed25519.PrivateKey, d desired.Document, blob string) *stick.File {
	t.Helper()
	signed, err := desired.Sign(d, key)
	if err != nil {
		t.Fatal(err)
	}
	a := stick.Answer{
		Box: 7, Key: key, Now: time.Now, State: &signed, Blobs: d.Content,
		Blob: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(blob)), nil },
	}
	var b bytes.Buffer
	if err := a.Write(&b, a.Prepare()); err != nil {
		t.Fatal(err)
	}
	f, err := stick.Open(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAStickComesBeforeTheLine(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("0123456789"))
	name := hex.EncodeToString(sum[:])
	f := reply(t, key, desired.Document{Version: 3, Box: 7, Content: []desired.Blob{{Name: "a", SHA256: name, Size: 10}}}, "0123456789")
	s := &source{}
	if _, _, _, err := s.State(t.Context(), "", 0); !errors.Is(err, errNoLine) {
		t.Errorf("neither line nor stick: %v", err)
	}
	line := heldLine{make(chan struct{})}
	s.use(line)
	held := make(chan error, 1)
	go func() {
		_, _, _, err := s.State(t.Context(), "", time.Hour)
		held <- err
	}()
	<-line.asked
	s.put(f)
	select {
	case err := <-held:
		if err == nil {
			t.Error("the request that was held came back with something")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the request is still held")
	}
	got, _, changed, err := s.State(t.Context(), "", time.Hour)
	if err != nil || !changed {
		t.Fatalf("from the stick: %v, %v", changed, err)
	}
	if d, err := got.Open(7, []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}); err != nil || d.Version != 3 {
		t.Errorf("from the stick: %+v, %v", d, err)
	}
	var b bytes.Buffer
	if err := s.Blob(t.Context(), name, 4, &b); err != nil || b.String() != "456789" {
		t.Errorf("file from byte 4: %q, %v", b.String(), err)
	}
	if err := s.Blob(t.Context(), strings.Repeat("0", 64), 0, &b); !errors.Is(err, errNoLine) {
		t.Errorf("a file that is not on the stick: %v, want the line's answer", err)
	}
}
