package ingest_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

const epoch = envelope.Epoch("00112233445566778899aabbccddeeff")

// hub is a hub's ingest over a real database.
type hub struct {
	*ingest.Ingest
	store *sqlite.Store
	key   seal.PrivateKey
	now   time.Time
}

func open(t testing.TB) *hub {
	t.Helper()
	h := &hub{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	var err error
	if h.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if h.key, err = seal.NewKey(); err != nil {
		t.Fatal(err)
	}
	_, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Ingest = &ingest.Ingest{
		Store: h.store, Ring: seal.Ring{h.key}, Key: sign, Now: func() time.Time { return h.now }, Log: slog.New(slog.DiscardHandler),
	}
	return h
}

// box returns a box that seals to the hub.
func (h *hub) box(t testing.TB, number uint32) *ingesttest.Box {
	t.Helper()
	b := ingesttest.New(number, epoch, h.now)
	s := seal.NewSealer(h.Now)
	if err := s.Use(h.key.Public()); err != nil {
		t.Fatal(err)
	}
	b.Seal(s.Seal)
	return b
}

// deliver delivers and checks that every acknowledgement is signed, and that the box has the same events up to there.
func (h *hub) deliver(t testing.TB, b *ingesttest.Box, m envelope.Batch) wire.Reply {
	t.Helper()
	r, err := h.Deliver(t.Context(), b.Number, m)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Acks) < len(m.Runs) {
		t.Fatalf("%d acks for %d runs", len(r.Acks), len(m.Runs))
	}
	for i, a := range r.Acks {
		if err := a.Verify(b.Number, []ed25519.PublicKey{h.Key.Public().(ed25519.PublicKey)}); err != nil {
			t.Error(err)
		}
		if i < len(m.Runs) && a.Chain != m.Runs[i].Chain {
			t.Errorf("ack of %s for a run of %s", a.Chain, m.Runs[i].Chain)
		}
		if last := b.Last(a.Chain); a.Seq > 0 && a.Seq <= last && b.Run(a.Chain, 1, a.Seq).Head != a.Head {
			t.Errorf("ack of %s up to %d is about other events", a.Chain, a.Seq)
		}
	}
	return r
}

// counted returns how many sessions and sheets are counted, of all boxes and modes.
func (h *hub) counted(t testing.TB) (sessions, papers int) {
	t.Helper()
	cs, err := h.store.Counts(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		sessions, papers = sessions+c.Sessions, papers+c.Papers
	}
	return sessions, papers
}

// wants fails unless so many visits of ingesttest.Box are counted.
func (h *hub) wants(t testing.TB, visits int) {
	t.Helper()
	if s, p := h.counted(t); s != visits || p != 2*visits {
		t.Errorf("%d sessions and %d sheets are counted, want %d visits with two sheets", s, p, visits)
	}
}

// alarms returns the kinds of the open alarms of a box, in the order they came.
func (h *hub) alarms(t testing.TB, box uint32) string {
	t.Helper()
	as, err := h.store.Alarms(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range as {
		if a.Box == box {
			out = append([]string{a.Kind}, out...)
		}
	}
	return strings.Join(out, " ")
}

func TestEveryEventCountsOnce(t *testing.T) {
	h := open(t)
	b := h.box(t, 7)
	b.Visits(t, 30)
	session, legal := b.Chain(envelope.Session), b.Chain(envelope.Legal)
	batch := func(runs ...envelope.Run) envelope.Batch { return envelope.Batch{Box: 7, Runs: runs} }
	for _, tt := range []struct {
		name string
		m    envelope.Batch
		acks []uint64
	}{
		{"a part", batch(b.Run(session, 1, 10), b.Run(legal, 1, 5)), []uint64{10, 5}},
		{"the same again", batch(b.Run(session, 1, 10), b.Run(legal, 1, 5)), []uint64{10, 5}},
		{"twice in one batch", batch(b.Run(session, 11, 12), b.Run(session, 11, 12)), []uint64{12, 12}},
		{"out of order", batch(b.Run(session, 20, 30), b.Run(session, 13, 19)), []uint64{12, 19}},
		{"an overlap", batch(b.Run(session, 5, 25)), []uint64{25}},
		{"everything", b.Batch(), []uint64{30, 30}},
		{"nothing", envelope.Batch{Box: 7}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := h.deliver(t, b, tt.m)
			for i, want := range tt.acks {
				if r.Acks[i].Seq != want && tt.name != "everything" {
					t.Errorf("run %d: ack %d, want %d", i, r.Acks[i].Seq, want)
				}
			}
		})
	}
	h.wants(t, 30)
	if a := h.alarms(t, 7); a != "" {
		t.Errorf("alarms: %s", a)
	}
	if _, err := h.Deliver(t.Context(), 8, b.Batch()); !errors.Is(err, ingest.ErrMalformed) {
		t.Errorf("another box's batch: %v", err)
	}
	h.wants(t, 30)
}

