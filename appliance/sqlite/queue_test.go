package sqlite

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

func TestRead(t *testing.T) {
	s := newStore(t)
	put(t, s, event.PrintDone, 10)
	c := present(s, envelope.Legal)
	for _, tt := range []struct {
		name                string
		after               uint64
		events, bytes, want int
		first, last         uint64
		oldest              bool
	}{
		{"from the start", 0, 100, 1 << 20, 10, 1, 10, true},
		{"from the middle", 4, 3, 1 << 20, 3, 5, 7, false},
		{"one although it is too large", 4, 3, 1, 1, 5, 5, false},
		{"one at least", 4, 0, 0, 1, 5, 5, false},
		{"the last one", 9, 1, 1 << 20, 1, 10, 10, false},
		{"at the end", 10, 3, 1 << 20, 0, 11, 10, false},
		{"beyond the end", 15, 3, 1 << 20, 0, 16, 15, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := s.Read(t.Context(), c, tt.after, tt.events, tt.bytes)
			if err != nil || len(r.Entries) != tt.want || r.First != tt.first || r.Last() != tt.last || r.Oldest != tt.oldest {
				t.Errorf("%d entries %d-%d, oldest %v, %v", len(r.Entries), r.First, r.Last(), r.Oldest, err)
			}
			if tt.want == 0 {
				return
			}
			prev, known, err := s.HashAt(t.Context(), c, r.First-1)
			head, known2, err2 := s.HashAt(t.Context(), c, r.Last())
			if !known || !known2 || err != nil || err2 != nil || prev != r.Prev || head != r.Head {
				t.Errorf("hashes differ: %v %v, %v %v", known, known2, err, err2)
			}
		})
	}
	if _, known, err := s.HashAt(t.Context(), c, 11); known || err != nil {
		t.Errorf("hash of a number never given out: %v, %v", known, err)
	}
	if h, known, err := s.HashAt(t.Context(), c, 0); !known || err != nil || h != envelope.Genesis(c) {
		t.Errorf("hash before the first: %v, %v", known, err)
	}
	if _, err := s.Read(t.Context(), envelope.Chain{Epoch: "00", Stream: 1}, 0, 1, 1); err == nil {
		t.Error("read a chain that is not there")
	}
}

// report returns one stream's numbers.
func numbers(t *testing.T, s *Store, stream envelope.Stream) (queued, kept int) {
	t.Helper()
	r, err := s.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range r.Streams {
		if st.Stream == stream {
			queued, kept = st.Queued, st.Kept
		}
	}
	return queued, kept
}

func TestAcked(t *testing.T) {
	t.Parallel()
	c := newClock()
	path := filepath.Join(t.TempDir(), "box.db")
	cfg := Config{Path: path, Now: c.now, Stamp: c.stamp(envelope.Synced)}
	s := openWith(t, cfg)
	put(t, s, event.PrintDone, 1200)
	chain := present(s, envelope.Legal)
	for _, step := range []struct {
		name         string
		seq, safe    uint64
		pass         time.Duration
		queued, kept int
		first        uint64 // of a read from 0
	}{
		{"acknowledged, in no backup", 1000, 0, 0, 200, 1000, 1},
		{"the hub was restored", 300, 300, 0, 900, 0, 301},
		{"to before what is there", 100, 100, 0, 900, 0, 301},
		{"more than was given out", 5000, 700, 0, 0, 500, 701},
		{"a safe beyond the ack", 800, 1200, 0, 400, 0, 801},
		{"all but one", 1199, 0, 0, 1, 398 + 1 - 0, 801},
		{"kept for long enough, but for what came after", 1199, 0, 31 * 24 * time.Hour, 1, 0, 1200},
		{"the rest", 1200, 0, 0, 0, 1, 1200},
		{"which is young", 1200, 0, 29 * 24 * time.Hour, 0, 1, 1200},
		{"and then old", 1200, 0, 2 * 24 * time.Hour, 0, 0, 1201},
	} {
		c.pass(step.pass)
		if err := s.Acked(t.Context(), chain, step.seq, step.safe); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"", " after a restart"} {
			queued, kept := numbers(t, s, envelope.Legal)
			run, err := s.Read(t.Context(), chain, 0, 1, 1)
			if err != nil || queued != step.queued || kept != step.kept || run.First != step.first || !run.Oldest {
				t.Errorf("%s%s: %d queued, %d kept, first %d, oldest %v, %v; want %d, %d, %d", step.name, when, queued, kept, run.First, run.Oldest, err,
					step.queued, step.kept, step.first)
			}
			shut(t, s)
			s = openWith(t, cfg)
		}
	}
	put(t, s, event.PrintDone, 1)
	if es := everything(t, s); len(es) != 1 || es[0].Seq != 1201 {
		t.Errorf("got %+v, want number 1201", es)
	}
	if h, known, err := s.HashAt(t.Context(), chain, 1200); !known || err != nil || h == (envelope.Hash{}) {
		t.Errorf("hash of the last number forgotten: %v, %v", known, err)
	}
}

