package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/provisioning/enroll"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/wire"
)

// same fails the test unless an error is the one that is wanted.
func same(t *testing.T, name string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}

func boxes(t *testing.T, s Store) {
	if bs, err := s.Boxes(t.Context()); err != nil || len(bs) != 0 {
		t.Errorf("at first: %+v, %v", bs, err)
	}
	if n := addBox(t, s, "Harar"); n != 1 {
		t.Errorf("the first box has number %d", n)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { addBox(t, s, "Niguarda") })
	}
	wg.Wait()
	bs, err := s.Boxes(t.Context())
	if err != nil || len(bs) != 11 {
		t.Fatalf("%d boxes, %v", len(bs), err)
	}
	for i := range bs[1:] {
		if bs[i].Number >= bs[i+1].Number {
			t.Errorf("box %d before box %d", bs[i].Number, bs[i+1].Number)
		}
	}
	b, err := s.Box(t.Context(), 1)
	if err != nil || b.Branch != "Harar" || b.Kiosks != 2 || b.LoginEpoch != 1 || !b.Created.Equal(now) || b.Pending != fleet.PendingUnknown ||
		!b.Enrolled.IsZero() || !b.Revoked.IsZero() || !b.Contact.IsZero() || b.KeyID != "" || b.Report != nil || b.Drift != 0 {
		t.Errorf("got %+v, %v", b, err)
	}
	_, err = s.Box(t.Context(), 4_000_000_000)
	same(t, "no box", err, fleet.ErrUnknown)
	same(t, "token for no box", s.AddToken(t.Context(), 99, [32]byte{1}, now), fleet.ErrUnknown)
	same(t, "revoke no box", s.RevokeBox(t.Context(), 99, now), fleet.ErrUnknown)
	same(t, "revoke", s.RevokeBox(t.Context(), 1, now), nil)
	same(t, "revoke again", s.RevokeBox(t.Context(), 1, now.Add(time.Hour)), nil)
	if b, err := s.Box(t.Context(), 1); err != nil || !b.Revoked.Equal(now) {
		t.Errorf("revoked %v, %v, want the first date", b.Revoked, err)
	}
}

