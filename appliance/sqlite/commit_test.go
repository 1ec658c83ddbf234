package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestGroup has many callers store at once, some of them something that cannot be stored: those are told so, and nobody
// else fails for them.
func TestGroup(t *testing.T) {
	s := newStore(t)
	const callers, each = 32, 30
	errBad := errors.New("bad")
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				e := event.Event{Kind: event.SessionStarted, Session: strconv.Itoa(c), Detail: event.Detail{Count: i + 1}}
				var err, want error
				switch {
				case c%8 == 1: // is found out after something was written
					row := visit1(e.Session)
					row.Kiosk = 1
					want = errBad
					err = s.write(t.Context(), func(w *work) error {
						if err := w.exec(`UPDATE counter SET value = value + 1 WHERE name = 'gaps'`); err != nil {
							return err
						}
						return errBad
					})
				case c%8 == 2: // before
					want = envelope.ErrMalformed
					err = s.Enqueue(t.Context(), event.Event{Kind: event.Kind(strings.Repeat("x", 100))})
				case c%8 == 3: // on a statement of SQLite's
					err = s.write(t.Context(), func(w *work) error { return w.exec(`INSERT INTO counter (name, value) VALUES ('gaps', 1)`) })
					if err == nil || strings.Contains(err.Error(), "bad") {
						t.Errorf("caller %d: %v", c, err)
					}
					continue
				case c%8 == 4: // has gone
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					want = context.Canceled
					err = s.Enqueue(ctx, e)
				case c%2 == 0:
					err = s.Record(t.Context(), visit1(e.Session), e)
				default:
					err = s.Enqueue(t.Context(), e)
				}
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Errorf("caller %d: got %v, want %v", c, err, want)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	es := everything(t, s)
	for i, e := range es {
		if e.Seq != uint64(i+1) || e.body.Detail.Count != next[e.body.Session]+1 {
			t.Errorf("%d is number %d: event %d of caller %s", i, e.Seq, e.body.Detail.Count, e.body.Session)
		}
		next[e.body.Session] = e.body.Detail.Count
	}
	if want := callers / 8 * 4 * each; len(es) != want {
		t.Errorf("%d events, want %d", len(es), want)
	}
	if r, err := s.Report(t.Context()); err != nil || r.Gaps != 0 {
		t.Errorf("%d gaps, %v: what failed was written", r.Gaps, err)
	}
}

func TestCloseWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	var wg sync.WaitGroup
	stored := make([]int, 8)
	for c := range stored {
		wg.Go(func() {
			for {
				err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				stored[c]++
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	shut(t, s)
	wg.Wait()
	total := 0
	for _, n := range stored {
		total += n
	}
	s = openAt(t, path)
	if got := len(everything(t, s)); got != total || total == 0 {
		t.Errorf("%d events, want the %d that were confirmed", got, total)
	}
}

// killed is what the process does that TestKill kills: it stores as fast as it can and says what is stored.
func killed(t *testing.T, path string) {
	s := openAt(t, path)
	from, err := strconv.Atoi(os.Getenv("SPORTELLO_KILL_FROM"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	for c := range 4 {
		go func() {
			for i := from + c; ; i += 4 {
				kind := []event.Kind{event.PrintDone, event.StepAnswered}[i%2]
				if err := s.Record(t.Context(), visit1("a"), event.Event{Kind: kind, Detail: event.Detail{Count: i}}); err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Println("stored", i)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a process that stores events, again and again. Whatever it had confirmed is there, no number is ever
// given out twice, and no alarm is raised.
func TestKill(t *testing.T) {
	if path := os.Getenv("SPORTELLO_KILL_DB"); path != "" {
		killed(t, path)
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	epoch := s.Epoch()
	shut(t, s)
	type place struct {
		stream envelope.Stream
		seq    uint64
	}
	given := map[place]int{} // which event got the number
	have := map[int]bool{}
	from, confirmed := 0, 0
	luck := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))) //nolint:gosec // no secret
	for round := range 40 {
		said := runAndKill(t, path, from, time.Duration(20+luck.IntN(100))*time.Millisecond)
		s := openAt(t, path)
		if s.Epoch() != epoch {
			t.Fatalf("round %d: a new epoch: %+v", round, everything(t, s))
		}
		for _, e := range everything(t, s) {
			if e.Kind == string(event.SessionEnded) {
				continue
			}
			at := place{e.Chain.Stream, e.Seq}
			if i, ok := given[at]; ok && i != e.body.Detail.Count {
				t.Fatalf("round %d: %v was event %d and is %d", round, at, i, e.body.Detail.Count)
			}
			given[at] = e.body.Detail.Count
			have[e.body.Detail.Count] = true
			from = max(from, e.body.Detail.Count+1)
		}
		for _, i := range said {
			if !have[i] {
				t.Fatalf("round %d: event %d was confirmed and is not there", round, i)
			}
		}
		confirmed += len(said)
		chains, err := s.Chains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chains { // now and then all of it, so that the table is empty
			if err := s.Acked(t.Context(), c.Chain, c.Last-uint64(round%3), c.Last); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, s)
	}
	if confirmed < 100 {
		t.Errorf("%d events were confirmed before the kills: the test has tested nothing", confirmed)
	}
	t.Logf("%d events confirmed", confirmed)
}

// runAndKill runs the other process for a while after its first event, and returns what it said it has stored.
func runAndKill(t *testing.T, path string, from int, after time.Duration) (said []int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), "SPORTELLO_KILL_DB="+path, "SPORTELLO_KILL_FROM="+strconv.Itoa(from))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var i int
		if _, err := fmt.Sscanf(lines.Text(), "stored %d", &i); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if said = append(said, i); len(said) == 1 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	return said
}

// TestReaderDoesNotHoldTheLog has somebody read for ten seconds, as far as they get, while events are stored.
func TestReaderDoesNotHoldTheLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 1)
	reading, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var wg sync.WaitGroup
	begun := make(chan struct{})
	var once sync.Once
	wg.Go(func() {
		for reading.Err() == nil {
			_, _ = s.viewOnce(reading, func(ctx context.Context, tx *sql.Tx) error {
				var n int
				err := tx.QueryRowContext(ctx, `SELECT count(*) FROM queue_legal`).Scan(&n)
				once.Do(func() { close(begun) })
				if err == nil {
					<-ctx.Done() // holds its view for as long as it may
				}
				return err
			})
		}
	})
	<-begun
	const each = 1000
	var largest int64
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for range each {
				e := event.Event{Kind: event.StepAnswered, Detail: event.Detail{Certificates: []string{strings.Repeat("x", 1000)}}}
				if err := s.Enqueue(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writers.Wait()
		close(done)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
		if info, err := os.Stat(path + "-wal"); err == nil {
			largest = max(largest, info.Size())
		}
	}
	stop()
	wg.Wait()
	if largest > 16<<20 {
		t.Errorf("the log grew to %d MB", largest>>20)
	}
	if n, _, err := s.Queued(t.Context()); err != nil || n != 16*each+1 {
		t.Errorf("%d events, %v", n, err)
	}
	t.Logf("log of %d KiB at most", largest>>10)
}

var _ kiosk.Journal = (*Store)(nil)
