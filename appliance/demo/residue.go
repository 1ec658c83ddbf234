package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// A residue is something personal, or a document, that was found where nothing of the kind may be.
type residue struct{ file, what string }

func (r residue) String() string { return r.what + " in " + r.file }

// A needle is what is searched for. The word that names it in messages is not the thing itself.
type needle struct {
	what  string
	forms [][]byte // every way in which it may stand in a file, lower case
}

// newNeedle searches text in upper and lower case, in UTF-8, in UTF-16 (as PDFs write it) and as forms are sent.
func newNeedle(what, text string) needle {
	n := needle{what: what}
	for _, s := range []string{text, strings.ToLower(text), strings.ToUpper(text)} {
		var be, le []byte
		for _, u := range utf16.Encode([]rune(s)) {
			be = append(be, byte(u>>8), byte(u))
			le = append(le, byte(u), byte(u>>8))
		}
		for _, b := range [][]byte{[]byte(s), be, le, []byte(url.QueryEscape(s)), []byte(url.PathEscape(s))} {
			b = lower(b)
			if !slices.ContainsFunc(n.forms, func(have []byte) bool { return bytes.Equal(have, b) }) {
				n.forms = append(n.forms, b)
			}
		}
	}
	return n
}

// lower returns b with its ASCII letters in lower case and every other byte as it is.
func lower(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return out
}

// documents are the beginnings of files that nobody may write: a PDF and a picture of a page.
var documents = []needle{
	{what: "a PDF", forms: [][]byte{[]byte("%pdf-")}},
	{what: "a picture", forms: [][]byte{lower([]byte("\x89PNG\r\n\x1a\n"))}},
}

// chunk is how much of a file is in memory at a time; overlap is longer than any needle.
const (
	chunk   = 1 << 20
	overlap = 512
)

// searchFile looks for every needle in a file. A file that is not there any more holds nothing.
func searchFile(path string, needles []needle) ([]residue, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	defer func() { _ = f.Close() }()
	var found []residue
	seen := map[string]bool{}
	buf := make([]byte, 0, chunk+overlap)
	part := make([]byte, chunk)
	for {
		n, err := f.Read(part)
		buf = append(buf, lower(part[:n])...)
		for _, nd := range needles {
			if !seen[nd.what] && slices.ContainsFunc(nd.forms, func(b []byte) bool { return bytes.Contains(buf, b) }) {
				seen[nd.what] = true
				found = append(found, residue{path, nd.what})
			}
		}
		if err != nil {
			return found, nil // the end, or a file that cannot be read on: what was read is what there is
		}
		buf = append(buf[:0], buf[max(0, len(buf)-overlap):]...)
	}
}

// searchTree looks for the needles in every file under dir that keep wants.
func searchTree(ctx context.Context, dir string, needles []needle, keep func(path string, d fs.DirEntry) bool) (files int, found []residue, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // gone meanwhile, or somebody else's
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !keep(path, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		files++
		r, err := searchFile(path, needles)
		found = append(found, r...)
		return err
	})
	return files, found, err
}

// everything keeps every file.
func everything(string, fs.DirEntry) bool { return true }

// since keeps files written after t, but not those of compilers and tests, which hold the simulators' invented citizens
// because the programs they are part of do, and not those of PostgreSQL, whose catalogue is full of words.
func since(t time.Time, not string) func(string, fs.DirEntry) bool {
	return func(path string, d fs.DirEntry) bool {
		name := d.Name()
		if path == not || slices.ContainsFunc(compilers, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return false
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(path, "PG_VERSION"))
			return err != nil
		}
		i, err := d.Info()
		return err == nil && i.ModTime().After(t) && i.Size() < 1<<30 && !program(path)
	}
}

// compilers are how folders begin that the go command and tests make.
var compilers = []string{"go-build", "go-link-", "Test", "Benchmark", "Fuzz"}

// program says whether a file is a compiled program or library: somebody who compiles this project meanwhile writes the
// invented citizens too, as part of the simulators.
func program(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 8)
	n, _ := io.ReadFull(f, b)
	return bytes.HasPrefix(b[:n], []byte("\x7fELF")) || bytes.HasPrefix(b[:n], []byte("!<arch>\n"))
}

// openElsewhere returns the regular files outside dir that a process has open for writing (Linux only).
func openElsewhere(pid int, dir string) []string {
	fds := filepath.Join("/proc", itoa(pid), "fd")
	entries, err := os.ReadDir(fds)
	if err != nil {
		return nil
	}
	var files []string
	for _, e := range entries {
		link := filepath.Join(fds, e.Name())
		to, err := os.Readlink(link)
		if err != nil || !filepath.IsAbs(to) || strings.HasPrefix(to, dir+string(filepath.Separator)) {
			continue
		}
		st, err := os.Stat(link)
		info, lerr := os.Lstat(link) // the link's own mode says how it was opened
		if err != nil || lerr != nil || !st.Mode().IsRegular() || info.Mode().Perm()&0o200 == 0 {
			continue
		}
		files = append(files, to)
	}
	return files
}
