package ingest_test

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/wire"
)

// boxModel is a box in the model: a queue, and how far the hub has acknowledged each chain.
type boxModel struct {
	*ingesttest.Box
	cursor  map[envelope.Chain]uint64
	renewed map[envelope.Epoch]bool // epochs that were given up
}

// system is a hub with its backups, and boxes that are cloned and rolled back.
type system struct {
	t       testing.TB
	dir     string
	path    string
	store   *sqlite.Store
	in      *ingest.Ingest
	backups []string
	boxes   []*boxModel
	visits  int // how many there were, ever
	gone    int // stretches that were let go, ever
	epochs  int
}

var modelNow = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func (s *system) open(rt *rapid.T) {
	var err error
	if s.store, err = sqlite.Open(s.t.Context(), s.path); err != nil {
		rt.Fatal(err)
	}
	s.in.Store = s.store
}

func (s *system) newEpoch() envelope.Epoch {
	s.epochs++
	return envelope.Epoch(fmt.Sprintf("%032x", s.epochs))
}

func (s *system) box(rt *rapid.T) *boxModel {
	return s.boxes[rapid.IntRange(0, len(s.boxes)-1).Draw(rt, "box")]
}

// visit queues an event that nobody else has.
func (s *system) visit(rt *rapid.T) {
	b := s.box(rt)
	kind := rapid.SampledFrom([]event.Kind{event.SessionStarted, event.SessionStarted, event.PrintDone}).Draw(rt, "kind")
	for range rapid.IntRange(1, 5).Draw(rt, "events") {
		s.visits++
		b.Put(s.t, event.Event{Kind: kind, Session: fmt.Sprint("visit ", s.visits), Detail: event.Detail{Mode: "self", Pages: 1}})
	}
}

// letGo queues a stretch of numbers under which a box has nothing any more. A clone may have events there.
func (s *system) letGo(rt *rapid.T) {
	b := s.box(rt)
	c := b.Chain(rapid.SampledFrom([]envelope.Stream{envelope.Legal, envelope.Session}).Draw(rt, "stream"))
	s.gone++
	m := envelope.Missing{Count: rapid.Uint64Range(1, 7).Draw(rt, "numbers"), Reason: envelope.Dropped}
	m.Hash = b.Run(c, b.Last(c)+1, b.Last(c)).Head.Next(fmt.Append(nil, "stretch ", s.gone))
	b.PutEntry(c, envelope.Entry{Missing: &m})
}

// deliver delivers a piece of one chain, as the box's relay does, or another piece.
func (s *system) deliver(rt *rapid.T) {
	b := s.box(rt)
	cs := b.Chains()
	if len(cs) == 0 {
		return
	}
	c := rapid.SampledFrom(cs).Draw(rt, "chain")
	from := b.cursor[c] + 1
	if rapid.IntRange(0, 5).Draw(rt, "reorder") == 0 { // an old batch comes again, or a later one first
		from = rapid.Uint64Range(b.First(c), b.Last(c)+1).Draw(rt, "from")
	}
	s.send(rt, b, c, from, rapid.Uint64Range(1, 12).Draw(rt, "size"), rapid.IntRange(0, 4).Draw(rt, "answer lost") == 0)
}

func (s *system) send(rt *rapid.T, b *boxModel, c envelope.Chain, from, size uint64, lost bool) {
	from = max(from, b.First(c))
	run := b.Run(c, from, from+size-1)
	text, err := envelope.Batch{Box: b.Number, Runs: []envelope.Run{run}}.Append(nil)
	if err != nil {
		rt.Fatal(err)
	}
	m, err := envelope.ParseBatch(text)
	if err != nil {
		rt.Fatal(err)
	}
	r, err := s.in.Deliver(s.t.Context(), b.Number, m)
	if err != nil {
		rt.Fatal(err)
	}
	if lost {
		return
	}
	s.take(rt, b, c, r)
}

