package pwgraster

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	pwgSync    = "RaS2"
	urfSync    = "UNIRAST\x00"
	pwgHeader  = 1796
	urfHeader  = 32
	nameMax    = 63 // and a zero byte
	quality    = 4  // print-quality normal (RFC 8011 §5.2.13)
	oneSided   = 1  // URF only; PWG says it with zeros
	primaries  = 0xFFFFFF
	colorSGray = 18 // PWG 5102.4 §4.3.2.3: the colour spaces
	colorSRGB  = 19
	colorBlack = 3
)

// Where a PWG page header has its values (PWG 5102.4 §4.3). What is not here is zero: the printer's default, or what the
// job's attributes say.
const (
	atResolution  = 276 // twice: across and along
	atCopies      = 340
	atPageSize    = 352 // twice
	atWidth       = 372
	atHeight      = 376
	atBitsColor   = 384
	atBitsPixel   = 388
	atStride      = 392
	atSpace       = 400
	atColors      = 420
	atPages       = 452 // TotalPageCount
	atCrossFeed   = 456
	atFeed        = 460
	atImageRight  = 472 // the picture covers the page: left and top are 0
	atImageBottom = 476
	atPrimary     = 480 // AlternatePrimary: white
	atQuality     = 484
	atName        = 1732
)

// pwg makes the header of p in a document of that many pages.
func (p Page) pwg(pages int) []byte {
	h := make([]byte, pwgHeader)
	copy(h, "PwgRaster")
	copy(h[atName:], p.Size)
	bits, colors, space := 8, 1, colorSGray
	switch p.Color {
	case RGB:
		colors, space = 3, colorSRGB
	case Black:
		bits, space = 1, colorBlack
	}
	for _, v := range [...]struct{ at, value int }{
		{atResolution, p.DPI},
		{atResolution + 4, p.DPI},
		{atCopies, 1},
		{atPageSize, p.Points[0]},
		{atPageSize + 4, p.Points[1]},
		{atWidth, p.Width},
		{atHeight, p.Height},
		{atBitsColor, bits},
		{atBitsPixel, p.Color.bits()},
		{atStride, p.Stride()},
		{atSpace, space},
		{atColors, colors},
		{atPages, pages},
		{atCrossFeed, 1},
		{atFeed, 1},
		{atImageRight, p.Width},
		{atImageBottom, p.Height},
		{atPrimary, primaries},
		{atQuality, quality},
	} {
		binary.BigEndian.PutUint32(h[v.at:], uint32(v.value))
	}
	return h
}

// parsePWG reads a header that pwg made. Anything that pwg would not have written is refused.
func parsePWG(h []byte) (Page, int, error) {
	u := func(at int) int { return int(int32(binary.BigEndian.Uint32(h[at:]))) }
	name, _, _ := bytes.Cut(h[atName:], []byte{0})
	p := Page{
		Width: u(atWidth), Height: u(atHeight), DPI: u(atResolution),
		Points: [2]int{u(atPageSize), u(atPageSize + 4)}, Size: string(name),
	}
	switch u(atSpace) {
	case colorSGray:
		p.Color = Gray
	case colorSRGB:
		p.Color = RGB
	case colorBlack:
		p.Color = Black
	}
	pages := u(atPages)
	if err := p.check(PWG); err != nil {
		return Page{}, 0, err
	}
	if !bytes.Equal(h, p.pwg(pages)) {
		return Page{}, 0, fmt.Errorf("page header: %w", ErrFormat)
	}
	return p, pages, nil
}

// urf makes the header of p. Its fields are, by CUPS's reader: bits of a pixel, colour space (0 gray, 1 sRGB), sides,
// quality; then width, height and resolution at 12, 16 and 20.
func (p Page) urf() []byte {
	h := make([]byte, urfHeader)
	h[0], h[2], h[3] = byte(p.Color.bits()), oneSided, quality
	if p.Color == RGB {
		h[1] = 1
	}
	binary.BigEndian.PutUint32(h[12:], uint32(p.Width))
	binary.BigEndian.PutUint32(h[16:], uint32(p.Height))
	binary.BigEndian.PutUint32(h[20:], uint32(p.DPI))
	return h
}

// parseURF reads a header that urf made.
func parseURF(h []byte) (Page, error) {
	u := func(at int) int { return int(int32(binary.BigEndian.Uint32(h[at:]))) }
	p := Page{Width: u(12), Height: u(16), DPI: u(20), Color: Gray}
	if h[1] == 1 {
		p.Color = RGB
	}
	if err := p.check(URF); err != nil {
		return Page{}, err
	}
	if !bytes.Equal(h, p.urf()) {
		return Page{}, fmt.Errorf("page header: %w", ErrFormat)
	}
	return p, nil
}
