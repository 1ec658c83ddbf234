package paper

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
)

// Measures of a page, millimetres.
const (
	pageWidth = 210.0
	left      = 18.0
	right     = 192.0
	top       = 14.0
	bottom    = 282.0 // the footer is below
	column    = right - left
)

// sheet is a document being drawn, from top to bottom.
type sheet struct {
	pdf   *fpdf.Fpdf
	y     float64
	pages int    // of the whole document, known at the second drawing only
	head  string // repeated on top of every page but the first
}

// make2 draws a document twice: the first time to learn how many pages it has.
func make2(title string, texts []string, draw func(*sheet)) ([]byte, error) {
	pages := 0
	for {
		s := newSheet(title, texts, pages)
		draw(s)
		s.footer()
		if n := s.pdf.PageCount(); pages != n {
			pages = n
			continue
		}
		var out bytes.Buffer
		if err := s.pdf.Output(&out); err != nil {
			return nil, fmt.Errorf("write the PDF: %w", err)
		}
		return out.Bytes(), nil
	}
}

func newSheet(title string, texts []string, pages int) *sheet {
	f := fpdf.New("P", "mm", "A4", "")
	addFonts(f, texts)
	f.SetAutoPageBreak(false, 0)
	f.SetMargins(0, 0, 0)
	f.SetCellMargin(0)
	// Equal input, equal bytes: no clock, no map order.
	f.SetCatalogSort(true)
	f.SetCreationDate(time.Unix(0, 0).UTC())
	f.SetModificationDate(time.Unix(0, 0).UTC())
	f.SetTitle(title, true)
	f.SetCreator("Sportello", true)
	f.SetProducer("Sportello", true)
	f.SetLang("it-IT")
	s := &sheet{pdf: f, pages: pages, head: title}
	s.newPage()
	return s
}

func (s *sheet) newPage() {
	if s.pdf.PageCount() > 0 {
		s.footer()
	}
	s.pdf.AddPage()
	s.pdf.SetFillColor(0, 102, 204)
	s.pdf.Rect(left, top-3, column, 1.1, "F")
	s.y = top + 2
	if s.pdf.PageCount() > 1 {
		s.font("B", 9, 80)
		s.line(left, column, s.head+" (segue)", "L")
		s.y += 3
	}
}

func (s *sheet) footer() {
	if s.pages < 2 {
		return
	}
	s.font("", 8, 80)
	s.pdf.SetXY(left, 285)
	s.pdf.CellFormat(column, 4, fmt.Sprintf("pagina %d di %d", s.pdf.PageNo(), s.pages), "", 0, "R", false, 0, "")
}

// need begins a new page when h millimetres do not fit on this one.
func (s *sheet) need(h float64) {
	if s.y+h > bottom {
		s.newPage()
	}
}

// font chooses style ("" or "B"), size in points and a grey from 0 (black) to 255.
func (s *sheet) font(style string, size float64, grey int) {
	s.pdf.SetFont(family, style, size)
	s.pdf.SetTextColor(grey, grey, grey)
}

// leading is the height of a line in the font chosen.
func (s *sheet) leading() float64 {
	_, mm := s.pdf.GetFontSize()
	return mm * 1.28
}

// wrap breaks text into lines of at most w millimetres, at spaces where it can and inside a word where it must.
func (s *sheet) wrap(text string, w float64) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		try := word
		if line != "" {
			try = line + " " + word
		}
		if s.pdf.GetStringWidth(try) <= w {
			line = try
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for s.pdf.GetStringWidth(word) > w {
			n := s.fits(word, w)
			lines = append(lines, word[:n])
			word = word[n:]
		}
		line = word
	}
	return append(lines, line)
}

// fits is how many bytes of word go into w millimetres: whole characters, at least one.
func (s *sheet) fits(word string, w float64) int {
	n := 0
	for i, r := range word {
		end := i + len(string(r))
		if n > 0 && s.pdf.GetStringWidth(word[:end]) > w {
			break
		}
		n = end
	}
	return n
}

