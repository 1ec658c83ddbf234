// Package paper makes the sheets that the box prints by itself, without anybody's help: the self-declaration that
// replaces a certificate by law, and the slip that tells a person how to come back for a certificate.
//
// Both are A4 PDFs made in memory. Equal input makes equal bytes, so what is previewed is what is printed. What a citizen
// typed goes onto the page and nowhere else: it is not in the document's properties, not in an error, not in a log.
// The self-declaration is always in Italian, because it is an act under Italian law (D.P.R. 445/2000).
package paper

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with a field. The kiosk chooses the words; Field of FieldError says where.
var (
	ErrTooLong   = errors.New("too long for the form")
	ErrCharacter = errors.New("holds a character that cannot be printed")
	ErrTooMany   = errors.New("more than the form has room for")
	ErrChoice    = errors.New("not one of the choices")
	ErrMissing   = errors.New("missing")
)

// FieldError says which field of a form cannot be printed and why. It never holds what was typed.
type FieldError struct {
	Field string // as in the form, "Person.FamilyName", "Family[2].Name"
	Err   error  // one of the errors above
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %v", e.Field, e.Err) }

// Unwrap returns what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// The most characters (runes) that a field takes. What is shorter is never cut: it wraps.
const (
	MaxName     = 100 // a name, a family name, a relative's or a spouse's whole name
	MaxPlace    = 100
	MaxStreet   = 100
	MaxNumber   = 20
	MaxProvince = 40
	MaxDate     = 10
	MaxCode     = 16 // fiscal code
	MaxRelation = 40
)

// Printable reports whether every character of s is in the typefaces of the box: Latin, Greek and Cyrillic.
func Printable(s string) bool {
	for _, r := range s {
		if !unicode.Is(wide, r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Sheets is the printer's shop of a box as an object, for those who need one. Its zero value works.
type Sheets struct{}

// Declaration is the function of that name.
func (Sheets) Declaration(f DeclarationForm) ([]byte, error) { return Declaration(f) }

// Slip is the function of that name.
func (Sheets) Slip(f SlipForm) ([]byte, error) { return Slip(f) }

// Declaration makes the self-declaration: one page, or two for a large family. An error is a *FieldError unless the PDF
// itself could not be made.
func Declaration(f DeclarationForm) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("declaration: %w", err)
	}
	b, err := make2("Dichiarazione sostitutiva di certificazione", f.texts(), func(s *sheet) { drawDeclaration(s, f) })
	if err != nil {
		return nil, fmt.Errorf("declaration: %w", err)
	}
	return b, nil
}

// Slip makes the slip with the pick-up code: one page.
func Slip(f SlipForm) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("slip: %w", err)
	}
	b, err := make2("Richiesta in attesa", append([]string{f.Branch}, f.Certificates...), func(s *sheet) { drawSlip(s, f) })
	if err != nil {
		return nil, fmt.Errorf("slip: %w", err)
	}
	return b, nil
}

// entry is a field on its way through the checks.
type entry struct {
	name, value string
	limit       int
}

func (f DeclarationForm) entries() []entry {
	p := f.Person
	es := []entry{
		{"Person.Name", p.Name, MaxName},
		{"Person.FamilyName", p.FamilyName, MaxName},
		{"Person.BirthPlace", p.BirthPlace, MaxPlace},
		{"Person.BirthProvince", p.BirthProvince, MaxProvince},
		{"Person.BirthDate", p.BirthDate, MaxDate},
		{"Person.Place", p.Place, MaxPlace},
		{"Person.Province", p.Province, MaxProvince},
		{"Person.Street", p.Street, MaxStreet},
		{"Person.Number", p.Number, MaxNumber},
		{"Person.FiscalCode", p.FiscalCode, MaxCode},
	}
	if r := f.Residence; r != nil {
		es = append(es, entry{"Residence.Since", r.Since, MaxDate})
	}
	if c := f.Civil; c != nil {
		es = append(es, entry{"Civil.With", c.With, MaxName})
	}
	for i, m := range f.Family {
		at := fmt.Sprintf("Family[%d].", i)
		es = append(es, entry{at + "Name", m.Name, MaxName},
			entry{at + "Birth", m.Birth, MaxPlace}, entry{at + "Relation", m.Relation, MaxRelation})
	}
	return es
}

func (f DeclarationForm) texts() []string {
	var ts []string
	for _, e := range f.entries() {
		ts = append(ts, e.value)
	}
	return ts
}

func (f DeclarationForm) check() error {
	if len(f.Family) > MaxRelatives {
		return &FieldError{"Family", ErrTooMany}
	}
	if c := f.Civil; c != nil {
		switch c.Status {
		case "", Free, Married, Partnered, Widowed:
		default:
			return &FieldError{"Civil.Status", ErrChoice}
		}
	}
	return checkEntries(f.entries())
}

func (f SlipForm) check() error {
	if utf8.RuneCountInString(f.Code) != 6 {
		return &FieldError{"Code", ErrMissing}
	}
	for _, r := range f.Code {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return &FieldError{"Code", ErrCharacter}
		}
	}
	if f.Left.IsZero() {
		return &FieldError{"Left", ErrMissing}
	}
	if _, ok := slipWords(f.Language); !ok {
		return &FieldError{"Language", ErrChoice}
	}
	if len(f.Certificates) > 10 {
		return &FieldError{"Certificates", ErrTooMany}
	}
	es := []entry{{"Branch", f.Branch, MaxPlace}}
	for i, c := range f.Certificates {
		es = append(es, entry{fmt.Sprintf("Certificates[%d]", i), c, MaxPlace})
	}
	return checkEntries(es)
}

func checkEntries(es []entry) error {
	for _, e := range es {
		if utf8.RuneCountInString(e.value) > e.limit {
			return &FieldError{e.name, ErrTooLong}
		}
		if !Printable(e.value) {
			return &FieldError{e.name, ErrCharacter}
		}
	}
	return nil
}
