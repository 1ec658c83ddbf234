// Package locale holds every text of the kiosk in every language.
//
// A language is one file in translations: adding a file adds a language. Texts are plain, without mark-up; what is
// filled in has a name in braces, "dalle {time}". Tests see to it that every language says everything.
package locale

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed translations/*.json
var files embed.FS

// ErrNoText means that a language has no text under a key.
var ErrNoText = errors.New("no such text")

// Default is the language of who has not chosen one.
const Default = "it"

// Language is one language of the kiosk. It is read-only and safe for concurrent use.
type Language struct {
	Tag       string `json:"tag"`       // BCP 47
	Name      string `json:"name"`      // what the language calls itself
	Direction string `json:"direction"` // ltr | rtl
	Order     int    `json:"order"`     // place in the list of languages
	// Months are the names of the months as they stand in a date.
	Months []string `json:"months"`
	// Texts by key. A key that ends in ".one" is used by Count for one thing, ".other" for any other number.
	Texts map[string]string `json:"texts"`
}

// Catalogue is all languages. It is read-only and safe for concurrent use.
type Catalogue struct{ languages []*Language }

// Load reads the languages built into the program.
func Load() (*Catalogue, error) {
	sub, err := fs.Sub(files, "translations")
	if err != nil {
		return nil, fmt.Errorf("translations: %w", err)
	}
	return Read(sub)
}

// Read reads every *.json of a folder as a language. Default must be among them.
func Read(dir fs.FS) (*Catalogue, error) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, fmt.Errorf("translations: %w", err)
	}
	c := &Catalogue{}
	for _, name := range names {
		l, err := read(dir, name)
		if err != nil {
			return nil, fmt.Errorf("translation %s: %w", name, err)
		}
		c.languages = append(c.languages, l)
	}
	slices.SortFunc(c.languages, func(a, b *Language) int { return a.Order - b.Order })
	if !c.Has(Default) {
		return nil, fmt.Errorf("translations: no %s among %d languages", Default, len(c.languages))
	}
	return c, nil
}

func read(dir fs.FS, name string) (*Language, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	l := &Language{}
	if err := d.Decode(l); err != nil {
		return nil, err
	}
	switch {
	case l.Tag+".json" != name:
		return nil, fmt.Errorf("is for language %q", l.Tag)
	case l.Direction != "ltr" && l.Direction != "rtl":
		return nil, fmt.Errorf("direction %q", l.Direction)
	case len(l.Months) != 12:
		return nil, fmt.Errorf("%d months", len(l.Months))
	}
	return l, nil
}

// Languages returns all languages in the order in which a kiosk offers them.
func (c *Catalogue) Languages() []*Language { return slices.Clone(c.languages) }

// Has says whether there is a language with that tag.
func (c *Catalogue) Has(tag string) bool {
	return slices.ContainsFunc(c.languages, func(l *Language) bool { return l.Tag == tag })
}

// Language returns the language with that tag, or Default when there is none.
func (c *Catalogue) Language(tag string) *Language {
	var def *Language
	for _, l := range c.languages {
		switch l.Tag {
		case tag:
			return l
		case Default:
			def = l
		}
	}
	return def
}

// Has says whether the language has a text under key.
func (l *Language) Has(key string) bool { _, ok := l.Texts[key]; return ok }

// T returns the text under key. args are pairs of a name and what replaces it: T("since", "time", "10:42") replaces
// {time}. Errors: ErrNoText; an odd number of args; a name that the text does not hold; a brace left over.
func (l *Language) T(key string, args ...any) (string, error) {
	text, ok := l.Texts[key]
	if !ok {
		return "", fmt.Errorf("%s in %s: %w", key, l.Tag, ErrNoText)
	}
	if len(args) == 0 && !strings.Contains(text, "{") {
		return text, nil
	}
	if len(args)%2 != 0 {
		return "", fmt.Errorf("%s: %d arguments are not pairs", key, len(args))
	}
	given := make([]string, 0, len(args))
	for i := 0; i < len(args); i += 2 {
		name := fmt.Sprintf("{%v}", args[i])
		if !strings.Contains(text, name) {
			return "", fmt.Errorf("%s in %s does not hold %s", key, l.Tag, name)
		}
		given = append(given, name, fmt.Sprint(args[i+1]))
	}
	for _, name := range Names(text) {
		if !slices.Contains(given, "{"+name+"}") {
			return "", fmt.Errorf("%s in %s: nothing for {%s}", key, l.Tag, name)
		}
	}
	return strings.NewReplacer(given...).Replace(text), nil
}

// Names returns what is filled into a text, in the order in which it stands there.
func Names(text string) []string {
	var names []string
	for {
		_, after, ok := strings.Cut(text, "{")
		name, rest, closed := strings.Cut(after, "}")
		if !ok || !closed {
			return names
		}
		names, text = append(names, name), rest
	}
}

// Count returns the text under key.one for one thing and under key.other for any other number, with {n} filled in.
func (l *Language) Count(key string, n int, args ...any) (string, error) {
	key += ".other"
	if n == 1 {
		key = strings.TrimSuffix(key, "other") + "one"
	}
	if strings.Contains(l.Texts[key], "{n}") {
		args = append(args, "n", strconv.Itoa(n))
	}
	return l.T(key, args...)
}

// Since says since when something lasts, with the time at the end of a sentence: "dalle 10:42" today, "da ieri alle
// 10:42", "dal 12 novembre alle 10:42" before that. Times are said in now's time zone.
func (l *Language) Since(since, now time.Time) (string, error) {
	since = since.In(now.Location())
	clock := since.Format("15:04")
	day := func(t time.Time) time.Time {
		y, m, d := t.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	switch days := int(day(now).Sub(day(since)) / (24 * time.Hour)); {
	case since.IsZero():
		return l.T("since.unknown")
	case days <= 0: // a clock that was set back says today
		return l.T("since.today", "time", clock)
	case days == 1:
		return l.T("since.yesterday", "time", clock)
	default:
		return l.T("since.day", "day", since.Day(), "month", l.Months[since.Month()-1], "time", clock)
	}
}
