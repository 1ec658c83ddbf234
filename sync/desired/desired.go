// Package desired is what the municipality wants a box to be like: one signed document per box, and the files that it
// names by their SHA-256. Documents come down, reports of what is go up.
//
// A box takes a document only when the hub signed it for this very box, and only a higher version than the one it has:
// an older one needs the hub's signed word that going back is meant. It goes on with what it has for as long as it has no
// line, and says how old that is.
package desired

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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
	// Rollback says that Version is meant to be lower than one that the box has had: it is the number of the highest one
	// that the hub has signed, or a higher one. A box takes a permission only with a number at least as high as any
	// version it has had, and higher than that of any permission it has used, so that each serves once.
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
	From     time.Time         `json:"from,omitzero"`  // zero: at once
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
	MaxBlobs    = 200      // of a Document
	MaxNotices  = 50       // of a Document
	MaxText     = 300      // characters of a Notice in one language
	maxKeys     = 32       // of each kind
	maxName     = 100      // characters of Blob.Name and Notice.ID
)

// Signed is a Document as it travels and is kept.
type Signed struct {
	Body []byte `json:"body"` // Document in JSON: these very bytes are signed
	Sig  []byte `json:"sig"`  // Ed25519
}

var (
	// ErrMalformed means that a document holds what no hub puts into one.
	ErrMalformed = errors.New("malformed desired state")
	// ErrSignature means that the document was not signed by the hub, or is for another box.
	ErrSignature = errors.New("desired state is not signed by the hub for this box")
	// ErrOlder means that a document has a lower version than one that the box has had, and no permission to go back.
	ErrOlder = errors.New("desired state is older than the one there")
	// ErrProgram means that the document is for a newer program.
	ErrProgram = errors.New("desired state is for a newer program")
)

const domain = "sportello/desired/v1\x00"

// Sign makes the signed form of d.
func Sign(d Document, key ed25519.PrivateKey) (Signed, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return Signed{}, fmt.Errorf("sign desired state: %w", err)
	}
	return Signed{Body: b, Sig: ed25519.Sign(key, append([]byte(domain), b...))}, nil
}

// Open returns the document if one of keys signed it for box. It fails with ErrSignature, or ErrMalformed.
func (s Signed) Open(box uint32, keys []ed25519.PublicKey) (Document, error) {
	message := append([]byte(domain), s.Body...)
	for _, k := range keys {
		if len(k) != ed25519.PublicKeySize || !ed25519.Verify(k, message, s.Sig) {
			continue
		}
		d, err := decode(s.Body)
		if err != nil {
			return Document{}, err
		}
		if d.Box != box || d.Version == 0 {
			return Document{}, ErrSignature
		}
		return d, nil
	}
	return Document{}, ErrSignature
}

// decode reads a document. It fails with ErrMalformed. What it does not know is passed over: a newer hub may say more.
func decode(b []byte) (Document, error) {
	if len(b) > MaxDocument {
		return Document{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, MaxDocument)
	}
	var d Document
	if err := json.Unmarshal(b, &d); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(d.Content) > MaxBlobs || len(d.Notices) > MaxNotices || len(d.SealKeys) > maxKeys || len(d.SignKeys) > maxKeys {
		return Document{}, fmt.Errorf("%w: too long a list", ErrMalformed)
	}
	names := map[string]bool{}
	for _, c := range d.Content {
		switch {
		case !ValidName(c.Name) || names[c.Name]:
			return Document{}, fmt.Errorf("%w: name of a blob", ErrMalformed)
		case !validSHA256(c.SHA256) || c.Size < 0 || c.Size > MaxBlob:
			return Document{}, fmt.Errorf("%w: blob %s", ErrMalformed, c.Name)
		}
		names[c.Name] = true
	}
	for _, n := range d.Notices {
		if n.ID == "" || len(n.ID) > maxName {
			return Document{}, fmt.Errorf("%w: name of a notice", ErrMalformed)
		}
		for _, text := range n.Text {
			if utf8.RuneCountInString(text) > MaxText {
				return Document{}, fmt.Errorf("%w: text of notice %q", ErrMalformed, n.ID)
			}
		}
	}
	return d, nil
}

// ValidName says whether a Blob may be called so: 1 to 100 of the letters a-z and A-Z, digits, dots, hyphens and low
// lines, the first one a letter or a digit.
func ValidName(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && (i == 0 || r != '.' && r != '-' && r != '_') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// ValidText says whether a Notice may say so: 1 to MaxText characters, none of them a control or formatting character,
// of which some turn the direction of what follows.
func ValidText(s string) bool {
	n := utf8.RuneCountInString(s)
	return n > 0 && n <= MaxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	})
}

// validSHA256 says whether s is a SHA-256 in lower-case hexadecimal, which makes it a safe file name too.
func validSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// Core is the SHA-256 of what a document says, whatever its version, its dates and the box it is for: two documents
// with the same core ask the same of a box.
func (d Document) Core() [sha256.Size]byte {
	d.Version, d.Box, d.Rollback, d.Issued, d.Expires = 0, 0, 0, time.Time{}, time.Time{}
	b, err := json.Marshal(d)
	if err != nil { // a date after the year 9999
		return sha256.Sum256(fmt.Appendf(nil, "%v", d))
	}
	return sha256.Sum256(b)
}