func TestClone(t *testing.T) {
	h := open(t)
	b := h.box(t, 1)
	b.Visits(t, 10)
	h.deliver(t, b, b.Batch())
	twin := b.Clone()
	b.Visits(t, 3)
	twin.Visits(t, 5)
	for _, a := range h.deliver(t, b, b.Batch()).Acks {
		if a.Fork {
			t.Errorf("%s has no fork yet", a.Chain)
		}
	}
	for range 2 {
		for _, a := range h.deliver(t, twin, twin.Batch()).Acks {
			if !a.Fork || a.Seq != 15 {
				t.Errorf("the twin's %s: %d, fork %v", a.Chain, a.Seq, a.Fork)
			}
		}
		h.wants(t, 18)
	}
	b.Visits(t, 1)
	for _, a := range h.deliver(t, b, b.Batch()).Acks {
		if !a.Fork || a.Seq != 14 {
			t.Errorf("%s: %d, fork %v", a.Chain, a.Seq, a.Fork)
		}
	}
	h.wants(t, 19)
	if a := h.alarms(t, 1); a != "fork fork" { // of two chains
		t.Errorf("alarms: %s", a)
	}
}

func TestPoisonHoldsUpNobody(t *testing.T) {
	h := open(t)
	h.MaxEvent = 2000
	b := h.box(t, 1)
	b.Visits(t, 1)
	session := b.Chain(envelope.Session)
	other := b.Clone()
	other.Visits(t, 1)
	foreign := other.Run(session, 2, 2).Entries[0]
	for _, e := range []envelope.Entry{
		{Encoded: []byte("no envelope")},
		{Encoded: []byte{1, 0}},
		{Encoded: make([]byte, 2001)},
		foreign, // number 2 in the place of another
		{Missing: &envelope.Missing{Count: 3, Reason: envelope.Damaged, Hash: envelope.Hash{7}}},
	} {
		b.PutEntry(session, e)
	}
	for _, body := range []string{"", "{", "null", `{"session":7}`, `{"detail":{"mode":"\u0000"}}`, `{"detail":{"pages":-1}}`, `{"detail":{"pages":99999999}}`, strings.Repeat("[", 900)} {
		b.PutBody(t, envelope.Session, event.SessionStarted, event.SchemaBody, []byte(body), nil)
	}
	b.PutBody(t, envelope.Session, "coffee.served", event.SchemaBody, []byte(`{}`), nil)
	b.PutBody(t, envelope.Session, event.SessionStarted, 77, []byte(`{}`), nil)
	b.PutBody(t, 99, "x", event.SchemaBody, []byte(`{}`), nil)
	b.PutBody(t, envelope.Legal, event.RequestLeft, event.SchemaBody, []byte(`{}`), []byte(`{"code":"AEIOU!"}`))
	b.PutBody(t, envelope.Legal, event.RequestLeft, event.SchemaBody, []byte(`{}`), nil)
	b.Visits(t, 1)
	m := b.Batch()
	m.Runs = append(m.Runs, b.Run(b.Chain(99), 1, 1))
	text, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = envelope.ParseBatch(text); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r := h.deliver(t, b, m)
		for k, run := range m.Runs {
			if r.Acks[k].Seq != run.Last() {
				t.Errorf("%s: ack %d, want all %d", run.Chain, r.Acks[k].Seq, run.Last())
			}
		}
		if len(r.Refused) != 1 || r.Refused[0].Seq != 4 || r.Refused[0].Hash != b.Run(r.Refused[0].Chain, 1, 4).Head || r.Refused[0].Reason != "too_long" {
			t.Fatalf("%d: refused %+v", i, r.Refused)
		}
		if err := r.Refused[0].Verify(1, []ed25519.PublicKey{h.Key.Public().(ed25519.PublicKey)}); err != nil {
			t.Error(err)
		}
	}
	// "null" is JSON, and a session that says nothing of itself.
	if s, p := h.counted(t); s != 3 || p != 4 {
		t.Errorf("%d sessions, %d sheets", s, p)
	}
	for j, want := range map[ingest.Judgement]int{ingest.Quarantined: 3, ingest.Unreadable: 10, ingest.NotOpened: 2, ingest.Absent: 2} {
		if rows, err := h.store.Judged(t.Context(), j, ingest.Row{}, 100); err != nil || len(rows) != want {
			t.Errorf("%d rows are %s, want %d (%v)", len(rows), j, want, err)
		}
	}
	if a := h.alarms(t, 1); !strings.Contains(a, "refused") || !strings.Contains(a, "absent") || !strings.Contains(a, "not_opened") || !strings.Contains(a, "unreadable") {
		t.Errorf("alarms: %s", a)
	}
}

