package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

var _ printing.Journal = (*Store)(nil)

// clock is a clock that only moves when it is told to.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// stamp is what the box's clock says when it can be believed so far.
func (c *clock) stamp(q envelope.Quality) func(uint32) envelope.Stamp {
	return func(boot uint32) envelope.Stamp { return envelope.Stamp{Wall: c.now(), Boot: boot, Quality: q} }
}

// openWith opens a store that is closed with the test, and must not have been set aside.
func openWith(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, aside, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if aside != "" {
		t.Fatalf("%s was set aside", cfg.Path)
	}
	return s
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	return openWith(t, Config{Path: path})
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "box.db"))
}

// shut closes a store whose files are looked at next.
func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// put enqueues n events of a kind, numbered by Detail.Count from 1.
func put(t testing.TB, s *Store, kind event.Kind, n int) {
	t.Helper()
	for i := range n {
		if err := s.Enqueue(t.Context(), event.Event{Kind: kind, Detail: event.Detail{Count: i + 1}}); err != nil {
			t.Fatal(err)
		}
	}
}

// entry is an event as the hub would see it.
type entry struct {
	envelope.Envelope
	body    event.Body
	missing *envelope.Missing
}

// all reads a chain to its end in pieces of n entries, as it travels: encoded and parsed, with all hashes checked.
func all(t testing.TB, s *Store, c envelope.Chain, n int) (out []entry) {
	t.Helper()
	after, head, began := uint64(0), envelope.Hash{}, false
	for {
		run, err := s.Read(t.Context(), c, after, n, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(run.Entries) == 0 {
			return out
		}
		if began && (run.First != after+1 || run.Prev != head) {
			t.Fatalf("%s: after %d comes %d, and the hashes fit: %v", c, after, run.First, run.Prev == head)
		}
		b, err := envelope.Batch{Box: 1, Runs: []envelope.Run{run}}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := envelope.ParseBatch(b)
		if err != nil {
			t.Fatalf("%s after %d: %v", c, after, err)
		}
		seq := m.Runs[0].First
		for _, e := range m.Runs[0].Entries {
			out = append(out, open1(t, c, seq, e))
			seq += e.Count()
		}
		after, head, began = run.Last(), run.Head, true
	}
}

func open1(t testing.TB, c envelope.Chain, seq uint64, e envelope.Entry) entry {
	t.Helper()
	if e.Missing != nil {
		return entry{Envelope: envelope.Envelope{Chain: c, Seq: seq}, missing: e.Missing}
	}
	v, err := envelope.Parse(e.Encoded)
	if err != nil || v.Chain != c || v.Seq != seq {
		t.Fatalf("%s, %d: got %+v, %v", c, seq, v, err)
	}
	out := entry{Envelope: v}
	if v.Schema == event.SchemaBody {
		if err := json.Unmarshal(v.Body, &out.body); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// everything reads all chains.
func everything(t testing.TB, s *Store) (out []entry) {
	t.Helper()
	chains, err := s.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		out = append(out, all(t, s, c.Chain, 1000)...)
	}
	return out
}

// ofKind returns the events of a kind.
func ofKind(es []entry, k event.Kind) (out []entry) {
	for _, e := range es {
		if e.Kind == string(k) {
			out = append(out, e)
		}
	}
	return out
}

func present(s *Store, stream envelope.Stream) envelope.Chain {
	return envelope.Chain{Epoch: s.Epoch(), Stream: stream}
}

func visit1(id string) kiosk.SessionRow {
	return kiosk.SessionRow{ID: id, Kiosk: 1, Mode: kiosk.SelfService, Language: "it", Stage: kiosk.StageAsking, Started: time.Now()}
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	if es := everything(t, s); len(es) != 0 {
		t.Fatalf("a new box begins with %+v", es)
	}
	epoch := s.Epoch()
	if len(epoch) != 32 || s.Boot() != 1 {
		t.Errorf("epoch %q, boot %d", epoch, s.Boot())
	}
	put(t, s, event.PrintDone, 3)
	if err := s.Record(t.Context(), visit1("a"), event.Event{Kind: event.SessionStarted, Session: "a", Kiosk: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Acked(t.Context(), present(s, envelope.Legal), 3, 3); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}); !errors.Is(err, ErrClosed) {
		t.Errorf("enqueued in a closed store: %v", err)
	}

	s = openAt(t, path)
	if s.Epoch() != epoch || s.Boot() != 2 {
		t.Errorf("epoch %q, boot %d after a restart", s.Epoch(), s.Boot())
	}
	put(t, s, event.PrintFailed, 1)
	es := everything(t, s)
	if len(es) != 3 || es[0].Seq != 4 || es[0].Kind != string(event.PrintFailed) { // numbers go on although no row is left
		t.Fatalf("got %+v", es)
	}
	// The visit was open when the program ended: the restart closed it.
	if e := es[2]; e.Kind != string(event.SessionEnded) || e.body.Detail.Outcome != "crashed" || e.body.Session != "a" || e.At.Boot != 2 {
		t.Errorf("got %+v", e)
	}
	if _, _, err := Open(t.Context(), Config{Path: path}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
}

func TestSessionAndEventAreOneTransaction(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Record(ctx, visit1("a"), event.Event{Kind: event.SessionStarted}); !errors.Is(err, context.Canceled) {
		t.Fatalf("recorded although the context had ended: %v", err)
	}
	for _, bad := range []event.Event{
		{Kind: event.Kind(strings.Repeat("x", envelope.MaxKind+1))},
		{Kind: event.RequestLeft, Private: []byte("{}")}, // there is no key
	} {
		if err := s.Record(t.Context(), visit1("a"), bad); err == nil {
			t.Errorf("recorded %s", bad.Kind)
		}
	}
	var n int
	if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM session`).Scan(&n); err != nil || n != 0 || len(everything(t, s)) != 0 {
		t.Errorf("%d sessions, %v; want neither session nor event", n, err)
	}
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}, event.Event{Kind: ""}); err == nil || len(everything(t, s)) != 0 {
		t.Errorf("got %v: all or none", err)
	}
}

func TestPrivate(t *testing.T) {
	old, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	next, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sealer := seal.NewSealer(time.Now)
	path := filepath.Join(t.TempDir(), "box.db")
	s := openWith(t, Config{Path: path, Box: func() uint32 { return 7 }, Seal: sealer.Seal})
	left := event.Event{Kind: event.RequestLeft, Private: []byte(`{"code":"XWVRQP"}`)}
	if err := s.Enqueue(t.Context(), left); !errors.Is(err, kiosk.ErrOffline) || !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without a key: %v, want an error that is ErrOffline", err)
	}
	for _, key := range []seal.PrivateKey{old, next} {
		if err := sealer.Use(key.Public()); err != nil {
			t.Fatal(err)
		}
		if err := s.Enqueue(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	es := everything(t, s)
	if len(es) != 2 {
		t.Fatalf("got %+v", es)
	}
	for _, e := range es {
		plain, err := seal.Ring{next, old}.Open(e.AAD(), e.Sealed)
		if err != nil || string(plain) != string(left.Private) || e.Box != 7 {
			t.Errorf("box %d, %q, %v", e.Box, plain, err)
		}
	}
	keys := func() string {
		t.Helper()
		r, err := s.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(r.SealKeys, " ")
	}
	if got := keys(); !strings.Contains(got, old.ID().String()) || !strings.Contains(got, next.ID().String()) {
		t.Errorf("keys %s", got)
	}
	if err := s.Acked(t.Context(), present(s, envelope.Legal), 1, 1); err != nil {
		t.Fatal(err)
	}
	if got := keys(); got != next.ID().String() {
		t.Errorf("keys %s after the first was drained", got)
	}
	shut(t, s)
	for _, suffix := range []string{"", ".witness"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil || strings.Contains(string(b), "XWVRQP") {
			t.Errorf("box.db%s holds the code in clear (%v)", suffix, err)
		}
	}
}

func TestPrintThatACrashInterruptedIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	row := printing.Row{ID: "job-1", Session: "a", Kiosk: 2, Kind: "certificate", Pages: 1, State: printing.Sending, Updated: time.Now()}
	if err := s.SavePrint(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = openAt(t, path)
	open, err := s.OpenPrints(t.Context())
	if err != nil || len(open) != 1 || open[0].ID != "job-1" {
		t.Fatalf("open prints %+v, %v", open, err)
	}
	row.State = printing.Uncertain
	for range 2 { // closing twice reports once
		if err := s.SavePrint(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	if es := everything(t, s); len(es) != 1 || es[0].Kind != string(event.PrintUncertain) || es[0].body.Kiosk != 2 {
		t.Errorf("got %+v; want one uncertain print", es)
	}
}

func TestPruneForgetsEndedVisits(t *testing.T) {
	c := newClock()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now})
	for id, ended := range map[string]bool{"a": true, "b": false} {
		row := visit1(id)
		row.Ended = ended
		if err := s.Record(t.Context(), row, event.Event{Kind: event.SessionStarted}); err != nil {
			t.Fatal(err)
		}
	}
	c.pass(25 * time.Hour)
	if err := s.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	var id string
	if err := s.read.QueryRowContext(t.Context(), `SELECT group_concat(id) FROM session`).Scan(&id); err != nil || id != "b" {
		t.Errorf("left %q, %v, want b", id, err)
	}
}
