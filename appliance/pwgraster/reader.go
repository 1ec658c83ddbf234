package pwgraster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Reader reads documents that a Writer has written, or somebody who is to be believed only if he wrote the same: a
// header that says anything else, a line that does not end where the page does, a missing page or a byte too many is
// ErrFormat. It holds one line.
type Reader struct {
	r       *bufio.Reader
	format  Format
	pages   int // 0: not known before the first page
	begun   int
	page    Page
	left    int // lines of the page that have not been read
	line    []byte
	repeats int // how often line still comes
}

// NewReader reads the beginning of a document.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{r: bufio.NewReaderSize(r, 32<<10)}
	sync, err := d.r.Peek(len(pwgSync))
	if err != nil {
		return nil, fmt.Errorf("read the document's header: %w", cut(err))
	}
	if string(sync) == pwgSync {
		d.format = PWG
		_, err := d.r.Discard(len(pwgSync))
		return d, err
	}
	var head [len(urfSync) + 4]byte
	if _, err := io.ReadFull(d.r, head[:]); err != nil {
		return nil, fmt.Errorf("read the document's header: %w", cut(err))
	}
	pages := binary.BigEndian.Uint32(head[len(urfSync):])
	if string(head[:len(urfSync)]) != urfSync || pages < 1 || pages > MaxPages {
		return nil, fmt.Errorf("read the document's header: %w", ErrFormat)
	}
	d.format, d.pages = URF, int(pages)
	return d, nil
}

// Format is the document's.
func (d *Reader) Format() Format { return d.format }

// Pages is how many pages the document says it has; of PWG Raster that is 0 before the first page.
func (d *Reader) Pages() int { return d.pages }

// Page reads the header of the next page; io.EOF after the last. The lines of the page before must have been read.
func (d *Reader) Page() (Page, error) {
	if d.left > 0 {
		return Page{}, fmt.Errorf("page %d: %d lines have not been read: %w", d.begun, d.left, ErrFormat)
	}
	if d.pages > 0 && d.begun == d.pages {
		if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
			return Page{}, fmt.Errorf("after page %d: %w", d.begun, errors.Join(ErrFormat, err))
		}
		return Page{}, io.EOF
	}
	var h [pwgHeader]byte
	var p Page
	var err error
	if d.format == URF {
		if _, err = io.ReadFull(d.r, h[:urfHeader]); err == nil {
			p, err = parseURF(h[:urfHeader])
		}
	} else if _, err = io.ReadFull(d.r, h[:]); err == nil {
		var pages int
		p, pages, err = parsePWG(h[:])
		if err == nil && (pages < 1 || pages > MaxPages || d.begun > 0 && pages != d.pages) {
			err = ErrFormat
		}
		d.pages = pages
	}
	if err != nil {
		return Page{}, fmt.Errorf("page %d: %w", d.begun+1, cut(err))
	}
	d.begun++
	d.page, d.left = p, p.Height
	d.line = make([]byte, p.Stride())
	return p, nil
}

// Line returns the next line of the page, io.EOF after the last. The bytes are the Reader's and change with the next
// call, unless the same line comes again.
func (d *Reader) Line() ([]byte, error) {
	if d.left == 0 {
		return nil, io.EOF
	}
	if d.repeats == 0 {
		if err := d.unpack(); err != nil {
			return nil, fmt.Errorf("page %d, %d lines before its end: %w", d.begun, d.left, cut(err))
		}
	}
	d.repeats--
	d.left--
	return d.line, nil
}

// unpack reads a line and how often it comes.
func (d *Reader) unpack() error {
	n, err := d.r.ReadByte()
	if err != nil {
		return err
	}
	if int(n) >= d.left {
		return fmt.Errorf("a line comes %d times: %w", int(n)+1, ErrFormat)
	}
	unit := d.page.Color.unit()
	for at := 0; at < len(d.line); {
		code, err := d.r.ReadByte()
		if err != nil {
			return err
		}
		take, fill := unit, (int(code)+1)*unit
		if code > maxRun {
			take, fill = (257-int(code))*unit, (257-int(code))*unit
		}
		if code == maxRun || fill > len(d.line)-at {
			return fmt.Errorf("code %d with %d bytes to come: %w", code, len(d.line)-at, ErrFormat)
		}
		if _, err := io.ReadFull(d.r, d.line[at:at+take]); err != nil {
			return err
		}
		for done := take; done < fill; done *= 2 {
			copy(d.line[at+done:at+fill], d.line[at:at+done])
		}
		at += fill
	}
	d.repeats = int(n) + 1
	return nil
}

// cut makes the end of the input where something should come an error of the format.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: %w", ErrFormat)
	}
	return err
}
