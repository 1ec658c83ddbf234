package pwgraster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// maxRepeats is how many times a line can be said to come.
const maxRepeats = 256

// Writer writes a document. After an error it must not be used again.
type Writer struct {
	w       io.Writer
	format  Format
	pages   int // in the document
	begun   int
	page    Page
	left    int    // lines of the page that are still to come
	line    []byte // the last one, which has come repeats times and is not yet written
	repeats int
	buf     []byte
}

// NewWriter begins a document of that many pages.
func NewWriter(w io.Writer, f Format, pages int) (*Writer, error) {
	if pages < 1 || pages > MaxPages {
		return nil, fmt.Errorf("%d pages: %w", pages, ErrFormat)
	}
	head := []byte(pwgSync)
	switch f {
	case PWG:
	case URF:
		head = binary.BigEndian.AppendUint32([]byte(urfSync), uint32(pages))
	default:
		return nil, fmt.Errorf("format %q: %w", f, ErrFormat)
	}
	if _, err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write the document's header: %w", err)
	}
	return &Writer{w: w, format: f, pages: pages}, nil
}

// Page begins the next page. All lines of the one before must have come.
func (w *Writer) Page(p Page) error {
	if err := w.endPage(); err != nil {
		return err
	}
	if err := p.check(w.format); err != nil {
		return err
	}
	if w.begun == w.pages {
		return fmt.Errorf("page %d of %d: %w", w.begun+1, w.pages, ErrFormat)
	}
	h := p.urf()
	if w.format == PWG {
		h = p.pwg(w.pages)
	}
	if _, err := w.w.Write(h); err != nil {
		return fmt.Errorf("write page %d: %w", w.begun+1, err)
	}
	w.begun++
	w.page, w.left = p, p.Height
	return nil
}

// Line writes the next line of the page, Stride bytes. It keeps none of them.
func (w *Writer) Line(pix []byte) error {
	if w.left == 0 || len(pix) != w.page.Stride() {
		return fmt.Errorf("line of %d bytes, %d lines left: %w", len(pix), w.left, ErrFormat)
	}
	w.left--
	if w.repeats > 0 && w.repeats < maxRepeats && bytes.Equal(pix, w.line) {
		w.repeats++
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.line, w.repeats = append(w.line[:0], pix...), 1
	return nil
}

// Close ends the document: every page must be there, whole. It does not close the io.Writer.
func (w *Writer) Close() error {
	if err := w.endPage(); err != nil {
		return err
	}
	if w.begun != w.pages {
		return fmt.Errorf("%d pages of %d: %w", w.begun, w.pages, ErrFormat)
	}
	return nil
}

func (w *Writer) endPage() error {
	if w.left > 0 {
		return fmt.Errorf("page %d: %d lines are missing: %w", w.begun, w.left, ErrFormat)
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if w.repeats == 0 {
		return nil
	}
	w.buf = pack(append(w.buf[:0], byte(w.repeats-1)), w.line, w.page.Color.unit())
	w.repeats = 0
	if _, err := w.w.Write(w.buf); err != nil {
		return fmt.Errorf("write page %d: %w", w.begun, err)
	}
	return nil
}

// maxRun is how many pixels a PackBits code can stand for.
const maxRun = 128

// pack appends a packed line to out: codes 0 to 127 say that the next pixel (of unit bytes) comes 1 to 128 times, 129 to
// 255 that 128 to 2 different pixels follow (PWG 5102.4 §4.2). 128 is not used: in URF it means something else.
func pack(out, line []byte, unit int) []byte {
	same := func(i, j int) bool {
		if unit == 1 {
			return line[i] == line[j]
		}
		return line[i] == line[j] && line[i+1] == line[j+1] && line[i+2] == line[j+2]
	}
	for i := 0; i < len(line); {
		limit := min(len(line), i+maxRun*unit)
		j := i + unit
		for j < limit && same(i, j) {
			j += unit
		}
		if j > i+unit || j == len(line) {
			out = append(append(out, byte((j-i)/unit-1)), line[i:i+unit]...)
			i = j
			continue
		}
		for j < limit && (j+unit >= len(line) || !same(j, j+unit)) {
			j += unit
		}
		code := byte(257 - (j-i)/unit)
		if j == i+unit {
			code = 0
		}
		out = append(append(out, code), line[i:j]...)
		i = j
	}
	return out
}