func replaced(t *testing.T, s Store) {
	hash := func(b byte) [32]byte { return [32]byte{b, b} }
	n, err := s.AddBox(t.Context(), fleet.Box{Branch: "Harar", Kiosks: 1, Created: now}, hash(1), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	use := func(token byte, id string, at time.Time) error {
		b, err := s.UseToken(t.Context(), hash(token), enroll.Key{ID: id, TokenKey: []byte(id)}, at)
		if err == nil && (b.Number != n || b.KeyID != id || string(b.TokenKey) != id || !b.Enrolled.Equal(at)) {
			t.Errorf("got %+v", b)
		}
		return err
	}
	same(t, "no such token", use(9, "A", now), enroll.ErrToken)
	same(t, "token", use(1, "A", now), nil)
	same(t, "again, the answer was lost", use(1, "A", now), nil)
	same(t, "by another box", use(1, "B", now), enroll.ErrToken)
	same(t, "another token", s.AddToken(t.Context(), n, hash(2), now.Add(time.Hour)), nil)
	same(t, "hardware replaced", use(2, "B", now), nil)
	same(t, "the old one does not get back in", use(1, "A", now), enroll.ErrToken)
	same(t, "a third token", s.AddToken(t.Context(), n, hash(3), now.Add(time.Hour)), nil)
	same(t, "expired", use(3, "C", now.Add(2*time.Hour)), enroll.ErrToken)
	same(t, "a used one does not expire for who used it", use(2, "B", now.Add(2*time.Hour)), nil)
	same(t, "revoke", s.RevokeBox(t.Context(), n, now), nil)
	same(t, "revoked", use(2, "B", now), enroll.ErrRevoked)
	if b, err := s.Box(t.Context(), n); err != nil || b.KeyID != "B" {
		t.Errorf("got %+v, %v", b, err)
	}
}

func tokenOnce(t *testing.T, s Store) {
	token := [32]byte{7}
	if _, err := s.AddBox(t.Context(), fleet.Box{Branch: "Harar", Kiosks: 1, Created: now}, token, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var in, out atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := s.UseToken(t.Context(), token, enroll.Key{ID: fmt.Sprint(i), TokenKey: []byte("k")}, now)
			switch {
			case err == nil:
				in.Add(1)
			case errors.Is(err, enroll.ErrToken):
				out.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || out.Load() != 15 {
		t.Errorf("%d got in, %d did not; want 1 and 15", in.Load(), out.Load())
	}
}

func contact(t *testing.T, s Store) {
	n := addBox(t, s, "Harar")
	at := now.Add(-time.Hour)
	r := &wire.Report{Time: at, Clock: "synced", Release: "2026.11", Epoch: epoch, Dead: 2, Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 3, Oldest: &at}}}
	older := &wire.Report{Time: at, Release: "2026.10", Epoch: epoch}
	want, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		c       fleet.Contact
		at      time.Time
		pending int
		want    []byte
		drift   time.Duration
	}{
		{"without a report", fleet.Contact{At: now, Pending: 5}, now, 5, nil, 0},
		{"with one", fleet.Contact{At: now.Add(9 * time.Second), Pending: 3, Report: r, Reported: now.Add(5 * time.Second), Drift: -time.Hour}, now.Add(9 * time.Second), 3, want, -time.Hour},
		{"an older one, of another hub", fleet.Contact{At: now.Add(8 * time.Second), Pending: 7, Report: older, Reported: now.Add(4 * time.Second), Drift: time.Minute}, now.Add(9 * time.Second), 3, want, -time.Hour},
		{"an older one, after a later contact", fleet.Contact{At: now.Add(20 * time.Second), Pending: 7, Report: older, Reported: now.Add(4 * time.Second), Drift: time.Minute}, now.Add(20 * time.Second), 7, want, -time.Hour},
	} {
		if err := s.SaveContact(t.Context(), n, tt.c); err != nil {
			t.Fatal(err)
		}
		b, err := s.Box(t.Context(), n)
		if err != nil || !b.Contact.Equal(tt.at) || b.Pending != tt.pending || b.Drift != tt.drift || b.Report != nil && !b.Reported.Equal(now.Add(5*time.Second)) {
			t.Errorf("%s: got %+v, %v", tt.name, b, err)
		}
		var got []byte
		if b.Report != nil {
			if got, err = json.Marshal(b.Report); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, tt.want) {
			t.Errorf("%s: report: got %s, want %s", tt.name, got, tt.want)
		}
	}
	if err := s.SaveContact(t.Context(), n, fleet.Contact{At: now.Add(time.Minute), Pending: fleet.PendingUnknown}); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Box(t.Context(), n); err != nil || b.Report == nil || b.Pending != fleet.PendingUnknown {
		t.Errorf("without a report: got %+v, %v", b, err)
	}
}

