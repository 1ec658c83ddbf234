package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/hub/hubtest"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

const (
	boxesVar    = "SPORTELLO_TEST_BOXES" // how many simulated boxes; set by the nightly run to 10000
	fewBoxes    = 300
	perBox      = 5  // batches
	perBatch    = 20 // events
	connections = 64
	atOnce      = 1024 // boxes: so many that a moment in which the hub starts again is short beside what each of them waits
	hubKills    = 4
)

// TestHubKilled kills hubs while simulated boxes deliver: one hub with SQLite, then two on one PostgreSQL, in turn. The
// boxes try again until everything is acknowledged. In the end each event is there once, and no box took, from its own
// first attempt and while there was a hub, more than three times as long as they did on average.
func TestHubKilled(t *testing.T) {
	n := fewBoxes
	if raced {
		n = 50
	}
	if s := os.Getenv(boxesVar); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("one hub", func(t *testing.T) { killHubs(t, n, "", 1) })
	t.Run("two hubs on one database", func(t *testing.T) { killHubs(t, n, pgtest.Start(t).New(t), 2) })
}

// free returns an address that nobody listens at, so that a hub can come back where it was.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func killHubs(t *testing.T, boxes int, dsn string, hubs int) {
	town, err := hubtest.NewTown(t.Context(), t.TempDir(), dsn, boxes)
	if err != nil {
		t.Fatal(err)
	}
	batches := allBatches(t, town, boxes)
	addresses := make([]string, hubs)
	run := make([]*loadtest.Child, hubs)
	start := func(i int) bool {
		run[i] = loadtest.StartChild(t, "hub", town.Dir, "simulated", addresses[i])
		_, ok := run[i].Next()
		return ok
	}
	for i := range run {
		for try := 0; ; try++ {
			if addresses[i] = free(t); start(i) {
				break
			}
			// Somebody else may have taken the address meanwhile.
			if err := run[i].Stop(); try == 5 {
				t.Fatal(err)
			}
		}
	}
	var acked atomic.Int64 // batches
	lives := make([]span, boxes)
	var outages []span // in which there was no hub at all
	finished := make(chan loadtest.Flood, 1)
	go func() {
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
		finished <- loadtest.Run(boxes, min(boxes, atOnce), func(i int) error {
			begin := time.Now()
			for j, b := range batches[i] {
				for try := 0; ; try++ {
					// Boxes come in by one name, behind which any of the hubs may answer.
					err := post(t.Context(), client, "http://"+addresses[(i+try)%hubs], uint32(i+1), b)
					if err == nil {
						break
					}
					if try > 600 {
						return fmt.Errorf("box %d, batch %d: %w", i+1, j, err)
					}
					time.Sleep(50 * time.Millisecond)
				}
				acked.Add(1)
			}
			lives[i] = span{begin, time.Now()}
			return nil
		})
	}()
	total := int64(boxes * perBox)
	for k := range hubKills {
		for acked.Load() < total*int64(k+1)/(hubKills+1) {
			select {
			case f := <-finished:
				t.Fatalf("the boxes have ended before hub %d was killed: %d gave up, one with %v", k+1, f.Errors, f.First)
			case <-time.After(time.Millisecond):
			}
		}
		killed := time.Now()
		run[k%hubs].Kill()
		time.Sleep(50 * time.Millisecond)
		if !start(k % hubs) {
			t.Fatal(run[k%hubs].Stop())
		}
		if hubs == 1 {
			outages = append(outages, span{killed, time.Now()})
		}
	}
	f := <-finished
	if f.Errors > 0 {
		t.Fatalf("%d boxes gave up, one with %v", f.Errors, f.First)
	}
	for _, h := range run {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	}
	all := boxes * perBox * perBatch
	if got, err := town.Count(t.Context()); err != nil || got != fmt.Sprintf("%d %d", all, all) {
		t.Errorf("the hub has %s events (all, different), %v, want %d of each", got, err, all)
	}
	fair(t, lives, outages)
}

// span is from one moment to another.
type span struct{ begin, end time.Time }

// both returns how long two spans last at the same time.
func (s span) both(o span) time.Duration {
	begin, end := s.begin, s.end
	if o.begin.After(begin) {
		begin = o.begin
	}
	if o.end.Before(end) {
		end = o.end
	}
	return max(0, end.Sub(begin))
}

// fair checks that nobody was kept waiting for the others. lives are from each box's own first attempt to its last answer;
// how long there was nobody to answer does not count.
func fair(t *testing.T, lives, outages []span) {
	t.Helper()
	var sum, most time.Duration
	for _, l := range lives {
		d := l.end.Sub(l.begin)
		for _, o := range outages {
			d -= l.both(o)
		}
		sum += d
		most = max(most, d)
	}
	mean := sum / time.Duration(len(lives))
	t.Logf("%d boxes took %v each on average, the slowest %v", len(lives), mean, most)
	if most > 3*mean {
		t.Errorf("the slowest box took %v, all took %v on average", most, mean)
	}
}

// allBatches makes what each box delivers, batch after batch.
func allBatches(t *testing.T, town *hubtest.Town, boxes int) [][][]byte {
	t.Helper()
	key, err := town.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(key.Public()); err != nil {
		t.Fatal(err)
	}
	out := make([][][]byte, boxes)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			box, samples := loadtest.NewSimBox(uint32(i+1)), loadtest.BoxCorpus(uint64(i), "", perBox*perBatch)
			for j := range perBox {
				m, err := box.Batch(samples[j*perBatch:(j+1)*perBatch], sealer)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := m.Append(nil)
				if err == nil {
					b, err = wire.Zip(b)
				}
				if err != nil {
					t.Error(err)
					return
				}
				out[i] = append(out[i], b)
			}
		})
	}
	wg.Wait()
	return out
}

// post delivers a batch. It returns nil only when the hub's answer is whole.
func post(ctx context.Context, client *http.Client, base string, box uint32, b []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+wire.PathEvents2, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", wire.TypeBatch)
	req.Header.Set("Content-Encoding", wire.Encoding)
	req.Header.Set(hubtest.BoxHeader, strconv.FormatUint(uint64(box), 10))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	var r wire.Reply
	if err := json.Unmarshal(answer, &r); err != nil || len(r.Acks) == 0 {
		return fmt.Errorf("answer %q: %w", answer, err)
	}
	return nil
}
