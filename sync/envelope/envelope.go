// Package envelope is the form in which events are kept on a box, travel and are stored at the hub: a small header that
// everybody must understand, around a body that nobody needs to understand to keep it.
//
// The form is frozen. A box never rewrites what it has queued, and a hub stores what it cannot read. Events are
// numbered 1, 2, 3 … within (box, epoch, stream), and each is chained to the one before it by SHA-256, so that neither
// side can lose, swap or change one without the other seeing it.
package envelope

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of what is read and written.
const (
	MaxEncoded = 64 << 10 // bytes of one encoded envelope
	MaxKind    = 64       // bytes of a kind
	maxEpoch   = 32       // bytes of an epoch
	version    = 1
)

// ErrMalformed means that bytes are not an envelope, or an envelope cannot be encoded.
var ErrMalformed = errors.New("not an envelope")

// Stream is one of the parts of a queue. Each has numbers of its own and is drained beside the others, so that a
// million samples never stand before one consent.
type Stream uint8

// The streams. The numbers are stored and sent.
const (
	All     Stream = 0 // everything, as boxes of the first release numbered it; no new event goes here
	Legal   Stream = 1 // what somebody may have to prove: consent, requests, paper; what is known to be lost. Never dropped.
	Session Stream = 2 // what happened at the counter
	Stats   Stream = 3 // how people used it
	Diag    Stream = 4 // how the box is
)

var streamNames = [...]string{"all", "legal", "session", "stats", "diag"}

// Streams lists all streams, most urgent first.
func Streams() []Stream { return []Stream{All, Legal, Session, Stats, Diag} }

// String returns the stream's name.
func (s Stream) String() string {
	if int(s) < len(streamNames) {
		return streamNames[s]
	}
	return fmt.Sprintf("stream %d", uint8(s))
}

// Known reports whether s is one of the streams above. A hub keeps events of others too.
func (s Stream) Known() bool { return int(s) < len(streamNames) }

// MarshalText writes the stream's name.
func (s Stream) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the stream's name.
func (s *Stream) UnmarshalText(b []byte) error {
	for i, n := range streamNames {
		if n == string(b) {
			*s = Stream(i) //nolint:gosec // there are five
			return nil
		}
	}
	number, ok := strings.CutPrefix(string(b), "stream ")
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil || Stream(n).Known() {
		return fmt.Errorf("%q is not a stream", b)
	}
	*s = Stream(n)
	return nil
}

// Epoch names one numbering of a box: random, 32 lower-case hexadecimal digits (16 in the first release). A box begins
// a new one whenever it cannot be sure that it knows every number it has given out.
type Epoch string

// NewEpoch makes an epoch.
func NewEpoch() Epoch {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return Epoch(hex.EncodeToString(b[:]))
}

// Valid reports whether e is 2 to 64 lower-case hexadecimal digits.
func (e Epoch) Valid() bool {
	b, err := hex.DecodeString(string(e))
	return err == nil && len(b) > 0 && len(b) <= maxEpoch && strings.ToLower(string(e)) == string(e)
}

// Chain names one numbering of one stream. The box it belongs to is known from elsewhere: who sent it.
type Chain struct {
	Epoch  Epoch  `json:"epoch"`
	Stream Stream `json:"stream"`
}

// String returns "epoch/stream".
func (c Chain) String() string { return string(c.Epoch) + "/" + c.Stream.String() }

// Quality says how far a wall-clock time can be believed.
type Quality uint8

// The qualities. The numbers are stored and sent.
const (
	Unknown Quality = 0 // the clock was never set, or is known to be wrong
	Free    Quality = 1 // plausible, but the hub has not confirmed it since the box started
	Synced  Quality = 2 // agreed with the hub's
)

// Stamp says when something happened, three times over: a box has no battery, and its wall clock may say 1970.
type Stamp struct {
	Wall    time.Time     // by the wall clock, to the millisecond
	Boot    uint32        // which start of the box it was, from 1; 0 when not known
	Mono    time.Duration // since that start, to the millisecond: right even when Wall is not
	Quality Quality       // of Wall
}

// Envelope is one event.
type Envelope struct {
	Box    uint32 // number of the box when it was written, 0 before it was enrolled
	Chain  Chain
	Seq    uint64 // 1, 2, 3 … within (box, chain), no holes, never used twice
	Kind   string // what happened; see package event
	Schema uint8  // version of Body: see package event
	At     Stamp
	Body   []byte // JSON
	Sealed []byte // what only the hub may read, closed with AAD; see package seal
}

