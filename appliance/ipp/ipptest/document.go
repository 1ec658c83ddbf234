package ipptest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The formats of documents that it can read.
const (
	pdf = "application/pdf"
	urf = "image/urf"
	pwg = "image/pwg-raster"
)

// maxPages is how many pages of a document are looked at.
const maxPages = 1000

var (
	pageTree = regexp.MustCompile(`/Type\s*/Pages\b[^>]*/Count\s+(\d{1,4})|/Count\s+(\d{1,4})[^>]*/Type\s*/Pages\b`)
	onePage  = regexp.MustCompile(`/Type\s*/Page[^s]`)
)

// Raster is what pictures of pages a printer takes, in the words of its attributes.
type Raster struct {
	URF   []string // urf-supported
	Types []string // pwg-raster-document-type-supported
	DPI   []int    // pwg-raster-document-resolution-supported
	Back  string   // pwg-raster-document-sheet-back
}

// Picture is what a page of raster says of itself.
type Picture struct {
	Width, Height int    // pixels
	DPI           int    //
	Type          string // sgray_8, black_1 or srgb_8, also when it came as URF
}

// errRaster is what is wrong with a picture.
var errRaster = errors.New("not the raster it takes")

// sheets says what a document makes: one entry for every sheet. A picture that breaks off makes the pages before that,
// and an error.
func sheets(format string, doc []byte, takes Raster) ([]Picture, error) {
	switch format {
	case urf:
		return readURF(doc, takes)
	case pwg:
		return readPWG(doc, takes)
	}
	return make([]Picture, pages(doc)), nil
}

// pages returns how many sheets a PDF makes: what its page tree says, else how many pages it seems to define. A document
// that was changed after it was made (signed, say) defines the changed page twice, and its tree counts right.
func pages(doc []byte) int {
	if len(doc) == 0 {
		return 0
	}
	if trees := pageTree.FindAllSubmatch(doc, maxPages); len(trees) > 0 {
		last := trees[len(trees)-1]
		if n, err := strconv.Atoi(string(last[1]) + string(last[2])); err == nil {
			return max(1, n)
		}
	}
	return max(1, len(onePage.FindAllIndex(doc, maxPages)))
}

// readPWG reads PWG raster (PWG 5102.4): a sync word, then pages of a 1796-byte header and compressed lines.
func readPWG(doc []byte, takes Raster) ([]Picture, error) {
	doc, ok := bytes.CutPrefix(doc, []byte("RaS2"))
	if !ok {
		return nil, fmt.Errorf("%w: no sync word", errRaster)
	}
	var all []Picture
	for len(doc) > 0 {
		const header = 1796
		if len(doc) < header || len(all) == maxPages {
			return all, fmt.Errorf("%w: page %d breaks off or is one too many", errRaster, len(all)+1)
		}
		field := func(at int) int { return int(binary.BigEndian.Uint32(doc[at:])) }
		// HWResolution, cupsWidth, cupsHeight, cupsBitsPerPixel, cupsBytesPerLine, cupsColorSpace.
		p := Picture{Width: field(372), Height: field(376), DPI: field(276)}
		bits, line, space := field(388), field(392), field(400)
		switch {
		case bits == 8 && space == 18:
			p.Type = "sgray_8"
		case bits == 1 && space == 3:
			p.Type = "black_1"
		case bits == 24 && space == 19:
			p.Type = "srgb_8"
		}
		switch {
		case !strings.HasPrefix(string(doc[:64]), "PwgRaster\x00"), field(280) != p.DPI, line != (p.Width*bits+7)/8:
			return all, fmt.Errorf("%w: header of page %d", errRaster, len(all)+1)
		case !slices.Contains(takes.Types, p.Type), !slices.Contains(takes.DPI, p.DPI):
			return all, fmt.Errorf("%w: %s at %d dpi", errRaster, p.Type, p.DPI)
		}
		n, err := skipLines(doc[header:], p.Height, line, max(1, bits/8), false)
		if err != nil {
			return all, fmt.Errorf("page %d: %w", len(all)+1, err)
		}
		doc, all = doc[header+n:], append(all, p)
	}
	return all, nil
}

