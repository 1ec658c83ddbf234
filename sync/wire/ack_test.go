package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// key is always the same, so that signatures can be compared with those of before.
var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func keys(more ...ed25519.PublicKey) []ed25519.PublicKey {
	return append(more, key.Public().(ed25519.PublicKey))
}

func ack() wire.Ack {
	c := envelope.Chain{Epoch: "00112233445566778899aabbccddeeff", Stream: envelope.Legal}
	return wire.Ack{
		Box: 7, Chain: c, Seq: 300, Head: envelope.Genesis(c), Safe: 200,
		Issued: time.Date(2026, 11, 22, 9, 0, 0, 123, time.FixedZone("CET", 3600)),
	}.Sign(key)
}

func refusal() wire.Refusal {
	return wire.Refusal{Box: 7, Chain: ack().Chain, Seq: 300, Hash: envelope.Genesis(ack().Chain), Reason: "too_long"}.Sign(key)
}

// TestFrozenStatements holds the signatures of statements: a hub and a box of any two releases must agree on what is
// signed.
func TestFrozenStatements(t *testing.T) {
	const (
		wantAck     = "6b1194ddf3156bf8fffcb4dc7f40ed37e95235fa71bd6910c1d2e783dd8c9053750d75692974d7942a0a557d59a92c2c86d0471d1c6cffe508d3e6e166052d06"
		wantRefusal = "ce2da50bcffbc9e0acad4c01f586d48a55821095563a3a777b5cf879c95decba68b194ae03b1fc020ade22f2fb198682b37400e261d576d412dd3cd82a77af0b"
	)
	if got := hex.EncodeToString(ack().Sig); got != wantAck {
		t.Errorf("ack: %s", got)
	}
	if got := hex.EncodeToString(refusal().Sig); got != wantRefusal {
		t.Errorf("refusal: %s", got)
	}
}

func TestAck(t *testing.T) {
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	t.Run("is believed after it has travelled", func(t *testing.T) {
		b, err := json.Marshal(wire.Reply{Acks: []wire.Ack{ack()}, Refused: []wire.Refusal{refusal()}})
		if err != nil {
			t.Fatal(err)
		}
		var r wire.Reply
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r.Acks[0], ack()) {
			t.Errorf("got %+v, want %+v", r.Acks[0], ack())
		}
		if err := r.Acks[0].Verify(7, keys(nil, other)); err != nil {
			t.Error(err)
		}
		if err := r.Refused[0].Verify(7, keys()); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		name   string
		change func(*wire.Ack)
	}{
		{"box", func(a *wire.Ack) { a.Box++ }},
		{"epoch", func(a *wire.Ack) { a.Chain.Epoch = "00112233445566778899aabbccddeefe" }},
		{"shorter epoch", func(a *wire.Ack) { a.Chain.Epoch = a.Chain.Epoch[:30] }},
		{"stream", func(a *wire.Ack) { a.Chain.Stream++ }},
		{"number", func(a *wire.Ack) { a.Seq++ }},
		{"head", func(a *wire.Ack) { a.Head[31]++ }},
		{"safe", func(a *wire.Ack) { a.Safe++ }},
		{"fork", func(a *wire.Ack) { a.Fork = true }},
		{"time", func(a *wire.Ack) { a.Issued = a.Issued.Add(time.Second) }},
		{"signature", func(a *wire.Ack) { a.Sig = bytes.Clone(a.Sig); a.Sig[9]++ }},
		{"half a signature", func(a *wire.Ack) { a.Sig = a.Sig[:32] }},
		{"no signature", func(a *wire.Ack) { a.Sig = nil }},
		{"a refusal's signature", func(a *wire.Ack) { a.Sig = refusal().Sig }},
	} {
		t.Run("with another "+tt.name, func(t *testing.T) {
			a := ack()
			tt.change(&a)
			if err := a.Verify(a.Box, keys()); !errors.Is(err, wire.ErrSignature) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("for another box", func(t *testing.T) {
		if err := ack().Verify(8, keys()); !errors.Is(err, wire.ErrSignature) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("by another hub", func(t *testing.T) {
		for _, k := range [][]ed25519.PublicKey{nil, {other}, {nil}, {key.Public().(ed25519.PublicKey)[:31]}} {
			if err := ack().Verify(7, k); !errors.Is(err, wire.ErrSignature) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*wire.Refusal)
	}{
		{"box", func(r *wire.Refusal) { r.Box++ }},
		{"epoch", func(r *wire.Refusal) { r.Chain.Epoch = "00" }},
		{"stream", func(r *wire.Refusal) { r.Chain.Stream++ }},
		{"number", func(r *wire.Refusal) { r.Seq++ }},
		{"hash", func(r *wire.Refusal) { r.Hash[0] ^= 1 }},
		{"reason", func(r *wire.Refusal) { r.Reason += "x" }},
		{"signature", func(r *wire.Refusal) { r.Sig = ack().Sig }},
	} {
		t.Run("with another "+tt.name, func(t *testing.T) {
			r := refusal()
			tt.change(&r)
			if err := r.Verify(r.Box, keys()); !errors.Is(err, wire.ErrSignature) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := refusal().Verify(8, keys()); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("for another box: %v", err)
	}
}

func TestReport(t *testing.T) {
	r := wire.Report{Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 3, Kept: 10}, {Stream: envelope.Diag, Queued: 4}}}
	if n := r.Queued(); n != 7 {
		t.Errorf("%d are queued, want 7", n)
	}
}

func FuzzReply(f *testing.F) {
	b, err := json.Marshal(wire.Reply{Acks: []wire.Ack{ack()}, Refused: []wire.Refusal{refusal()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:100])
	f.Add([]byte(`{"acks":[{"box":7,"chain":{"epoch":"00","stream":"stream 9"},"seq":1e3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r wire.Reply
		if json.Unmarshal(b, &r) != nil {
			return
		}
		signed := ack()
		for _, a := range r.Acks {
			if a.Verify(7, keys()) != nil {
				continue
			}
			// Nobody but the hub can make one that counts.
			if a.Issued = a.Issued.UTC(); a.Box != signed.Box || a.Chain != signed.Chain || a.Seq != signed.Seq || a.Head != signed.Head ||
				a.Safe != signed.Safe || a.Fork != signed.Fork || a.Issued.Unix() != signed.Issued.Unix() {
				t.Errorf("believed: %+v", a)
			}
		}
		for _, no := range r.Refused {
			if want := refusal(); no.Verify(7, keys()) == nil && (no.Chain != want.Chain || no.Seq != want.Seq || no.Reason != want.Reason) {
				t.Errorf("believed: %+v", no)
			}
		}
	})
}
