package crossdevice

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sportello.example/sync/citizen"
)

// Token tells a box who logged in. It lives in RAM, and travels only sealed.
type Token struct {
	Nonce      [10]byte // of the challenge that was answered
	Exp        uint32   // Unix time, seconds, by the hub's clock
	Level      uint8
	FiscalCode citizen.FiscalCode
	Name       citizen.Name
	FamilyName citizen.Name
}

// The reasons why a token does not open.
var (
	ErrTokenSealed    = errors.New("token not sealed to this box and kiosk")
	ErrTokenSignature = errors.New("token not signed by the hub")
	ErrTokenNonce     = errors.New("token of another challenge")
	ErrTokenExpired   = errors.New("token expired")
	ErrTokenMalformed = errors.New("token malformed")
)

const (
	tokenVersion = 1
	tokenContext = "sportello/token/v1"
	tokenHeader  = 1 + 10 + 4 + 1 // version, nonce, exp, level
	maxToken     = 2048           // bytes of a sealed token
)

// info binds a token to the box and the kiosk of its challenge.
func info(c Challenge) []byte { return fmt.Appendf(nil, "box %08x|kiosk %02x", c.Box, c.Kiosk) }

func signed(info, body []byte) []byte {
	return bytes.Join([][]byte{[]byte(tokenContext), info, body}, nil)
}

// SealToken signs t with the hub's key and seals it to the X25519 key of the box that made c. The names may have up to
// 255 bytes each.
func SealToken(t Token, hub ed25519.PrivateKey, box *ecdh.PublicKey, c Challenge) ([]byte, error) {
	body := append([]byte{tokenVersion}, t.Nonce[:]...)
	body = binary.BigEndian.AppendUint32(body, t.Exp)
	body = append(body, t.Level)
	for _, s := range []string{t.FiscalCode.Reveal(), t.Name.Reveal(), t.FamilyName.Reveal()} {
		if len(s) > 255 {
			return nil, errors.New("seal token: a field has more than 255 bytes")
		}
		body = append(body, byte(len(s)))
		body = append(body, s...)
	}
	if len(hub) != ed25519.PrivateKeySize {
		return nil, errors.New("seal token: no key to sign with")
	}
	in := info(c)
	body = append(body, ed25519.Sign(hub, signed(in, body))...)
	pub, err := hpke.NewDHKEMPublicKey(box)
	if err != nil {
		return nil, fmt.Errorf("seal token: %w", err)
	}
	ct, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES128GCM(), in, body)
	if err != nil {
		return nil, fmt.Errorf("seal token: %w", err)
	}
	return ct, nil
}

// OpenToken opens a token with the box's X25519 key and checks that the hub signed it for the challenge c, which must
// be the one whose code was typed, as Box.Enter or Box.Verified returned it.
//
// Pass the zero time as now when the box does not believe its clock: then only the challenge, which lives for
// minutes by the monotonic clock, limits the token's age. The errors are ErrToken….
func OpenToken(sealed []byte, hub ed25519.PublicKey, box *ecdh.PrivateKey, c Challenge, now time.Time) (Token, error) {
	if len(sealed) > maxToken {
		return Token{}, ErrTokenMalformed
	}
	key, err := hpke.NewDHKEMPrivateKey(box)
	if err != nil {
		return Token{}, fmt.Errorf("open token: %w", err)
	}
	in := info(c)
	m, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES128GCM(), in, sealed)
	if err != nil {
		return Token{}, ErrTokenSealed
	}
	if len(m) < ed25519.SignatureSize || len(hub) != ed25519.PublicKeySize {
		return Token{}, ErrTokenMalformed
	}
	body, sig := m[:len(m)-ed25519.SignatureSize], m[len(m)-ed25519.SignatureSize:]
	if !ed25519.Verify(hub, signed(in, body), sig) {
		return Token{}, ErrTokenSignature
	}
	t, err := parseToken(body)
	if err != nil {
		return Token{}, err
	}
	if subtle.ConstantTimeCompare(t.Nonce[:], c.Nonce[:]) != 1 {
		return Token{}, ErrTokenNonce
	}
	if !now.IsZero() && now.Unix() > int64(t.Exp) {
		return Token{}, ErrTokenExpired
	}
	return t, nil
}

func parseToken(b []byte) (Token, error) {
	if len(b) < tokenHeader || b[0] != tokenVersion {
		return Token{}, ErrTokenMalformed
	}
	t := Token{Nonce: [10]byte(b[1:11]), Exp: binary.BigEndian.Uint32(b[11:]), Level: b[15]}
	b = b[tokenHeader:]
	var fields [3]string
	for i := range fields {
		if len(b) == 0 || len(b)-1 < int(b[0]) {
			return Token{}, ErrTokenMalformed
		}
		n := int(b[0])
		fields[i], b = string(b[1:1+n]), b[1+n:]
	}
	code, err := citizen.ParseFiscalCode(fields[0])
	if err != nil || len(b) != 0 {
		return Token{}, ErrTokenMalformed
	}
	t.FiscalCode, t.Name, t.FamilyName = code, citizen.NewName(fields[1]), citizen.NewName(fields[2])
	return t, nil
}
