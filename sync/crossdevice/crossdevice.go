// Package crossdevice lets a citizen log in at a kiosk with the browser of their own phone.
//
// The box makes a challenge and shows it as a QR; the phone opens it at the hub, logs in there, and shows a code of
// eight digits; the citizen types the code at the kiosk, and the box verifies it by itself, with no line to the hub.
// Who the citizen is comes afterwards, from the hub, in a token that only that box opens.
//
// The code is an OCRA response (RFC 6287) over the whole challenge, so it is good for this challenge, this kiosk and
// this level of assurance only. Keys are derived from the hub's master key by HKDF (RFC 5869), per box and epoch: the
// hub stores none, a stolen box opens only itself. The token is signed with Ed25519 (RFC 8032) inside HPKE (RFC 9180).
// The threats this answers are those of RFC 10027, cross-device flows.
package crossdevice

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// TTL is how long a challenge lives at the box. A slow login on a phone takes minutes, and a box without a line
// cannot see it progress: a shorter life would kill logins in flight.
const TTL = 8 * time.Minute

// The levels of assurance that a code can stand for (SpidL2, SpidL3).
const (
	Level2 uint8 = 2
	Level3 uint8 = 3
)

// Keys are the two secrets of one box in one epoch.
type Keys struct {
	QR   []byte // authenticates challenges: the hub refuses a QR that no box of its own made
	Code []byte // makes the codes
}

// Derive returns the keys of a box in an epoch. The hub keeps only master (32 random bytes); the box gets its two
// keys when it enrols and whenever its epoch changes.
func Derive(master []byte, box uint32, epoch uint16) Keys {
	key := func(label string) []byte {
		k, err := hkdf.Key(sha256.New, master, nil, fmt.Sprintf("sportello/%s/v1|%08x|%04x", label, box, epoch), 32)
		if err != nil {
			panic(err) // only for a key longer than 255 hashes, or a master key too short for FIPS 140: neither comes from outside
		}
		return k
	}
	return Keys{QR: key("qr"), Code: key("code")}
}

// Challenge is what the QR at a kiosk says.
type Challenge struct {
	Epoch uint16
	Box   uint32   // number of the box at the hub
	Kiosk uint8    // 1, 2 … within the branch
	T     uint32   // Unix time, seconds, by the box's clock; 0 when the box does not believe its clock
	Nonce [10]byte // random
}

// NonceHex returns the nonce in lower-case hexadecimal, as box and hub name a login between them.
func (c Challenge) NonceHex() string { return hex.EncodeToString(c.Nonce[:]) }

// ErrMalformed means that a text is no challenge at all.
var ErrMalformed = errors.New("not a challenge")

// ErrForged means that a challenge was not made by the box it names, or that the box is not known.
var ErrForged = errors.New("challenge not made by a known box")

// A challenge on the wire: version 1, epoch 2, box 4, kiosk 1, time 4, nonce 10, tag 8 bytes, big-endian, in base32
// without padding. In upper case a QR holds it in alphanumeric mode, which is two versions smaller.
const (
	version    = 1
	bodyLen    = 22
	tagLen     = 8
	encodedLen = 48
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// body returns what the tag and the code are computed over.
func (c Challenge) body() []byte {
	b := make([]byte, 0, bodyLen+tagLen)
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, c.Epoch)
	b = binary.BigEndian.AppendUint32(b, c.Box)
	b = append(b, c.Kiosk)
	b = binary.BigEndian.AppendUint32(b, c.T)
	return append(b, c.Nonce[:]...)
}

func tag(key, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil)[:tagLen]
}

// Encode returns the 48 upper-case characters that go into the QR.
func (c Challenge) Encode(k Keys) string {
	b := c.body()
	return encoding.EncodeToString(append(b, tag(k.QR, b)...))
}

// Decode reads what Encode made, in upper or lower case. It asks lookup for the keys of the box and epoch that the
// challenge names; lookup answers false for a box it does not know. Errors are ErrMalformed and ErrForged; with
// ErrForged the challenge is returned too, for the log, and nothing in it is to be believed.
func Decode(s string, lookup func(box uint32, epoch uint16) (Keys, bool)) (Challenge, error) {
	if len(s) != encodedLen {
		return Challenge{}, ErrMalformed
	}
	b, err := encoding.DecodeString(strings.ToUpper(s))
	if err != nil || len(b) != bodyLen+tagLen || b[0] != version {
		return Challenge{}, ErrMalformed
	}
	c := Challenge{
		Epoch: binary.BigEndian.Uint16(b[1:]),
		Box:   binary.BigEndian.Uint32(b[3:]),
		Kiosk: b[7],
		T:     binary.BigEndian.Uint32(b[8:]),
		Nonce: [10]byte(b[12:bodyLen]),
	}
	k, ok := lookup(c.Box, c.Epoch)
	if !ok || subtle.ConstantTimeCompare(tag(k.QR, b[:bodyLen]), b[bodyLen:]) != 1 {
		return c, ErrForged
	}
	return c, nil
}

// URL returns the address that the QR holds: the hub's public one (scheme, host, and a path if it has one) and the
// encoded challenge, all in upper case. The hub answers to /P/ and to /p/.
func URL(hubPublicURL, encoded string) string {
	return strings.ToUpper(strings.TrimRight(hubPublicURL, "/") + "/p/" + encoded)
}

// Code returns the eight digits that a phone shows after a login of the given level. Hub and box compute the same.
func Code(k Keys, c Challenge, level uint8) string {
	return loginSuite.response(k.Code, c.body(), fmt.Appendf(nil, "login|L%d", level))
}

// Spaced returns a code as people read it: "4821 7730".
func Spaced(code string) string {
	if len(code) != digits {
		return code
	}
	return code[:4] + " " + code[4:]
}
