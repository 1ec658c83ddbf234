package loadtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// simBatch is what a simulated box sends, and what the hub must answer.
type simBatch struct {
	box   uint32
	zip   []byte
	wants map[string]uint64 // by chain
}

// simBatches makes a batch for each of n simulated boxes.
func simBatches(tb testing.TB, town *hubtest.Town, n int) []simBatch {
	tb.Helper()
	key, err := town.SealKey()
	if err != nil {
		tb.Fatal(err)
	}
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(key.Public()); err != nil {
		tb.Fatal(err)
	}
	out := make([]simBatch, n)
	for i := range out {
		box := loadtest.NewSimBox(uint32(i + 1))
		batch, err := box.Batch(loadtest.BoxCorpus(uint64(i), "", simEvents), sealer)
		if err != nil {
			tb.Fatal(err)
		}
		b, err := batch.Append(nil)
		if err != nil {
			tb.Fatal(err)
		}
		z, err := wire.Zip(b)
		if err != nil {
			tb.Fatal(err)
		}
		out[i] = simBatch{box.Number, z, map[string]uint64{}}
		for c, seq := range box.Seqs() {
			out[i].wants[c.String()] = seq
		}
	}
	return out
}

// empty is a batch without events.
func empty(tb testing.TB) []byte {
	tb.Helper()
	b, err := envelope.Batch{}.Append(nil)
	if err == nil {
		b, err = wire.Zip(b)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// post sends a batch and returns the hub's reply.
func (s simBatch) post(ctx context.Context, client *http.Client, base string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+wire.PathEvents2, bytes.NewReader(s.zip))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", wire.TypeBatch)
	req.Header.Set("Content-Encoding", wire.Encoding)
	req.Header.Set(hubtest.BoxHeader, strconv.FormatUint(uint64(s.box), 10))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode, string(b)}
	}
	return b, err
}

// check checks that a reply acknowledges all of the batch.
func (s simBatch) check(reply []byte) error {
	var r wire.Reply
	if err := json.Unmarshal(reply, &r); err != nil {
		return err
	}
	for _, a := range r.Acks {
		if a.Seq != s.wants[a.Chain.String()] || a.Box != s.box {
			return fmt.Errorf("box %d: %s is acknowledged up to %d, want %d", s.box, a.Chain, a.Seq, s.wants[a.Chain.String()])
		}
	}
	if len(r.Acks) != len(s.wants) {
		return fmt.Errorf("box %d: %d acknowledgements, want %d", s.box, len(r.Acks), len(s.wants))
	}
	return nil
}

type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// database is where hubs of one benchmark keep their events.
type database struct {
	town  *hubtest.Town
	fresh func() string // makes an empty database again; returns the directory of the town with it
	pid   int           // of the database, 0 when it is the hub itself
	bare  func() string // where a bare hub stores
}

// floodReal lets every simulated box deliver once, or twice.
func floodReal(tb testing.TB, db database, batches []simBatch, times int) flood {
	tb.Helper()
	child := loadtest.StartChild(tb, "hub", db.fresh(), "simulated")
	base, client := child.Line(), simClient(tb)
	// The hub has heard of all boxes before: it knows their certificates.
	hello := empty(tb)
	if f := loadtest.Run(len(batches), simConns, func(i int) error {
		_, err := simBatch{box: batches[i].box, zip: hello}.post(tb.Context(), client, base)
		return err
	}); f.Errors > 0 {
		tb.Fatalf("%d errors, one is %v", f.Errors, f.First)
	}
	before := cpu(child, db.pid)
	replies := make([][]byte, len(batches)*times)
	f := loadtest.Run(len(replies), simConns, func(i int) (err error) {
		replies[i], err = batches[i/times].post(tb.Context(), client, base)
		return err
	})
	if f.Errors > 0 {
		tb.Fatalf("%d errors, one is %v", f.Errors, f.First)
	}
	n := len(batches) * simEvents
	out := flood{rate: float64(n) / f.Took.Seconds(), p99: f.P99(), cpu: (cpu(child, db.pid) - before) / time.Duration(n)}
	for i, r := range replies {
		if err := batches[i/times].check(r); err != nil {
			tb.Fatal(err)
		}
	}
	once(tb, child, n)
	if err := child.Stop(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// BenchmarkHub10kBoxes lets 10,000 simulated boxes deliver 20 events each, over 64 connections, to the real handler and store
// of a hub in another process. x-bare is the rate of unique events on the disk by that of a bare hub (one table, one commit
// for all who wait; target 0.60); twice-x our own rate when every box sends everything twice, by that when once (target
// 0.5); cpu-µs/event is of hub and database together.
func BenchmarkHub10kBoxes(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		town, err := hubtest.NewTown(b.Context(), b.TempDir(), "", simBoxes)
		if err != nil {
			b.Fatal(err)
		}
		flood10k(b, "sqlite", database{
			town: town,
			fresh: func() string {
				dir := copyDir(b, town.Dir)
				b.Cleanup(func() { _ = os.RemoveAll(dir) })
				return dir
			},
			bare: func() string { return b.TempDir() },
		})
	})
	b.Run("postgres", func(b *testing.B) { flood10k(b, "postgres", postgresDatabase(b)) })
}

