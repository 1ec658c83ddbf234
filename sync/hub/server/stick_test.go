package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/outbox/outboxtest"
	"sportello.example/sync/seal"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

// desk returns a hub with its records, and the keys that boxes check it with.
func desk(t *testing.T) (*sticks, *records, []ed25519.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	r, err := openRecords(t.Context(), dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	k, err := loadKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSticks(r, k, time.Now, slog.New(slog.DiscardHandler))
	return s, r, []ed25519.PublicKey{k.token.Public().(ed25519.PublicKey)}
}

// enrolled returns the identity of a new box that the hub has let in.
func enrolled(t *testing.T, r *records, branch string) (*identity.Identity, uint32) {
	t.Helper()
	id, err := identity.Create(filepath.Join(t.TempDir(), "identity"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	b, token, err := r.fleet.Add(t.Context(), branch, 1)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := r.ca.Issue(csr.PublicKey, b.Number, branch)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.UseToken(t.Context(), enroll.HashToken(token), enroll.Key{ID: ca.KeyID(leaf), TokenKey: id.TokenKey().PublicKey().Bytes()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{1}, 32)
	if err := id.Save(identity.Enrolment{
		Box: b.Number, Branch: branch, Kiosks: 1, Certificate: cert, CA: r.ca.Certificate().Raw, LoginEpoch: 1,
		KeyQR: key, KeyCode: key, HubTokenKey: key, HubSealKey: key,
	}); err != nil {
		t.Fatal(err)
	}
	return id, b.Number
}

// carry writes what waits in a queue to a file, as a box does.
func carry(t *testing.T, s *sticks, q stick.Queue, id *identity.Identity, box uint32) string {
	t.Helper()
	e := stick.Export{
		Box: box, Queue: q, Signer: id, Key: s.ring[0].Public(), Now: time.Now,
		Report: func(context.Context) (wire.Report, error) { return wire.Report{Release: "v1", Dead: 4}, nil },
	}
	h, err := e.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), h.Name())
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(t.Context(), f, h); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// bring takes a reply back to the queue, as a box does, and returns the desired state in it.
func bring(t *testing.T, path string, q outbox.Queue, box uint32, keys []ed25519.PublicKey) desired.Document {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	f, err := stick.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(box, keys); err != nil {
		t.Fatal(err)
	}
	if err := f.Replies(func(r wire.Reply) error {
		for _, a := range r.Acks {
			if _, err := outbox.Take(t.Context(), q, box, keys, a); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	signed, err := f.State()
	if err != nil {
		t.Fatal(err)
	}
	d, err := signed.Open(box, keys)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStick(t *testing.T) {
	s, r, keys := desk(t)
	id, box := enrolled(t, r, "Harar")
	q := outboxtest.NewQueue(box)
	for range 2500 { // more than a batch
		q.Add(envelope.Legal, "{}")
	}
	for range 10 {
		q.Add(envelope.Stats, "{}")
	}
	path := carry(t, s, q, id, box)
	for _, again := range []bool{false, true} {
		got, err := s.take(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if got.Box != box || got.Branch != "Harar" || got.Events != 2510 || got.Behind != 0 || got.Forked != 0 {
			t.Errorf("again %v: %+v", again, got)
		}
		if d := bring(t, got.Reply, q, box, keys); d.Version == 0 || d.Box != box {
			t.Errorf("desired state %+v", d)
		}
		if n := q.Queued(); n != 0 {
			t.Errorf("again %v: %d events wait", again, n)
		}
	}
	b, err := r.fleet.Box(t.Context(), box)
	if err != nil || b.Report == nil || b.Report.Dead != 4 {
		t.Errorf("the fleet knows %+v, %v", b.Report, err)
	}

	// An old file after a newer one: nothing is lost, and nothing comes twice.
	q.Add(envelope.Legal, "{}")
	newer, err := s.take(t.Context(), carry(t, s, q, id, box))
	if err != nil || newer.Events != 1 {
		t.Fatalf("%+v, %v", newer, err)
	}
	older, err := s.take(t.Context(), path)
	if err != nil || older.Forked != 0 {
		t.Fatalf("%+v, %v", older, err)
	}
	bring(t, older.Reply, q, box, keys)
	bring(t, newer.Reply, q, box, keys)
	if n := q.Queued(); n != 0 {
		t.Errorf("%d events wait", n)
	}
}

func TestStickOfAClone(t *testing.T) {
	s, r, keys := desk(t)
	id, box := enrolled(t, r, "Harar")
	q := outboxtest.NewQueue(box)
	q.Add(envelope.Legal, `{"a":1}`)
	clone := q.Copy()
	q.Add(envelope.Legal, `{"a":2}`)
	clone.Add(envelope.Legal, `{"a":3}`)
	if _, err := s.take(t.Context(), carry(t, s, q, id, box)); err != nil {
		t.Fatal(err)
	}
	got, err := s.take(t.Context(), carry(t, s, clone, id, box))
	if err != nil || got.Forked != 1 {
		t.Fatalf("%+v, %v: want one chain that exists twice", got, err)
	}
	bring(t, got.Reply, clone, box, keys)
}

// A disk that was put back tells by a stick what it has, and learns that the hub has more under the same numbers.
func TestStickOfADiskThatWasPutBack(t *testing.T) {
	for _, n := range []int{3, 7000} { // in one batch, and in several
		t.Run(fmt.Sprint(n, " events"), func(t *testing.T) {
			s, r, keys := desk(t)
			id, box := enrolled(t, r, "Harar")
			q := outboxtest.NewQueue(box)
			for i := range n {
				q.Add(envelope.Session, fmt.Sprintf(`{"a":%d}`, i))
			}
			old := q.Copy()
			q.Add(envelope.Session, `{"b":1}`)
			got, err := s.take(t.Context(), carry(t, s, q, id, box))
			if err != nil {
				t.Fatal(err)
			}
			bring(t, got.Reply, q, box, keys)
			if queued, renewed := q.Queued(), q.Renewed(); queued != 0 || len(renewed) != 0 {
				t.Fatalf("before: %d wait, new epochs %q", queued, renewed)
			}
			epoch := old.Epoch()
			if got, err = s.take(t.Context(), carry(t, s, old, id, box)); err != nil {
				t.Fatal(err)
			}
			bring(t, got.Reply, old, box, keys)
			if queued, renewed := old.Queued(), old.Renewed(); queued != 0 || len(renewed) != 1 || renewed[0] != "rolled_back" || old.Epoch() == epoch {
				t.Errorf("%d wait, new epochs %q, want one because of the disk", queued, renewed)
			}
		})
	}
}

func TestStickRefused(t *testing.T) {
	s, r, _ := desk(t)
	id, box := enrolled(t, r, "Harar")
	_, other := enrolled(t, r, "Gallaratese")
	q := outboxtest.NewQueue(box)
	q.Add(envelope.Legal, "{}")
	stranger, _, _ := desk(t)
	path := carry(t, s, q, id, box)
	if _, err := stranger.take(t.Context(), path); !errors.Is(err, ca.ErrForeign) {
		t.Errorf("another hub's box: %v", err)
	}
	if _, err := s.take(t.Context(), carry(t, s, outboxtest.NewQueue(other), id, other)); !errors.Is(err, stick.ErrBox) {
		t.Errorf("a box that says it is another: %v", err)
	}
	closed, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	lost := *s
	lost.ring = seal.Ring{closed}
	if _, err := lost.take(t.Context(), path); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a key that is lost: %v", err)
	}
	got, err := s.take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.take(t.Context(), got.Reply); !errors.Is(err, stick.ErrKind) {
		t.Errorf("its own reply: %v", err)
	}
	if _, err := s.export(t.Context(), 99, t.TempDir()); err == nil {
		t.Error("exported for a box that is not there")
	}
	if err := r.fleet.Revoke(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	if _, err := s.take(t.Context(), path); !errors.Is(err, enroll.ErrRevoked) {
		t.Errorf("shut out: %v", err)
	}
	if _, err := s.export(t.Context(), box, t.TempDir()); !errors.Is(err, errNotIn) {
		t.Errorf("exported for a box that was shut out: %v", err)
	}
	if err := stickErrors([]error{err, stick.ErrCut}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("errors in words: %v", err)
	}
}

func TestStickForABoxThatSaidNothing(t *testing.T) {
	s, r, keys := desk(t)
	id, box := enrolled(t, r, "Harar")
	q := outboxtest.NewQueue(box)
	e := q.Add(envelope.Session, "{}")
	s2 := *s
	at, err := s.export(t.Context(), box, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if d := bring(t, at, q, box, keys); d.Version == 0 {
		t.Errorf("desired state %+v", d)
	}
	if n := q.Queued(); n != 1 {
		t.Errorf("%d events wait, want 1", n)
	}
	if _, err := s2.take(t.Context(), carry(t, s, q, id, box)); err != nil {
		t.Fatal(err)
	}
	acks, err := s.acks(t.Context(), box, e.Chain.Epoch)
	if err != nil || len(acks) != 1 || acks[0].Seq != 1 || acks[0].Chain.Stream != envelope.Session {
		t.Errorf("what the hub has: %+v, %v", acks, err)
	}
}
