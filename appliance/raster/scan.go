package raster

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"strconv"
)

// checkEnds is what can be said of pdf without a parser: that it is one, and not too big.
func checkEnds(pdf []byte, lim Limits) error {
	if len(pdf) > lim.Bytes {
		return fmt.Errorf("%d bytes: %w", len(pdf), ErrTooBig)
	}
	// Readers accept the header anywhere in the first kilobyte (ISO 32000-1 annex H.3); printers do not always.
	if !bytes.HasPrefix(pdf, []byte("%PDF-")) {
		return ErrNotPDF
	}
	return nil
}

// checkWhole says whether pdf has its end: %%EOF near the end, and a startxref that points at a cross-reference inside
// the file. pdfium would mend a document without; a printer's interpreter may print half of it.
func checkWhole(pdf []byte) error {
	tail := pdf[max(0, len(pdf)-1024):]
	eof := bytes.LastIndex(tail, []byte("%%EOF"))
	if eof < 0 {
		return ErrTruncated
	}
	at := bytes.LastIndex(tail[:eof], []byte("startxref"))
	if at < 0 {
		return ErrTruncated
	}
	num := bytes.TrimSpace(tail[at+len("startxref") : eof])
	off, err := strconv.Atoi(string(num[:min(len(num), 12)]))
	if err != nil || off <= 0 || off >= len(pdf) {
		return ErrDamaged
	}
	// Either a table ("xref") or a stream ("12 0 obj").
	if there := pdf[off:]; !bytes.HasPrefix(there, []byte("xref")) && (there[0] < '0' || there[0] > '9') {
		return ErrDamaged
	}
	return nil
}

// forbidden are names (ISO 32000-1 §12.6.4, §7.11.4) that make a document do something when it is opened, looked at or
// printed, or carry something else along. They are looked for in every byte of the file.
func forbidden(name string) bool {
	switch name {
	case "JavaScript", "Launch", "EmbeddedFile", "FileAttachment", "RichMedia", "SubmitForm", "ImportData", "Rendition",
		"GoToR", "GoToE":
		return true
	}
	return false
}

// short names act too, but turn up in compressed data by chance: they count outside of streams only.
func short(name string) bool { return name == "JS" || name == "AA" || name == "XFA" }

// maxInflated is how much of the compressed object streams is read, all together.
const maxInflated = 16 << 20

// scanActive refuses a document with a name in it that acts. Names are compared after undoing #xx escapes. Where streams
// begin and end is a guess as long as nothing is parsed, so nothing important hangs on it: the long names are looked for
// everywhere, and whatever calls itself an object stream is inflated wherever it stands.
func scanActive(pdf []byte) error {
	var open []byte // what follows the last /OpenAction
	for rest := pdf; len(rest) > 0; {
		outside, inside := rest, []byte(nil)
		if i := bytes.Index(rest, []byte("stream")); i >= 0 {
			outside, inside = rest[:i], rest[i+len("stream"):]
		}
		rest = nil
		if i := bytes.Index(inside, []byte("endstream")); i >= 0 {
			inside, rest = inside[:i], inside[i+len("endstream"):]
		}
		if err := scanNames(outside, true, &open); err != nil {
			return err
		}
		if err := scanNames(inside, false, &open); err != nil {
			return err
		}
	}
	left := maxInflated
	for at := 0; ; {
		n := findName(pdf[at:], "ObjStm")
		if n < 0 {
			break
		}
		at += n
		plain, err := objectStream(pdf, at, left)
		if err != nil {
			return err
		}
		left -= len(plain)
		if err := scanNames(plain, true, &open); err != nil {
			return err
		}
	}
	return checkOpenAction(pdf, open)
}

// objectStream returns the content of the object stream whose dictionary has its type name before at.
func objectStream(pdf []byte, at, limit int) ([]byte, error) {
	begin := max(0, bytes.LastIndex(pdf[:at], []byte("obj")))
	n := bytes.Index(pdf[at:], []byte("stream"))
	if n < 0 {
		return nil, nil // a name and no stream: nothing a reader could open
	}
	dict, body := pdf[begin:at+n], pdf[at+n+len("stream"):]
	if end := bytes.Index(body, []byte("endstream")); end >= 0 {
		body = body[:end]
	}
	return inflate(dict, body, limit)
}

