package sqlite_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/seal"
)

const (
	million = 1_000_000
	early   = 100_000
	// some events of the corpus are stored again and again: a million different ones would be larger than the queue.
	some = 2000
)

func TestChild(t *testing.T) {
	loadtest.BeChild(t, map[string]loadtest.Role{"fill": filler, "open": opener})
}

// filler is the role of a queue, "ours" or "raw", that stores a million events for 64 producers. Its other args are a
// directory and the hub's sealing key. It writes how much memory it has after 100,000 events and, as a median, while it
// stores the last 100,000.
func filler(ctx context.Context, args []string, _ <-chan string, out io.Writer) error {
	samples := loadtest.Corpus(1, some)
	store, done, err := filled(ctx, args, samples)
	if err != nil {
		return err
	}
	var first int64
	var last []int64
	for n := 0; n < million; n += early {
		for range early / some {
			if err := store(); err != nil {
				return err
			}
			if n+early >= million {
				last = append(last, loadtest.RSS("self"))
			}
		}
		if n == 0 {
			first = loadtest.RSS("self")
		}
	}
	fmt.Fprintf(out, "%d %d\n", first, loadtest.Median(last))
	return done()
}

// filled returns what stores all samples, and what closes the queue.
func filled(ctx context.Context, args []string, samples []loadtest.Sample) (store, done func() error, err error) {
	if args[0] == "raw" {
		r, err := loadtest.OpenRaw(ctx, args[1])
		if err != nil {
			return nil, nil, err
		}
		js := bodies(samples)
		return func() error { return r.Group(ctx, producers, js) }, r.Close, nil
	}
	key, err := hex.DecodeString(args[2])
	if err != nil {
		return nil, nil, err
	}
	s, err := loadtest.OpenQueue(ctx, args[1], key)
	if err != nil {
		return nil, nil, err
	}
	return func() error { return loadtest.Producers(ctx, put(s), producers, samples) }, s.Close, nil
}

// opener is the role of a box that starts: it writes after how many seconds the first event was stored, and goes on
// storing until it is killed. Its args are those of filler.
func opener(ctx context.Context, args []string, _ <-chan string, out io.Writer) error {
	samples := loadtest.Corpus(2, some)
	start := time.Now()
	store, _, err := filled(ctx, args, samples[:1])
	if err != nil {
		return err
	}
	if err := store(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%f\n", time.Since(start).Seconds())
	for err == nil {
		err = store()
	}
	return err
}

// BenchmarkMillionQueued holds a million events on the box. x-rss is our memory while the last of them are stored by that
// of plain SQLite (target 1.6), rss-growth-MB what it has grown by since the first 100,000 (target 2), disk-x our file by
// that of plain SQLite (target 1.15), open-s how long a start takes until the first event is stored, five times, each after
// the one before was killed while storing (target 1).
func BenchmarkMillionQueued(b *testing.B) {
	key, err := seal.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	public := hex.EncodeToString(key.Public())
	type filling struct{ early, late, disk int64 }
	fill := func(kind, dir string) filling {
		child := loadtest.StartChild(b, "fill", kind, dir, public)
		var f filling
		if _, err := fmt.Sscan(child.Line(), &f.early, &f.late); err != nil {
			b.Fatal(err)
		}
		if err := child.Stop(); err != nil {
			b.Fatal(err)
		}
		f.disk = loadtest.Size(dir)
		return f
	}
	dir, rawDir := b.TempDir(), b.TempDir()
	before := fill("raw", rawDir)
	ours := fill("ours", dir)
	if err := os.RemoveAll(rawDir); err != nil {
		b.Fatal(err)
	}
	after := fill("raw", b.TempDir())
	rss := float64(before.late+after.late) / 2
	var opens []float64
	for range loadtest.Rounds {
		child := loadtest.StartChild(b, "open", "ours", dir, public)
		var seconds float64
		if _, err := fmt.Sscan(child.Line(), &seconds); err != nil {
			b.Fatal(err)
		}
		opens = append(opens, seconds)
		time.Sleep(200 * time.Millisecond) // it stores
		child.Kill()
	}
	const mb = 1 << 20
	b.Logf("memory %.1f MB (%.1f at %d) against %.1f MB; disk %.0f B/event against %.0f; open %.3f to %.3f s",
		float64(ours.late)/mb, float64(ours.early)/mb, early, rss/mb, float64(ours.disk)/million, float64(before.disk)/million,
		loadtest.Quantile(opens, 0), loadtest.Quantile(opens, 1))
	report(b, map[string]float64{
		"x-rss": float64(ours.late) / rss, "rss-MB": float64(ours.late) / mb, "rss-growth-MB": float64(ours.late-ours.early) / mb,
		"open-s": loadtest.Median(opens), "disk-B/event": float64(ours.disk) / million, "disk-x": float64(ours.disk) / float64(before.disk),
	})
}
