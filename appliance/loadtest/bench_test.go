package loadtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/wire"
)

const (
	simBoxes  = 10_000
	simEvents = 20 // of each box
	simConns  = 64
)

// bareHub is the role of a bare hub: its store is "sqlite" in a directory or "postgres" at a DSN.
func bareHub(ctx context.Context, args []string, commands <-chan string, out io.Writer) error {
	open := loadtest.OpenBareSQLite
	if args[0] == "postgres" {
		open = loadtest.OpenBarePostgres
	}
	hub, err := open(ctx, args[1])
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: hub}
	go func() {
		for range commands { //nolint:revive // until the parent has closed them
		}
		_ = srv.Close()
	}()
	fmt.Fprintf(out, "http://%s\n", ln.Addr())
	_ = srv.Serve(ln)
	return hub.Close()
}

func TestChild(t *testing.T) {
	loadtest.BeChild(t, map[string]loadtest.Role{"bare-hub": bareHub, "hub": hubtest.Hub})
}

// simClient returns a client that keeps as many connections as it needs.
func simClient(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: simConns, MaxConnsPerHost: simConns}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// bareBoxes returns what simulated boxes send to a bare hub, one batch each.
func bareBoxes(tb testing.TB) (boxes []string, batches [][]byte) {
	tb.Helper()
	for i := range simBoxes {
		box := fmt.Sprintf("box-%06d", i)
		var b []byte
		for _, s := range loadtest.BoxCorpus(uint64(i), box, simEvents) {
			b = append(append(b, s.JSON...), '\n')
		}
		z, err := wire.Zip(b)
		if err != nil {
			tb.Fatal(err)
		}
		boxes, batches = append(boxes, box), append(batches, z)
	}
	return boxes, batches
}

// flood is the outcome of one run against a hub.
type flood struct {
	rate float64       // unique events a second
	p99  time.Duration // of a request
	cpu  time.Duration // of hub and database, per event
}

func floodBare(tb testing.TB, store, where string, boxes []string, batches [][]byte, database int) flood {
	tb.Helper()
	child := loadtest.StartChild(tb, "bare-hub", store, where)
	base := child.Line()
	client := simClient(tb)
	// As in floodReal, all connections are open and the hub has heard of everybody before it is measured.
	if f := loadtest.Run(len(boxes), simConns, func(int) error {
		_, err := get(tb.Context(), client, base)
		return err
	}); f.Errors > 0 {
		tb.Fatalf("%d errors, one is %v", f.Errors, f.First)
	}
	before := cpu(child, database)
	f := loadtest.Run(len(boxes), simConns, func(i int) error {
		return loadtest.PostBare(tb.Context(), client, base, boxes[i], batches[i])
	})
	if f.Errors > 0 {
		tb.Fatalf("%d errors, one is %v", f.Errors, f.First)
	}
	n := len(boxes) * simEvents
	out := flood{rate: float64(n) / f.Took.Seconds(), p99: f.P99(), cpu: (cpu(child, database) - before) / time.Duration(n)}
	if got, err := get(tb.Context(), client, base); err != nil || got != fmt.Sprint(n) {
		tb.Fatalf("the bare hub has %s events, %v, want %d", got, err, n)
	}
	if err := child.Stop(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// cpu returns what a hub and its database (0: none) have used.
func cpu(child *loadtest.Child, database int) time.Duration {
	d := loadtest.CPU(child.PID())
	if database != 0 {
		d += loadtest.CPU(database)
	}
	return d
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode, string(b)}
	}
	return string(bytes.TrimSpace(b)), err
}
