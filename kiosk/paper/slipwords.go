package paper

import (
	"fmt"
	"time"
)

// SlipWords are the words of the slip in one language, for those who print it on other paper than A4.
type SlipWords struct {
	Title, Code, Certificates, Branch, Left, Expires, Next string // labels without a colon
	Steps                                                  []string
	Note                                                   string
}

// WordsOfSlip returns the words of the slip in a language: it or en, else an error.
func WordsOfSlip(language string) (SlipWords, error) {
	w, ok := slipWords(language)
	if !ok {
		return SlipWords{}, fmt.Errorf("slip: %w", &FieldError{"Language", ErrChoice})
	}
	return SlipWords{
		Title: w.title, Code: w.code, Certificates: w.what, Branch: w.branch, Left: w.left, Expires: w.expires, Next: w.next,
		Steps: w.steps, Note: w.note,
	}, nil
}

// Check says what of f cannot be printed: a *FieldError.
func (f SlipForm) Check() error { return f.check() }

// GroupedCode is the pick-up code as people read it out: three and three. The code must have been checked.
func (f SlipForm) GroupedCode() string { return grouped(f.Code) }

// Moment is t as it is written out in a language: "22 novembre 2026, ore 15:07".
func Moment(t time.Time, language string) string { return moment(t, language) }
