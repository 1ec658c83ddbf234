package sqlite_test

import (
	"context"
	"testing"

	"sportello.example/appliance/loadtest"
	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

// The figures are ratios to a bare program in the same run: see package loadtest. Each benchmark does a fixed amount of
// work; run it with -benchtime 1x.

// report writes a benchmark's metrics, and nothing else.
func report(b *testing.B, metrics map[string]float64) {
	b.ReportMetric(0, "ns/op")
	for unit, v := range metrics {
		b.ReportMetric(v, unit)
	}
}

// queue opens a box's queue in a directory of its own.
func queue(b testing.TB) *sqlite.Store {
	b.Helper()
	key, err := seal.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	s, err := loadtest.OpenQueue(b.Context(), b.TempDir(), key.Public())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func raw(b testing.TB) *loadtest.Raw {
	b.Helper()
	r, err := loadtest.OpenRaw(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	return r
}

// put stores one event as the kiosk does.
func put(s *sqlite.Store) loadtest.Put {
	return func(ctx context.Context, e event.Event) error { return s.Record(ctx, kiosk.SessionRow{}, e) }
}

func bodies(samples []loadtest.Sample) [][]byte {
	out := make([][]byte, len(samples))
	for i, s := range samples {
		out[i] = s.JSON
	}
	return out
}

// written counts what work does write to the disk, for a number of events in all.
type written struct{ bytes, events int64 }

func (w *written) during(n int, work func()) {
	before := loadtest.WrittenBytes()
	work()
	w.bytes += loadtest.WrittenBytes() - before
	w.events += int64(n)
}

func (w *written) each() float64 { return float64(w.bytes) / float64(w.events) }

// BenchmarkEnqueueSingle stores one event after the other, each on the disk before the next. x-raw is our rate by that
// of plain SQLite (target 0.80), x-fdatasync by that of an append and an fdatasync, written-x what we write to the disk by what
// plain SQLite writes (target 0.80).
func BenchmarkEnqueueSingle(b *testing.B) {
	const n = 3000
	ours, plain, dir := queue(b), raw(b), b.TempDir()
	samples := loadtest.Corpus(1, n)
	js := bodies(samples)
	var wOurs, wPlain written
	enqueue := func() float64 {
		return loadtest.Rate(n, func() {
			wOurs.during(n, func() {
				if err := loadtest.Producers(b.Context(), put(ours), 1, samples); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	insert := func() float64 {
		return loadtest.Rate(n, func() {
			wPlain.during(n, func() {
				for _, body := range js {
					if err := plain.Put(b.Context(), body); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
	appendSync := func() float64 {
		return loadtest.Rate(n, func() {
			if err := loadtest.AppendSync(dir, js); err != nil {
				b.Fatal(err)
			}
		})
	}
	x := loadtest.Sandwich(insert, enqueue)
	f := loadtest.Sandwich(appendSync, enqueue)
	b.Logf("events/s by plain SQLite %v; by fdatasync %v; bytes written %.0f against %.0f", x, f, wOurs.each(), wPlain.each())
	report(b, map[string]float64{
		"x-raw": x.X, "x-fdatasync": f.X, "written-x": wOurs.each() / wPlain.each(), "written-B/event": wOurs.each(), "events/s": x.Ours,
	})
}

const producers = 64

// BenchmarkEnqueue64 stores for 64 producers, each of which waits for its own event. x-raw is our rate by that of plain
// SQLite with one commit for all who wait (target 0.75), x-single by our own rate with one producer (target 10), disk-x what
// we write to the disk by what plain SQLite writes (target 1.25).
func BenchmarkEnqueue64(b *testing.B) {
	const n, single = 50_000, 3000
	ours, plain := queue(b), raw(b)
	samples := loadtest.Corpus(1, n)
	js := bodies(samples)
	var wOurs, wPlain written
	group := func() float64 {
		return loadtest.Rate(n, func() {
			wOurs.during(n, func() {
				if err := loadtest.Producers(b.Context(), put(ours), producers, samples); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	x := loadtest.Sandwich(func() float64 {
		return loadtest.Rate(n, func() {
			wPlain.during(n, func() {
				if err := plain.Group(b.Context(), producers, js); err != nil {
					b.Fatal(err)
				}
			})
		})
	}, group)
	w := wOurs
	s := loadtest.Sandwich(func() float64 {
		return loadtest.Rate(single, func() {
			if err := loadtest.Producers(b.Context(), put(ours), 1, samples[:single]); err != nil {
				b.Fatal(err)
			}
		})
	}, group)
	b.Logf("events/s by plain SQLite %v; by one producer %v; bytes written %.0f against %.0f", x, s, w.each(), wPlain.each())
	report(b, map[string]float64{
		"x-raw": x.X, "x-single": s.X, "disk-B/event": w.each(), "disk-x": w.each() / wPlain.each(), "events/s": x.Ours,
	})
}