// AAD is what binds a sealed part to its event: the same bytes under another number do not open.
func (e Envelope) AAD() []byte {
	b, _ := e.head(nil) // what cannot be encoded is refused by Append
	return append(b, "|sealed"...)
}

// head appends what names the event.
func (e Envelope) head(b []byte) ([]byte, error) {
	epoch, err := hex.DecodeString(string(e.Chain.Epoch))
	if err != nil || !e.Chain.Epoch.Valid() {
		return b, fmt.Errorf("%w: epoch %q", ErrMalformed, e.Chain.Epoch)
	}
	if len(e.Kind) == 0 || len(e.Kind) > MaxKind || e.Seq == 0 || e.Seq > MaxSeq {
		return b, fmt.Errorf("%w: kind %q, number %d", ErrMalformed, e.Kind, e.Seq)
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(e.Box))
	b = append(b, byte(len(epoch)))
	b = append(b, epoch...)
	b = append(b, byte(e.Chain.Stream))
	b = binary.AppendUvarint(b, e.Seq)
	b = append(b, byte(len(e.Kind)))
	return append(b, e.Kind...), nil
}

// MaxSeq is the largest number an event can have.
const MaxSeq = 1<<40 - 1

// Append appends the encoded envelope to b. It fails with ErrMalformed when a field is out of range or the whole would
// be longer than MaxEncoded.
func (e Envelope) Append(b []byte) ([]byte, error) {
	start := len(b)
	b, err := e.head(b)
	if err != nil {
		return b[:start], err
	}
	b = append(b, e.Schema)
	b = binary.AppendVarint(b, e.At.Wall.UnixMilli())
	b = binary.AppendUvarint(b, uint64(e.At.Boot))
	b = binary.AppendUvarint(b, uint64(max(0, e.At.Mono.Milliseconds())))
	b = append(b, byte(e.At.Quality))
	b = appendBytes(b, e.Body)
	b = appendBytes(b, e.Sealed)
	if len(b)-start > MaxEncoded {
		return b[:start], fmt.Errorf("%w: %s of %d bytes", ErrMalformed, e.Kind, len(b)-start)
	}
	return b, nil
}

// Parse reads an encoded envelope. It fails with ErrMalformed. Body and Sealed share memory with b.
func Parse(b []byte) (Envelope, error) {
	if len(b) > MaxEncoded {
		return Envelope{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	r := &reader{b: b}
	if v := r.byte(); v != version {
		return Envelope{}, fmt.Errorf("%w: version %d", ErrMalformed, v)
	}
	var e Envelope
	e.Box = uint32(r.uvarint(1<<32 - 1)) //nolint:gosec // within the limit given
	e.Chain.Epoch = Epoch(hex.EncodeToString(r.take(int(r.byte()))))
	e.Chain.Stream = Stream(r.byte())
	e.Seq = r.uvarint(MaxSeq)
	e.Kind = string(r.take(int(r.byte())))
	e.Schema = r.byte()
	e.At.Wall = time.UnixMilli(r.varint()).UTC()
	e.At.Boot = uint32(r.uvarint(1<<32 - 1)) //nolint:gosec // within the limit given
	e.At.Mono = time.Duration(r.uvarint(maxMono)) * time.Millisecond
	e.At.Quality = Quality(r.byte())
	e.Body = r.bytes()
	e.Sealed = r.bytes()
	if r.bad || len(r.b) > 0 || e.Kind == "" || len(e.Kind) > MaxKind || e.Seq == 0 || !e.Chain.Epoch.Valid() {
		return Envelope{}, ErrMalformed
	}
	return e, nil
}

// maxMono is 100 years in milliseconds.
const maxMono = 100 * 366 * 24 * 3600 * 1000

func appendBytes(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

// HashSize is the size of a Hash in bytes.
const HashSize = sha256.Size

// Hash is the chain's hash after an event: it stands for that event and all before it.
type Hash [HashSize]byte

// Genesis is the hash before the first event of a chain.
func Genesis(c Chain) Hash {
	return sha256.Sum256([]byte("sportello/chain/v1|" + c.String()))
}

// Next returns the hash after the event whose encoded envelope is given.
func (h Hash) Next(encoded []byte) Hash {
	var short [1 << 10]byte // nearly every event: then nothing is allocated
	return sha256.Sum256(append(append(short[:0], h[:]...), encoded...))
}

// String returns the first eight bytes in hexadecimal, enough to compare by eye.
func (h Hash) String() string { return hex.EncodeToString(h[:8]) }

// MarshalText writes the whole hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h[:])), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return errors.New("not a SHA-256 hash")
	}
	_, err := hex.Decode(h[:], b)
	return err
}