func TestRewind(t *testing.T) {
	s := newStore(t)
	put(t, s, event.PrintDone, 10)
	c := present(s, envelope.Legal)
	if err := s.Acked(t.Context(), c, 8, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewind(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	chains, err := s.Chains(t.Context())
	if err != nil || len(chains) != 1 || chains[0].Cursor != 3 || chains[0].Last != 10 || !chains[0].Current {
		t.Errorf("got %+v, %v; want the cursor at 3", chains, err)
	}
}

func TestOrderOfChains(t *testing.T) {
	s := newStore(t)
	kinds := []event.Kind{event.BoxStarted, event.StepAnswered, event.SessionStarted, event.PrintDone}
	for range 2 {
		for _, k := range kinds {
			put(t, s, k, 1)
		}
		if err := s.Renew(t.Context(), present(s, envelope.Legal), "forked"); err != nil {
			t.Fatal(err)
		}
	}
	chains, err := s.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []envelope.Stream
	for i, c := range chains {
		got = append(got, c.Stream)
		if want := i == 2; c.Current != want {
			t.Errorf("%d: %+v", i, c)
		}
	}
	want := []envelope.Stream{1, 1, 1, 2, 2, 3, 3, 4, 4} // of the present epoch only what says that it has begun
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// TestRenewBeforeTheTimeIsKnown has a box learn the time after it has begun to number its events anew, twice.
func TestRenewBeforeTheTimeIsKnown(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "box.db"))
	var old []envelope.Epoch
	for range 2 {
		put(t, s, event.PrintDone, 1)
		old = append(old, s.Epoch())
		if err := s.Renew(t.Context(), present(s, envelope.Legal), "forked"); err != nil {
			t.Fatal(err)
		}
	}
	set := event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &event.Clock{Boot: 1, Mono: 5000}}}
	for range 2 { // the second time only the present epoch has to hear of it
		if err := s.Enqueue(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	var got []envelope.Epoch
	for _, e := range all(t, s, present(s, envelope.Legal), 100)[1:] {
		if e.Kind != string(event.ClockSet) || e.body.Detail.Clock.Mono != 5000 {
			t.Errorf("got %+v", e)
		}
		got = append(got, e.body.Detail.Epoch)
	}
	if want := []envelope.Epoch{"", old[0], old[1], ""}; !slices.Equal(got, want) {
		t.Errorf("the time is said about %q, want %q", got, want)
	}
	now := s.Epoch()
	if err := s.Renew(t.Context(), present(s, envelope.Legal), "forked"); err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for _, e := range all(t, s, present(s, envelope.Legal), 100) {
		if e.Kind == string(event.ClockSet) && e.body.Detail.Epoch == now {
			t.Error("said once more about an epoch that was told while it lasted")
		}
	}
}

func TestRenew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	set := event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &event.Clock{Boot: 1, Mono: 5000}}}
	if err := s.Enqueue(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	put(t, s, event.PrintDone, 2)
	put(t, s, event.StepAnswered, 2)
	old := present(s, envelope.Legal)
	if err := s.Renew(t.Context(), old, "rolled_back"); err != nil {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	if epoch == old.Epoch {
		t.Fatal("no new epoch")
	}
	if err := s.Renew(t.Context(), old, "rolled_back"); err != nil || s.Epoch() != epoch {
		t.Errorf("renewed for an epoch that is over (%v)", err)
	}
	put(t, s, event.PrintFailed, 1)
	es := all(t, s, present(s, envelope.Legal), 100)
	if len(es) != 3 || es[0].Kind != string(event.EpochBegun) || es[0].body.Detail.Reason != "rolled_back" || es[0].body.Detail.Epoch != old.Epoch ||
		es[1].Kind != string(event.ClockSet) || es[1].body.Detail.Clock.Mono != 5000 || es[2].Seq != 3 {
		t.Errorf("got %+v", es)
	}
	if es := all(t, s, old, 100); len(es) != 3 {
		t.Errorf("%d events left of the old epoch, want 3", len(es))
	}
	shut(t, s)
	s = openAt(t, path)
	if s.Epoch() != epoch {
		t.Errorf("epoch %s after a restart, want %s", s.Epoch(), epoch)
	}
	for _, c := range []envelope.Chain{old, {Epoch: old.Epoch, Stream: envelope.Stats}} {
		if err := s.Acked(t.Context(), c, 9, 9); err != nil {
			t.Fatal(err)
		}
	}
	var epochs int
	if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM epoch`).Scan(&epochs); err != nil || epochs != 1 {
		t.Errorf("%d epochs, %v: of the old one nothing is left", epochs, err)
	}
	if err := s.Acked(t.Context(), old, 9, 9); err != nil { // a late answer
		t.Error(err)
	}
	if _, known, err := s.HashAt(t.Context(), old, 3); known || err != nil {
		t.Errorf("%v, %v", known, err)
	}
	if es := everything(t, s); len(es) != 3 {
		t.Errorf("got %d, want the 3 of the present epoch", len(es))
	}
}

func TestBury(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 5)
	c := present(s, envelope.Legal)
	before, _, err := s.HashAt(t.Context(), c, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the hub may say it twice
		if err := s.Bury(t.Context(), c, 3, "too_long"); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, s)
	s = openAt(t, path)
	es := all(t, s, c, 2)
	if len(es) != 6 || es[2].missing == nil || es[2].missing.Reason != envelope.Refused || es[2].missing.Hash != before {
		t.Fatalf("got %+v", es)
	}
	if e := es[5]; e.Kind != string(event.EventDead) || e.body.Detail.From != 3 || e.body.Detail.Reason != "too_long" || e.body.Detail.Stream != "legal" {
		t.Errorf("got %+v", e)
	}
	dead, err := s.Dead(t.Context())
	if err != nil || len(dead) != 1 || dead[0].Seq != 3 || dead[0].Kind != string(event.PrintDone) || dead[0].Reason != "too_long" || dead[0].Chain != c {
		t.Errorf("got %+v, %v", dead, err)
	}
	if err := s.Acked(t.Context(), c, 6, 6); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Report(t.Context()); err != nil || r.Dead != 1 || r.Queued() != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestQueued(t *testing.T) {
	c := newClock()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now})
	if n, oldest, err := s.Queued(t.Context()); n != 0 || !oldest.IsZero() || err != nil {
		t.Errorf("got %d, %v, %v", n, oldest, err)
	}
	first := c.now()
	put(t, s, event.StepAnswered, 3)
	c.pass(time.Hour)
	put(t, s, event.PrintDone, 2)
	if n, oldest, err := s.Queued(t.Context()); n != 5 || !oldest.Equal(first) || err != nil {
		t.Errorf("got %d, %v, %v", n, oldest, err)
	}
	if err := s.Acked(t.Context(), present(s, envelope.Stats), 3, 0); err != nil {
		t.Fatal(err)
	}
	if n, oldest, err := s.Queued(t.Context()); n != 2 || !oldest.Equal(c.now()) || err != nil {
		t.Errorf("got %d, %v, %v", n, oldest, err)
	}
	r, err := s.Report(t.Context())
	if err != nil || r.Epoch != s.Epoch() || r.Streams[3].Kept != 3 || r.Streams[3].LastAck == nil || !r.Streams[3].LastAck.Equal(c.now()) || r.Disk.Free == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}
