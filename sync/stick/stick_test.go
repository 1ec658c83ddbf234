package stick_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sportello.example/provisioning/ca"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

var day = time.Date(2026, 11, 25, 10, 15, 0, 0, time.UTC)

func now() time.Time { return day }

// chain is a queue of events in memory, as the box's database keeps it.
type chain struct {
	c      envelope.Chain
	events [][]byte
}

func newChain(t *testing.T, n int) *chain {
	t.Helper()
	q := &chain{c: envelope.Chain{Epoch: envelope.NewEpoch(), Stream: envelope.Legal}}
	for i := range n {
		b, err := envelope.Envelope{
			Box: 7, Chain: q.c, Seq: uint64(i) + 1, Kind: "print.done", Schema: 2, Body: fmt.Appendf(nil, `{"kiosk":1,"detail":{"pages":%d}}`, i),
		}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		q.events = append(q.events, b)
	}
	return q
}

func (q *chain) Chains(context.Context) ([]outbox.Chain, error) {
	return []outbox.Chain{{Chain: q.c, Last: uint64(len(q.events)), Current: true}}, nil
}

func (q *chain) Read(_ context.Context, c envelope.Chain, after uint64, events, _ int) (envelope.Run, error) {
	r := envelope.Run{Chain: c, First: after + 1, Prev: envelope.Genesis(c)}
	for _, e := range q.events[:after] {
		r.Prev = r.Prev.Next(e)
	}
	r.Head = r.Prev
	for _, e := range q.events[after:min(len(q.events), int(after)+min(events, 100))] {
		r.Entries = append(r.Entries, envelope.Entry{Encoded: e})
		r.Head = r.Head.Next(e)
	}
	return r, nil
}

// signer is a box with a certificate.
type signer struct {
	key  *ecdsa.PrivateKey
	cert []byte
}

func (s signer) Sign(sum [32]byte) (sig, cert []byte, err error) {
	sig, err = ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	return sig, s.cert, err
}

func newSigner(t testing.TB) signer {
	t.Helper()
	authority, err := ca.Create(filepath.Join(t.TempDir(), "ca"), now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(key.Public(), 7, "Harar")
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, cert}
}

// export returns a file of n events and the key that opens it.
func export(t *testing.T, n int, limit int64) ([]byte, seal.PrivateKey, stick.Summary) {
	t.Helper()
	hub, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	e := stick.Export{Box: 7, Queue: newChain(t, n), Signer: newSigner(t), Key: hub.Public(), Now: now, Limit: limit, Report: func(context.Context) (wire.Report, error) {
		return wire.Report{Dead: n}, nil
	}}
	h, err := e.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	sum, err := e.Write(t.Context(), &b, h)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), hub, sum
}

// count returns how many numbers of chains a file covers.
func count(f *stick.File, ring seal.Ring) (n uint64, err error) {
	err = f.Batches(ring, func(b envelope.Batch) error {
		for _, r := range b.Runs {
			n += r.Last() - r.First + 1
		}
		return nil
	})
	return n, err
}

func TestEventsThereAndBack(t *testing.T) {
	for _, n := range []int{0, 1, 1234} {
		b, hub, sum := export(t, n, 0)
		f, err := stick.Open(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if f.Header.Box != 7 || f.Header.Name() != "box-7-20261125-101500.events" || sum.Events != uint64(n) || sum.Rest {
			t.Errorf("%d events: header %+v, summary %+v", n, f.Header, sum)
		}
		if cert, err := f.Signer(); err != nil || !strings.Contains(cert.Subject.CommonName, "box 7") {
			t.Errorf("signer: %v", err)
		}
		if got, err := count(f, seal.Ring{hub}); err != nil || got != uint64(n) {
			t.Errorf("got %d events, %v, want %d", got, err, n)
		}
		if r, err := f.Report(seal.Ring{hub}); err != nil || r.Dead != n {
			t.Errorf("report %+v, %v", r, err)
		}
		if bytes.Contains(b, []byte("print.done")) {
			t.Error("an event can be read in the file")
		}
		other, err := seal.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := count(f, seal.Ring{other}); n > 0 && !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opened with another key: %v", err)
		}
		if err := f.Check(7, nil); !errors.Is(err, stick.ErrKind) {
			t.Errorf("events taken for a reply: %v", err)
		}
	}
}

func TestLimit(t *testing.T) {
	b, hub, sum := export(t, 1000, 4000)
	f, err := stick.Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	n, err := count(f, seal.Ring{hub})
	if err != nil || n == 0 || n >= 1000 || n != sum.Events || !sum.Rest {
		t.Errorf("%d events, %v, summary %+v: want a part, and the word that there is more", n, err, sum)
	}
}

func TestDamage(t *testing.T) {
	b, _, _ := export(t, 300, 0)
	for cut := range len(b) {
		if _, err := stick.Open(bytes.NewReader(b[:cut])); !errors.Is(err, stick.ErrCut) && !errors.Is(err, stick.ErrForeign) {
			t.Fatalf("cut at %d of %d: %v", cut, len(b), err)
		}
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		f, err := stick.Open(bytes.NewReader(bad))
		if err == nil {
			_, err = f.Signer()
		}
		if err == nil {
			t.Fatalf("byte %d of %d may be changed", i, len(b))
		}
	}
	if _, err := stick.Open(bytes.NewReader(append(bytes.Clone(b), 0))); !errors.Is(err, stick.ErrMalformed) {
		t.Errorf("something after the end: %v", err)
	}
	if _, err := stick.Open(strings.NewReader("holiday.jpg")); !errors.Is(err, stick.ErrForeign) {
		t.Errorf("a picture: %v", err)
	}
}

