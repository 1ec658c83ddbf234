package kiosk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/citizen"
)

// LineUp says whether the municipality could be reached just now.
func (d *Desk) LineUp() bool { return d.cfg.LineUp() }

// FieldKind says what a field of the typed form holds.
type FieldKind string

// The kinds of fields.
const (
	FieldText     FieldKind = "text"
	FieldDate     FieldKind = "date"     // dd/mm/yyyy, not in the future
	FieldCode     FieldKind = "code"     // a fiscal code
	FieldChoice   FieldKind = "choice"   // one of Options
	FieldProvince FieldKind = "province" // two letters, or a country
)

// Field is one field of a page of the typed form. What is not Needed may stay empty: the sheet then has a line to be
// filled in by hand.
type Field struct {
	Name    string
	Kind    FieldKind
	Needed  bool
	Max     int // characters
	Options []string
}

// FormFields returns the fields of a page of the typed form, in the order in which the kiosk asks.
func FormFields(step Step) []Field {
	switch step {
	case StepPerson:
		return []Field{
			{Name: "name", Kind: FieldText, Needed: true, Max: 40},
			{Name: "family_name", Kind: FieldText, Needed: true, Max: 40},
			{Name: "fiscal_code", Kind: FieldCode, Max: 16},
		}
	case StepBirth:
		return []Field{
			{Name: "birth_place", Kind: FieldText, Needed: true, Max: 40},
			{Name: "birth_province", Kind: FieldProvince, Max: 24},
			{Name: "birth_date", Kind: FieldDate, Needed: true, Max: 10},
		}
	case StepAddress:
		return []Field{
			{Name: "street", Kind: FieldText, Needed: true, Max: 50},
			{Name: "number", Kind: FieldText, Max: 8},
			{Name: "place", Kind: FieldText, Needed: true, Max: 40},
			{Name: "province", Kind: FieldProvince, Max: 24},
		}
	case StepSince:
		return []Field{{Name: "since", Kind: FieldDate, Max: 10}}
	case StepCivil:
		return []Field{
			{Name: "status", Kind: FieldChoice, Needed: true, Max: 12, Options: []string{
				string(paper.Free), string(paper.Married), string(paper.Partnered), string(paper.Widowed),
			}},
			{Name: "with", Kind: FieldText, Max: 60},
		}
	case StepRelatives:
		return []Field{
			{Name: "relative", Kind: FieldText, Max: 60},
			{Name: "birth", Kind: FieldText, Max: 60},
			{Name: "relation", Kind: FieldText, Max: 24},
		}
	default:
		return nil
	}
}

// FormError says what is wrong with a page of the typed form: a reason for each field that is.
type FormError struct {
	Fields map[string]string // missing | long | letters | date | future | code | choice | full
}

func (e *FormError) Error() string { return fmt.Sprintf("%d fields are not right", len(e.Fields)) }

// readFields checks what was typed against the fields of a page.
func readFields(step Step, now time.Time, typed func(field string) string) (map[string]string, error) {
	values, wrong := map[string]string{}, map[string]string{}
	for _, f := range FormFields(step) {
		v := strings.Join(strings.Fields(typed(f.Name)), " ")
		if f.Kind == FieldCode {
			v = strings.ToUpper(strings.ReplaceAll(v, " ", ""))
		}
		values[f.Name] = v
		if reason := f.check(v, now); reason != "" {
			wrong[f.Name] = reason
		}
	}
	if len(wrong) > 0 {
		return nil, &FormError{wrong}
	}
	return values, nil
}

func (f Field) check(v string, now time.Time) string {
	switch {
	case v == "" && f.Needed:
		return "missing"
	case v == "":
		return ""
	case len([]rune(v)) > f.Max:
		return "long"
	case !utf8.ValidString(v), strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune("<>{}\\|^~`\ufffd", r) }):
		return "letters"
	case !paper.Printable(v):
		return "letters" // the sheet's fonts have no such letter
	}
	switch f.Kind {
	case FieldDate:
		t, err := time.Parse("2/1/2006", v)
		switch {
		case err != nil, t.Year() < 1880:
			return "date"
		case t.After(now):
			return "future"
		}
	case FieldCode:
		if _, err := citizen.ParseFiscalCode(v); err != nil {
			return "code"
		}
	case FieldChoice:
		if !slices.Contains(f.Options, v) {
			return "choice"
		}
	}
	return ""
}

