package sqlite_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/sqldb"
)

const bareTable = `CREATE TABLE ev (box TEXT NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (box, seq)) WITHOUT ROWID`

// deliveries makes what boxes deliver: for each n events in their usual mixture.
func deliveries(b *testing.B, boxes, n int) (batches []envelope.Batch, plain [][]event.V1) {
	b.Helper()
	now := time.Now()
	for i := range boxes {
		box := ingesttest.New(uint32(i+1), envelope.NewEpoch(), now)
		var evs []event.V1
		for k := range n {
			e := event.Event{Kind: event.StepAnswered, Session: "6f1c0c52-5d0e-4c8e-9d0b-3d6a2f1e7a90", Kiosk: 1, Detail: event.Detail{Step: "recipient", Recipient: "private", Language: "it", Service: "certificate", Certificates: []string{"residenza"}}}
			switch k % 10 {
			case 0:
				e.Kind, e.Detail = event.SessionStarted, event.Detail{Mode: "self", Language: "it"}
			case 9:
				e.Kind, e.Detail = event.PrintDone, event.Detail{Pages: 2, Milliseconds: 4000, Service: "certificate"}
			}
			box.Put(b, e)
			evs = append(evs, event.V1{Seq: uint64(k + 1), At: now, ClockOK: true, Kind: e.Kind, Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail})
		}
		batches, plain = append(batches, box.Batch()), append(plain, evs)
	}
	return batches, plain
}

// cpu is how long this process has been computing.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIngest compares what an event costs in the hub with a bare loop that decodes JSON and inserts it into one
// table, both with group commits of 5,000 events, in rounds that take turns. x-bare is the median of their ratios.
func BenchmarkIngest(b *testing.B) {
	const boxes, each, rounds = 1000, 20, 5
	batches, plain := deliveries(b, boxes, each)
	texts := make([][]byte, len(plain))
	for i, evs := range plain {
		texts[i], _ = json.Marshal(evs)
	}
	encoded := make([][]byte, len(batches))
	for i, m := range batches {
		var err error
		if encoded[i], err = m.Append(nil); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	bare := func(round int) time.Duration {
		db, err := sqldb.Open(b.Context(), filepath.Join(dir, fmt.Sprint("bare", round)), fstest.MapFS{"1.sql": &fstest.MapFile{Data: []byte(bareTable)}}, sqldb.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		insert, err := db.PrepareContext(b.Context(), `INSERT INTO ev VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (box, seq) DO NOTHING`)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		for from := 0; from < len(texts); from += 5000 / each {
			tx, err := db.BeginTx(b.Context(), nil)
			if err != nil {
				b.Fatal(err)
			}
			st := tx.StmtContext(b.Context(), insert)
			for i := from; i < min(len(texts), from+5000/each); i++ {
				var evs []event.V1
				if err := json.Unmarshal(texts[i], &evs); err != nil {
					b.Fatal(err)
				}
				for _, e := range evs {
					body, _ := json.Marshal(e.Detail)
					if _, err := st.ExecContext(context.Background(), fmt.Sprint(i), e.Seq, []byte("0123456789abcdef"), string(e.Kind), e.At.UnixMilli(), body); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	ours := func(round int) time.Duration {
		s, err := sqlite.Open(b.Context(), filepath.Join(dir, fmt.Sprint("ours", round)))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		in := &ingest.Ingest{Store: s, Key: key, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		next := make(chan int)
		var wg sync.WaitGroup
		start := time.Now()
		for range 256 {
			wg.Go(func() {
				for i := range next {
					m, err := envelope.ParseBatch(encoded[i])
					if err == nil {
						_, err = in.Deliver(b.Context(), m.Box, m)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		for i := range encoded {
			next <- i
		}
		close(next)
		wg.Wait()
		return time.Since(start)
	}
	var ratios []float64
	for n := 0; b.Loop(); n++ {
		ratios = ratios[:0]
		var took, bareCPU, oursCPU time.Duration
		for r := range rounds {
			c0 := cpu()
			x := bare(n*rounds + r)
			c1 := cpu()
			y := ours(n*rounds + r)
			bareCPU, oursCPU = bareCPU+c1-c0, oursCPU+cpu()-c1
			took += y
			ratios = append(ratios, x.Seconds()/y.Seconds())
		}
		slices.SortFunc(ratios, cmp.Compare[float64])
		b.ReportMetric(ratios[rounds/2], "x-bare")
		b.ReportMetric(oursCPU.Seconds()*1e6/(rounds*boxes*each), "cpu-us/event")
		b.ReportMetric(bareCPU.Seconds()*1e6/(rounds*boxes*each), "bare-cpu-us/event")
		b.ReportMetric(float64(rounds*boxes*each)/took.Seconds(), "events/s")
	}
}