func requests(t *testing.T, s Store) {
	const harar, niguarda = 1, 2
	leave := func(box uint32, code, certificate string, at time.Time) {
		t.Helper()
		q := ingest.Request{Box: box, Request: wire.Request{Code: code, Certificates: []string{certificate}, Left: at}}
		older := q
		older.Certificates = []string{"older"}
		write(t, s, chain(box, envelope.Legal), ingest.Changes{Received: at, Requests: []ingest.Request{older, q}})
	}
	at := now
	leave(harar, "234567", "residenza", at)
	leave(harar, "CFGHJM", "nascita", at)
	leave(niguarda, "234567", "stato-di-famiglia", at.Add(time.Second))
	for _, tt := range []struct {
		name string
		box  uint32
		code string
		wait time.Duration
		take bool
		want string
		err  error
	}{
		{"what was left here comes first", niguarda, "234567", 0, false, "stato-di-famiglia", nil},
		{"at a third branch, what was left first", 3, "234567", 0, false, "residenza", nil},
		{"weeks later", niguarda, "CFGHJM", 29 * 24 * time.Hour, false, "nascita", nil},
		{"taken", harar, "CFGHJM", 0, true, "", nil},
		{"taken again by the same box", harar, "CFGHJM", pickup.Again - time.Minute, true, "", nil},
		{"found again by the same box", harar, "CFGHJM", 0, false, "nascita", nil},
		{"not by another", niguarda, "CFGHJM", 0, false, "", pickup.ErrNone},
		{"nor taken by another", niguarda, "CFGHJM", 0, true, "", pickup.ErrNone},
		{"too late to ask again", harar, "CFGHJM", 2 * time.Minute, false, "", pickup.ErrNone},
		{"no such code", harar, "XXXXXX", 0, false, "", pickup.ErrNone},
		{"a month later", niguarda, "234567", 24 * time.Hour, false, "", pickup.ErrNone},
	} {
		at = at.Add(tt.wait)
		var r wire.Request
		var err error
		if tt.take {
			err = s.TakeRequest(t.Context(), tt.code, tt.box, at)
		} else {
			r, err = s.FindRequest(t.Context(), tt.code, tt.box, at)
		}
		same(t, tt.name, err, tt.err)
		if tt.want != "" && (len(r.Certificates) != 1 || r.Certificates[0] != tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, r.Certificates, tt.want)
		}
	}
	// What was collected comes once more, on a second history of the chain.
	once := ingest.Request{Box: harar, Request: wire.Request{Code: "GHJMPQ", Certificates: []string{"nascita"}, Left: at}}
	for i, want := range []error{nil, pickup.ErrNone} {
		at = at.Add(pickup.Again + time.Minute)
		write(t, s, chain(harar, envelope.Legal), ingest.Changes{Received: at, Requests: []ingest.Request{once, once}})
		same(t, fmt.Sprint("delivered and collected ", i), s.TakeRequest(t.Context(), once.Code, niguarda, at), want)
	}
	leave(harar, "CFGHJM", "new", at)
	if r, err := s.FindRequest(t.Context(), "CFGHJM", niguarda, at); err != nil || r.Certificates[0] != "new" {
		t.Errorf("a code given out again: %+v, %v", r, err)
	}
	var taken atomic.Int32
	var wg sync.WaitGroup
	for box := range uint32(8) {
		wg.Go(func() {
			err := s.TakeRequest(t.Context(), "CFGHJM", box+10, at)
			switch {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, pickup.ErrNone):
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("%d boxes took the same request", taken.Load())
	}
}

// boxFigures tests what a store counts of each box.
func boxFigures(t *testing.T, s Store) {
	n, other := addBox(t, s, "Harar"), addBox(t, s, "Niguarda")
	id := chain(n, envelope.Session)
	b := grow(t, s, id, 2, now, func(r *ingest.Row) {
		if r.Seq == 2 {
			*r = stretch(r, 5)
		}
	})
	fork := ingest.Branch{ID: id, Number: 1, Parent: 0, From: 2, Seq: 1, Head: envelope.Genesis(id.Chain)}
	rows, after := follow(fork, 1, "fork", nil)
	write(t, s, id, ingest.Changes{
		Received: now, Rows: rows, Branches: []ingest.Branch{b, after},
		Alarms: []ingest.Alarm{{Box: n, At: now, Kind: "fork", Key: "a"}, {Box: n, At: now, Kind: "gap", Key: "b"}},
	})
	bs, err := s.Boxes(t.Context())
	if err != nil || len(bs) != 2 {
		t.Fatalf("%+v, %v", bs, err)
	}
	if b := bs[0]; b.Alarms != 2 || b.Gaps != 1 || b.Forks != 1 {
		t.Errorf("%d alarms, %d gaps, %d forks; want 2, 1, 1", b.Alarms, b.Gaps, b.Forks)
	}
	if b := bs[1]; b.Number != other || b.Alarms != 0 || b.Gaps != 0 || b.Forks != 0 {
		t.Errorf("another box: %+v", b)
	}
	as, err := s.Alarms(t.Context(), false)
	if err != nil || len(as) != 2 {
		t.Fatalf("%+v, %v", as, err)
	}
	if err := s.AlarmDone(t.Context(), as[0].ID, now); err != nil {
		t.Fatal(err)
	}
	if bs, err = s.Boxes(t.Context()); err != nil || bs[0].Alarms != 1 {
		t.Errorf("after one was dealt with: %+v, %v", bs, err)
	}
}

// stretch makes a row the first of n that never come.
func stretch(r *ingest.Row, n uint64) ingest.Row {
	m := &envelope.Missing{Count: n, Reason: envelope.Dropped, Hash: envelope.Hash{byte(r.Seq), 0xaa}}
	return ingest.Row{ID: r.ID, Branch: r.Branch, Seq: r.Seq, Hash: m.Hash, Missing: m, Judged: ingest.Absent}
}