// FillPage answers one page of the typed form with what was typed. A *FormError says what is wrong; the form then
// stays as it was. With StepRelatives it ends the list; AddRelative and RemoveRelative change it.
func (d *Desk) FillPage(ctx context.Context, s *Session, step Step, typed func(field string) string) error {
	return d.FillForm(ctx, s, step, func(f *paper.DeclarationForm) error {
		if step == StepRelatives {
			return nil
		}
		v, err := readFields(step, d.cfg.Now(), typed)
		if err != nil {
			return err
		}
		switch step {
		case StepPerson:
			f.Person.Name, f.Person.FamilyName, f.Person.FiscalCode = v["name"], v["family_name"], v["fiscal_code"]
		case StepBirth:
			f.Person.BirthPlace, f.Person.BirthProvince, f.Person.BirthDate = v["birth_place"], v["birth_province"], v["birth_date"]
		case StepAddress:
			f.Person.Street, f.Person.Number, f.Person.Place, f.Person.Province = v["street"], v["number"], v["place"], v["province"]
		case StepSince:
			f.Residence = &paper.Residence{Since: v["since"]}
		case StepCivil:
			c := paper.Civil{Status: paper.CivilStatus(v["status"]), With: v["with"]}
			if c.Status == paper.Free {
				c.With = ""
			}
			f.Civil = &c
		default:
			return ErrUnknown
		}
		return nil
	})
}

// AddRelative adds a member of the family to the typed form. *FormError as FillPage.
func (d *Desk) AddRelative(ctx context.Context, s *Session, typed func(field string) string) error {
	return d.EditForm(ctx, s, StepRelatives, func(f *paper.DeclarationForm) error {
		v, err := readFields(StepRelatives, d.cfg.Now(), typed)
		if err != nil {
			return err
		}
		if v["relative"] == "" {
			return &FormError{map[string]string{"relative": "missing"}}
		}
		if len(f.Family) >= paper.MaxRelatives {
			return &FormError{map[string]string{"relative": "full"}}
		}
		f.Family = append(f.Family, paper.Relative{Name: v["relative"], Birth: v["birth"], Relation: v["relation"]})
		return nil
	})
}

// RemoveRelative takes member n (0 …) off the typed form.
func (d *Desk) RemoveRelative(ctx context.Context, s *Session, n int) error {
	return d.EditForm(ctx, s, StepRelatives, func(f *paper.DeclarationForm) error {
		if n < 0 || n >= len(f.Family) {
			return ErrUnknown
		}
		f.Family = slices.Delete(f.Family, n, n+1)
		return nil
	})
}

// FormValues returns what was typed on a page of the form, by field.
func FormValues(step Step, f paper.DeclarationForm) map[string]string {
	switch p := f.Person; step {
	case StepPerson:
		return map[string]string{"name": p.Name, "family_name": p.FamilyName, "fiscal_code": p.FiscalCode}
	case StepBirth:
		return map[string]string{"birth_place": p.BirthPlace, "birth_province": p.BirthProvince, "birth_date": p.BirthDate}
	case StepAddress:
		return map[string]string{"street": p.Street, "number": p.Number, "place": p.Place, "province": p.Province}
	case StepSince:
		if f.Residence != nil {
			return map[string]string{"since": f.Residence.Since}
		}
	case StepCivil:
		if f.Civil != nil {
			return map[string]string{"status": string(f.Civil.Status), "with": f.Civil.With}
		}
	}
	return map[string]string{}
}

// PressKey returns what stands in a code field of n characters from alphabet after a key was pressed: a character of
// the alphabet, "del" for the last one, "clear" for all. Anything else typed is left out. It is what the keys on the
// screen do when the browser runs no script.
func PressKey(typed, key, alphabet string, n int) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(typed) {
		if strings.ContainsRune(alphabet, r) {
			b.WriteRune(r)
		}
	}
	s := b.String()
	s = s[:min(n, len(s))] // what does not fit was never shown
	switch {
	case key == "clear":
		return ""
	case key == "del":
		return s[:max(0, len(s)-1)]
	case len(s) < n && len(key) == 1 && strings.Contains(alphabet, key):
		s += key
	}
	return s
}
