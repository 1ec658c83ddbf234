package dnssd

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Sala", "Sala"},
		{"accents and dots", `Citt\195\160\ Studi\ \226\128\147\ Sala\ 1\.0`, "Città Studi – Sala 1.0"},
		{"nothing behind a backslash", `Sala\`, "Sala"},
		{"a backslash", `a\\b`, `a\b`},
		{"digits that are no byte", `a\999b`, "ab"},
		{"two digits only", `a\12`, "a12"},
		{"control characters", "a\x07b\x7f\u0085c", "abc"},
		{"turned writing", "gnp.\u202egpj", "gnp.gpj"},
		{"invalid UTF-8", `\255\254ok`, "ok"},
		{"not cut inside a letter", strings.Repeat("a", 62) + "à", strings.Repeat("a", 62)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean(unescape(tt.in), maxInstance); got != tt.want {
				t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestTXT(t *testing.T) {
	long := strings.Repeat("x", 250)
	many := make([]string, 0, 1000)
	for range 1000 {
		many = append(many, long)
	}
	for _, tt := range []struct {
		name string
		in   []string
		want map[string]string
	}{
		{
			"printer",
			[]string{"txtvers=1", "rp=ipp/print", `note=Primo piano, sala \195\168`, "UUID=ab-c"},
			map[string]string{"txtvers": "1", "rp": "ipp/print", "note": "Primo piano, sala è", "uuid": "ab-c"},
		},
		{"first of two keys counts", []string{"a=1", "A=2"}, map[string]string{"a": "1"}},
		{"no value", []string{"binary", "empty="}, map[string]string{"binary": "", "empty": ""}},
		{"no key", []string{"=x", ""}, map[string]string{}},
		{"equals sign in the value", []string{"a=b=c"}, map[string]string{"a": "b=c"}},
		{"too much", many, map[string]string{long: ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseTXT(tt.in)); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

func TestEscapeLabelIsReadBack(t *testing.T) {
	for _, name := range []string{"Sala", "Città Studi – Sala 1.0 (nuova)", `back\slash`, "dot.", "a@b;c'\"", "\x01"} {
		esc, err := escapeLabel(name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if got := unescape(esc); got != name {
			t.Errorf("%q became %q and came back as %q", name, esc, got)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 64)} {
		if esc, err := escapeLabel(name); err == nil {
			t.Errorf("%q became %q, want an error", name, esc)
		}
	}
}

func FuzzTXT(f *testing.F) {
	f.Add("note=Primo piano, sala \\195\\168", "rp=ipp/print")
	f.Add(`\`, `\1`)
	f.Add(`\255=\\`, "=\\046")
	f.Fuzz(func(t *testing.T, a, b string) {
		for k, v := range parseTXT([]string{a, b, a}) {
			for _, s := range []string{k, v} {
				if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || len(s) > 255 {
					t.Errorf("%q, %q: %q is not fit to be shown", a, b, s)
				}
			}
			if k == "" || k != strings.ToLower(k) {
				t.Errorf("%q, %q: key %q", a, b, k)
			}
		}
	})
}
