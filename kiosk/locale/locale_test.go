package locale

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"
)

func load(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLanguagesSayTheSameThings(t *testing.T) {
	c := load(t)
	def := c.Language(Default)
	for _, l := range c.Languages() {
		for key, text := range def.Texts {
			other, ok := l.Texts[key]
			if !ok {
				t.Errorf("%s has no text %s", l.Tag, key)
				continue
			}
			a, b := Names(text), Names(other)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s in %s fills in %v, in %s %v", key, Default, a, l.Tag, b)
			}
			if strings.TrimSpace(other) != other || other == "" {
				t.Errorf("%s in %s: %q", key, l.Tag, other)
			}
		}
		for key := range l.Texts {
			if !def.Has(key) {
				t.Errorf("%s says %s, which %s does not", l.Tag, key, Default)
			}
		}
	}
}

func TestT(t *testing.T) {
	l := &Language{Tag: "xx", Texts: map[string]string{"plain": "one", "time": "since {time}", "n.one": "1 sheet", "n.other": "{n} sheets"}}
	for _, tt := range []struct {
		name, key string
		args      []any
		want      string
		fails     bool
	}{
		{"plain", "plain", nil, "one", false},
		{"filled in", "time", []any{"time", "10:42"}, "since 10:42", false},
		{"what is filled in may hold braces", "time", []any{"time", "{time}"}, "since {time}", false},
		{"no such text", "none", nil, "", true},
		{"nothing to fill in", "time", nil, "", true},
		{"an unknown name", "time", []any{"time", "1", "place", "2"}, "", true},
		{"half a pair", "time", []any{"time"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := l.T(tt.key, tt.args...)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := l.T("none"); !errors.Is(err, ErrNoText) {
		t.Errorf("got %v", err)
	}
	for n, want := range map[int]string{0: "0 sheets", 1: "1 sheet", 2: "2 sheets"} {
		if got, err := l.Count("n", n); err != nil || got != want {
			t.Errorf("%d: got %q, %v; want %q", n, got, err, want)
		}
	}
}

func TestSince(t *testing.T) {
	rome := time.FixedZone("CET", 3600)
	now := time.Date(2026, 3, 10, 0, 30, 0, 0, rome)
	for _, tt := range []struct {
		name  string
		since time.Time
		want  string
	}{
		{"today", now.Add(-10 * time.Minute), "dalle 00:20"},
		{"an hour ago is yesterday after midnight", now.Add(-time.Hour), "da ieri alle 23:30"},
		{"in the box's UTC", time.Date(2026, 3, 9, 23, 25, 0, 0, time.UTC), "dalle 00:25"},
		{"last month", time.Date(2026, 2, 3, 9, 5, 0, 0, rome), "dal 3 febbraio alle 09:05"},
		{"a clock that was set back", now.Add(48 * time.Hour), "dalle 00:30"},
		{"never set", time.Time{}, "da poco"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := load(t).Language("it").Since(tt.since, now)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	months := `["a","b","c","d","e","f","g","h","i","l","m","n"]`
	for name, files := range map[string]fstest.MapFS{
		"no default language": {"en.json": {Data: []byte(`{"tag":"en","direction":"ltr","months":` + months + `}`)}},
		"another tag":         {"it.json": {Data: []byte(`{"tag":"en","direction":"ltr","months":` + months + `}`)}},
		"no direction":        {"it.json": {Data: []byte(`{"tag":"it","months":` + months + `}`)}},
		"eleven months":       {"it.json": {Data: []byte(`{"tag":"it","direction":"ltr","months":["a"]}`)}},
		"unknown field":       {"it.json": {Data: []byte(`{"tag":"it","direction":"ltr","color":1,"months":` + months + `}`)}},
		"no JSON":             {"it.json": {Data: []byte(`{`)}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(files); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// screens groups the Italian texts by the screen they stand on.
func screens(l *Language) map[string][]string {
	s := map[string][]string{}
	for key, text := range l.Texts {
		name, rest, _ := strings.Cut(key, ".")
		switch name {
		case "cert", "since", "look", "osk", "bar": // official names, halves of sentences, single words
			continue
		case "problem", "error", "trouble", "need", "recipient":
			if kind, _, ok := strings.Cut(rest, "."); ok && name != "need" && name != "recipient" {
				name += "." + kind
			}
		}
		s[name] = append(s[name], text)
	}
	return s
}

// gulpease returns how easy texts are to read: 89 + (300·sentences − 10·letters)/words (GULP, Rome 1988).
func gulpease(texts []string) float64 {
	var sentences, letters, words float64
	for _, text := range texts {
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '?' || r == '!' || r == ':' || r == ';' }) {
			if strings.TrimSpace(part) != "" {
				sentences++
			}
		}
		for _, w := range strings.Fields(text) {
			words++
			for _, r := range w {
				if unicode.IsLetter(r) {
					letters++
				}
			}
		}
	}
	return 89 + (300*sentences-10*letters)/words
}

func TestItalianIsEasyToRead(t *testing.T) {
	var all []float64
	for name, texts := range screens(load(t).Language("it")) {
		g := gulpease(texts)
		all = append(all, g)
		if g < 60 {
			t.Errorf("screen %s: Gulpease %.0f, want at least 60: %q", name, g, texts)
		}
	}
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("Gulpease: least %.0f, median %.0f", all[0], median)
	if median < 75 {
		t.Errorf("median Gulpease %.0f, want at least 75", median)
	}
}

func TestPlainWords(t *testing.T) {
	banned := map[string][]string{
		"it": {
			"autenticazione", "autentic", "sessione", "timeout", "spool", "idp", "errore", "500", "server", "hub", "offline", "online", "login", "token",
			"qr code", "pdf", "inserire", "digitare", "procedere", "effettuare", "usufruire", "mediante", "selezionare", "ovvero", "altresì",
		},
		"en": {"authentication", "session", "timeout", "spool", "idp", "error", "500", "server", "hub", "offline", "token", "pdf", "please proceed"},
	}
	for tag, words := range banned {
		for key, text := range load(t).Language(tag).Texts {
			for _, w := range words {
				if containsWord(strings.ToLower(text), w) {
					t.Errorf("%s %s says %q: %s", tag, key, w, text)
				}
			}
		}
	}
}

func containsWord(text, word string) bool {
	for i := 0; ; {
		j := strings.Index(text[i:], word)
		if j < 0 {
			return false
		}
		j += i
		if j == 0 || !unicode.IsLetter(rune(text[j-1])) {
			return true
		}
		i = j + len(word)
	}
}

func TestSentencesAreShort(t *testing.T) {
	for _, l := range load(t).Languages() {
		for key, text := range l.Texts {
			for s := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(".?!:;", r) }) {
				if n := len(strings.Fields(s)); n > 20 {
					t.Errorf("%s %s: a sentence of %d words: %s", l.Tag, key, n, s)
				}
			}
		}
	}
}

func TestGulpease(t *testing.T) {
	if g := gulpease([]string{"Il gatto dorme."}); math.Abs(g-(89+(300-120)/3.0)) > 0.01 {
		t.Errorf("got %v", g)
	}
}