// line writes one line at x, w wide, and goes on below it.
func (s *sheet) line(x, w float64, text, align string) {
	h := s.leading()
	s.pdf.SetXY(x, s.y)
	s.pdf.CellFormat(w, h, text, "", 0, align, false, 0, "")
	s.y += h
}

// para writes text at x, wrapped to w, and goes on below it.
func (s *sheet) para(x, w float64, text, align string) {
	for _, l := range s.wrap(text, w) {
		s.need(s.leading())
		s.line(x, w, l, align)
	}
}

// rule draws a hair line from x1 to x2 at y.
func (s *sheet) rule(x1, x2, y float64, grey int) {
	s.pdf.SetDrawColor(grey, grey, grey)
	s.pdf.SetLineWidth(0.2)
	s.pdf.Line(x1, y, x2, y)
}

// box draws a tick box with its upper left corner at (x, y), crossed when on.
func (s *sheet) box(x, y float64, on bool) {
	const a = 3.6
	s.pdf.SetDrawColor(0, 0, 0)
	s.pdf.SetLineWidth(0.3)
	s.pdf.Rect(x, y, a, a, "D")
	if on {
		s.pdf.SetLineWidth(0.55)
		s.pdf.Line(x+0.7, y+0.7, x+a-0.7, y+a-0.7)
		s.pdf.Line(x+0.7, y+a-0.7, x+a-0.7, y+0.7)
	}
}

// field is a labelled place of a form.
type field struct {
	label, value string
	share        float64 // of the row's width
	guide        guide   // what is printed where value is empty
}

// guide helps whoever writes by hand.
type guide int

const (
	plain guide = iota
	date        // two strokes between day, month and year
	comb        // sixteen cells
)

const (
	labelSize = 7.5 // points
	valueSize = 11.0
	writing   = 6.6 // millimetres of height to write in
	gutter    = 4.0
)

// row prints fields side by side, each with its label above and a line below.
func (s *sheet) row(x, w float64, fields ...field) {
	total := 0.0
	for _, f := range fields {
		total += f.share
	}
	free := w - gutter*float64(len(fields)-1)
	s.font("", valueSize, 0)
	lead, tallest := s.leading(), writing
	lines := make([][]string, len(fields))
	for i, f := range fields {
		if f.value != "" {
			lines[i] = s.wrap(f.value, free*f.share/total)
			tallest = max(tallest, float64(len(lines[i]))*lead+0.8)
		}
	}
	const label = 3.4
	s.need(label + tallest + 1.6)
	base := s.y + label + tallest
	for i, f := range fields {
		fw := free * f.share / total
		s.font("", labelSize, 85)
		s.pdf.SetXY(x, s.y)
		s.pdf.CellFormat(fw, label, f.label, "", 0, "L", false, 0, "")
		s.font("", valueSize, 0)
		for n, l := range lines[i] {
			s.pdf.SetXY(x, base-0.6-lead*float64(len(lines[i])-n))
			s.pdf.CellFormat(fw, lead, l, "", 0, "L", false, 0, "")
		}
		if f.value == "" {
			s.drawGuide(f.guide, x, base, fw)
		}
		s.rule(x, x+fw, base, 110)
		x += fw + gutter
	}
	s.y = base + 1.6
}

func (s *sheet) drawGuide(g guide, x, base, w float64) {
	s.pdf.SetDrawColor(150, 150, 150)
	s.pdf.SetLineWidth(0.2)
	switch g {
	case date:
		for _, at := range []float64{0.28, 0.56} {
			s.pdf.Line(x+w*at, base-1, x+w*at+1.6, base-5)
		}
	case comb:
		for i := 0; i <= 16; i++ {
			at := x + w*float64(i)/16
			s.pdf.Line(at, base-4.6, at, base)
		}
	case plain:
	}
}
