package escpos

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// columns is how wide a line is. Rolls of 80 mm have 48 columns of Font A where the head has 576 dots and 42 where it has
// 512: 42 fit on both.
const columns = 42

// bytesOf are the bytes of code page 858 by character.
var bytesOf = func() map[rune]byte {
	m := map[rune]byte{}
	for i, r := range []rune(cp858) {
		m[r] = byte(0x80 + i)
	}
	return m
}()

// encode writes s in code page 858. What the page has not is written as people would: without an accent that it lacks
// (ș as s), as several letters (œ as oe), or in Latin letters. Only what has no letter becomes '?'. Controls are left out,
// so that no text can be a command to the printer.
func encode(s string) []byte {
	var b []byte
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		mark, size := utf8.DecodeRuneInString(s)
		if pairs, ok := composed[mark]; ok {
			if with := after(pairs, r); with != 0 {
				r, s = with, s[size:]
			}
		}
		b = appendRune(b, r)
	}
	return b
}

// after is the rune behind r in a list of pairs; 0 when r begins none.
func after(pairs string, r rune) rune {
	rs := []rune(pairs)
	for i := 0; i+1 < len(rs); i += 2 {
		if rs[i] == r {
			return rs[i+1]
		}
	}
	return 0
}

func appendRune(b []byte, r rune) []byte {
	switch {
	case r >= ' ' && r < 0x7f:
		return append(b, byte(r))
	case unicode.IsSpace(r):
		return append(b, ' ')
	case r == '\u00ad', unicode.In(r, unicode.Cc, unicode.Cf, unicode.Mn):
		return b
	}
	if c, ok := bytesOf[r]; ok {
		return append(b, c)
	}
	if several, ok := digraphs[r]; ok {
		for _, one := range several {
			b = appendRune(b, one)
		}
		return b
	}
	for _, a := range alphabets {
		if letters := []rune(a.letters); r >= a.first && int(r-a.first) < len(letters) {
			return appendRune(b, letters[r-a.first])
		}
	}
	return append(b, '?')
}

// wrap breaks s into lines of at most width bytes of code page 858, between words where it can.
func wrap(s string, width int) [][]byte {
	var lines [][]byte
	var line []byte
	for _, word := range strings.Fields(s) {
		w := encode(word)
		switch {
		case len(w) == 0:
			continue
		case len(line) > 0 && len(line)+1+len(w) <= width:
			line = append(append(line, ' '), w...)
			continue
		case len(line) > 0:
			lines = append(lines, line)
		}
		for len(w) > width {
			lines = append(lines, w[:width])
			w = w[width:]
		}
		line = append([]byte(nil), w...)
	}
	if len(line) > 0 {
		lines = append(lines, line)
	}
	return lines
}
