package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSearch(t *testing.T) {
	const name = "Niccolò Dalla Libertà"
	wide := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteByte(byte(r >> 8))
			b.WriteByte(byte(r))
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, file string
		want       int
	}{
		{"nothing", "SQLite format 3\x00 event session.started", 0},
		{"as it is", "x" + name + "x", 1},
		{"in capitals", "x" + strings.ToUpper(name), 1},
		{"in UTF-16", "\xfe\xff" + wide(name), 1},
		{"as forms are sent", "name=Niccol%C3%B2+Dalla+Libert%C3%A0", 1},
		{"across the border of two chunks", strings.Repeat("x", chunk-5) + name, 1},
		{"at the end of a large file", strings.Repeat("\x00", 3*chunk) + name, 1},
		{"a PDF", "log\n%PDF-1.7", 1},
		{"a picture", "\x89PNG\r\n\x1a\n", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			files, found, err := searchTree(t.Context(), dir, append([]needle{newNeedle("the name", name)}, documents...), everything)
			if err != nil || files != 1 || len(found) != tt.want {
				t.Errorf("got %v in %d files, %v, want %d", found, files, err, tt.want)
			}
		})
	}
	t.Run("files from before do not count", func(t *testing.T) {
		dir := t.TempDir()
		old := filepath.Join(dir, "old")
		if err := os.WriteFile(old, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, found, err := searchTree(t.Context(), dir, []needle{newNeedle("the name", name)}, since(time.Now().Add(-time.Minute), ""))
		if err != nil || len(found) != 0 {
			t.Errorf("got %v, %v", found, err)
		}
	})
	t.Run("finds no piece of itself", func(t *testing.T) {
		if n := newNeedle("x", "y"); bytes.Contains([]byte(residue{"file", n.what}.String()), []byte("y")) {
			t.Error("the message says what was found")
		}
	})
}

func TestOpenElsewhere(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		if got := openElsewhere(os.Getpid(), dir); got != nil {
			t.Errorf("without /proc: got %v", got)
		}
		return
	}
	var want string
	for _, d := range []string{dir, other} {
		f, err := os.Create(filepath.Join(d, "open"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		want = f.Name()
	}
	got := strings.Join(openElsewhere(os.Getpid(), dir), " ")
	if !strings.Contains(got, want) || strings.Contains(got, filepath.Join(dir, "open")) {
		t.Errorf("got %s, want %s and nothing in %s", got, want, dir)
	}
}
