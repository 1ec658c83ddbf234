package loadtest_test

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/uplink"
)

const (
	whileRate = 50              // events a second: what a box stores in an hour
	whileIdle = 5 * time.Second // before and after
	whileBusy = 10 * time.Second
	whileFree = 5 * time.Second // after the reader has gone: what could not be deleted until then is
	whileWarm = time.Second     // until the reader comes: the log is as it is in the middle of a drain
)

// paced stores events at a steady rate for so long, and returns how long 99 of 100 took at most.
func paced(tb testing.TB, put loadtest.Put, samples []loadtest.Sample, long time.Duration) time.Duration {
	tb.Helper()
	tick := time.NewTicker(time.Second / whileRate)
	defer tick.Stop()
	var took []time.Duration
	for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
		start := time.Now()
		if err := put(tb.Context(), samples[len(took)%len(samples)].Event); err != nil {
			tb.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	return loadtest.Quantile(took, 0.99)
}

// reader reads a box's database from outside for as long as ctx lasts, as somebody who copies it with too much patience.
func reader(ctx context.Context, tb testing.TB, dir string) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, loadtest.Queue)+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		tb.Error(err)
		return
	}
	defer db.Close()
	tx, err := db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		tb.Error(err)
		return
	}
	defer func() { _ = tx.Rollback() }()
	var n int
	if err := tx.QueryRowContext(context.WithoutCancel(ctx), `SELECT count(*) FROM sqlite_schema`).Scan(&n); err != nil {
		tb.Errorf("the reader cannot read: %v", err)
		return
	}
	<-ctx.Done() // until then the transaction holds on to what the database was
}

// largest returns the largest size that a file has until ctx ends.
func largest(ctx context.Context, path string) (n int64) {
	for ctx.Err() == nil {
		if info, err := os.Stat(path); err == nil {
			n = max(n, info.Size())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// held returns how many events a box's database holds.
func held(tb testing.TB, dir string) (n int) {
	tb.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, loadtest.Queue)+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	for _, stream := range envelope.Streams()[1:] {
		var count int
		if err := db.QueryRowContext(tb.Context(), "SELECT count(*) FROM queue_"+stream.String()).Scan(&count); err != nil {
			tb.Fatal(err)
		}
		n += count
	}
	return n
}

// BenchmarkEnqueueWhileDraining stores fifty events a second, first beside a queue that rests, then for fifteen seconds while
// 200,000 events are delivered over TLS, again and again, and somebody reads the database for ten of them. After five the
// hub makes a backup, and the box deletes what it holds, most of it when the reader has gone. x-p99 is how long 99 of 100
// took by how long they take beside a resting queue (target 3), wal-MB the largest size of the write-ahead log (target 16),
// deleted how many events were.
func BenchmarkEnqueueWhileDraining(b *testing.B) {
	town, id := newTown(b, "", 1)
	samples := loadtest.Corpus(1, drained)
	full, _ := fill(b, town, id, samples)
	resting, _ := fill(b, town, id, samples[:1000])
	rest := openBox(b, resting, town, id)
	var wal int64
	deleted := drained
	// Smaller is better here.
	x := loadtest.Sandwich(func() float64 {
		return float64(paced(b, enqueue(rest.queue), samples, whileIdle).Microseconds())
	}, func() float64 {
		dir, hub := copyDir(b, full), copyDir(b, town.Dir)
		defer os.RemoveAll(dir)
		defer os.RemoveAll(hub)
		child := loadtest.StartChild(b, "hub", hub, "tls")
		base, box := child.Line(), openBox(b, dir, town, id)
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		var wg sync.WaitGroup
		var peak int64
		wg.Go(func() { box.again(ctx, base) })
		paced(b, enqueue(box.queue), samples, whileWarm)
		wg.Go(func() {
			reading, done := context.WithTimeout(ctx, whileBusy)
			defer done()
			reader(reading, b, dir)
		})
		wg.Go(func() { peak = largest(ctx, filepath.Join(dir, loadtest.Queue+"-wal")) })
		wg.Go(func() {
			time.Sleep(whileBusy / 2)
			child.Ask("backup")
		})
		p99 := paced(b, enqueue(box.queue), samples, whileBusy+whileFree)
		cancel()
		wg.Wait()
		wal, deleted = max(wal, peak), min(deleted, drained-held(b, dir))
		if err := box.queue.Close(); err != nil {
			b.Error(err)
		}
		if err := child.Stop(); err != nil {
			b.Error(err)
		}
		return float64(p99.Microseconds())
	})
	b.Logf("99 of 100 within µs, by those beside a resting queue: %v; write-ahead log at most %.1f MB; at least %d events deleted", x, float64(wal)/(1<<20), deleted)
	report(b, map[string]float64{"x-p99": x.X, "p99-ms": x.Ours / 1000, "wal-MB": float64(wal) / (1 << 20), "deleted": float64(deleted)})
	if deleted <= 0 {
		b.Error("nothing was deleted meanwhile")
	}
	if err := rest.queue.Close(); err != nil {
		b.Error(err)
	}
}

// again delivers all that the queue holds, again and again, until ctx ends.
func (r *realBox) again(ctx context.Context, base string) {
	client, err := uplink.New(base, r.id, uplink.Options{Now: time.Now})
	if err != nil {
		r.tb.Error(err)
		return
	}
	defer client.Close()
	relay := outbox.New(r.queue, client, outbox.Options{
		Box: func() uint32 { return 1 }, Keys: func() []ed25519.PublicKey { return r.town.Keys() }, Gather: time.Millisecond,
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Run(ctx) })
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if chains, err := r.queue.Chains(ctx); err != nil || len(chains) > 1 {
			continue
		}
		idle, err := r.queue.Idle(ctx)
		if err != nil {
			continue
		}
		for _, c := range idle {
			_ = r.queue.Rewind(ctx, c.Chain)
		}
		relay.Kick()
	}
	wg.Wait()
}
