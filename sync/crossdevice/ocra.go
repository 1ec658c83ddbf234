package crossdevice

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// digits is the length of a code. Eight digits, three tries per challenge and nine per half hour leave a guesser who
// never stops one chance in a thousand per kiosk and year; six digits would leave one in nine.
const digits = 8

// suite is an OCRA suite (RFC 6287 §6) as far as a login needs one: a question, perhaps a session, no counter, no
// PIN, no time.
type suite struct {
	name    string // part of what is authenticated
	hash    func() hash.Hash
	digits  int
	session int // bytes of session information, 0 for none
}

// loginSuite answers the challenge (in hexadecimal by the RFC's notation, so its bytes as they are) and the level.
var loginSuite = suite{name: "OCRA-1:HOTP-SHA256-8:QH44-S064", hash: sha256.New, digits: digits, session: 64}

// response computes the OCRA response (RFC 6287 §5) to question. Question and session must fit their fields.
func (s suite) response(key, question, session []byte) string {
	m := append([]byte(s.name), 0)
	var q [128]byte
	copy(q[:], question) // padded on the right
	m = append(m, q[:]...)
	if s.session > 0 {
		m = append(m, make([]byte, max(0, s.session-len(session)))...) // padded on the left
		m = append(m, session...)
	}
	mac := hmac.New(s.hash, key)
	mac.Write(m)
	sum := mac.Sum(nil)
	// Dynamic truncation of RFC 4226 §5.3.
	v := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & 0x7fffffff
	mod := uint32(1)
	for range s.digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", s.digits, v%mod)
}
