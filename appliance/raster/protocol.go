package raster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
)

// The parent writes one line of JSON (request) and then the document; the child answers with one line of JSON (answer)
// and then the pictures, one after the other, each as long as answer.PNG says. The document that opPrint makes is
// written while it is drawn: it comes first, in pieces with their length before them (four bytes, highest first), then a
// piece of length 0, and then the line.

type op string

const (
	opWarm    op = "warm"    // compile the engine into the cache
	opInspect op = "inspect" // count and measure
	opCheck   op = "check"   // the same, and look for what acts
	opPages   op = "pages"   // draw
	opPrint   op = "print"   // draw for a printer
)

type request struct {
	Op       op           `json:"op"`
	Bytes    int          `json:"bytes"` // of the document that follows
	CacheDir string       `json:"cache_dir"`
	MaxPages int          `json:"max_pages"`
	CPU      int          `json:"cpu"` // seconds
	Options  Options      `json:"options"`
	Print    PrintOptions `json:"print"`
}

type answer struct {
	Problem string       `json:"problem,omitempty"` // a word of Reason, "cold", or "" when all is well
	Detail  string       `json:"detail,omitempty"`  // for the log: numbers and our own words, nothing out of the document
	Points  [][2]float64 `json:"points,omitempty"`  // width and height of each page, 1/72 inch
	PNG     []int        `json:"png,omitempty"`     // bytes of each picture
	Empty   []bool       `json:"empty,omitempty"`   // of opPrint, for each page: there is nothing on it to be drawn
}

// errCold is the child's word for a cache without the engine in it.
var errCold = errors.New("the cache does not hold the PDF engine")

const (
	maxLine  = 64 << 10 // bytes of a request or answer
	maxSide  = 9933     // pixels: A3's long side at 600 dpi
	maxArea  = 36 << 20 // pixels of a picture: A4 at 600 dpi
	maxImage = 24 << 20 // bytes of one PNG
	maxTotal = 64 << 20 // bytes of all PNGs of an answer
	maxPages = 100      // pages that an answer may speak of
	mmPerPt  = 25.4 / 72
	a3Points = 420/mmPerPt + 3 // the long side, with a millimetre of grace
	a3Narrow = 297/mmPerPt + 3 // the short side
)

func (a answer) info() Info {
	i := Info{Pages: len(a.Points)}
	for _, p := range a.Points {
		i.Sizes = append(i.Sizes, Size{Width: p[0] * mmPerPt, Height: p[1] * mmPerPt})
	}
	return i
}

func (a answer) err() error {
	if a.Problem == "" {
		return nil
	}
	cause := ErrEngine
	if a.Problem == "cold" {
		cause = errCold
	}
	for _, w := range words {
		if w.word == a.Problem {
			cause = w.err
		}
	}
	if a.Detail == "" {
		return cause
	}
	return fmt.Errorf("%w: %.200q", cause, a.Detail)
}

// pixels is how large a page of w × h points is drawn: the one rule that both sides use.
func (o Options) pixels(w, h float64) (int, int) {
	if o.Width > 0 {
		return o.Width, max(1, int(float64(o.Width)*h/w+0.5))
	}
	return max(1, int(w*float64(o.DPI)/72+0.5)), max(1, int(h*float64(o.DPI)/72+0.5))
}

// readAnswer reads what the child says. The child has read a hostile document, so nothing it says is taken on trust.
func readAnswer(rd io.Reader) (answer, [][]byte, error) {
	var a answer
	br := bufio.NewReaderSize(rd, maxLine)
	line, err := br.ReadSlice('\n')
	if err != nil {
		return a, nil, fmt.Errorf("read the answer: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return a, nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(a.Points) > maxPages || len(a.PNG) > len(a.Points) {
		return a, nil, fmt.Errorf("read the answer: %d pages, %d pictures", len(a.Points), len(a.PNG))
	}
	pages := make([][]byte, 0, len(a.PNG))
	total := 0
	for i, n := range a.PNG {
		if total += n; n <= 0 || n > maxImage || total > maxTotal {
			return a, nil, fmt.Errorf("read the answer: picture %d has %d bytes", i+1, n)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			return a, nil, fmt.Errorf("read picture %d: %w", i+1, err)
		}
		pages = append(pages, b)
	}
	return a, pages, nil
}

// checkPictures sees that every picture is a PNG of the size that was asked for and not nearly all black, which is what
// a broken engine draws.
func checkPictures(a answer, pages [][]byte, o Options) error {
	want := len(a.Points)
	if o.MaxPages > 0 {
		want = min(want, o.MaxPages)
	}
	if len(pages) != want {
		return fmt.Errorf("%d pictures of %d pages: %w", len(pages), want, ErrEngine)
	}
	for i, b := range pages {
		w, h := o.pixels(a.Points[i][0], a.Points[i][1])
		c, err := png.DecodeConfig(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("picture %d: %w: %w", i+1, ErrEngine, err)
		}
		if c.Width != w || c.Height != h || w*h > maxArea {
			return fmt.Errorf("picture %d is %d×%d, not %d×%d: %w", i+1, c.Width, c.Height, w, h, ErrEngine)
		}
		m, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("picture %d: %w: %w", i+1, ErrEngine, err)
		}
		if darkShare(m) > 0.6 {
			return fmt.Errorf("picture %d: %w", i+1, ErrBlack)
		}
	}
	return nil
}

// darkShare is the part of m's pixels that are darker than half.
func darkShare(m image.Image) float64 {
	b := m.Bounds()
	dark, n := 0, b.Dx()*b.Dy()
	switch m := m.(type) {
	case *image.Gray:
		for _, v := range m.Pix {
			if v < 128 {
				dark++
			}
		}
	case *image.RGBA: // what image/png makes of a picture without transparency
		for i := 0; i+3 < len(m.Pix); i += 4 {
			if int(m.Pix[i])+int(m.Pix[i+1])+int(m.Pix[i+2]) < 3*128 {
				dark++
			}
		}
	default: // the child writes nothing else
		return 1
	}
	return float64(dark) / float64(max(1, n))
}
