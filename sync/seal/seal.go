// Package seal closes what a box must keep but may not read: only the hub, which has the private key, can open it.
//
// It is HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. A sealed text is the
// encapsulated key (32 bytes) followed by the ciphertext, 48 bytes longer than the plain text. Anyone who has the
// public key can seal, so a sealed text proves nothing about who wrote it.
package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
)

// InfoRequest is the info of a wire.Request that a citizen left while the line was down, sealed as JSON into
// event.Event.Sealed.
const InfoRequest = "sportello/request/v1"

// Overhead is how many bytes longer a sealed text is than the plain text.
const Overhead = 32 + 16

// ErrOpen means that a sealed text was not made for this key and info, or was changed.
var ErrOpen = errors.New("sealed text does not open")

// PrivateKey opens what was sealed to its public half.
type PrivateKey struct{ k hpke.PrivateKey }

// NewKey makes a private key.
func NewKey() (PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make sealing key: %w", err)
	}
	return ParseKey(k.Bytes())
}

// ParseKey returns the key that PrivateKey.Bytes wrote.
func ParseKey(b []byte) (PrivateKey, error) {
	k, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(b)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("parse sealing key: %w", err)
	}
	return PrivateKey{k}, nil
}

// Bytes returns the key in 32 bytes. Keep them secret.
func (p PrivateKey) Bytes() ([]byte, error) { return p.k.Bytes() }

// Public returns the public half in 32 bytes, for Seal.
func (p PrivateKey) Public() []byte { return p.k.PublicKey().Bytes() }

// String keeps the key out of logs.
func (PrivateKey) String() string { return "***" }

// GoString keeps the key out of logs.
func (PrivateKey) GoString() string { return "***" }

// Seal closes plain for the owner of the public key hubPub. It opens only with the same info, which says what kind of
// text it is.
func Seal(hubPub []byte, info string, plain []byte) ([]byte, error) {
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(hubPub)
	if err != nil {
		return nil, fmt.Errorf("seal: public key: %w", err)
	}
	b, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), plain)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return b, nil
}

// Open opens what Seal closed. It fails with ErrOpen.
func Open(priv PrivateKey, info string, sealed []byte) ([]byte, error) {
	b, err := hpke.Open(priv.k, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	return b, nil
}
