package natsbench_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sportello.example/appliance/loadtest"
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
	loadtest.BeChild(t, map[string]loadtest.Role{"nats-hub": natsHub})
}

func bodies(n int) [][]byte {
	out := make([][]byte, n)
	for i, s := range loadtest.Corpus(1, n) {
		out[i] = s.JSON
	}
	return out
}

func TestBaseline(t *testing.T) {
	_, _, js := natsServer(t, &server.Options{DontListen: true, SyncAlways: true})
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "Q", Subjects: []string{"q.>"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	b := bodies(2000)
	t.Logf("64 producers: %.0f/s", loadtest.Rate(len(b), func() { publish(t.Context(), t, js, 64, b) }))
	t.Logf("mirror: %.0f/s", mirror(t.Context(), t, bodies(5000)))
}
