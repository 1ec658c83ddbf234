package raster

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"unicode"

	"github.com/klippa-app/go-pdfium"
	"github.com/klippa-app/go-pdfium/enums"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"

	"sportello.example/appliance/pwgraster"
)

// maxCanvas is the most bytes a canvas for printing has. A page that needs more (colour at 600 dpi) is drawn in bands.
const maxCanvas = 36 << 20

// printAnswer is the child's side of opPrint.
func printAnswer(ctx context.Context, req request, pdf []byte, stdout io.Writer) error {
	out := bufio.NewWriterSize(&pieces{w: stdout, left: maxTotal}, 64<<10)
	ans, _ := work(ctx, req, pdf, out)
	if err := out.Flush(); err != nil && ans.Problem == "" {
		ans = refusal(err)
	}
	head, err := json.Marshal(ans)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if _, err := stdout.Write(append(append(make([]byte, 4), head...), '\n')); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// pieces writes each write as a piece with its length before it.
type pieces struct {
	w    io.Writer
	left int // bytes that may still come
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.left -= len(b); p.left < 0 {
		return 0, fmt.Errorf("more than %d bytes to print: %w", maxTotal, ErrLimits)
	}
	if _, err := p.w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// page is the paper that o asks for.
func (o PrintOptions) page() pwgraster.Page {
	p := pwgraster.A4().Page(o.DPI, pwgraster.Color(o.Color))
	if o.Format == URF {
		p.Points, p.Size = [2]int{}, ""
	}
	return p
}

// place says where on paper a page of the given points goes: the one rule that both sides use. A page that is A4 keeps
// its size, to the pixel; any other is made as large as fits. It is turned counter-clockwise when it lies (RFC 8011
// §5.2.10: landscape) and put in the middle.
func place(points [2]float64, paper pwgraster.Page) spot {
	w, h := points[0], points[1]
	s := spot{turn: enums.FPDF_PAGE_ROTATION_NONE}
	if w > h {
		w, h, s.turn = h, w, enums.FPDF_PAGE_ROTATION_270_CW
	}
	scale := float64(paper.DPI) / 72
	if !(Size{Width: w * mmPerPt, Height: h * mmPerPt}).A4() {
		scale = min(float64(paper.Width)/w, float64(paper.Height)/h)
	}
	s.w, s.h = max(1, int(math.Round(w*scale))), max(1, int(math.Round(h*scale)))
	s.x, s.y = (paper.Width-s.w)/2, (paper.Height-s.h)/2
	return s
}

// printPages draws every page for a printer, one after the other, and says which have nothing on them.
func printPages(inst pdfium.Pdfium, doc references.FPDF_DOCUMENT, a answer, o PrintOptions, out io.Writer) ([]bool, error) {
	w, err := pwgraster.NewWriter(out, pwgraster.Format(o.Format), len(a.Points))
	if err != nil {
		return nil, err
	}
	paper := o.page()
	format, pixel := enums.FPDF_BITMAP_FORMAT_GRAY, 1
	if o.Color == RGB {
		format, pixel = enums.FPDF_BITMAP_FORMAT_BGR, 3
	}
	c, err := newCanvas(inst, paper.Width, min(paper.Height, maxCanvas/(pixel*paper.Width)), format)
	if err != nil {
		return nil, err
	}
	if c.form, err = openForm(inst, doc); err != nil {
		return nil, err
	}
	var empty []bool
	for i, points := range a.Points {
		page := requests.Page{ByIndex: &requests.PageByIndex{Document: doc, Index: i}}
		bare, err := isBare(inst, page)
		if err != nil {
			return nil, fmt.Errorf("draw page %d: %w", i+1, err)
		}
		empty = append(empty, bare)
		if err := w.Page(paper); err != nil {
			return nil, err
		}
		if err := printPage(c, page, place(points, paper), paper, w); err != nil {
			return nil, fmt.Errorf("draw page %d: %w", i+1, err)
		}
	}
	return empty, w.Close()
}

// isBare reports whether nothing is on a page, not even something white. Word processors leave pages with a few spaces on
// them: those are bare too.
func isBare(inst pdfium.Pdfium, page requests.Page) (bool, error) {
	objects, err := inst.FPDFPage_CountObjects(&requests.FPDFPage_CountObjects{Page: page})
	if err != nil {
		return false, ErrDamaged
	}
	annots, err := inst.FPDFPage_GetAnnotCount(&requests.FPDFPage_GetAnnotCount{Page: page})
	if err != nil {
		return false, ErrDamaged
	}
	if objects.Count > maxSpaces || annots.Count > 0 {
		return false, nil
	}
	for i := range objects.Count {
		object, err := inst.FPDFPage_GetObject(&requests.FPDFPage_GetObject{Page: page, Index: i})
		if err != nil {
			return false, ErrDamaged
		}
		kind, err := inst.FPDFPageObj_GetType(&requests.FPDFPageObj_GetType{PageObject: object.PageObject})
		if err != nil {
			return false, ErrDamaged
		}
		if kind.Type != enums.FPDF_PAGEOBJ_TEXT {
			return false, nil
		}
	}
	if objects.Count == 0 {
		return true, nil
	}
	return hasOnlySpaces(inst, page)
}

// maxSpaces is how many objects, and how many characters, may be on a page that is to count as empty.
const maxSpaces = 100

func hasOnlySpaces(inst pdfium.Pdfium, page requests.Page) (bool, error) {
	text, err := inst.FPDFText_LoadPage(&requests.FPDFText_LoadPage{Page: page})
	if err != nil {
		return false, ErrDamaged
	}
	n, err := inst.FPDFText_CountChars(&requests.FPDFText_CountChars{TextPage: text.TextPage})
	if err != nil {
		return false, ErrDamaged
	}
	// Text without characters is text that cannot be read: nobody knows what should be there.
	only := n.Count > 0 && n.Count <= maxSpaces
	for i := 0; only && i < n.Count; i++ {
		c, err := inst.FPDFText_GetUnicode(&requests.FPDFText_GetUnicode{TextPage: text.TextPage, Index: i})
		if err != nil {
			return false, ErrDamaged
		}
		only = unicode.IsSpace(rune(c.Unicode))
	}
	if _, err := inst.FPDFText_ClosePage(&requests.FPDFText_ClosePage{TextPage: text.TextPage}); err != nil {
		return false, ErrDamaged
	}
	return only, nil
}

// printPage draws one page, band by band, and writes its lines.
func printPage(c *canvas, page requests.Page, s spot, paper pwgraster.Page, w *pwgraster.Writer) error {
	var flags enums.FPDF_RENDER_FLAG
	if paper.Color == pwgraster.Black {
		// Without shades at their edges letters, lines and QR codes come out crisp: only pictures and gray are dithered.
		flags = enums.FPDF_RENDER_FLAG_RENDER_NO_SMOOTHTEXT | enums.FPDF_RENDER_FLAG_RENDER_NO_SMOOTHIMAGE |
			enums.FPDF_RENDER_FLAG_RENDER_NO_SMOOTHPATH
	}
	line := make([]byte, paper.Stride())
	for top := 0; top < paper.Height; top += c.h {
		band := s
		band.y -= top
		pix, err := c.draw(page, band, flags)
		if err != nil {
			return err
		}
		for y := range min(c.h, paper.Height-top) {
			row := pix[y*c.stride:][:c.pixel*paper.Width]
			switch paper.Color {
			case pwgraster.RGB:
				for x := 0; x < len(row); x += 3 { // blue, green, red
					line[x], line[x+1], line[x+2] = row[x+2], row[x+1], row[x]
				}
				row = line
			case pwgraster.Black:
				dither(line, row, top+y)
				row = line
			}
			if err := w.Line(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// thresholds is Bayer's matrix: which of 64 pixels are black first when a gray gets darker. Neighbouring lines of one
// gray repeat every eight lines, and nothing spreads from a picture into the text beside it as it would when errors are
// passed on.
var thresholds = [8][8]byte{
	{0, 32, 8, 40, 2, 34, 10, 42},
	{48, 16, 56, 24, 50, 18, 58, 26},
	{12, 44, 4, 36, 14, 46, 6, 38},
	{60, 28, 52, 20, 62, 30, 54, 22},
	{3, 35, 11, 43, 1, 33, 9, 41},
	{51, 19, 59, 27, 49, 17, 57, 25},
	{15, 47, 7, 39, 13, 45, 5, 37},
	{63, 31, 55, 23, 61, 29, 53, 21},
}

// dither makes line y of bits of a line of grays. The darker grays are black, so that small letters in gray or blue stay
// whole.
func dither(bits, gray []byte, y int) {
	clear(bits)
	t := &thresholds[y%8]
	for x, v := range gray {
		if v < 112 || int(v) < 112+143*int(t[x%8])/64 {
			bits[x/8] |= 0x80 >> (x % 8)
		}
	}
}