// scanNames looks at every name in b.
func scanNames(b []byte, outside bool, open *[]byte) error {
	for {
		i := bytes.IndexByte(b, '/')
		if i < 0 {
			return nil
		}
		name, n := readName(b[i+1:])
		b = b[i+1+n:]
		switch {
		case forbidden(name) || outside && short(name):
			return fmt.Errorf("/%s: %w", name, ErrActive)
		case name == "Encrypt":
			return ErrEncrypted
		case name == "UserUnit" && !isOne(b): // the page says A4 and is printed in another size
			return fmt.Errorf("/UserUnit: %w", ErrNotA4)
		case outside && name == "OpenAction":
			*open = b[:min(len(b), 256)]
		}
	}
}

// isOne reports whether b begins with the number 1 (1, 1.0, 1.).
func isOne(b []byte) bool {
	f := bytes.FieldsFunc(b[:min(len(b), 16)], func(r rune) bool { return r <= ' ' || r == '/' || r == '>' })
	if len(f) == 0 {
		return false
	}
	v, err := strconv.ParseFloat(string(f[0]), 64)
	return err == nil && v == 1
}

// readName reads a name after its slash, up to 32 characters of it, and says how many bytes it took.
func readName(b []byte) (string, int) {
	var name [32]byte
	n, i := 0, 0
	for i < len(b) && n < len(name) {
		c := b[i]
		if c <= ' ' || c > '~' || bytes.IndexByte([]byte("()<>[]{}/%"), c) >= 0 {
			break
		}
		if c == '#' && i+2 < len(b) {
			if v, err := strconv.ParseUint(string(b[i+1:i+3]), 16, 8); err == nil {
				c, i = byte(v), i+2
			}
		}
		name[n] = c
		n++
		i++
	}
	return string(name[:n]), i
}

// findName returns where the first name equal to want ends in b, -1 when there is none.
func findName(b []byte, want string) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '/')
		if i < 0 {
			return -1
		}
		name, n := readName(b[at+i+1:])
		at += i + 1 + n
		if name == want {
			return at
		}
	}
}

func hasName(b []byte, want string) bool { return findName(b, want) >= 0 }

// inflate opens an object stream. One with another filter than Flate, or that says more than limit, is refused.
func inflate(dict, body []byte, limit int) ([]byte, error) {
	if !hasName(dict, "Filter") {
		return body, nil
	}
	if !hasName(dict, "FlateDecode") || hasName(dict, "Predictor") {
		return nil, fmt.Errorf("object stream with an unknown filter: %w", ErrActive)
	}
	zr, err := zlib.NewReader(bytes.NewReader(bytes.TrimLeft(body, "\r\n")))
	if err != nil {
		return nil, fmt.Errorf("object stream: %w", ErrDamaged)
	}
	plain, err := io.ReadAll(io.LimitReader(zr, int64(limit)+1))
	if len(plain) > limit {
		return nil, fmt.Errorf("object streams: %w", ErrLimits)
	}
	if err != nil {
		return nil, fmt.Errorf("object stream: %w", ErrDamaged)
	}
	return plain, nil
}

// checkOpenAction allows a document to say which page it opens at, and nothing else.
func checkOpenAction(pdf, value []byte) error {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || value[0] == '[' {
		return nil
	}
	if f := bytes.Fields(value); value[0] >= '0' && value[0] <= '9' && len(f) >= 3 && f[2][0] == 'R' {
		head := append(append(append([]byte("\n"), f[0]...), ' '), f[1]...)
		at := bytes.LastIndex(pdf, append(head, " obj"...))
		if at < 0 {
			return fmt.Errorf("/OpenAction elsewhere: %w", ErrActive)
		}
		value = pdf[at+len(head)+len(" obj"):]
		value = bytes.TrimSpace(value[:min(len(value), 256)])
	}
	if bytes.HasPrefix(value, []byte("[")) {
		return nil
	}
	if before, _, ok := bytes.Cut(value, []byte(">>")); ok && hasName(before, "GoTo") {
		return nil
	}
	return fmt.Errorf("/OpenAction: %w", ErrActive)
}
