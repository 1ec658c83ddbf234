package kiosk

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sportello.example/sync/wire"
)

func TestFormFieldsAreChecked(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, step, field, typed, want string
	}{
		{"a needed field left empty", "person", "name", "  ", "missing"},
		{"a field that may stay empty", "person", "fiscal_code", "", ""},
		{"a name with accents", "person", "name", "Niccolò D'Alò", ""},
		{"a name of 41 letters", "person", "name", strings.Repeat("à", 41), "long"},
		{"signs that no form needs", "person", "name", "<b>Ada", "letters"},
		{"what is no text", "person", "name", "A\xff", "letters"},
		{"a fiscal code with a wrong check letter", "person", "fiscal_code", "RSSMRA50A01Y000A", "code"},
		{"a date", "birth", "birth_date", "03/02/1950", ""},
		{"a date without zeros", "birth", "birth_date", "3/2/1950", ""},
		{"a day that does not exist", "birth", "birth_date", "31/02/1950", "date"},
		{"a date the American way", "birth", "birth_date", "12/31/1950", "date"},
		{"a date to come", "birth", "birth_date", "11/03/2026", "future"},
		{"a choice that is none", "civil", "status", "engaged", "choice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readFields(Step(tt.step), now, func(f string) string {
				if f == tt.field {
					return tt.typed
				}
				return ""
			})
			got := ""
			if fe := (*FormError)(nil); errors.As(err, &fe) {
				got = fe.Fields[tt.field]
			}
			if got != tt.want {
				t.Errorf("%s %q: %q, want %q", tt.field, tt.typed, got, tt.want)
			}
		})
	}
}

func FuzzReadFields(f *testing.F) {
	f.Add("Ada")
	f.Add("31/12/1950")
	f.Add("a\x00b\xff")
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, typed string) {
		for _, step := range []Step{StepPerson, StepBirth, StepAddress, StepSince, StepCivil, StepRelatives} {
			values, err := readFields(step, now, func(string) string { return typed })
			if err != nil {
				continue
			}
			for _, field := range FormFields(step) {
				v := values[field.Name]
				if !utf8.ValidString(v) || utf8.RuneCountInString(v) > field.Max || strings.ContainsAny(v, "<>\n\x00") {
					t.Errorf("%s accepts %q", field.Name, v)
				}
			}
		}
	})
}

func FuzzPressKey(f *testing.F) {
	f.Add("4821 7", "3", 8)
	f.Add("", "del", 8)
	f.Add("20", "del", 0)
	f.Fuzz(func(t *testing.T, typed, key string, n int) {
		n = min(max(n, 0), 16)
		for _, alphabet := range []string{"1234567890", wire.PickupAlphabet} {
			got := PressKey(typed, key, alphabet, n)
			if len(got) > n || strings.Trim(got, alphabet) != "" {
				t.Errorf("%q and key %q: %q", typed, key, got)
			}
		}
	})
}