// TestQueueOfAnotherBox delivers what one box has queued as another box: a data folder that was copied and enrolled again.
func TestQueueOfAnotherBox(t *testing.T) {
	h := open(t)
	b := h.box(t, 5)
	b.Visits(t, 3)
	early := h.box(t, 0) // queued before the box was enrolled
	early.Epoch = "ffeeddccbbaa99887766554433221100"
	early.Visits(t, 1)
	for _, q := range []*ingesttest.Box{b, early} {
		m := q.Batch()
		m.Box = 6
		if _, err := h.Deliver(t.Context(), 6, m); err != nil {
			t.Fatal(err)
		}
	}
	h.wants(t, 4)
	if a := h.alarms(t, 6); a != "other_box" {
		t.Errorf("alarms: %s", a)
	}
}

func TestRejudge(t *testing.T) {
	h := open(t)
	b := h.box(t, 1)
	plain, err := json.Marshal(wire.Request{Code: "234567", Certificates: []string{"residenza"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Put(t, event.Event{Kind: event.SessionStarted, Session: "s", Detail: event.Detail{Mode: "self"}})
	b.Put(t, event.Event{Kind: event.PrintDone, Session: "s", Detail: event.Detail{Pages: 4}})
	b.Put(t, event.Event{Kind: event.RequestLeft, Session: "s", Private: plain})
	b.Put(t, event.Event{Kind: event.Gap, Detail: event.Detail{Reason: "lost_tail", Count: 3}})
	// An older hub: it knows neither the kinds nor the key.
	forget := ingest.Forget(event.SessionStarted, event.PrintDone, event.Gap)
	ring := h.Ring
	h.Ring = nil
	h.deliver(t, b, b.Batch())
	if n, err := h.Rejudge(t.Context()); n != 0 || err != nil {
		t.Errorf("the same hub understands %d more, %v", n, err)
	}
	if s, p := h.counted(t); s != 0 || p != 0 {
		t.Errorf("it counts %d, %d", s, p)
	}
	if a := h.alarms(t, 1); a != "not_opened" {
		t.Errorf("alarms: %s", a)
	}
	// A newer one.
	forget()
	h.Ring = ring
	if n, err := h.Rejudge(t.Context()); n != 4 || err != nil {
		t.Errorf("a newer hub understands %d, %v", n, err)
	}
	if s, p := h.counted(t); s != 1 || p != 4 {
		t.Errorf("it counts %d, %d", s, p)
	}
	if r, err := h.store.FindRequest(t.Context(), "234567", 1, h.now); err != nil || r.Certificates[0] != "residenza" {
		t.Errorf("got %+v, %v", r, err)
	}
	if a := h.alarms(t, 1); a != "not_opened gap" {
		t.Errorf("alarms: %s", a)
	}
	if n, err := h.Rejudge(t.Context()); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

func TestRedating(t *testing.T) {
	h := open(t)
	b := h.box(t, 1)
	hours := func() string {
		t.Helper()
		cs, err := h.store.Counts(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range cs {
			out = append(out, fmt.Sprintf("%s×%d", c.Hour.Format("02T15"), c.Sessions))
		}
		return strings.Join(out, " ")
	}
	visit := func(mono time.Duration) {
		b.Mono, b.Now = mono, time.Unix(0, 0).Add(mono)
		b.Put(t, event.Event{Kind: event.SessionStarted, Session: fmt.Sprint(b.Boot, mono), Detail: event.Detail{Mode: "self"}})
	}
	set := func(mono time.Duration, now time.Time) event.Event {
		return event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &event.Clock{Boot: b.Boot, Mono: mono.Milliseconds(), Old: time.Unix(5, 0), New: now}}}
	}
	b.Clock = envelope.Unknown
	visit(1 * time.Hour)
	visit(20 * time.Hour)
	h.deliver(t, b, b.Batch())
	if got := hours(); got != "22T09×2" {
		t.Errorf("without a clock they count when they came: %s", got)
	}
	// At 30 hours it was six o'clock: the start was at midnight on the 21st.
	b.Put(t, set(30*time.Hour, h.now.Add(-3*time.Hour)))
	h.deliver(t, b, b.Batch(envelope.Legal))
	if got := hours(); got != "21T01×1 21T20×1" {
		t.Errorf("dated: %s", got)
	}
	visit(22 * time.Hour) // was queued before, comes in later
	h.deliver(t, b, b.Batch(envelope.Session))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1" {
		t.Errorf("later: %s", got)
	}
	// A start of which nothing is known: not before what is certain of the one before.
	b.Clock, b.Now, b.Mono = envelope.Synced, h.now.Add(-2*time.Hour), 31*time.Hour
	b.Put(t, event.Event{Kind: event.SessionStarted, Session: "certain", Detail: event.Detail{Mode: "self"}})
	b.Boot, b.Clock = 2, envelope.Unknown
	visit(time.Hour)
	h.now = h.now.Add(24 * time.Hour)
	h.deliver(t, b, b.Batch(envelope.Session))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1 22T07×1 22T08×1" {
		t.Errorf("never dated: %s", got)
	}
	// What the box had queued before it numbered its events anew, in the same start.
	older, at := b.Epoch, h.now.Add(-2*time.Hour)
	b.Epoch = "ffeeddccbbaa99887766554433221100"
	b.Boot = 3
	later := set(2*time.Hour, at)
	later.Detail.Epoch = older
	b.Epoch = older
	visit(30 * time.Minute)
	h.deliver(t, b, b.Batch(envelope.Session))
	b.Epoch = "ffeeddccbbaa99887766554433221100"
	b.Put(t, set(2*time.Hour, at))
	h.deliver(t, b, b.Batch(envelope.Legal))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1 22T07×2 22T08×1" {
		t.Errorf("what is about the new epoch: %s", got)
	}
	b.Put(t, later)
	h.deliver(t, b, b.Batch(envelope.Legal))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1 22T07×1 22T08×1 23T05×1" {
		t.Errorf("an older epoch: %s", got)
	}
	b.Epoch = older
	visit(90 * time.Minute) // was queued before, comes in later
	h.deliver(t, b, b.Batch(envelope.Session))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1 22T07×1 22T08×1 23T05×1 23T06×1" {
		t.Errorf("an older epoch, later: %s", got)
	}
	b.Boot = 2
	// What cannot be believed dates nothing.
	b.Put(t, set(time.Hour, h.now.Add(1000*time.Hour)))
	h.deliver(t, b, b.Batch(envelope.Legal))
	if got := hours(); got != "21T01×1 21T20×1 21T22×1 22T07×1 22T08×1 23T05×1 23T06×1" {
		t.Errorf("a clock from the future: %s", got)
	}
	raw, err := h.store.Judged(t.Context(), ingest.Understood, ingest.Row{}, 1)
	if err != nil || len(raw) != 0 {
		t.Errorf("understood rows do not wait: %d, %v", len(raw), err)
	}
}

// TestKinds keeps the list of kinds that the hub understands in step with package event.
func TestKinds(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "event", "event.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		v, ok := node.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "Kind" {
			return true
		}
		text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if n++; err != nil || !ingest.Knows(event.Kind(text)) {
			t.Errorf("%s is not among the kinds that the hub understands", v.Names[0].Name)
		}
		return true
	})
	if n < 30 {
		t.Errorf("only %d kinds found", n)
	}
}