// take does what a box does with an answer: see package outbox.
func (s *system) take(rt *rapid.T, b *boxModel, c envelope.Chain, r wire.Reply) {
	best, renew, safe := -1, false, uint64(0)
	for i, a := range r.Acks {
		known := a.Seq <= b.Last(c) && a.Seq+1 >= b.First(c)
		fits := a.Seq == 0 || known && b.Run(c, a.Seq+1, a.Seq).Prev == a.Head
		renew = renew || a.Fork || !fits && a.Seq+1 >= b.First(c)
		if fits && (best < 0 || a.Seq > r.Acks[best].Seq) {
			best, safe = i, a.Safe
		}
		if a.Safe > a.Seq {
			rt.Fatalf("ack %d, safe %d", a.Seq, a.Safe)
		}
	}
	if renew && c.Epoch == b.Epoch && !b.renewed[c.Epoch] {
		b.renewed[c.Epoch] = true
		b.Epoch = s.newEpoch()
	}
	if best < 0 {
		b.cursor[c] = 0
		return
	}
	b.cursor[c] = r.Acks[best].Seq
	if rapid.Bool().Draw(rt, "forget") {
		b.Forget(c, min(safe, b.cursor[c]))
	}
}

// clone copies a disk into a second box that says it is the same.
func (s *system) clone(rt *rapid.T) {
	if len(s.boxes) >= 5 {
		return
	}
	b := s.box(rt)
	c := &boxModel{Box: b.Clone(), cursor: map[envelope.Chain]uint64{}, renewed: map[envelope.Epoch]bool{}}
	maps.Copy(c.cursor, b.cursor)
	s.boxes = append(s.boxes, c)
}

func (s *system) backup(rt *rapid.T) {
	file := filepath.Join(s.dir, fmt.Sprint("backup", len(s.backups)))
	if err := s.store.Backup(s.t.Context(), file); err != nil {
		rt.Fatal(err)
	}
	s.backups = append(s.backups, file)
}

// restore puts back the last backup: what was safe was safe because of it.
func (s *system) restore(rt *rapid.T) {
	if len(s.backups) == 0 {
		return
	}
	if err := s.store.Close(); err != nil {
		rt.Fatal(err)
	}
	if _, err := sqlite.Restore(s.t.Context(), s.path, s.backups[len(s.backups)-1], modelNow); err != nil {
		rt.Fatal(err)
	}
	s.open(rt)
}

// drain lets every box deliver until nothing is left, in small batches, and checks that it comes to an end.
func (s *system) drain(rt *rapid.T) {
	for _, b := range s.boxes {
		for _, c := range b.Chains() {
			s.send(rt, b, c, b.cursor[c]+1, 0, false) // a question: the hub may have been put back
			for round := 0; b.cursor[c] < b.Last(c); round++ {
				if round > 400 {
					rt.Fatalf("box %d does not get %s delivered: at %d of %d", b.Number, c, b.cursor[c], b.Last(c))
				}
				s.send(rt, b, c, b.cursor[c]+1, 2, false)
			}
		}
	}
}

// TestModel lets boxes deliver what they like in whatever order, lose answers, be cloned, and the hub be put back, and
// checks that in the end every event counts once.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue { // each has a real database
		if err := f.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
	}
	dir, runs := t.TempDir(), 0
	_, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		s := &system{t: t, dir: filepath.Join(dir, fmt.Sprint(runs))}
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(s.dir) }()
		s.path = filepath.Join(s.dir, "hub.db")
		s.in = &ingest.Ingest{Key: sign, Now: func() time.Time { return modelNow }, Log: slog.New(slog.DiscardHandler)}
		s.open(rt)
		defer func() { _ = s.store.Close() }()
		for i := range 2 {
			s.boxes = append(s.boxes, &boxModel{
				Box: ingesttest.New(uint32(i+1), s.newEpoch(), modelNow), cursor: map[envelope.Chain]uint64{}, renewed: map[envelope.Epoch]bool{},
			})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"visit": s.visit, "visit again": s.visit, "deliver": s.deliver, "deliver more": s.deliver, "deliver most": s.deliver,
			"let go": s.letGo, "clone": s.clone, "backup": s.backup, "restore": s.restore,
		})
		s.drain(rt)
		cs, err := s.store.Counts(t.Context(), time.Time{})
		if err != nil {
			rt.Fatal(err)
		}
		got := 0
		for _, c := range cs {
			got += c.Sessions + c.Papers
		}
		if got != s.visits {
			rt.Fatalf("%d events are counted, there were %d", got, s.visits)
		}
	})
}
