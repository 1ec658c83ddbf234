// Package pwgraster writes and reads pages as printers take them that cannot read PDF: PWG Raster (PWG 5102.4,
// image/pwg-raster) and Apple Raster (image/urf, the "UNIRAST" of AirPrint; what CUPS's raster-stream.c reads).
//
// Both are a header for each page and then its lines from top to bottom, each packed by a kind of PackBits and preceded
// by how often it is repeated. Pages and lines pass through one by one, so that neither side holds more than two lines.
// Everything is for one-sided printing: no back side is turned or mirrored.
package pwgraster

import (
	"errors"
	"fmt"
	"math"
)

// Format is a document's MIME media type.
type Format string

// The formats.
const (
	PWG Format = "image/pwg-raster"
	URF Format = "image/urf"
)

// Color is the meaning of a pixel, by its name in pwg-raster-document-type-supported.
type Color string

// The colours. URF has no Black; it calls Gray "W8" and RGB "SRGB24".
const (
	Gray  Color = "sgray_8" // a byte, 0 is black
	RGB   Color = "srgb_8"  // three bytes
	Black Color = "black_1" // a bit, 1 is black; the leftmost pixel is the highest bit
)

// ErrFormat means that a page or a stream breaks the rules of its format.
var ErrFormat = errors.New("not a raster document of ours")

// The largest pages there are, so that a reader's memory is bounded: A3 at 600 dpi fits.
const (
	MaxSide  = 10_000 // pixels
	MaxPages = 999
	maxDPI   = 1200
)

// Media is a paper size.
type Media struct {
	Name          string // PWG 5101.1, "iso_a4_210x297mm"
	Width, Length int    // hundredths of a millimetre
}

// A4 is ISO A4.
func A4() Media { return Media{Name: "iso_a4_210x297mm", Width: 21000, Length: 29700} }

// Page returns what a page that covers m has: 2480 × 3508 pixels for A4 at 300 dpi.
func (m Media) Page(dpi int, c Color) Page {
	of := func(hundredths, perInch int) int {
		return int(math.Round(float64(hundredths) * float64(perInch) / 2540))
	}
	return Page{
		Width: of(m.Width, dpi), Height: of(m.Length, dpi), DPI: dpi, Color: c,
		Points: [2]int{of(m.Width, 72), of(m.Length, 72)}, Size: m.Name,
	}
}

// Page is what the header of a page says.
type Page struct {
	Width, Height int // pixels
	DPI           int // in both directions
	Color         Color
	Points        [2]int // PageSize, 1/72 inch; URF does not say it
	Size          string // PageSizeName; URF does not say it
}

// Stride is the length of a line in bytes.
func (p Page) Stride() int { return (p.Width*p.Color.bits() + 7) / 8 }

func (c Color) bits() int {
	switch c {
	case Black:
		return 1
	case RGB:
		return 24
	default:
		return 8
	}
}

// unit is how many bytes PackBits takes as one: a pixel, or eight when they are bits.
func (c Color) unit() int { return (c.bits() + 7) / 8 }

func (p Page) check(f Format) error {
	switch {
	case f != PWG && f != URF:
		return fmt.Errorf("format %q: %w", f, ErrFormat)
	case p.Color != Gray && p.Color != RGB && (p.Color != Black || f == URF):
		return fmt.Errorf("colour %q in %s: %w", p.Color, f, ErrFormat)
	case p.Width < 1 || p.Width > MaxSide || p.Height < 1 || p.Height > MaxSide || p.DPI < 1 || p.DPI > maxDPI:
		return fmt.Errorf("%d × %d pixels at %d dpi: %w", p.Width, p.Height, p.DPI, ErrFormat)
	case f == PWG && (len(p.Size) > nameMax || p.Points[0] < 0 || p.Points[1] < 0):
		return fmt.Errorf("paper size %.70q: %w", p.Size, ErrFormat)
	}
	return nil
}
