package ipp_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"sportello.example/appliance/ipp"
)

func FuzzAnswer(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "*", "*.ipp"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no captures in testdata: %v", err)
	}
	for _, name := range seeds {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	head := reply([]byte{2, 0, 0, 0, 0, 0, 0, 1}, 0)
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 1, 3})
	f.Add(nested(head, 3, true))
	f.Add(nested(head, 17, true))
	f.Add(nested(head, 3, false))
	f.Add(full)
	f.Add(full[:len(full)/2])
	f.Add(full[:len(full)-1])
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, jobs, ignored, err := ipp.ReadAll(raw)
		if err != nil {
			return
		}
		texts := append(ignored, p.Name, p.UUID, p.StateMessage, p.MediaDefault, p.Make, p.Serial, p.PWGBack)
		texts = slices.Concat(texts, p.URF, p.PWGTypes, p.HoldUntil, p.Identify)
		for _, tray := range p.Trays {
			texts = append(texts, tray.Name, tray.Type, tray.Media)
			if tray.Level < -1 || tray.Max < -1 {
				t.Errorf("tray %+v", tray)
			}
		}
		for _, s := range p.Supplies {
			texts = append(texts, s.Name, s.Kind)
			if s.Level < -1 || s.Level > 100 || s.Low < -1 || s.Low > 100 {
				t.Errorf("supply %+v", s)
			}
		}
		texts = append(texts, p.Reasons...)
		for _, j := range jobs {
			texts = append(texts, j.Name, j.UUID)
			texts = append(texts, j.Reasons...)
		}
		for _, s := range texts {
			if len(s) > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%q is not fit to be logged", s)
			}
		}
	})
}

func TestShapesOfAnswers(t *testing.T) {
	head := reply([]byte{2, 0, 0, 0, 0, 0, 0, 1}, 0)
	many := func(n int, name string) []byte {
		b := append(slices.Clone(head), 4)
		for range n {
			b = attribute(b, 0x44, name, "v")
		}
		return append(b, 3)
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		ok   bool
	}{
		{"everything", full, true},
		{"16 collections in each other", nested(slices.Clone(head), 16, true), true},
		{"17", nested(slices.Clone(head), 17, true), false},
		{"collections that are not closed", nested(slices.Clone(head), 2, false), false},
		{"16,000 attributes", many(16_000, "a"), true},
		{"17,000", many(17_000, "a"), false},
		{"33,000 values", append(many(1, "a")[:len(many(1, "a"))-1], many(33_000, "")[len(head)+1:]...), false},
		{"a long name", many(1, strings.Repeat("a", 256)), false},
		{"2,000 groups", append(append(slices.Clone(head), bytes.Repeat([]byte{2}, 2000)...), 3), false},
		{"no end", head, false},
		{"an attribute outside of a group", append(attribute([]byte{2, 0, 0, 0, 0, 0, 0, 1}, 0x44, "a", "b"), 3), false},
		{"a member outside of a collection", append(attribute(slices.Clone(head), 0x4a, "", "b"), 3), false},
		{"an end outside of a collection", append(attribute(slices.Clone(head), 0x37, "", ""), 3), false},
		{"a name longer than the answer", append(slices.Clone(head), 0x44, 0xff, 0xff, 'a'), false},
		{"a value longer than the answer", append(slices.Clone(head), 0x44, 0, 1, 'a', 0xff, 0xff, 'b'), false},
		{"above a megabyte", make([]byte, 1<<20+1), false},
		{"nothing", nil, false},
	} {
		if _, _, _, err := ipp.ReadAll(tt.raw); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for n := range full { // cut anywhere it is no answer, and never a panic
		if _, _, _, err := ipp.ReadAll(full[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were read", n, len(full))
		}
	}
}