// readURF reads Apple Raster as libcups does: a name and a number of pages, then pages of a 32-byte header and
// compressed lines.
func readURF(doc []byte, takes Raster) ([]Picture, error) {
	doc, ok := bytes.CutPrefix(doc, []byte("UNIRAST\x00"))
	if !ok || len(doc) < 4 {
		return nil, fmt.Errorf("%w: no sync word", errRaster)
	}
	count := int(binary.BigEndian.Uint32(doc))
	doc = doc[4:]
	var all []Picture
	for len(doc) > 0 {
		const header = 32
		if len(doc) < header || len(all) == maxPages {
			return all, fmt.Errorf("%w: page %d breaks off or is one too many", errRaster, len(all)+1)
		}
		field := func(at int) int { return int(binary.BigEndian.Uint32(doc[at:])) }
		p := Picture{Width: field(12), Height: field(16), DPI: field(20)}
		bits, ability := int(doc[0]), ""
		switch {
		case bits == 8 && doc[1] == 0: // sGray
			p.Type, ability = "sgray_8", "W8"
		case bits == 24 && doc[1] == 1: // sRGB
			p.Type, ability = "srgb_8", "SRGB24"
		}
		if !slices.Contains(takes.URF, ability) || !resolutions(takes.URF, p.DPI) {
			return all, fmt.Errorf("%w: %d bits, colour space %d at %d dpi", errRaster, bits, doc[1], p.DPI)
		}
		if p.Width > 1<<16 {
			return all, fmt.Errorf("%w: header of page %d", errRaster, len(all)+1)
		}
		n, err := skipLines(doc[header:], p.Height, p.Width*bits/8, bits/8, true)
		if err != nil {
			return all, fmt.Errorf("page %d: %w", len(all)+1, err)
		}
		doc, all = doc[header+n:], append(all, p)
	}
	if len(all) != count {
		return all, fmt.Errorf("%w: %d pages, and it says %d", errRaster, len(all), count)
	}
	return all, nil
}

// resolutions reports whether urf-supported has dpi: "RS300-600".
func resolutions(urf []string, dpi int) bool {
	for _, u := range urf {
		if list, ok := strings.CutPrefix(u, "RS"); ok {
			return slices.Contains(strings.Split(list, "-"), strconv.Itoa(dpi))
		}
	}
	return false
}

// skipLines returns how long the height lines of a page are: each is how often it repeats and its pixels, packed (PWG
// 5102.4 §4.3). Apple's lines may end early, the rest of them is white.
func skipLines(b []byte, height, line, pixel int, apple bool) (int, error) {
	if line <= 0 || line > 1<<20 || height <= 0 {
		return 0, fmt.Errorf("%w: lines of %d bytes", errRaster, line)
	}
	i := 0
	for y := 0; y < height; {
		if i >= len(b) {
			return 0, fmt.Errorf("%w: breaks off in line %d", errRaster, y)
		}
		y += int(b[i]) + 1
		i++
		for got := 0; got < line; {
			if i >= len(b) {
				return 0, fmt.Errorf("%w: breaks off in line %d", errRaster, y)
			}
			n := int(b[i])
			i++
			switch {
			case n == 128 && apple:
				got = line
			case n == 128:
				return 0, fmt.Errorf("%w: reserved count in line %d", errRaster, y)
			case n <= 127:
				got += (n + 1) * pixel
				i += pixel
			default:
				got += (257 - n) * pixel
				i += (257 - n) * pixel
			}
			if got > line {
				return 0, fmt.Errorf("%w: line %d is too long", errRaster, y)
			}
		}
		if i > len(b) || y > height {
			return 0, fmt.Errorf("%w: line %d of %d", errRaster, y, height)
		}
	}
	return i, nil
}
