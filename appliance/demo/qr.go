package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/net/html"
)

// errNoQR means that a page shows no QR.
var errNoQR = errors.New("no QR on the screen")

const (
	qrModule   = 6   // pixels drawn for one unit of the picture
	qrMaxUnits = 200 // the largest QR has 177 modules and 8 of margin
	qrMaxRuns  = 64 << 10
)

// readQR looks at an HTML page as a phone's camera does: it draws every SVG picture on it and returns the text of the
// first one that is a QR. It returns errNoQR when none is.
func readQR(page []byte) (string, error) {
	z := html.NewTokenizer(bytes.NewReader(page))
	z.SetMaxBuf(1 << 20)
	var pic *picture
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return "", fmt.Errorf("read QR: %w", err)
			}
			return "", errNoQR
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch {
			case t.Data == "svg":
				pic = newPicture(attr(t, "viewBox"))
			case pic != nil && (t.Data == "path" || t.Data == "rect"):
				pic.shape(t)
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "svg" && pic != nil {
				if text, err := pic.decode(); err == nil {
					return text, nil
				}
				pic = nil
			}
		}
	}
}

// attr returns an attribute; HTML's parser writes names in lower case.
func attr(t html.Token, name string) string {
	for _, a := range t.Attr {
		if strings.EqualFold(a.Key, name) {
			return a.Val
		}
	}
	return ""
}

// picture is an SVG of upright rectangles, being drawn.
type picture struct {
	w, h float64
	img  *image.Gray
	runs int
	bad  bool
}

func newPicture(viewBox string) *picture {
	v := strings.FieldsFunc(viewBox, func(r rune) bool { return r == ' ' || r == ',' })
	if len(v) != 4 || v[0] != "0" || v[1] != "0" {
		return nil
	}
	w, errW := strconv.ParseFloat(v[2], 64)
	h, errH := strconv.ParseFloat(v[3], 64)
	if errW != nil || errH != nil || !(w >= 1 && w <= qrMaxUnits && h >= 1 && h <= qrMaxUnits) {
		return nil
	}
	p := &picture{w: w, h: h, img: image.NewGray(image.Rect(0, 0, int(w*qrModule), int(h*qrModule)))}
	draw.Draw(p.img, p.img.Bounds(), image.White, image.Point{}, draw.Src)
	return p
}

// shape draws a path or a rectangle: the one that covers everything is the paper, all others are ink.
func (p *picture) shape(t html.Token) {
	if t.Data == "rect" {
		n := func(name string) float64 {
			f, err := strconv.ParseFloat(attr(t, name), 64)
			if err != nil {
				return 0
			}
			return f
		}
		p.fill(n("x"), n("y"), n("x")+n("width"), n("y")+n("height"))
		return
	}
	if err := p.path(attr(t, "d")); err != nil {
		p.bad = true
	}
}

// path draws sub-paths made of horizontal and vertical strokes as the rectangles they span.
func (p *picture) path(d string) error {
	var (
		x, y, sx, sy   float64 // where the pen is, and where the sub-path began
		x0, y0, x1, y1 float64 // of the sub-path so far
		cmd            byte
		started        bool
	)
	flush := func() {
		if started {
			p.fill(x0, y0, x1, y1)
		}
		started = false
	}
	grow := func() {
		x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
	}
	toks := pathTokens{rest: d}
	for {
		c, f, ok, err := toks.next(cmd)
		if err != nil {
			return err
		}
		if !ok {
			flush()
			return nil
		}
		cmd = c
		switch c {
		case 'M', 'm':
			g, err := toks.number()
			if err != nil {
				return err
			}
			flush()
			if c == 'm' {
				f, g = f+x, g+y
			}
			x, y, sx, sy, started = f, g, f, g, true
			x0, y0, x1, y1 = x, y, x, y
		case 'H':
			x = f
		case 'h':
			x += f
		case 'V':
			y = f
		case 'v':
			y += f
		case 'Z', 'z':
			flush()
			x, y = sx, sy
		}
		if started {
			grow()
		}
	}
}

// pathTokens reads the commands of a path, those that a QR is drawn with.
type pathTokens struct{ rest string }

func (t *pathTokens) skip() { t.rest = strings.TrimLeft(t.rest, " ,\t\r\n") }

// next returns the next command and its first number; numbers that follow without a letter repeat the one before.
func (t *pathTokens) next(last byte) (cmd byte, n float64, ok bool, err error) {
	t.skip()
	if t.rest == "" {
		return 0, 0, false, nil
	}
	cmd = last
	if c := t.rest[0]; strings.IndexByte("MmHhVvZz", c) >= 0 {
		cmd, t.rest = c, t.rest[1:]
		if c == 'Z' || c == 'z' {
			return cmd, 0, true, nil
		}
	}
	if cmd == 0 || cmd == 'Z' || cmd == 'z' {
		return 0, 0, false, fmt.Errorf("path: a number without a command")
	}
	n, err = t.number()
	return cmd, n, true, err
}

func (t *pathTokens) number() (float64, error) {
	t.skip()
	n := 0
	for n < len(t.rest) && (t.rest[n] >= '0' && t.rest[n] <= '9' || t.rest[n] == '.' || t.rest[n] == '-' && n == 0) {
		n++
	}
	f, err := strconv.ParseFloat(t.rest[:n], 64)
	if err != nil || math.Abs(f) > 1e6 {
		return 0, fmt.Errorf("path: not a number: %.20q", t.rest)
	}
	t.rest = t.rest[n:]
	return f, nil
}

func (p *picture) fill(x0, y0, x1, y1 float64) {
	if p.runs++; p.runs > qrMaxRuns {
		p.bad = true
		return
	}
	if x0 <= 0 && y0 <= 0 && x1 >= p.w && y1 >= p.h {
		return // the paper
	}
	px := func(f float64) int { return int(math.Round(f * qrModule)) }
	r := image.Rect(px(x0), px(y0), px(x1), px(y1))
	draw.Draw(p.img, r, image.NewUniform(color.Black), image.Point{}, draw.Src)
}

func (p *picture) decode() (string, error) {
	if p.bad {
		return "", errNoQR
	}
	bmp, err := gozxing.NewBinaryBitmapFromImage(p.img)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoQR, err)
	}
	r, err := qrcode.NewQRCodeReader().Decode(bmp, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoQR, err)
	}
	return r.GetText(), nil
}
