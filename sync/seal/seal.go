// Package seal closes what a box must keep but may not read: only the hub, which has the private key, can open it.
//
// It is HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. A Sealer does the public
// key's work once and then closes each text with AES-256-GCM under the secret that HPKE exported (§5.3), bound to the
// event that the text belongs to. A closed text says which hub key it is for, so that a hub can change its key while
// boxes that had no line for weeks still hold what was closed to the old one. Anyone who has the public key can seal, so
// a sealed text proves nothing about who wrote it.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Of a sealed text: version, key ID, encapsulated key, nonce, ciphertext, tag.
const (
	version  = 2
	encSize  = 32
	nonce    = 12
	header   = 1 + idSize + encSize
	Overhead = header + nonce + 16 // bytes by which a sealed text is longer than the plain text
)

const (
	infoQueue  = "sportello/queue/v2"
	exportName = "sportello/queue/v2/aes-256-gcm"
	// infoRequestV1 is the info of what boxes of the first release sealed.
	infoRequestV1 = "sportello/request/v1"
)

// ErrOpen means that a sealed text was not made for these keys and this event, or was changed.
var ErrOpen = errors.New("sealed text does not open")

// ErrNoKey means that there is no public key to seal to.
var ErrNoKey = errors.New("no key of the hub to seal to")

const idSize = 8

// KeyID names a hub key: the first eight bytes of the SHA-256 of its public half.
type KeyID [idSize]byte

// ID returns the name of the key with this public half.
func ID(public []byte) KeyID {
	sum := sha256.Sum256(public)
	return KeyID(sum[:idSize])
}

// String returns the name in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

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

// Public returns the public half in 32 bytes.
func (p PrivateKey) Public() []byte { return p.k.PublicKey().Bytes() }

// ID returns the name of the key.
func (p PrivateKey) ID() KeyID { return ID(p.Public()) }

// String keeps the key out of logs.
func (PrivateKey) String() string { return "***" }

// GoString keeps the key out of logs.
func (PrivateKey) GoString() string { return "***" }

// renewEvery is for how long one encapsulated key serves: whoever gets hold of a box's memory learns no more than a
// day's secret.
const renewEvery = 24 * time.Hour

// Sealer closes texts to one hub key at a time. It is safe for concurrent use. Make one with NewSealer.
type Sealer struct {
	now func() time.Time

	mu     sync.Mutex
	public []byte
	prefix []byte // header of what is sealed
	aead   cipher.AEAD
	made   time.Time
}

// NewSealer returns a sealer without a key.
func NewSealer(now func() time.Time) *Sealer { return &Sealer{now: now} }

// Use makes the sealer close to this public key (32 bytes) from now on.
func (s *Sealer) Use(public []byte) error {
	if _, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(public); err != nil {
		return fmt.Errorf("seal: public key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(s.public) != string(public) {
		s.public, s.aead = append([]byte(nil), public...), nil
	}
	return nil
}

// Seal closes plain for the owner of the key in use. It opens only with the same aad: see envelope.Envelope.AAD. It
// fails with ErrNoKey.
func (s *Sealer) Seal(aad, plain []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.public == nil {
		return nil, ErrNoKey
	}
	if age := s.now().Sub(s.made); s.aead == nil || age > renewEvery || age < 0 {
		if err := s.renew(); err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
	}
	out := append(make([]byte, 0, Overhead+len(plain)), s.prefix...)
	var n [nonce]byte
	_, _ = rand.Read(n[:]) // never fails
	out = append(out, n[:]...)
	return s.aead.Seal(out, n[:], plain, aad), nil
}

// renew encapsulates a new secret. The caller holds mu.
func (s *Sealer) renew() error {
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(s.public)
	if err != nil {
		return err
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(infoQueue))
	if err != nil {
		return err
	}
	secret, err := sender.Export(exportName, 32)
	if err != nil {
		return err
	}
	if s.aead, err = gcm(secret); err != nil {
		return err
	}
	id := ID(s.public)
	s.prefix = append(append([]byte{version}, id[:]...), enc...)
	s.made = s.now()
	return nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// KeyOf returns the name of the hub key that a sealed text is for, false when it does not say.
func KeyOf(sealed []byte) (KeyID, bool) {
	if len(sealed) < Overhead || sealed[0] != version {
		return KeyID{}, false
	}
	return KeyID(sealed[1 : 1+idSize]), true
}

// Ring is the private keys of a hub, the one in use and older ones.
type Ring []PrivateKey

// Open opens what a Sealer closed with aad. It fails with ErrOpen.
func (r Ring) Open(aad, sealed []byte) ([]byte, error) {
	id, ok := KeyOf(sealed)
	if !ok {
		return nil, fmt.Errorf("%w: not a sealed text", ErrOpen)
	}
	for _, k := range r {
		if k.ID() != id {
			continue
		}
		recipient, err := hpke.NewRecipient(sealed[1+idSize:header], k.k, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(infoQueue))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		secret, err := recipient.Export(exportName, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		aead, err := gcm(secret)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		plain, err := aead.Open(nil, sealed[header:header+nonce], sealed[header+nonce:], aad)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w: closed to key %s, which is not here", ErrOpen, id)
}

// OpenRequestV1 opens what a box of the first release sealed (event.V1): a wire.Request in JSON, to a key that it does
// not name. It fails with ErrOpen.
func (r Ring) OpenRequestV1(sealed []byte) ([]byte, error) {
	err := ErrOpen
	for _, k := range r {
		var plain []byte
		if plain, err = hpke.Open(k.k, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(infoRequestV1), sealed); err == nil {
			return plain, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrOpen, err)
}
