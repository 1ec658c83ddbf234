package ipp_test

import (
	"os"
	"path/filepath"
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
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, jobs, ignored, err := ipp.ReadAll(raw)
		if err != nil {
			return
		}
		texts := append(ignored, p.Name, p.UUID, p.StateMessage, p.MediaDefault)
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

func TestNestedAnswerIsRefused(t *testing.T) {
	// A collection in a collection in a collection …: within the limit it may cost memory, beyond it is not read.
	nest := append([]byte{2, 0, 0, 0, 0, 0, 0, 1, 4, 0x34, 0, 1, 'a', 0, 0}, []byte(strings.Repeat("\x4a\x00\x00\x00\x01b\x34\x00\x00\x00\x00", 95_000))...)
	if _, err := ipp.ReadPrinter(nest); err == nil {
		t.Error("an answer that never closes its collections was read")
	}
	if _, err := ipp.ReadPrinter(make([]byte, 1<<20+1)); err == nil {
		t.Error("an answer above the limit was read")
	}
}
