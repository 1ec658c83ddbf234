package natsbench_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sportello.example/appliance/loadtest"
	"sportello.example/appliance/sqlite"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/seal"
)

const ready = 10 * time.Second

// natsServer starts a server that syncs every message and returns a connection to it.
func natsServer(t testing.TB, o *server.Options) (*server.Server, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	o.JetStream, o.StoreDir, o.NoLog, o.NoSigs = true, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(ready) {
		t.Fatal("NATS does not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s, nc, js
}

// publish lets n producers publish bodies, each waiting for its own acknowledgement.
func publish(ctx context.Context, t testing.TB, js jetstream.JetStream, n int, bodies [][]byte) {
	t.Helper()
	var wg sync.WaitGroup
	for p := range n {
		wg.Go(func() {
			for i := p; i < len(bodies); i += n {
				if _, err := js.Publish(ctx, "q.e", bodies[i]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// natsHub is the role of a hub of NATS: it mirrors what its leaf has.
func natsHub(ctx context.Context, args []string, commands <-chan string, out io.Writer) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "hub", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, JetStreamDomain: "hub", StoreDir: args[0], NoLog: true, NoSigs: true,
		SyncAlways: true, LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: port},
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(ready) {
		return fmt.Errorf("not ready")
	}
	fmt.Fprintf(out, "%s %d\n", s.ClientURL(), port)
	for range commands { //nolint:revive // until the parent has closed them
	}
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// mirror drains bodies from a leaf into a hub of NATS and returns how many a second arrived.
func mirror(ctx context.Context, t testing.TB, bodies [][]byte) float64 {
	t.Helper()
	child := loadtest.StartChild(t, "nats-hub", t.TempDir())
	var hubURL string
	var leafPort int
	if _, err := fmt.Sscan(child.Line(), &hubURL, &leafPort); err != nil {
		t.Fatal(err)
	}
	leaf, err := url.Parse("nats-leaf://127.0.0.1:" + strconv.Itoa(leafPort))
	if err != nil {
		t.Fatal(err)
	}
	_, _, js := natsServer(t, &server.Options{
		ServerName: "box", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStreamDomain: "box",
		LeafNode: server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{{URLs: []*url.URL{leaf}}}},
	})
	if _, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "Q", Subjects: []string{"q.>"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		if _, err := js.PublishAsync("q.e", b); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	time.Sleep(time.Second) // the leaf's connection is made meanwhile
	nc, err := nats.Connect(hubURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	hub, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	rate := loadtest.Rate(len(bodies), func() {
		st, err := hub.CreateStream(ctx, jetstream.StreamConfig{
			Name: "HQ", Storage: jetstream.FileStorage,
			Mirror: &jetstream.StreamSource{Name: "Q", External: &jetstream.ExternalStream{APIPrefix: "$JS.box.API"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			in, err := st.Info(ctx)
			if err == nil && in.State.Msgs >= uint64(len(bodies)) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the mirror has not got everything within a minute (%v)", err)
			}
		}
	})
	if err := child.Stop(); err != nil {
		t.Error(err)
	}
	return rate
}

func TestChild(t *testing.T) {
	loadtest.BeChild(t, map[string]loadtest.Role{"nats-hub": natsHub, "hub": hubtest.Hub})
}

func bodies(n int) [][]byte {
	out := make([][]byte, n)
	for i, s := range loadtest.Corpus(1, n) {
		out[i] = s.JSON
	}
	return out
}

const producers = 64

// report writes a benchmark's metrics, and nothing else.
func report(b *testing.B, metrics map[string]float64) {
	b.ReportMetric(0, "ns/op")
	for unit, v := range metrics {
		b.ReportMetric(v, unit)
	}
}

func put(q *sqlite.Store) loadtest.Put {
	return func(ctx context.Context, e event.Event) error { return q.Enqueue(ctx, e) }
}

// BenchmarkEnqueueNATS stores for 64 producers, each of which waits for its own event. x-nats is our rate by that of JetStream
// in the same process (target 10).
func BenchmarkEnqueueNATS(b *testing.B) {
	const ours, theirs = 50_000, 3000
	key, err := seal.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	q, err := loadtest.OpenQueue(b.Context(), b.TempDir(), key.Public())
	if err != nil {
		b.Fatal(err)
	}
	_, _, js := natsServer(b, &server.Options{DontListen: true, SyncAlways: true})
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "Q", Subjects: []string{"q.>"}, Storage: jetstream.FileStorage}); err != nil {
		b.Fatal(err)
	}
	samples, js0 := loadtest.Corpus(1, ours), bodies(theirs)
	x := loadtest.Sandwich(func() float64 {
		return loadtest.Rate(theirs, func() { publish(b.Context(), b, js, producers, js0) })
	}, func() float64 {
		return loadtest.Rate(ours, func() {
			if err := loadtest.Producers(b.Context(), put(q), producers, samples); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Logf("events/s by NATS %v", x)
	report(b, map[string]float64{"x-nats": x.X, "events/s": x.Ours, "nats-events/s": x.Reference})
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDrain delivers what waits on a box: ours 200,000 events, by the real relay over TLS to the real handler and
// store of a hub in another process; theirs 20,000, by a leaf node that a hub in another process mirrors, in clear. x-nats is
// our rate by theirs (target 5).
func BenchmarkDrain(b *testing.B) {
	const ours, theirs = 200_000, 20_000
	town, err := hubtest.NewTown(b.Context(), b.TempDir(), "", 1)
	if err != nil {
		b.Fatal(err)
	}
	id, err := town.Identity(b.Context(), filepath.Join(b.TempDir(), "identity"), 1)
	if err != nil {
		b.Fatal(err)
	}
	full, open := fill(b, town, loadtest.Corpus(1, ours))
	js := bodies(theirs)
	x := loadtest.Sandwich(func() float64 { return mirror(b.Context(), b, js) }, func() float64 {
		dir, hub := copyDir(b, full), copyDir(b, town.Dir)
		defer os.RemoveAll(dir)
		defer os.RemoveAll(hub)
		child := loadtest.StartChild(b, "hub", hub, "tls")
		base, q := child.Line(), open(dir)
		rate := loadtest.Rate(ours, func() {
			if err := loadtest.Drain(b.Context(), q, id, town.Keys(), base); err != nil {
				b.Fatal(err)
			}
		})
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		if got, want := child.Ask("count"), fmt.Sprintf("%d %d", ours, ours); got != want {
			b.Fatalf("the hub has %s events (all, different), want %s", got, want)
		}
		if err := child.Stop(); err != nil {
			b.Fatal(err)
		}
		return rate
	})
	b.Logf("events/s by NATS %v", x)
	report(b, map[string]float64{"x-nats": x.X, "events/s": x.Ours, "nats-events/s": x.Reference})
}

// fill makes a box's queue and returns its directory, and what opens a copy of it.
func fill(b *testing.B, town *hubtest.Town, samples []loadtest.Sample) (dir string, open func(string) *sqlite.Store) {
	b.Helper()
	key, err := town.SealKey()
	if err != nil {
		b.Fatal(err)
	}
	open = func(dir string) *sqlite.Store {
		q, err := loadtest.OpenQueue(b.Context(), dir, key.Public())
		if err != nil {
			b.Fatal(err)
		}
		return q
	}
	dir = b.TempDir()
	q := open(dir)
	if err := loadtest.Producers(b.Context(), put(q), producers, samples); err != nil {
		b.Fatal(err)
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	return dir, open
}

func copyDir(b *testing.B, from string) string {
	b.Helper()
	to := filepath.Join(b.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		b.Fatal(err)
	}
	return to
}
