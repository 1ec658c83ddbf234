package raster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"sportello.example/appliance/pwgraster"
)

// Formats that Print makes.
const (
	PWG = "image/pwg-raster" // PWG 5102.4
	URF = "image/urf"        // Apple Raster
)

// Color is the meaning of a pixel of a printed page.
type Color string

// The colours, by the names of pwg-raster-document-type-supported. URF has no Black.
const (
	Gray  Color = "sgray_8"
	Black Color = "black_1" // letters and lines without shades, pictures in dots
	RGB   Color = "srgb_8"
)

// PrintOptions say what picture a printer wants of an A4 document. Pages are printed on one side.
type PrintOptions struct {
	Format string // PWG or URF
	Color  Color  // "": Gray
	DPI    int    // 0: 300; 150 to 600
}

// Print draws every page of pdf for a printer: each becomes a page of A4 at the resolution asked for, its own size kept
// when it is A4, else fitted and centred, and turned when it lies. What is drawn is what a person would print: its
// visible part (CropBox), as it is shown (Rotate), with its annotations and what its form fields say.
//
// The result is one document in o.Format, at most 64 MiB (ErrLimits). Before it is returned it is looked at: every page
// has its size, and no page has come out black (ErrBlack), nor white (ErrBlank) where the PDF is not known to have an
// empty page. What Check would refuse, scripts for example, is not refused here: it is not drawn.
func (r *Rasteriser) Print(ctx context.Context, pdf []byte, o PrintOptions) ([]byte, error) {
	o.Color, o.DPI = cmp.Or(o.Color, Gray), cmp.Or(o.DPI, 300)
	switch {
	case o.Format != PWG && o.Format != URF, o.DPI < 150, o.DPI > 600,
		o.Color != Gray && o.Color != RGB && (o.Color != Black || o.Format != PWG):
		return nil, fmt.Errorf("print %q in %q at %d dpi: %w", o.Format, o.Color, o.DPI, ErrEngine)
	}
	lim := r.Limits.filled()
	if err := checkEnds(pdf, lim); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	ans, docs, err := r.run(ctx, request{Op: opPrint, Print: o}, lim, pdf)
	if err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	if err := checkPrinted(ans, docs[0], o); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return docs[0], nil
}

// readPrinted reads what the child says to opPrint.
func readPrinted(rd io.Reader) (answer, [][]byte, error) {
	var doc bytes.Buffer
	for {
		var head [4]byte
		if _, err := io.ReadFull(rd, head[:]); err != nil {
			return answer{}, nil, fmt.Errorf("read the pages: %w", err)
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		if n == 0 {
			break
		}
		if n+int64(doc.Len()) > maxTotal {
			return answer{}, nil, fmt.Errorf("read the pages: %d bytes and %d more", doc.Len(), n)
		}
		if _, err := io.CopyN(&doc, rd, n); err != nil {
			return answer{}, nil, fmt.Errorf("read the pages: %w", err)
		}
	}
	a, pictures, err := readAnswer(rd)
	if err == nil && len(pictures) > 0 {
		err = errors.New("read the answer: pictures that nobody asked for")
	}
	return a, [][]byte{doc.Bytes()}, err
}

// checkPrinted reads the whole document as a printer will. The child has read a hostile PDF, or its engine may be broken
// without knowing.
func checkPrinted(a answer, doc []byte, o PrintOptions) error {
	if len(a.Points) == 0 || len(a.Empty) != len(a.Points) {
		return fmt.Errorf("%d pages, %d drawn: %w", len(a.Points), len(a.Empty), ErrEngine)
	}
	d, err := pwgraster.NewReader(bytes.NewReader(doc))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEngine, err)
	}
	paper := o.page()
	for i, points := range a.Points {
		p, err := d.Page()
		switch {
		case err != nil:
			return fmt.Errorf("page %d: %w: %w", i+1, ErrEngine, err)
		case string(d.Format()) != o.Format || p != paper || d.Pages() != len(a.Points):
			return fmt.Errorf("page %d of %d is %v in %s: %w", i+1, d.Pages(), p, d.Format(), ErrEngine)
		}
		ink, err := readInk(d, p)
		if err != nil {
			return fmt.Errorf("page %d: %w: %w", i+1, ErrEngine, err)
		}
		s := place(points, paper)
		switch area := min(s.w, paper.Width) * min(s.h, paper.Height); {
		case float64(ink.dark) > 0.6*float64(area):
			return fmt.Errorf("page %d: %w", i+1, ErrBlack)
		case !ink.any && !a.Empty[i]:
			return fmt.Errorf("page %d: %w", i+1, ErrBlank)
		}
	}
	if _, err := d.Page(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last page: %w: %w", ErrEngine, errors.Join(errors.New("more"), err))
	}
	return nil
}

// ink is what is on a page.
type ink struct {
	dark int  // pixels darker than half
	any  bool // whether a pixel is not white
}

// readInk reads the lines of a page.
func readInk(d *pwgraster.Reader, p pwgraster.Page) (ink, error) {
	white := make([]byte, p.Stride())
	if p.Color != pwgraster.Black {
		for i := range white {
			white[i] = 0xFF
		}
	}
	var k ink
	for {
		line, err := d.Line()
		if errors.Is(err, io.EOF) {
			return k, nil
		}
		if err != nil {
			return k, err
		}
		if bytes.Equal(line, white) {
			continue
		}
		k.any = true
		switch p.Color {
		case pwgraster.Black:
			for _, v := range line {
				k.dark += bits.OnesCount8(v)
			}
		case pwgraster.RGB:
			for x := 0; x < len(line); x += 3 {
				if int(line[x])+int(line[x+1])+int(line[x+2]) < 3*128 {
					k.dark++
				}
			}
		default:
			for _, v := range line {
				if v < 128 {
					k.dark++
				}
			}
		}
	}
}
