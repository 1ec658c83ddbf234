package box

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/kiosk"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
	"sportello.example/sync/outbox/outboxtest"
	"sportello.example/sync/seal"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

// enrolled returns the identity of box 7, which a hub that signs and opens with these keys has let in.
func enrolled(t *testing.T, hub *outboxtest.Hub) (*identity.Identity, seal.PrivateKey) {
	t.Helper()
	authority, err := ca.Create(filepath.Join(t.TempDir(), "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
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
	cert, err := authority.Issue(csr.PublicKey, 7, "Harar")
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	any32 := bytes.Repeat([]byte{1}, 32)
	if err := id.Save(identity.Enrolment{
		Box: 7, Branch: "Harar", Kiosks: 1, Certificate: cert, CA: authority.Certificate().Raw, LoginEpoch: 1,
		KeyQR: any32, KeyCode: any32, HubTokenKey: hub.Keys()[0], HubSealKey: key.Public(),
	}); err != nil {
		t.Fatal(err)
	}
	return id, key
}

// newQueue returns the queue of a box in dir; believing makes it box 7.
func newQueue(t *testing.T, dir string, log io.Writer, now func() time.Time) *queue {
	t.Helper()
	c := Config{Data: dir}
	if err := c.defaults(); err != nil {
		t.Fatal(err)
	}
	clk := clock.New(clock.Config{Now: now, Machine: time.Now})
	q, err := openQueue(t.Context(), c, now, clk, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func believing(t *testing.T, q *queue, id *identity.Identity) {
	t.Helper()
	if err := q.follow(id, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	e, err := id.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.believe(id, e); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.follower.Load().Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// queued returns the envelopes that wait, by kind.
func queued(t *testing.T, q *queue) map[string]envelope.Envelope {
	t.Helper()
	cs, err := q.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]envelope.Envelope{}
	for _, c := range cs {
		run, err := q.Read(t.Context(), c.Chain, c.Cursor, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range run.Entries {
			env, err := envelope.Parse(e.Encoded)
			if err != nil {
				t.Fatal(err)
			}
			all[env.Kind] = env
		}
	}
	return all
}

func TestQueueSealsForTheHub(t *testing.T) {
	hub := outboxtest.NewHub(time.Now)
	id, key := enrolled(t, hub)
	q := newQueue(t, t.TempDir(), io.Discard, time.Now)
	left := event.Event{Kind: event.RequestLeft, Kiosk: 1, Private: []byte(`{"code":"234567"}`)}
	if err := q.Record(t.Context(), kiosk.SessionRow{}, left); err == nil {
		t.Error("a request was taken that nobody could ever open")
	}
	believing(t, q, id)
	if err := q.Record(t.Context(), kiosk.SessionRow{}, left); err != nil {
		t.Fatal(err)
	}
	e := queued(t, q)[string(event.RequestLeft)]
	if bytes.Contains(e.Body, []byte("234567")) || bytes.Contains(e.Sealed, []byte("234567")) {
		t.Error("the request can be read on the box")
	}
	if plain, err := (seal.Ring{key}).Open(e.AAD(), e.Sealed); err != nil || string(plain) != `{"code":"234567"}` {
		t.Errorf("the hub reads %q, %v", plain, err)
	}
	if e.Box != 7 || e.At.Boot == 0 {
		t.Errorf("the event says box %d, start %d", e.Box, e.At.Boot)
	}
}

func TestQueueLearnsTheTime(t *testing.T) {
	q := newQueue(t, t.TempDir(), io.Discard, func() time.Time { return time.Unix(0, 0) })
	hub := time.Now().UTC().Truncate(time.Second)
	for range 3 {
		q.hubSaid(t.Context(), hub, 0)
	}
	e, ok := queued(t, q)[string(event.ClockSet)]
	if !ok || e.Seq > 3 {
		t.Fatalf("clock.set: %v, number %d", ok, e.Seq)
	}
	var b event.Body
	if err := json.Unmarshal(e.Body, &b); err != nil || b.Detail.Clock == nil {
		t.Fatalf("%s: %v", e.Body, err)
	}
	if c := b.Detail.Clock; c.Boot != q.Boot() || !c.New.Equal(hub) || c.Old.Year() != 1970 {
		t.Errorf("got %+v", c)
	}
	if r, err := q.report(t.Context()); err != nil || r.Clock != "synced" || r.Time.Sub(hub).Abs() > time.Minute {
		t.Errorf("report says %s, %s, %v", r.Clock, r.Time, err)
	}
}

func TestRenewSaysWhy(t *testing.T) {
	for reason, want := range map[string]string{
		"forked":      "the box's disk was cloned, or an old copy of it put back",
		"rolled_back": "the box's disk was put back to an older state",
	} {
		var log bytes.Buffer
		q := newQueue(t, t.TempDir(), &log, time.Now)
		c := envelope.Chain{Epoch: q.Epoch(), Stream: envelope.Legal}
		for range 2 { // the second time it has been done
			if err := q.Renew(t.Context(), c, reason); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%s: said %d times: %s", reason, n, log.String())
		}
		if q.Epoch() == c.Epoch {
			t.Errorf("%s: still in epoch %s", reason, c.Epoch)
		}
	}
}

// answer is a file of the hub for box 7.
func answer(t *testing.T, box uint32, key ed25519.PrivateKey, replies []wire.Reply, d *desired.Document) *bytes.Reader {
	t.Helper()
	a := stick.Answer{Box: box, Key: key, Now: time.Now, Replies: replies}
	if d != nil {
		signed, err := desired.Sign(*d, key)
		if err != nil {
			t.Fatal(err)
		}
		a.State = &signed
	}
	var b bytes.Buffer
	if err := a.Write(&b, a.Prepare()); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func TestReplyOfTheHub(t *testing.T) {
	hub := outboxtest.NewHub(time.Now)
	id, key := enrolled(t, hub)
	q := newQueue(t, t.TempDir(), io.Discard, time.Now)
	if _, err := q.export(); !errors.Is(err, errAlone) {
		t.Errorf("exported before any hub could read it: %v", err)
	}
	if _, err := q.take(t.Context(), bytes.NewReader(nil)); !errors.Is(err, errAlone) {
		t.Errorf("imported before any hub could have written it: %v", err)
	}
	believing(t, q, id)
	if err := q.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}, event.Event{Kind: event.SessionEnded}); err != nil {
		t.Fatal(err)
	}
	e, err := q.export()
	if err != nil {
		t.Fatal(err)
	}
	h, err := e.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := e.Write(t.Context(), &file, h); err != nil {
		t.Fatal(err)
	}
	f, err := stick.Open(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var replies []wire.Reply
	if err := f.Batches(seal.Ring{key}, func(b envelope.Batch) error {
		r, err := hub.Deliver(t.Context(), b)
		replies = append(replies, r)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// While the file was on its way, something else has happened.
	if err := q.Enqueue(t.Context(), event.Event{Kind: event.LineDown}); err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	first := &desired.Document{Version: 4, Box: 7, Notices: []desired.Notice{{ID: "n", Severity: desired.Info, Text: map[string]string{"it": "Chiuso"}}}}
	for _, tt := range []struct {
		name string
		file *bytes.Reader
		err  error
		want Imported // without Acks
	}{
		{"for another box", answer(t, 8, hub.Key(), replies, nil), stick.ErrBox, Imported{}},
		{"from another hub", answer(t, 7, stranger, replies, nil), stick.ErrSignature, Imported{}},
		{"its own file", bytes.NewReader(file.Bytes()), stick.ErrKind, Imported{}},
		{"the reply", answer(t, 7, hub.Key(), replies, first), nil, Imported{Queued: 1, State: 4}},
		{"again", answer(t, 7, hub.Key(), replies, first), nil, Imported{Queued: 1, State: 4}},
		{"an older state", answer(t, 7, hub.Key(), nil, &desired.Document{Version: 3, Box: 7}), nil, Imported{Queued: 1, State: 4, StateKept: "those here, of version 4, are newer than version 3"}},
		{"acknowledgements of another box in it", answer(t, 7, hub.Key(), []wire.Reply{{Acks: []wire.Ack{wire.Ack{Box: 8, Seq: 9}.Sign(hub.Key())}}}, nil), outbox.ErrAck, Imported{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := q.take(t.Context(), tt.file)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if got.Acks = 0; tt.err == nil && got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	if ns := q.follower.Load().Notices(); len(ns) != 1 || ns[0].Text["it"] != "Chiuso" {
		t.Errorf("notices %+v", ns)
	}
}
