// Package citizen holds the few words that say who a person is, in types that do not let themselves be printed.
//
// A fiscal code or a name that reaches a log, an error or a dump by mistake comes out as "***". Whoever really needs
// the characters says so by calling Reveal. The syntax of the fiscal code is that of D.M. 23 December 1976.
package citizen

import (
	"errors"
	"log/slog"
	"strings"
	"time"
	"unique"
)

const masked = "***"

// FiscalCode is a citizen's codice fiscale. It prints as "***": to get at the characters, call Reveal.
// The handle keeps it from leaking as a field of another struct, and == works. The zero value is nobody's.
type FiscalCode struct{ h unique.Handle[string] }

// String returns "***".
func (FiscalCode) String() string { return masked }

// GoString returns "***".
func (FiscalCode) GoString() string { return masked }

// LogValue returns "***".
func (FiscalCode) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText returns "***": a fiscal code enters a message only where somebody calls Reveal.
func (FiscalCode) MarshalText() ([]byte, error) { return []byte(masked), nil }

// IsZero reports whether f is nobody's.
func (f FiscalCode) IsZero() bool { return f == FiscalCode{} }

// Reveal returns the characters, "" for the zero value.
func (f FiscalCode) Reveal() string {
	if f.IsZero() {
		return ""
	}
	return f.h.Value()
}

// Name is a given name or a family name. It prints as "***": to get at the characters, call Reveal.
type Name struct{ h unique.Handle[string] }

// NewName returns s, without spaces around it, as a Name.
func NewName(s string) Name {
	if s = strings.TrimSpace(s); s == "" {
		return Name{}
	}
	return Name{unique.Make(s)}
}

// String returns "***".
func (Name) String() string { return masked }

// GoString returns "***".
func (Name) GoString() string { return masked }

// LogValue returns "***".
func (Name) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText returns "***".
func (Name) MarshalText() ([]byte, error) { return []byte(masked), nil }

// IsZero reports whether n holds nothing.
func (n Name) IsZero() bool { return n == Name{} }

// Reveal returns the characters, "" for the zero value.
func (n Name) Reveal() string {
	if n.IsZero() {
		return ""
	}
	return n.h.Value()
}

// Masked returns n as a screen may show it to whoever stands there: "Maria Rosa" is "M*** R***".
func (n Name) Masked() string {
	var parts []string
	for _, w := range strings.Fields(n.Reveal()) {
		r := []rune(w)
		parts = append(parts, string(r[:1])+masked)
	}
	return strings.Join(parts, " ")
}

// Scheme is a national way of proving who one is.
type Scheme string

// The schemes that hub and box know.
const (
	SPID Scheme = "spid"
	CIE  Scheme = "cie"
)

// IdentityProof is what an identity provider vouched for, whatever the scheme.
type IdentityProof struct {
	Scheme        Scheme
	Level         uint8 // 2 or 3: level of assurance reached (SpidL2, SpidL3)
	FiscalCode    FiscalCode
	Name          Name
	FamilyName    Name
	At            time.Time // when the hub accepted the proof
	TransactionID string    // names the transaction in the scheme's register, never the person
}

// ErrFiscalCode means that what was read is no fiscal code. It does not say what was read.
var ErrFiscalCode = errors.New("not a fiscal code")

// ParseFiscalCode reads a personal fiscal code of 16 characters (also one with letters in place of digits, when two
// people would have had the same code) or a provisional one of 11 digits. It accepts lower case and spaces around,
// checks the calendar date and the check character, and returns ErrFiscalCode otherwise.
func ParseFiscalCode(s string) (FiscalCode, error) {
	if len(s) > 64 {
		return FiscalCode{}, ErrFiscalCode
	}
	s = strings.ToUpper(strings.TrimSpace(s))
	if !personal(s) && !provisional(s) {
		return FiscalCode{}, ErrFiscalCode
	}
	return FiscalCode{unique.Make(s)}, nil
}

// Provisional reports whether f is the 11-digit code of somebody who has no personal one yet.
func (f FiscalCode) Provisional() bool { return len(f.Reveal()) == 11 }

// SamePerson reports whether f and other differ at most in the letters that stand for digits. Tell people apart with
// it, not with ==.
func (f FiscalCode) SamePerson(other FiscalCode) bool {
	a, b := f.Reveal(), other.Reveal()
	if len(a) != 16 || len(b) != 16 {
		return a == b && a != ""
	}
	return base(a) == base(b)
}

const (
	months = "ABCDEHLMPRST"
	// stand holds the letters that replace the digits 0 to 9 in a code that two people would share.
	stand = "LMNPQRSTUV"
)

// digitPlaces are the positions where a digit may be replaced by a letter.
var digitPlaces = [...]int{6, 7, 9, 10, 12, 13, 14}

// oddValues are the values of 0-9 (and A-J), then K-Z, at the odd positions, counted from one.
var oddValues = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

// base returns s with the digits that letters stand for, without the check character.
func base(s string) string {
	b := []byte(s[:15])
	for _, i := range digitPlaces {
		if d := strings.IndexByte(stand, b[i]); d >= 0 {
			b[i] = byte('0' + d)
		}
	}
	return string(b)
}

func personal(s string) bool {
	if len(s) != 16 {
		return false
	}
	b := base(s)
	for i := range 15 {
		digit := i == 6 || i == 7 || i == 9 || i == 10 || i >= 12
		if digit && (b[i] < '0' || b[i] > '9') || !digit && (b[i] < 'A' || b[i] > 'Z') {
			return false
		}
	}
	month := strings.IndexByte(months, b[8]) + 1
	year, day := number(b[6:8]), number(b[9:11])
	if day > 40 {
		day -= 40 // a woman's
	}
	// The century is not in the code: 2000 has a 29 February, and no other year ending like it matters.
	if month == 0 || time.Date(2000+year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() != day {
		return false
	}
	return s[15] == check(s[:15])
}

func number(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

// check returns the check character of the first fifteen.
func check(s string) byte {
	sum := 0
	for i := range 15 {
		v := int(s[i] - 'A')
		if s[i] <= '9' {
			v = int(s[i] - '0')
		}
		if i%2 == 0 {
			v = oddValues[v]
		}
		sum += v
	}
	return byte('A' + sum%26)
}

// provisional checks the 11 digits as those of a VAT number: the last one makes the sum a multiple of ten.
func provisional(s string) bool {
	if len(s) != 11 || s == "00000000000" {
		return false
	}
	sum := 0
	for i := range 11 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		v := int(s[i] - '0')
		if i%2 == 1 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}
