package sqlite_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/sqldb"
	"sportello.example/sync/wire"
)

const oldEpoch = "00112233aabbccdd" // as the first release made them

// upgraded is a box of the first release that has got a newer program: what it had queued from number first on is a chain
// of stream All now.
func (h *hub) upgraded(t testing.TB, box uint32, first uint64, evs ...event.V1) *ingesttest.Box {
	t.Helper()
	b := ingesttest.New(box, oldEpoch, h.now)
	b.Begin(b.Chain(envelope.All), first)
	for _, e := range evs {
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if n := b.PutBody(t, envelope.All, e.Kind, event.SchemaV1, body, nil); n != e.Seq {
			t.Fatalf("number %d, want %d", n, e.Seq)
		}
	}
	return b
}

func (h *hub) take(t testing.TB, b *ingesttest.Box, runs ...envelope.Run) wire.Reply {
	t.Helper()
	r, err := h.ingest.Deliver(t.Context(), b.Number, envelope.Batch{Box: b.Number, Runs: runs})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Acks {
		if a.Seq > 0 && b.Run(a.Chain, 1, a.Seq).Head != a.Head {
			t.Errorf("ack of %s up to %d: not what the box has", a.Chain, a.Seq)
		}
	}
	return r
}

func TestBoxGetsANewProgram(t *testing.T) {
	for _, tt := range []struct {
		name      string
		delivered uint64 // in JSON, before
		first     uint64 // what the box has left
		batch     uint64
		sessions  int
		alarms    int
	}{
		{"everything was delivered but the last", 40, 41, 100, 60, 0},
		{"and the last acknowledgement was lost", 40, 21, 100, 60, 0},
		{"in small batches", 40, 21, 7, 60, 0},
		{"nothing was delivered", 0, 1, 7, 60, 0},
		{"the hub has lost some", 20, 41, 100, 40, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t)
			box := h.add(t, "Harar")
			if tt.delivered > 0 {
				if _, err := h.deliver(t, box, oldEpoch, events(1, tt.delivered)...); err != nil {
					t.Fatal(err)
				}
			}
			b := h.upgraded(t, box, tt.first, events(tt.first, 60)...)
			c := b.Chain(envelope.All)
			for range 2 {
				for from := tt.first; from <= 60; from += tt.batch {
					to := min(from+tt.batch-1, 60)
					if r := h.take(t, b, b.Run(c, from, to)); r.Acks[0].Seq != to || r.Acks[0].Fork {
						t.Errorf("run to %d: ack %d, fork %v", to, r.Acks[0].Seq, r.Acks[0].Fork)
					}
				}
			}
			if n := h.sessions(t); n != tt.sessions {
				t.Errorf("%d sessions, want %d", n, tt.sessions)
			}
			if as, err := h.store.Alarms(t.Context(), true); err != nil || len(as) != tt.alarms {
				t.Errorf("alarms %+v, %v", as, err)
			}
			// Its older program comes back and delivers in JSON again.
			evs := events(55, 63)
			if ack, err := h.deliver(t, box, oldEpoch, evs...); err != nil || ack.Seq != 63 {
				t.Errorf("in JSON again: %+v, %v", ack, err)
			}
			if n := h.sessions(t); n != tt.sessions+3 {
				t.Errorf("%d sessions, want %d", n, tt.sessions+3)
			}
		})
	}
}

