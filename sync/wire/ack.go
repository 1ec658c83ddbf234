package wire

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"time"

	"sportello.example/sync/envelope"
)

// Reply is the hub's answer to a batch. Nothing in it counts but what is signed: a proxy, a captive portal or a page of
// somebody else can answer 200 to anything.
type Reply struct {
	Acks    []Ack     `json:"acks"`              // one for each run of the batch, in its order; then others, of the same chains
	Refused []Refusal `json:"refused,omitempty"` // events that the hub will never take
}

// Ack is the hub's signed word on one chain of a box.
type Ack struct {
	Box   uint32         `json:"box"`
	Chain envelope.Chain `json:"chain"`
	Seq   uint64         `json:"seq"`  // every event up to this one is on the hub's disk, or known never to come; 0: none
	Head  envelope.Hash  `json:"head"` // of the chain after Seq: which events those are
	Safe  uint64         `json:"safe"` // up to here they are in a backup or on a replica too
	// Fork says that the hub has seen two different histories of this chain (a cloned or rolled-back disk). Both are
	// kept. The box goes on in a new epoch.
	Fork   bool      `json:"fork,omitempty"`
	Issued time.Time `json:"issued"` // by the hub's clock, to the second
	Sig    []byte    `json:"sig"`    // Ed25519
}

// Refusal is the hub's signed word that it will never take one event. The box puts it among the dead if it is the event
// that the box has under this number: a disk that was put back, or copied, may have another one there.
type Refusal struct {
	Box    uint32         `json:"box"`
	Chain  envelope.Chain `json:"chain"`
	Seq    uint64         `json:"seq"`
	Hash   envelope.Hash  `json:"hash"`   // of the chain after the event: which one it is
	Reason string         `json:"reason"` // too_long
	Sig    []byte         `json:"sig"`    // Ed25519
}

// ErrSignature means that a statement was not signed by the hub, or is about another box.
var ErrSignature = errors.New("not signed by the hub for this box")

// Sign returns the ack with its signature. Issued is cut to seconds.
func (a Ack) Sign(key ed25519.PrivateKey) Ack {
	a.Issued = a.Issued.UTC().Truncate(time.Second)
	a.Sig = ed25519.Sign(key, a.signed())
	return a
}

// Verify checks that one of keys signed the ack for box. It fails with ErrSignature.
func (a Ack) Verify(box uint32, keys []ed25519.PublicKey) error {
	if a.Box != box {
		return ErrSignature
	}
	return verify(a.signed(), a.Sig, keys)
}

func (a Ack) signed() []byte {
	b := chainBytes("sportello/ack/v1\x00", a.Box, a.Chain)
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	b = append(b, a.Head[:]...)
	b = binary.BigEndian.AppendUint64(b, a.Safe)
	fork := byte(0)
	if a.Fork {
		fork = 1
	}
	b = append(b, fork)
	return binary.BigEndian.AppendUint64(b, uint64(a.Issued.Unix())) //nolint:gosec // the bits are signed, not the number
}

// Sign returns the refusal with its signature.
func (r Refusal) Sign(key ed25519.PrivateKey) Refusal {
	r.Sig = ed25519.Sign(key, r.signed())
	return r
}

// Verify checks that one of keys signed the refusal for box. It fails with ErrSignature.
func (r Refusal) Verify(box uint32, keys []ed25519.PublicKey) error {
	if r.Box != box {
		return ErrSignature
	}
	return verify(r.signed(), r.Sig, keys)
}

func (r Refusal) signed() []byte {
	b := chainBytes("sportello/refusal/v1\x00", r.Box, r.Chain)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = append(b, r.Hash[:]...)
	return append(b, r.Reason...)
}

// chainBytes begins a statement: what it is about, without two ways to write the same.
func chainBytes(context string, box uint32, c envelope.Chain) []byte {
	b := append([]byte(context), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[len(context):], box)
	b = append(b, byte(len(c.Epoch)))
	b = append(b, c.Epoch...)
	return append(b, byte(c.Stream))
}

func verify(message, sig []byte, keys []ed25519.PublicKey) error {
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, sig) {
			return nil
		}
	}
	return ErrSignature
}
