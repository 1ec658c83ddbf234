package box

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostName(t *testing.T) {
	for text, want := range map[string]string{
		"Sportello Biblioteca Harar":                "sportello-biblioteca-harar",
		"sportello Città Studi – Sala 1.0":          "sportello-citta-studi-sala-1-0",
		"sportello ":                                "sportello",
		"sportello 東京":                              "sportello",
		"sportello " + strings.Repeat("lunga ", 20): "sportello-lunga-lunga-lunga-lunga-lunga-lunga-lunga-lun",
	} {
		if got := hostName(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestCallsign(t *testing.T) {
	dir := t.TempDir()
	open := func(branch string) *callsign {
		t.Helper()
		c, err := newCallsign(dir, branch, "")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open("Harar")
	if n := c.names(); n != (names{"Sportello Harar", "sportello-harar"}) {
		t.Errorf("at first: %v", n)
	}
	for i, want := range []bool{true, false} {
		if changed, err := c.rename("Sportello Harar (2)", "sportello-harar-2"); changed != want || err != nil {
			t.Errorf("rename %d: %v, %v", i, changed, err)
		}
	}
	if n := open("Harar").names(); n.Host != "sportello-harar-2" || n.Instance != "Sportello Harar (2)" {
		t.Errorf("after a restart: %v", n)
	}
	if n := open("Affori").names(); n.Host != "sportello-affori" {
		t.Errorf("in another branch: %v", n)
	}
	if err := os.WriteFile(filepath.Join(dir, nameFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := open("Harar").names(); n.Host != "sportello-harar" {
		t.Errorf("with a damaged file: %v", n)
	}
}

func TestRenaming(t *testing.T) {
	old := names{"Sportello Harar", "sportello-harar"}
	for now, want := range map[names][2]string{
		{"Sportello Harar", "sportello-harar-2"}:     {"sportello-harar.local", "sportello-harar-2.local"},
		{"Sportello Harar (2)", "sportello-harar"}:   {"Sportello Harar", "Sportello Harar (2)"},
		{"Sportello Harar (2)", "sportello-harar-2"}: {"sportello-harar.local", "sportello-harar-2.local"},
	} {
		a := renaming(old, now)
		if got := [2]string{a.Name, a.New}; got != want || a.Old != a.Name || a.Subject != old.Instance {
			t.Errorf("from %v to %v: %+v, want %v", old, now, a, want)
		}
	}
}