func flood10k(b *testing.B, store string, db database) {
	boxes, plain := bareBoxes(b)
	batches := simBatches(b, db.town, simBoxes)
	var p99, cpus, bareP99, bareCPUs, twice, twiceP99 []time.Duration
	var twiceX []float64
	x := loadtest.Sandwich(func() float64 {
		f := floodBare(b, store, db.bare(), boxes, plain, db.pid)
		bareP99, bareCPUs = append(bareP99, f.p99), append(bareCPUs, f.cpu)
		return f.rate
	}, func() float64 {
		f := floodReal(b, db, batches, 1)
		p99, cpus = append(p99, f.p99), append(cpus, f.cpu)
		t := floodReal(b, db, batches, 2)
		twiceX, twiceP99, twice = append(twiceX, t.rate/f.rate), append(twiceP99, t.p99), append(twice, t.cpu)
		return f.rate
	})
	ms := func(ds []time.Duration) float64 { return float64(loadtest.Median(ds).Microseconds()) / 1000 }
	us := func(ds []time.Duration) float64 { return float64(loadtest.Median(ds).Nanoseconds()) / 1000 }
	b.Logf("unique events/s by a bare hub %v; p99 %.0f ms against %.0f; CPU %.1f µs/event against %.1f; everything twice %.2f of that, p99 %.0f ms, %.1f µs",
		x, ms(p99), ms(bareP99), us(cpus), us(bareCPUs), loadtest.Median(twiceX), ms(twiceP99), us(twice))
	report(b, map[string]float64{
		"x-bare": x.X, "events/s": x.Ours, "p99-ms": ms(p99), "x-p99": ms(p99) / ms(bareP99), "cpu-µs/event": us(cpus), "twice-x": loadtest.Median(twiceX),
	})
}

// postgresDatabase starts a PostgreSQL that waits for the disk as in a town.
func postgresDatabase(b *testing.B) database {
	b.Helper()
	cluster := pgtest.Start(b, "max_wal_size=4GB")
	town, err := hubtest.NewTown(b.Context(), b.TempDir(), cluster.New(b), simBoxes)
	if err != nil {
		b.Fatal(err)
	}
	from := cluster.SQL(b, "postgres", `SELECT datname FROM pg_database WHERE datname LIKE 't%' AND datname NOT LIKE 'template%'`)
	pid, err := os.ReadFile(filepath.Join(cluster.SQL(b, "postgres", "SHOW data_directory"), "postmaster.pid"))
	if err != nil {
		b.Fatal(err)
	}
	db := database{town: town}
	if db.pid, err = strconv.Atoi(strings.Fields(string(pid))[0]); err != nil {
		b.Fatal(err)
	}
	last, n := "", 0
	create := func(template string) string {
		if last != "" {
			cluster.SQL(b, "postgres", "DROP DATABASE "+last+" WITH (FORCE)")
		}
		n++
		last = fmt.Sprintf("run%d", n)
		cluster.SQL(b, "postgres", "CREATE DATABASE "+last+" TEMPLATE "+template)
		cluster.SQL(b, "postgres", "CHECKPOINT") // what came before is not to be paid by what is measured
		return cluster.DSN(last)
	}
	db.fresh = func() string {
		dir := copyDir(b, town.Dir)
		if err := town.At(dir, create(from)); err != nil {
			b.Fatal(err)
		}
		return dir
	}
	db.bare = func() string { return create("template0") }
	return db
}