func TestOldBoxRolledBack(t *testing.T) {
	h := open(t)
	box := h.add(t, "Harar")
	if _, err := h.deliver(t, box, oldEpoch, events(1, 20)...); err != nil {
		t.Fatal(err)
	}
	// The disk is put back to where it was at number 15. What happens then has numbers that the hub knows.
	evs := events(14, 18)
	for i := range evs {
		if evs[i].Seq > 15 {
			evs[i].Session += "again"
		}
	}
	for range 2 {
		if ack, err := h.deliver(t, box, oldEpoch, evs...); err != nil || ack.Seq != 18 {
			t.Errorf("got %+v, %v", ack, err)
		}
	}
	more := events(19, 22)
	for i := range more {
		more[i].Session += "again"
	}
	if ack, err := h.deliver(t, box, oldEpoch, more...); err != nil || ack.Seq != 22 {
		t.Errorf("got %+v, %v", ack, err)
	}
	if n := h.sessions(t); n != 20+7 {
		t.Errorf("%d sessions, want 27", n)
	}
	if as, err := h.store.Alarms(t.Context(), false); err != nil || len(as) != 1 || as[0].Kind != ingest.AlarmFork {
		t.Errorf("alarms %+v, %v", as, err)
	}
}

// firstRelease makes a database as the first release left it.
func firstRelease(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("migrations", "0001_boxes_events_requests.sql"))
	if err != nil {
		t.Fatal(err)
	}
	dump, err := os.ReadFile(filepath.Join("testdata", "0001-hub.sql"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), path, fstest.MapFS{"0001.sql": &fstest.MapFile{Data: text}}, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(dump)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseOfTheFirstRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	firstRelease(t, path)
	h := openAt(t, path)
	s, err := h.report.Summary(t.Context(), 14)
	if err != nil || s.Total.Self.Sessions != 2 || s.Total.Self.Papers != 3 || s.Total.Assisted.Sessions != 1 {
		t.Errorf("%+v, %v", s.Total, err)
	}
	if r, err := h.store.FindRequest(t.Context(), "234567", 2, h.now); err != nil || r.Certificates[0] != "residenza" {
		t.Errorf("request: %+v, %v", r, err)
	}
	if b, err := h.fleet.Box(t.Context(), 1); err != nil || b.Branch != "Biblioteca Harar" || b.Report != nil || b.Pending != 4 {
		t.Errorf("%+v, %v", b, err)
	}
	if up := s.Branches[0].DataUpTo; !up.Equal(time.Date(2026, 11, 20, 10, 5, 0, 0, time.UTC)) {
		t.Errorf("data up to %v", up)
	}
	rows, err := h.store.Judged(t.Context(), ingest.Unreadable, ingest.Row{}, 10)
	if err != nil || len(rows) != 1 || rows[0].Seq != 5 || rows[0].ID.Chain != (envelope.Chain{Epoch: oldEpoch}) || !strings.HasPrefix(string(rows[0].Encoded), `{"seq":5,`) {
		t.Errorf("unreadable: %+v, %v", rows, err)
	}
	// It goes on: what it has is known, what follows is taken.
	b, err := ingest.DecodeV1([]byte(`{"version":1,"epoch":"` + oldEpoch + `","events":[` +
		`{"seq":4,"at":"2026-11-20T10:05:00Z","clock_ok":true,"kind":"print.done","session":"b","detail":{"pages":1}},` +
		`{"seq":5,"at":"yesterday"},` +
		`{"seq":6,"at":"2026-11-20T10:06:00Z","clock_ok":true,"kind":"print.done","session":"b","detail":{"pages":5}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if ack, err := h.ingest.DeliverV1(t.Context(), 1, b); err != nil || ack.Seq != 6 {
		t.Errorf("got %+v, %v", ack, err)
	}
	if s, err = h.report.Summary(t.Context(), 14); err != nil || s.Total.All().Papers != 3+5 {
		t.Errorf("%+v, %v", s.Total, err)
	}
}

func TestDataUpTo(t *testing.T) {
	h := open(t)
	box := h.add(t, "Harar")
	at := func(minutes int) *time.Time { t := h.now.Add(time.Duration(minutes) * time.Minute); return &t }
	b := ingesttest.New(box, "00112233445566778899aabbccddeeff", *at(-10))
	b.Visits(t, 1)
	h.take(t, b, b.Batch().Runs...)
	for _, tt := range []struct {
		name   string
		drift  time.Duration
		queued []wire.StreamReport
		want   time.Time
	}{
		{"one stream lags behind", 0, []wire.StreamReport{
			{Stream: envelope.Legal, LastAck: at(-1)},
			{Stream: envelope.Session, Queued: 1, Oldest: at(-5)},
			{Stream: envelope.Diag, Queued: 9, Oldest: at(-90)},
		}, *at(-90)},
		{"its clock is an hour fast", time.Hour, []wire.StreamReport{{Stream: envelope.Stats, Queued: 9, Oldest: at(30)}}, *at(-30)},
		{"not after it was heard of", 0, []wire.StreamReport{{Stream: envelope.Stats, Queued: 9, Oldest: at(500)}}, *at(0)},
		{"it does not say since when", 0, []wire.StreamReport{{Stream: envelope.Stats, Queued: 9}}, *at(-10)},
		{"nothing is queued", 0, nil, *at(0)},
	} {
		r := wire.Report{Time: h.now.Add(tt.drift), Streams: tt.queued}
		if err := h.fleet.Heard(t.Context(), box, fleet.Report{Pending: r.Queued(), Time: r.Time, Queue: &r}); err != nil {
			t.Fatal(err)
		}
		s, err := h.report.Summary(t.Context(), 14)
		if err != nil || !s.Branches[0].DataUpTo.Equal(tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, s.Branches[0].DataUpTo, err, tt.want)
		}
	}
	t.Run("another process knows as much after a minute", func(t *testing.T) {
		h.now = h.now.Add(2 * time.Minute)
		r := wire.Report{Time: h.now.Add(time.Hour), Streams: []wire.StreamReport{{Stream: envelope.Stats, Queued: 1, Oldest: at(40)}}, Dead: 2}
		if err := h.fleet.Heard(t.Context(), box, fleet.Report{Pending: 1, Time: r.Time, Queue: &r}); err != nil {
			t.Fatal(err)
		}
		got, err := fleet.New(h.store, h.clock).Box(t.Context(), box)
		if err != nil || got.Report == nil || got.Report.Dead != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		if oldest, ok := got.Oldest(); !ok || !oldest.Equal(*at(-20)) {
			t.Errorf("oldest %v, %v", oldest, ok)
		}
	})
}

func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "hub.db"), filepath.Join(dir, "backup.db")
	h := openAt(t, path)
	key := h.ingest.Key
	boxes := make([]*ingesttest.Box, 3)
	for i := range boxes {
		boxes[i] = ingesttest.New(h.add(t, fmt.Sprint("Branch ", i)), envelope.NewEpoch(), h.now)
		boxes[i].Visits(t, 20)
		h.take(t, boxes[i], boxes[i].Batch().Runs...)
	}
	// Boxes go on delivering while the backup is made.
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for b := boxes[2]; ; {
			select {
			case <-stop:
				return
			default:
				b.Visits(t, 1)
				h.take(t, b, b.Batch().Runs...)
			}
		}
	})
	err := h.store.Backup(t.Context(), file)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup can be read by others: %v, %v", st.Mode(), err)
	}
	safe := map[envelope.Chain]uint64{}
	for _, b := range boxes {
		b.Visits(t, 5)
		runs := b.Batch().Runs
		for i, a := range h.take(t, b, runs...).Acks {
			if i >= len(runs) {
				break
			}
			if a.Seq != b.Last(a.Chain) || a.Safe < 20 || a.Safe > a.Seq-5 {
				t.Errorf("ack %d, safe %d", a.Seq, a.Safe)
			}
			safe[a.Chain] = a.Safe
			b.Forget(a.Chain, a.Safe) // as boxes do
		}
	}
	before := h.sessions(t)
	if _, err := sqlite.Restore(t.Context(), path, file, h.now); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("over a hub that runs: %v", err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	aside, err := sqlite.Restore(t.Context(), path, file, h.now)
	if err != nil || aside == "" {
		t.Fatalf("%q, %v", aside, err)
	}
	for _, f := range []string{aside, file} {
		if _, err := os.Stat(f); err != nil {
			t.Errorf("is not kept: %v", err)
		}
	}
	h = openAt(t, path)
	h.ingest.Key = key
	if n := h.sessions(t); n >= before {
		t.Errorf("%d sessions after the hub was put back, %d before", n, before)
	}
	for _, b := range boxes {
		for _, run := range b.Batch().Runs {
			c := run.Chain
			// The box goes on where it was; the hub says where it is now; the box sends what it has kept.
			b.Visits(t, 1)
			a := h.take(t, b, b.Run(c, b.Last(c), b.Last(c))).Acks[0]
			if a.Seq != safe[c] {
				t.Errorf("%s: the hub has %d again, and had said that %d are safe", c, a.Seq, safe[c])
			}
			if a = h.take(t, b, b.Run(c, a.Seq+1, b.Last(c))).Acks[0]; a.Seq != b.Last(c) || a.Fork {
				t.Errorf("%s: %+v", c, a)
			}
		}
		h.take(t, b, b.Batch().Runs...)
	}
	want := 0
	for _, b := range boxes {
		want += int(b.Last(b.Chain(envelope.Session)))
	}
	if n := h.sessions(t); n != want {
		t.Errorf("%d sessions are counted, the boxes had %d", n, want)
	}
	if as, err := h.store.Alarms(t.Context(), true); err != nil || len(as) != 0 {
		t.Errorf("alarms %+v, %v", as, err)
	}
}

func TestRestoreRefusesWhatIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	path, good := filepath.Join(dir, "hub.db"), filepath.Join(dir, "good.db")
	h := openAt(t, path)
	b := ingesttest.New(h.add(t, "Harar"), envelope.NewEpoch(), h.now)
	b.Visits(t, 200)
	h.take(t, b, b.Batch().Runs...)
	if err := h.store.Backup(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"cut off":   sound[:len(sound)/2],
		"empty":     {},
		"no file":   nil,
		"text":      []byte(strings.Repeat("no database\n", 1000)),
		"one empty": slices.Concat(sound[:4096*8], make([]byte, 4096), sound[4096*9:]),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "bad.db")
			_ = os.Remove(file)
			if bad != nil {
				if err := os.WriteFile(file, bad, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := sqlite.Restore(t.Context(), path, file, h.now)
			if name == "no file" && !errors.Is(err, fs.ErrNotExist) || name != "no file" && !errors.Is(err, sqlite.ErrBackup) {
				t.Errorf("got %v", err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "hub.db*"))
			if err != nil || len(left) != 2 { // with the lock
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	h = openAt(t, path)
	if n := h.sessions(t); n != 200 {
		t.Errorf("%d sessions, want 200", n)
	}
}

func FuzzBatch(f *testing.F) {
	h := open(f)
	box := h.add(f, "Harar")
	b := ingesttest.New(box, "00112233445566778899aabbccddeeff", h.now)
	b.Visits(f, 3)
	b.PutEntry(b.Chain(envelope.Stats), envelope.Entry{Missing: &envelope.Missing{Count: 2, Reason: envelope.Dropped, Hash: envelope.Hash{1}}})
	for _, m := range []envelope.Batch{b.Batch(), {Runs: []envelope.Run{b.Run(b.Chain(envelope.Legal), 2, 3), b.Run(b.Chain(envelope.Stats), 1, 1)}}, {}} {
		text, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := envelope.ParseBatch(text)
		if err != nil {
			return
		}
		m.Box = box
		r, err := h.ingest.Deliver(t.Context(), box, m)
		if err != nil || len(r.Acks) < len(m.Runs) {
			t.Fatalf("%q: %+v, %v", text, r, err)
		}
		again, err := h.ingest.Deliver(t.Context(), box, m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Runs {
			if a, b := r.Acks[i], again.Acks[i]; b.Seq < a.Seq && a.Head != (envelope.Hash{}) && !b.Fork {
				t.Errorf("%q: %d, and %d the second time", text, a.Seq, b.Seq)
			}
		}
		if _, err := h.report.Summary(t.Context(), 14); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
