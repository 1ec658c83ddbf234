// Package desired is what the municipality wants a box to be like: one signed document per box, and the files that it
// names by their SHA-256. Documents come down, reports of what is go up.
//
// A box takes a document only when the hub signed it for this very box, and only a higher version than the one it has:
// an older one needs the hub's signed word that going back is meant. It goes on with what it has for as long as it has no
// line, and says how old that is.
package desired

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Document is what a box is to be like.
type Document struct {
	Version uint64    `json:"version"` // 1, 2, 3 … for one box
	Box     uint32    `json:"box"`
	Issued  time.Time `json:"issued"`  // by the hub's clock
	Expires time.Time `json:"expires"` // after this the box says that what it shows is old; it does not stop
	// MinProgram is the oldest release that may follow this document, "" when every one may. An older program keeps the
	// document it has and says so.
	MinProgram string `json:"min_program,omitempty"`
	// Rollback says that Version is meant to be lower than one that the box has had: it is the number of that one, so
	// that the permission serves once.
	Rollback uint64 `json:"rollback,omitempty"`

	SealKeys [][]byte `json:"seal_keys"` // public keys (X25519) that events may be closed to, the one to use first
	SignKeys [][]byte `json:"sign_keys"` // public keys (Ed25519) that the hub signs with, from now on
	Notices  []Notice `json:"notices,omitempty"`
	Content  []Blob   `json:"content,omitempty"`
}

// Notice is a message of the municipality to whoever stands at a kiosk.
type Notice struct {
	ID       string            `json:"id"`
	Severity Severity          `json:"severity"`
	From     time.Time         `json:"from"`           // zero: at once
	Until    time.Time         `json:"until,omitzero"` // zero: until taken back
	Text     map[string]string `json:"text"`           // by language (BCP 47); "it" is always there
}

// Severity says how a notice is shown.
type Severity string

// The severities.
const (
	Info      Severity = "info"      // on the first page
	Warning   Severity = "warning"   // on every page
	Emergency Severity = "emergency" // on every page, at once, read out by screen readers
)

// Blob is a file that a box is to have.
type Blob struct {
	Name   string `json:"name"` // catalogue.json, prices.json …: letters, digits, dots and hyphens
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Limits.
const (
	MaxDocument = 1 << 20  // bytes of a Signed
	MaxBlob     = 64 << 20 // bytes of a Blob
)

// Signed is a Document as it travels and is kept.
type Signed struct {
	Body []byte `json:"body"` // Document in JSON: these very bytes are signed
	Sig  []byte `json:"sig"`  // Ed25519
}

var (
	// ErrSignature means that the document was not signed by the hub, or is for another box.
	ErrSignature = errors.New("desired state is not signed by the hub for this box")
	// ErrOlder means that a document has a lower version than one that the box has had, and no permission to go back.
	ErrOlder = errors.New("desired state is older than the one there")
	// ErrProgram means that the document is for a newer program.
	ErrProgram = errors.New("desired state is for a newer program")
)

const context = "sportello/desired/v1\x00"

// Sign makes the signed form of d.
func Sign(d Document, key ed25519.PrivateKey) (Signed, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return Signed{}, fmt.Errorf("sign desired state: %w", err)
	}
	return Signed{Body: b, Sig: ed25519.Sign(key, append([]byte(context), b...))}, nil
}

// Open returns the document if one of keys signed it for box. It fails with ErrSignature, or says what it could not read.
func (s Signed) Open(box uint32, keys []ed25519.PublicKey) (Document, error) {
	message := append([]byte(context), s.Body...)
	for _, k := range keys {
		if len(k) != ed25519.PublicKeySize || !ed25519.Verify(k, message, s.Sig) {
			continue
		}
		var d Document
		if err := json.Unmarshal(s.Body, &d); err != nil {
			return Document{}, fmt.Errorf("desired state: %w", err)
		}
		if d.Box != box || d.Version == 0 {
			return Document{}, ErrSignature
		}
		return d, nil
	}
	return Document{}, ErrSignature
}
