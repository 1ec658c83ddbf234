// Package enroll is how a box gets into a hub: a one-time token and a certificate request go in, a certificate and what
// else the box must know come out. Client is the box's half; the hub's is package admit.
//
// The protocol is JSON over TLS. Enrolment trusts the CA (or its fingerprint) that came with the token; renewal is
// authenticated by the certificate the box has, for some time also after it has ended.
package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Paths of the hub's box interface.
const (
	PathEnrol = "/box/v1/enrol" // POST Request → identity.Enrolment, or refusal
	PathRenew = "/box/v1/renew" // POST without body, with the box's certificate → identity.Enrolment, or refusal
)

var (
	// ErrToken means that the hub does not know the token, or that another box has used it, or that it is too old.
	ErrToken = errors.New("enrolment token is not valid")
	// ErrRevoked means that the hub has shut this box out.
	ErrRevoked = errors.New("box was revoked")
	// ErrTooMany means that too many wrong tokens came from this address: wait.
	ErrTooMany = errors.New("too many wrong tokens")
	// ErrGraceOver means that the certificate ended too long ago to be renewed: enrol again with a new token.
	ErrGraceOver = errors.New("certificate ended too long ago")
)

// Request asks a hub to let a box in.
type Request struct {
	Token    string `json:"token"`
	CSR      []byte `json:"csr"`       // PKCS #10, DER, for a P-256 key
	TokenKey []byte `json:"token_key"` // X25519 public key, for identity tokens sealed to this box
}

// Limits of messages.
const (
	MaxRequest  = 16 << 10 // bytes of a Request
	maxAnswer   = 64 << 10 // bytes
	maxToken    = 100      // characters
	tokenKeyLen = 32       // bytes of an X25519 public key
)

// ErrMalformed means that a message cannot be understood. Sending it again does not help.
var ErrMalformed = errors.New("malformed")

// Refusal is the answer to a box that is not let in.
type Refusal struct {
	Code string `json:"code"`
}

// refusals pairs each error with the status and code it travels as.
var refusals = []struct {
	err    error
	status int
	code   string
}{
	{ErrToken, 403, "token"},
	{ErrRevoked, 403, "revoked"},
	{ErrGraceOver, 403, "grace_over"},
	{ErrTooMany, 429, "too_many"},
	{ErrMalformed, 400, "malformed"},
}

// ParseRequest reads a Request and checks all that can be checked without knowing the token.
func ParseRequest(b []byte) (Request, *x509.CertificateRequest, error) {
	var r Request
	if err := json.Unmarshal(b, &r); err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if r.Token == "" || len(r.Token) > maxToken || len(r.TokenKey) != tokenKeyLen {
		return Request{}, nil, fmt.Errorf("%w: token of %d characters, token key of %d bytes", ErrMalformed, len(r.Token), len(r.TokenKey))
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if k, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return Request{}, nil, fmt.Errorf("%w: %T is not a P-256 key", ErrMalformed, csr.PublicKey)
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return r, csr, nil
}

// RefusalOf returns the status and body as which err travels, and false for an error that a box cannot do anything
// about.
func RefusalOf(err error) (status int, body Refusal, ok bool) {
	for _, f := range refusals {
		if errors.Is(err, f.err) {
			return f.status, Refusal{Code: f.code}, true
		}
	}
	return 0, Refusal{}, false
}

// Key is the key material with which a box asks to be let in.
type Key struct {
	ID       string // SHA-256 of the TLS key's SubjectPublicKeyInfo, hexadecimal, as ca.KeyID
	TokenKey []byte // X25519 public key
}

// Grant is what a token is good for.
type Grant struct {
	Box    uint32
	Branch string
	Kiosks int
}

// HashToken returns what a hub stores of a token. Spaces, dashes and case do not matter: people type tokens.
func HashToken(token string) [32]byte {
	plain := strings.NewReplacer("-", "", " ", "").Replace(strings.ToUpper(strings.TrimSpace(token)))
	return sha256.Sum256([]byte(plain))
}

// Pin says which CA a box trusts when it enrols: the CA's certificate or its SHA-256 fingerprint.
type Pin struct{ sum [32]byte }

// ParsePin reads a pin from text: a certificate in PEM, or "sha256:" and 64 hexadecimal digits, between which colons
// and spaces may stand.
func ParsePin(text []byte) (Pin, error) {
	text = bytes.TrimSpace(text)
	if block, _ := pem.Decode(text); block != nil {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Pin{}, fmt.Errorf("pin: %w", err)
		}
		if !c.IsCA {
			return Pin{}, errors.New("pin: the certificate is not one of a CA")
		}
		return Pin{sha256.Sum256(c.Raw)}, nil
	}
	digits, ok := bytes.CutPrefix(bytes.ToLower(text), []byte("sha256:"))
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(string(digits)))
	if !ok || err != nil || len(b) != sha256.Size {
		return Pin{}, errors.New(`pin: neither a certificate in PEM nor "sha256:" with 64 hexadecimal digits`)
	}
	return Pin{[32]byte(b)}, nil
}
