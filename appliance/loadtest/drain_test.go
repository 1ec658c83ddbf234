package loadtest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"sportello.example/appliance/loadtest"
	"sportello.example/appliance/sqlite"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/seal"
)

const drained = 200_000 // events of BenchmarkDrain

// report writes a benchmark's metrics, and nothing else.
func report(b *testing.B, metrics map[string]float64) {
	b.ReportMetric(0, "ns/op")
	for unit, v := range metrics {
		b.ReportMetric(v, unit)
	}
}

// counter is a line that counts what a box sends.
type counter struct {
	ln   net.Listener
	to   string
	sent atomic.Int64
	wg   sync.WaitGroup
}

func newCounter(tb testing.TB, to string) *counter {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c := &counter{ln: ln, to: to}
	c.wg.Go(c.serve)
	return c
}

func (c *counter) serve() {
	for {
		box, err := c.ln.Accept()
		if err != nil {
			return
		}
		hub, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = box.Close()
			continue
		}
		c.wg.Go(func() {
			n, _ := io.Copy(hub, box)
			c.sent.Add(n)
			_ = hub.(*net.TCPConn).CloseWrite()
		})
		c.wg.Go(func() {
			_, _ = io.Copy(box, hub)
			_ = box.Close()
			_ = hub.Close()
		})
	}
}

// close returns how many bytes boxes have sent.
func (c *counter) close() int64 {
	_ = c.ln.Close()
	c.wg.Wait()
	return c.sent.Load()
}

// realBox is a box's queue with its way to a hub.
type realBox struct {
	tb    testing.TB
	town  *hubtest.Town
	id    *identity.Identity
	queue *sqlite.Store
}

// relay drains the queue to the hub at base until it is empty.
func (r *realBox) relay(ctx context.Context, base string) {
	r.tb.Helper()
	if err := loadtest.Drain(ctx, r.queue, r.id, r.town.Keys(), base); err != nil {
		r.tb.Fatal(err)
	}
}

// openBox opens the queue in dir, as box 1 of a town.
func openBox(tb testing.TB, dir string, town *hubtest.Town, id *identity.Identity) *realBox {
	tb.Helper()
	key, err := town.SealKey()
	if err != nil {
		tb.Fatal(err)
	}
	q, err := loadtest.OpenQueue(tb.Context(), dir, key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &realBox{tb, town, id, q}
}

// newTown makes a town with n boxes, and the identity of the first.
func newTown(tb testing.TB, dsn string, n int) (*hubtest.Town, *identity.Identity) {
	tb.Helper()
	town, err := hubtest.NewTown(tb.Context(), tb.TempDir(), dsn, n)
	if err != nil {
		tb.Fatal(err)
	}
	id, err := town.Identity(tb.Context(), filepath.Join(tb.TempDir(), "identity"), 1)
	if err != nil {
		tb.Fatal(err)
	}
	return town, id
}

func enqueue(q *sqlite.Store) loadtest.Put {
	return func(ctx context.Context, e event.Event) error { return q.Enqueue(ctx, e) }
}

func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
	return to
}

// BenchmarkDrain delivers 200,000 events that wait on a box: the real relay, over TLS, to the real handler and store of a
// hub in another process, each event verified and counted once. x-plain is our rate by that of a bare loop (plain JSON
// lines and zstd over plain HTTP, one table, nothing verified; target 0.70); wire-x what goes over the line, all of TLS and HTTP
// included, by the plain JSON (target 0.20), with what is sealed, which does not compress, and without it.
func BenchmarkDrain(b *testing.B) {
	samples := loadtest.Corpus(1, drained)
	plain, bodies := 0, make([][]byte, len(samples))
	for i, s := range samples {
		bodies[i] = s.JSON
		plain += len(s.JSON)
	}
	town, id := newTown(b, "", 1)
	full, sealed := fill(b, town, id, samples)
	raw := b.TempDir()
	r, err := loadtest.OpenRaw(b.Context(), raw)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(bodies); i += 5000 {
		if err := r.PutAll(b.Context(), bodies[i:min(i+5000, len(bodies))]); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	var wire, bare int64
	x := loadtest.Sandwich(func() float64 {
		dir, child := copyDir(b, raw), loadtest.StartChild(b, "bare-hub", "sqlite", b.TempDir())
		base := child.Line()
		defer child.Stop()
		defer os.RemoveAll(dir)
		return loadtest.Rate(drained, func() {
			if bare, err = loadtest.DrainRaw(b.Context(), dir, base, "mi-bib-0001"); err != nil {
				b.Fatal(err)
			}
		})
	}, func() float64 {
		rate, sent := drain(b, town, id, full)
		wire = sent
		return rate
	})
	wireAll, wireX := float64(wire)/float64(plain), float64(wire-sealed)/float64(plain)
	b.Logf("events/s by the bare loop %v; bytes on the line %.1f an event (%.1f sealed), the bare loop's bodies %.1f, plain JSON %.1f",
		x, float64(wire)/drained, float64(sealed)/drained, float64(bare)/drained, float64(plain)/drained)
	report(b, map[string]float64{"x-plain": x.X, "events/s": x.Ours, "wire-B/event": float64(wire) / drained, "wire-x": wireX, "wire-all-x": wireAll})
}

// fill makes a box's queue with events and returns its directory, and how many bytes of it are sealed.
func fill(tb testing.TB, town *hubtest.Town, id *identity.Identity, samples []loadtest.Sample) (dir string, sealed int64) {
	tb.Helper()
	dir = tb.TempDir()
	box := openBox(tb, dir, town, id)
	if err := loadtest.Producers(tb.Context(), enqueue(box.queue), 64, samples); err != nil {
		tb.Fatal(err)
	}
	if err := box.queue.Close(); err != nil {
		tb.Fatal(err)
	}
	for _, s := range samples {
		if s.Event.Private != nil {
			sealed += int64(len(s.Event.Private)) + seal.Overhead
		}
	}
	return dir, sealed
}

// drain drains a copy of the queue in full to a new hub.
func drain(tb testing.TB, town *hubtest.Town, id *identity.Identity, full string) (rate float64, sent int64) {
	tb.Helper()
	dir, hub := copyDir(tb, full), copyDir(tb, town.Dir)
	defer os.RemoveAll(dir)
	defer os.RemoveAll(hub)
	child := loadtest.StartChild(tb, "hub", hub, "tls")
	base, err := url.Parse(child.Line())
	if err != nil {
		tb.Fatal(err)
	}
	line := newCounter(tb, base.Host)
	box := openBox(tb, dir, town, id)
	rate = loadtest.Rate(drained, func() { box.relay(tb.Context(), "https://"+line.ln.Addr().String()) })
	if err := box.queue.Close(); err != nil {
		tb.Fatal(err)
	}
	once(tb, child, drained)
	if err := child.Stop(); err != nil {
		tb.Fatal(err)
	}
	return rate, line.close()
}

// once checks that a hub has n events of visits, each once.
func once(tb testing.TB, child *loadtest.Child, n int) {
	tb.Helper()
	if got, want := child.Ask("count"), fmt.Sprintf("%d %d", n, n); got != want {
		tb.Fatalf("the hub has %s events (all, different), want %s", got, want)
	}
}
