package sqlite_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// hub is the hub's records on a real file.
type hub struct {
	now    time.Time
	store  *sqlite.Store
	fleet  *fleet.Fleet
	ingest *ingest.Ingest
	key    seal.PrivateKey
	report *stats.Reports
	pickup *pickup.Desk
}

func (h *hub) clock() time.Time { return h.now }

func open(t testing.TB) *hub {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "hub.db"))
}

// openAt opens the database at path.
func openAt(t testing.TB, path string) *hub {
	t.Helper()
	h := &hub{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	var err error
	if h.store, err = sqlite.Open(t.Context(), path); err != nil {
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
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	h.fleet = fleet.New(h.store, h.clock)
	h.ingest = &ingest.Ingest{Store: h.store, Ring: seal.Ring{h.key}, Key: sign, Now: h.clock, Log: slog.New(slog.DiscardHandler)}
	h.report = &stats.Reports{Counter: h.store, Boxes: h.fleet, Now: h.clock, Place: rome}
	h.pickup = &pickup.Desk{Store: h.store, Now: h.clock, Wrong: &throttle.Failures{Now: h.clock, Max: 5, Window: time.Minute}}
	return h
}

// add prepares and enrols a box.
func (h *hub) add(t testing.TB, branch string) uint32 {
	t.Helper()
	b, token, err := h.fleet.Add(t.Context(), branch, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.fleet.Use(t.Context(), enroll.HashToken(token), enroll.Key{ID: fmt.Sprint("key of ", b.Number), TokenKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	return b.Number
}

// deliver sends events as a box of the first release does and returns the hub's answer.
func (h *hub) deliver(t testing.TB, box uint32, epoch string, evs ...event.V1) (wire.AckV1, error) {
	t.Helper()
	text, err := json.Marshal(wire.BatchV1{Version: 1, Epoch: epoch, Events: evs})
	if err != nil {
		t.Fatal(err)
	}
	b, err := ingest.DecodeV1(text)
	if err != nil {
		t.Fatal(err)
	}
	return h.ingest.DeliverV1(t.Context(), box, b)
}

func events(from, to uint64) (evs []event.V1) {
	for seq := from; seq <= to; seq++ {
		evs = append(evs, event.V1{Seq: seq, Kind: event.SessionStarted, At: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), ClockOK: true, Session: fmt.Sprint("s", seq), Detail: event.Detail{Mode: "self"}})
	}
	return evs
}

func (h *hub) sessions(t testing.TB) int {
	t.Helper()
	s, err := h.report.Summary(t.Context(), 14)
	if err != nil {
		t.Fatal(err)
	}
	return s.Total.All().Sessions
}

func TestIngest(t *testing.T) {
	h := open(t)
	one, two := h.add(t, "Harar"), h.add(t, "Niguarda")
	for _, tt := range []struct {
		name     string
		box      uint32
		epoch    string
		from, to uint64
		ack      uint64
		err      error
		total    int
	}{
		{"the first batch", one, "e1", 1, 3, 3, nil, 3},
		{"the same again", one, "e1", 1, 3, 3, nil, 3},
		{"a part of it again", one, "e1", 2, 2, 3, nil, 3},
		{"one that overlaps", one, "e1", 2, 5, 5, nil, 5},
		{"one that leaves a gap", one, "e1", 7, 8, 5, ingest.ErrGap, 5},
		{"what was missing", one, "e1", 6, 8, 8, nil, 8},
		{"another box begins at one", two, "e1", 1, 2, 2, nil, 10},
		{"a new database begins at one", one, "e2", 1, 2, 2, nil, 12},
		{"a new database that does not", one, "e3", 2, 3, 0, ingest.ErrGap, 12},
		{"the old database still counts", one, "e1", 9, 9, 9, nil, 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ack, err := h.deliver(t, tt.box, tt.epoch, events(tt.from, tt.to)...)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil || ack != (wire.AckV1{Epoch: tt.epoch, Seq: tt.ack}) {
				t.Errorf("got %+v, %v, want %d, %v", ack, err, tt.ack, tt.err)
			}
			if n := h.sessions(t); n != tt.total {
				t.Errorf("%d sessions counted, want %d", n, tt.total)
			}
		})
	}
	t.Run("many at once count once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for from := uint64(1); from < 40; from += 10 {
					if _, err := h.deliver(t, two, "ace0", events(from, from+9)...); err != nil && !errors.Is(err, ingest.ErrGap) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if ack, err := h.deliver(t, two, "ace0", events(1, 40)...); err != nil || ack.Seq != 40 {
			t.Errorf("got %+v, %v", ack, err)
		}
		if n := h.sessions(t); n != 13+40 {
			t.Errorf("%d sessions, want 53", n)
		}
	})
}

func TestEventsFromTheFuture(t *testing.T) {
	h := open(t)
	box := h.add(t, "Harar")
	b, err := ingest.DecodeV1([]byte(`{"version":7,"epoch":"ee","new":1,"events":[
		{"seq":1,"at":"2026-11-22T08:00:00Z","clock_ok":true,"kind":"session.started","session":"s","detail":{"mode":"self","mood":"good"}},
		{"seq":2,"at":"2026-11-22T08:00:00Z","clock_ok":true,"kind":"coffee.served"},
		{"seq":3,"at":"yesterday","kind":{"name":"x"}},
		{"seq":4,"detail":[` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `]},
		{"seq":5,"at":"2026-11-22T08:01:00Z","clock_ok":true,"kind":"print.done","session":"s","detail":{"pages":2}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if ack, err := h.ingest.DeliverV1(t.Context(), box, b); err != nil || ack.Seq != 5 {
		t.Fatalf("got %+v, %v, want all stored", ack, err)
	}
	s, err := h.report.Summary(t.Context(), 14)
	if err != nil || s.Total.Self != (stats.Figures{Sessions: 1, Papers: 2}) {
		t.Errorf("got %+v, %v", s.Total, err)
	}
}

func TestDecodeBatch(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `<html>`, `{}`, `{"version":1,"epoch":"","events":[{"seq":1}]}`, `{"version":1,"epoch":"ee","events":[]}`,
		`{"version":0,"epoch":"ee","events":[{"seq":1}]}`, `{"version":1,"epoch":"ee","events":[{}]}`, `{"version":1,"epoch":"ee","events":[{"seq":-1}]}`,
		`{"version":1,"epoch":"ee","events":[{"seq":"1"}]}`, `{"version":1,"epoch":"ee","events":[1]}`, `{"version":1,"epoch":"ee","events":[null]}`,
		`{"version":1,"epoch":"ee","events":[{"seq":1},{"seq":3}]}`, `{"version":1,"epoch":"ee","events":[{"seq":2},{"seq":1}]}`,
		`{"version":1,"epoch":"ee","events":[{"seq":1},{"seq":1}]}`, `{"version":1,"epoch":"ee","events":[{"seq":18446744073709551615}]}`,
		`{"version":1,"epoch":"` + strings.Repeat("ee", 33) + `","events":[{"seq":1}]}`, `{"version":1,"epoch":"EE","events":[{"seq":1}]}`, `{"version":1,"epoch":"e\u0000","events":[{"seq":1}]}`,
		`{"version":1,"epoch":"ee","events":[` + strings.Repeat(`{"seq":1},`, 2000) + `{"seq":1}]}`,
	} {
		if b, err := ingest.DecodeV1([]byte(text)); !errors.Is(err, ingest.ErrMalformed) {
			t.Errorf("%.80s: got %d events, %v", text, len(b.Events), err)
		}
	}
}

func FuzzDeliver(f *testing.F) {
	h := open(f)
	box := h.add(f, "Harar")
	f.Add([]byte(`{"version":1,"epoch":"ee","events":[{"seq":1,"kind":"session.started"}]}`))
	f.Add([]byte(`{"version":1,"epoch":"ee","events":[{"seq":1,"kind":"request.left","sealed":"AAAA"},{"seq":2,"at":"9999-12-31T23:59:59.999999999-23:59"}]}`))
	f.Add([]byte(`{"version":1,"epoch":"00","events":[{"seq":1,"kind":"session.started","session":"\ud800\u0000"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ingest.DecodeV1(text)
		if err != nil {
			return
		}
		last := b.First + uint64(len(b.Events)) - 1
		ack, err := h.ingest.DeliverV1(t.Context(), box, b)
		if err == nil && ack.Seq < last || err != nil && !errors.Is(err, ingest.ErrGap) {
			t.Errorf("%q: %+v, %v", text, ack, err)
		}
		if _, err := h.report.Summary(t.Context(), 14); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestReport(t *testing.T) {
	h := open(t)
	harar, niguarda, spare := h.add(t, "Harar"), h.add(t, "Niguarda"), h.add(t, "Niguarda")
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	started := func(seq uint64, when, session, mode string, clockOK bool) event.V1 {
		return event.V1{Seq: seq, At: at(when), ClockOK: clockOK, Kind: event.SessionStarted, Session: session, Detail: event.Detail{Mode: mode}}
	}
	printed := func(seq uint64, when, session string, pages int) event.V1 {
		return event.V1{Seq: seq, At: at(when), ClockOK: true, Kind: event.PrintDone, Session: session, Detail: event.Detail{Pages: pages}}
	}
	for _, d := range []struct {
		box uint32
		evs []event.V1
	}{
		{harar, []event.V1{
			started(1, "2026-11-20T22:59:59Z", "a", "self", true), // 20 November in Rome
			printed(2, "2026-11-20T23:00:00Z", "a", 1),            // 21 November
			started(3, "2026-11-21T10:00:00Z", "b", "assisted", true),
			printed(4, "2026-11-21T10:05:00Z", "b", 3),
			started(5, "1970-01-01T00:00:10Z", "c", "self", false), // no clock: counted when it arrived
			started(6, "2031-01-01T00:00:00Z", "d", "self", true),  // believes a wrong clock
			{Seq: 7, At: at("2026-11-22T08:30:00Z"), ClockOK: true, Kind: event.LineUp},
		}},
		{niguarda, []event.V1{printed(1, "2026-11-22T08:00:00Z", "unknown", 1), started(2, "2026-10-01T08:00:00Z", "old", "self", true)}},
	} {
		if _, err := h.deliver(t, d.box, "ee", d.evs...); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.fleet.Revoke(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	if err := h.fleet.Heard(t.Context(), harar, fleet.Report{Pending: 4}); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(time.Minute)
	if err := h.fleet.Heard(t.Context(), niguarda, fleet.Report{Pending: 0, Time: h.now.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	s, err := h.report.Summary(t.Context(), 14)
	if err != nil || len(s.Branches) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	text := func(d stats.Day) string {
		return fmt.Sprintf("%s self %d/%d assisted %d/%d unknown %d/%d", d.Date, d.Self.Sessions, d.Self.Papers, d.Assisted.Sessions, d.Assisted.Papers, d.Unknown.Sessions, d.Unknown.Papers)
	}
	for i, want := range [][]string{
		{"2026-11-22 self 2/0 assisted 0/0 unknown 0/0", "2026-11-21 self 0/1 assisted 1/3 unknown 0/0", "2026-11-20 self 1/0 assisted 0/0 unknown 0/0"},
		{"2026-11-22 self 0/0 assisted 0/0 unknown 0/1"},
	} {
		var got []string
		for _, d := range s.Branches[i].Days {
			got = append(got, text(d))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got %q, want %q", s.Branches[i].Name, got, want)
		}
	}
	if all := s.Total.All(); all != (stats.Figures{Sessions: 4, Papers: 5}) {
		t.Errorf("total %+v", all)
	}
	// Harar has four events to deliver, so only what has come with a clock that was right is sure. Niguarda has none.
	for i, want := range []string{"2026-11-22T08:30:00Z", "2026-11-22T09:01:00Z"} {
		if got := s.Branches[i].DataUpTo; !got.Equal(at(want)) {
			t.Errorf("%s: data up to %v, want %s", s.Branches[i].Name, got, want)
		}
	}
	if n := s.Branches[1]; len(n.Boxes) != 2 || !n.Boxes[1].Revoked || n.Boxes[0].Pending != 0 || n.Boxes[1].Pending != -1 {
		t.Errorf("boxes of Niguarda: %+v", n.Boxes)
	}
	if b, err := h.fleet.Box(t.Context(), niguarda); err != nil || b.Drift != -time.Hour {
		t.Errorf("drift %v, %v", b.Drift, err)
	}
}

func TestFleet(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for _, tt := range []struct {
		branch string
		kiosks int
	}{{"", 1}, {"  ", 1}, {strings.Repeat("x", 101), 1}, {"a\nb", 1}, {"\xff", 1}, {"Harar", 0}, {"Harar", 100}} {
		if b, _, err := h.fleet.Add(ctx, tt.branch, tt.kiosks); !errors.Is(err, fleet.ErrBranch) {
			t.Errorf("%q with %d kiosks: %+v, %v", tt.branch, tt.kiosks, b, err)
		}
	}
	b, token, err := h.fleet.Add(ctx, " Biblioteca Harar ", 2)
	if err != nil || b.Number != 1 || b.Branch != "Biblioteca Harar" {
		t.Fatalf("%+v, %v", b, err)
	}
	key := func(id string) enroll.Key { return enroll.Key{ID: id, TokenKey: []byte(id)} }
	use := func(token, id string) error {
		_, err := h.fleet.Use(ctx, enroll.HashToken(token), key(id))
		return err
	}
	admit := func(id string) error {
		_, err := h.fleet.Admit(ctx, 1, id)
		return err
	}
	step := func(name string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	step("not enrolled yet", admit("A"), enroll.ErrRevoked)
	step("not enrolled yet, and no key", admit("x"), enroll.ErrRevoked)
	step("wrong token", use("WRONG", "A"), enroll.ErrToken)
	step("token", use(token, "A"), nil)
	step("token again", use(token, "A"), nil)
	step("token by another box", use(token, "B"), enroll.ErrToken)
	step("welcome", admit("A"), nil)
	step("not with another key", admit("B"), enroll.ErrRevoked)

	second, err := h.fleet.Token(ctx, 1)
	step("second token", err, nil)
	step("hardware replaced", use(second, "B"), nil)
	step("the old one is out", admit("A"), enroll.ErrRevoked)
	step("and does not get back in", use(token, "A"), enroll.ErrToken)

	third, err := h.fleet.Token(ctx, 1)
	step("third token", err, nil)
	h.now = h.now.Add(fleet.TokenLife + time.Hour)
	step("expired token", use(third, "C"), enroll.ErrToken)
	step("a used token does not expire for who used it", use(second, "B"), nil)

	step("revoke", h.fleet.Revoke(ctx, 1), nil)
	step("revoke again", h.fleet.Revoke(ctx, 1), nil)
	step("revoked", admit("B"), enroll.ErrRevoked)
	step("revoked box with its token", use(second, "B"), enroll.ErrRevoked)
	_, err = h.fleet.Token(ctx, 1)
	step("token for a revoked box", err, enroll.ErrRevoked)
	step("revoke nobody", h.fleet.Revoke(ctx, 9), fleet.ErrUnknown)
	_, err = h.fleet.Token(ctx, 9)
	step("token for nobody", err, fleet.ErrUnknown)
	_, err = h.fleet.Box(ctx, 9)
	step("nobody", err, fleet.ErrUnknown)
	_, err = h.fleet.Renew(ctx, 9, "A")
	step("renew nobody", err, enroll.ErrRevoked)
}

func TestContact(t *testing.T) {
	h := open(t)
	n := h.add(t, "Harar")
	for i, tt := range []struct {
		after   time.Duration
		pending int
		want    int
	}{{0, 5, 5}, {5 * time.Second, 3, 3}, {5 * time.Second, fleet.PendingUnknown, 3}, {2 * time.Minute, 0, 0}, {time.Second, 9, 9}} {
		h.now = h.now.Add(tt.after)
		if err := h.fleet.Heard(t.Context(), n, fleet.Report{Pending: tt.pending}); err != nil {
			t.Fatal(err)
		}
		if b, err := h.fleet.Box(t.Context(), n); err != nil || !b.Contact.Equal(h.now) || b.Pending != tt.want {
			t.Errorf("%d: got %+v, %v", i, b, err)
		}
	}
	t.Run("another process sees it within a minute", func(t *testing.T) {
		b, err := fleet.New(h.store, h.clock).Box(t.Context(), n)
		if err != nil || h.now.Sub(b.Contact) > time.Minute || b.Pending != 0 {
			t.Errorf("got %+v, %v", b, err)
		}
	})
}
