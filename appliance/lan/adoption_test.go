package lan_test

import (
	"bytes"
	"os/exec"
	"regexp"
	"slices"
	"testing"
	"time"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/kiosk/staff"
)

// TestAdoption takes a printer from its first announcement to a citizen's document, and through a change of its key.
func TestAdoption(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	p := l.Printer(t, lantest.Config{Host: "p1", N: 11, Name: "Stampante nuova"})
	b := newBox(t, l, setup{adoption: true})
	began := time.Now()
	candidate := func(ok func(staff.Candidate) bool) staff.Candidate {
		t.Helper()
		var c staff.Candidate
		until(t, "candidate", 60*time.Second, func() bool {
			all, err := b.adoptions.Candidates(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(all, func(c staff.Candidate) bool { return c.UUID == p.UUID() && c.TLS && ok(c) })
			if i >= 0 {
				c = all[i]
			}
			return i >= 0
		})
		if c.Refused != "" || !slices.Equal(c.Keys, []string{p.Pin(t)}) {
			t.Fatalf("candidate %+v", c)
		}
		return c
	}
	adopted := func(c staff.Candidate) {
		t.Helper()
		if _, err := b.adoptions.Begin(t.Context(), c.ID, false, nil, "Anna"); err != nil {
			t.Fatal(err)
		}
		docs := p.Docs(t)
		code := codeOn(t, docs[len(docs)-1].Bytes)
		a, err := b.adoptions.Confirm(t.Context(), c.ID, code, true, "Anna")
		if err != nil {
			t.Fatal(err)
		}
		if a.UUID != p.UUID() || !slices.Equal(a.Keys, []string{p.Pin(t)}) || a.Link != staff.LinkTLS || !a.PDF {
			t.Errorf("adopted %+v", a)
		}
	}

	c := candidate(func(c staff.Candidate) bool { return !c.Known })
	t.Logf("found: %v", time.Since(began).Round(time.Millisecond))
	if got := ended(b.print(t.Context(), p, document(t, "troppo presto"), nil)); got != "none nothing_printed" {
		t.Errorf("before the adoption: %s", got)
	}
	received(t, p)
	adopted(c)
	b.online(t, p)
	first := document(t, "primo")
	if err := b.print(t.Context(), p, first, nil); err != nil {
		t.Fatal(err)
	}

	old := p.Pin(t)
	p.NewKeys(t)
	until(t, "another key", 60*time.Second, func() bool { return b.device(p).Presence == staff.WrongIdentity })
	if got := ended(b.print(t.Context(), p, document(t, "segreto"), nil)); got != "identity nothing_printed" {
		t.Errorf("with another key: %s", got)
	}
	c = candidate(func(c staff.Candidate) bool { return c.Known && slices.Equal(c.OldKeys, []string{old}) })
	adopted(c)
	b.online(t, p)
	if alarms := b.alarms.List(); len(alarms) != 0 {
		t.Errorf("alarms after the new adoption: %+v", alarms)
	}
	second := document(t, "secondo")
	if err := b.print(t.Context(), p, second, nil); err != nil {
		t.Fatal(err)
	}
	docs := p.Docs(t)
	if len(docs) != 4 || !bytes.Equal(docs[1].Bytes, first) || !bytes.Equal(docs[3].Bytes, second) {
		t.Errorf("%d documents received, want page, document, page, document", len(docs))
	}
}

var digits = regexp.MustCompile(`(?m)^\s*(\d{4})\s*$`)

// codeOn reads the code from an adoption page, as a person does.
func codeOn(t *testing.T, pdf []byte) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "pdftotext", "-layout", "-", "-")
	c.Stdin = bytes.NewReader(pdf)
	text, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	m := digits.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no code on the page:\n%s", text)
	}
	return string(m[1])
}