func TestReply(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	blob := bytes.Repeat([]byte("0123456789abcdef"), 600_000) // more than one piece
	sum := sha256.Sum256(blob)
	name := hex.EncodeToString(sum[:])
	state, err := desired.Sign(desired.Document{Version: 3, Box: 7}, key)
	if err != nil {
		t.Fatal(err)
	}
	ack := wire.Ack{Box: 7, Chain: envelope.Chain{Epoch: envelope.NewEpoch(), Stream: envelope.Legal}, Seq: 5, Issued: day}.Sign(key)
	a := stick.Answer{
		Box: 7, Answers: "abc", Key: key, Now: now, Replies: []wire.Reply{{Acks: []wire.Ack{ack}}}, State: &state,
		Blobs: []desired.Blob{{Name: "prices.json", SHA256: name}},
		Blob:  func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil },
	}
	var b bytes.Buffer
	if err := a.Write(&b, a.Prepare()); err != nil {
		t.Fatal(err)
	}
	f, err := stick.Open(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	keys := []ed25519.PublicKey{public}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		box  uint32
		keys []ed25519.PublicKey
		want error
	}{
		{"right", 7, keys, nil},
		{"an old key beside a new one", 7, append([]ed25519.PublicKey{other}, keys...), nil},
		{"another box", 8, keys, stick.ErrBox},
		{"another hub", 7, []ed25519.PublicKey{other}, stick.ErrSignature},
		{"no key", 7, nil, stick.ErrSignature},
	} {
		if err := f.Check(tt.box, tt.keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := f.Signer(); !errors.Is(err, stick.ErrKind) {
		t.Errorf("reply taken for events: %v", err)
	}
	var got []wire.Ack
	if err := f.Replies(func(r wire.Reply) error { got = append(got, r.Acks...); return nil }); err != nil || len(got) != 1 || got[0].Verify(7, keys) != nil {
		t.Errorf("acks %+v, %v", got, err)
	}
	s, err := f.State()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Open(7, keys); err != nil || d.Version != 3 {
		t.Errorf("state %+v, %v", d, err)
	}
	var out bytes.Buffer
	if err := f.Blob(name, &out); err != nil || !bytes.Equal(out.Bytes(), blob) {
		t.Errorf("blob of %d bytes, %v", out.Len(), err)
	}
	if err := f.Blob(strings.Repeat("00", 32), io.Discard); !errors.Is(err, stick.ErrNone) {
		t.Errorf("a blob that is not there: %v", err)
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	hello := func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }
	at, err := stick.Place(dir, "box-7.events", hello)
	if err != nil || at != filepath.Join(dir, "box-7.events") {
		t.Fatalf("in a folder: %q, %v", at, err)
	}
	if at, err = stick.Place(filepath.Join(dir, "name"), "box-7.events", hello); err != nil || at != filepath.Join(dir, "name") {
		t.Fatalf("under a name: %q, %v", at, err)
	}
	for i, want := range []string{"box-7-2.events", "box-7-3.events"} { // never over another
		other := func(w io.Writer) error { _, err := fmt.Fprint(w, i); return err }
		at, err := stick.Place(dir, "box-7.events", other)
		if err != nil || at != filepath.Join(dir, want) {
			t.Fatalf("beside another: %q, %v, want %s", at, err, want)
		}
		if b, err := os.ReadFile(at); err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("%s holds %q, %v", want, b, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "box-7.events")); err != nil || string(b) != "hello" {
		t.Errorf("the first one holds %q, %v", b, err)
	}
	full := func(w io.Writer) error {
		_, _ = io.WriteString(w, "a part of it")
		return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	if _, err := stick.Place(filepath.Join(dir, "name"), "", full); !errors.Is(err, stick.ErrFull) {
		t.Errorf("full: %v", err)
	}
	if b, err := os.ReadFile(at); err != nil || string(b) != "hello" {
		t.Errorf("what was there before is %q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	pulled := func(io.Writer) error { return syscall.EIO }
	if _, err := stick.Place(dir, "x", pulled); !errors.Is(err, stick.ErrGone) {
		t.Errorf("pulled: %v", err)
	}
	if _, err := stick.Place(filepath.Join(dir, "nowhere", "x"), "", hello); err == nil {
		t.Error("written into a folder that is not there")
	}
}

func FuzzOpen(f *testing.F) {
	s := newSigner(f)
	hub, err := seal.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	q := &chain{c: envelope.Chain{Epoch: envelope.NewEpoch(), Stream: envelope.Stats}}
	e := stick.Export{Box: 7, Queue: q, Signer: s, Key: hub.Public(), Now: now}
	h, err := e.Prepare()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := e.Write(f.Context(), &b, h); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("SPORTELLO STICK 1\n\xff\xff\xff\xff"))
	f.Add([]byte("SPORTELLO STICK 1\n\x00\x00\x00\x1a{\"kind\":\"reply\",\"box\":7}\n\n\n\nA\x00\x00\x00\x01x\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := stick.Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		_, _ = file.Signer()
		_ = file.Check(7, nil)
		_ = file.Batches(seal.Ring{hub}, func(envelope.Batch) error { return nil })
		_ = file.Replies(func(wire.Reply) error { return nil })
		_, _ = file.State()
		_, _ = file.Report(seal.Ring{hub})
		_ = file.Blob(strings.Repeat("00", 32), io.Discard)
	})
}
