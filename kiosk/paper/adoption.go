package paper

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// AdoptionForm is what the page says by which a printer is adopted. Printer and Branch are of strangers or of long ago: a
// character that the box cannot print becomes “?”, and what is too long is cut.
type AdoptionForm struct {
	Code    string    // four digits; TestPage has none
	Printer string    // as it calls itself
	Branch  string    //
	At      time.Time // the day is printed in its own location: hand in the branch's time; zero: not printed
	// QR is a code to be drawn, true for dark, at most 177 modules wide (ISO/IEC 18004), with or without a border; nil: one
	// that says SPORTELLO.
	QR [][]bool
}

// AdoptionPage makes the page that a person types the code from: one page of A4 that also shows whether the printer draws
// whole pages, accents, thin lines and greys rightly. Errors are *FieldError, or say that the PDF could not be made.
func AdoptionPage(f AdoptionForm) ([]byte, error) {
	if len(f.Code) != 4 {
		return nil, fmt.Errorf("adoption page: %w", &FieldError{"Code", ErrMissing})
	}
	for _, r := range f.Code {
		if r < '0' || r > '9' {
			return nil, fmt.Errorf("adoption page: %w", &FieldError{"Code", ErrCharacter})
		}
	}
	b, err := trialPage("Adozione di una stampante", f)
	if err != nil {
		return nil, fmt.Errorf("adoption page: %w", err)
	}
	return b, nil
}

// TestPage makes the same page without a code.
func TestPage(f AdoptionForm) ([]byte, error) {
	f.Code = ""
	b, err := trialPage("Pagina di prova", f)
	if err != nil {
		return nil, fmt.Errorf("test page: %w", err)
	}
	return b, nil
}

func trialPage(title string, f AdoptionForm) ([]byte, error) {
	f.Printer, f.Branch = legible(f.Printer), legible(f.Branch)
	if f.QR == nil {
		f.QR = sportelloQR()
	}
	if len(f.QR) > maxModules {
		return nil, &FieldError{"QR", ErrTooLong}
	}
	for _, row := range f.QR {
		if len(row) != len(f.QR) {
			return nil, &FieldError{"QR", ErrMissing}
		}
	}
	return make2(title, []string{f.Printer, f.Branch}, func(s *sheet) { drawTrial(s, title, f) })
}

// legible makes a stranger's text fit to be printed on a line or two.
func legible(text string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "?") {
		if !unicode.Is(wide, r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	s := strings.Join(strings.Fields(b.String()), " ")
	for utf8.RuneCountInString(s) > MaxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// Measures of the page, millimetres.
const (
	// frameAt is how far the frame is from the edge of the paper. Most laser printers leave 4.2 mm white (media-left-margin
	// and the like, PWG 5100.7): a frame there is missing on paper only when the page was cut, shifted or enlarged.
	frameAt    = 5.0
	rulerMM    = 100
	qrSide     = 36.0
	maxModules = 177 + 8 // version 40 with a border of 4
)

// letters are those that printers with bad fonts of their own get wrong.
const letters = "àèéìòù ÀÈÉÌÒÙ çñüößøå ășțčšžłő € – “perché” l’età…"

func drawTrial(s *sheet, title string, f AdoptionForm) {
	drawFrame(s)
	s.y += 3
	s.font("B", 20, 0)
	s.para(left, column, title, "L")
	s.y += 3
	if f.Code != "" {
		drawDigits(s, f.Code)
		s.y += 5
	}
	s.pair("Stampante", f.Printer)
	if f.Branch != "" {
		s.pair("Sede", f.Branch)
	}
	if !f.At.IsZero() {
		day, _, _ := strings.Cut(moment(f.At, "it"), ",")
		s.pair("Data", day)
	}
	s.y += 4
	drawSamples(s, f.QR)
	s.y += 5
	s.steps(checks(f.Code != ""), 13, 11.5)
	s.y += 1
	s.font("", 9.5, 60)
	s.para(left, column, checkedInEnglish(f.Code != ""), "L")
	s.y += 5
	drawRuler(s)
}

// checks are what is to be looked at, in Italian.
func checks(code bool) words {
	w := words{next: "Che cosa controllare", steps: []string{
		"La cornice è intera, su tutti e quattro i lati?",
		"Gli accenti e il quadrato sono nitidi?",
		"Il righello misura 10 centimetri?",
	}}
	if code {
		w.steps = append(w.steps,
			"Scrivere il codice nella pagina del personale, entro 10 minuti, e dire se il foglio è giusto. Poi buttare il foglio.")
	}
	return w
}

func checkedInEnglish(code bool) string {
	t := "Check: is the frame whole on all four sides? Are the accents and the square sharp? Is the ruler 10 centimetres long?"
	if code {
		t += " Then type the code on the staff page, within 10 minutes, and say whether the sheet is right. Then throw it away."
	}
	return t
}

// drawFrame draws the frame, and an angle in each corner.
func drawFrame(s *sheet) {
	const width, height, arm = pageWidth, 297.0, 12.0
	l, t, r, b := frameAt, frameAt, width-frameAt, height-frameAt
	s.pdf.SetDrawColor(0, 0, 0)
	s.pdf.SetLineWidth(0.25)
	s.pdf.Rect(l, t, r-l, b-t, "D")
	s.pdf.SetLineWidth(0.9)
	const in = 2.5
	for _, c := range []struct{ x, y, dx, dy float64 }{{l + in, t + in, 1, 1}, {r - in, t + in, -1, 1}, {l + in, b - in, 1, -1}, {r - in, b - in, -1, -1}} {
		s.pdf.Line(c.x, c.y, c.x+c.dx*arm, c.y)
		s.pdf.Line(c.x, c.y, c.x, c.y+c.dy*arm)
	}
}

// drawDigits prints the code so that it can be read from across a room.
func drawDigits(s *sheet, code string) {
	const h = 58.0
	s.pdf.SetDrawColor(0, 0, 0)
	s.pdf.SetLineWidth(0.8)
	s.pdf.RoundedRect(left, s.y, column, h, 3, "1234", "D")
	s.font("", 12, 60)
	s.pdf.SetXY(left, s.y+4)
	s.pdf.CellFormat(column, 6, "Codice da scrivere · Code to type", "", 0, "C", false, 0, "")
	s.font("B", 110, 0)
	s.pdf.SetXY(left, s.y+14)
	s.pdf.CellFormat(column, 38, code, "", 0, "C", false, 0, "")
	s.y += h
}

// drawSamples draws the QR and, beside it, letters and greys.
func drawSamples(s *sheet, qr [][]bool) {
	top := s.y
	s.pdf.SetFillColor(0, 0, 0)
	module := qrSide / float64(len(qr))
	for y, row := range qr {
		for x := 0; x < len(row); {
			from := x
			for x < len(row) && row[x] {
				x++
			}
			if x > from {
				s.pdf.Rect(left+float64(from)*module, top+float64(y)*module, float64(x-from)*module, module, "F")
			}
			x++
		}
	}
	const beside = left + qrSide + 8
	for _, size := range []float64{15, 8} {
		s.font("", size, 0)
		s.para(beside, right-beside, letters, "L")
	}
	s.y = top + qrSide - 14
	greys := []int{0, 10, 25, 50, 75, 100}
	w := (right - beside) / float64(len(greys))
	for i, percent := range greys {
		level := 255 - percent*255/100
		x := beside + float64(i)*w
		s.pdf.SetFillColor(level, level, level)
		s.pdf.SetDrawColor(110, 110, 110)
		s.pdf.SetLineWidth(0.15)
		s.pdf.Rect(x, s.y, w, 9, "FD")
		s.font("", 7.5, 60)
		s.pdf.SetXY(x, s.y+9.5)
		s.pdf.CellFormat(w, 4, fmt.Sprintf("%d %%", percent), "", 0, "C", false, 0, "")
	}
	s.y = top + qrSide
}

// drawRuler draws 10 centimetres.
func drawRuler(s *sheet) {
	s.pdf.SetDrawColor(0, 0, 0)
	s.pdf.SetLineWidth(0.2)
	s.pdf.Line(left, s.y, left+rulerMM, s.y)
	s.font("", 7.5, 60)
	for i := range rulerMM + 1 {
		tick := 1.5
		if i%5 == 0 {
			tick = 2.5
		}
		if i%10 == 0 {
			tick = 4
			s.pdf.SetXY(left+float64(i)-5, s.y+4)
			s.pdf.CellFormat(10, 3.4, fmt.Sprint(i/10), "", 0, "C", false, 0, "")
		}
		s.pdf.Line(left+float64(i), s.y, left+float64(i), s.y+tick)
	}
	s.pdf.SetXY(left+rulerMM+3, s.y)
	s.pdf.CellFormat(40, 4, "cm · A4", "", 0, "L", false, 0, "")
	s.y += 8
}

// sportelloQR is the code of a page without one of its own: version 1, level M.
func sportelloQR() [][]bool {
	rows := []string{
		"#######.#####.#######",
		"#.....#.#.#.#.#.....#",
		"#.###.#..##...#.###.#",
		"#.###.#.#.#.#.#.###.#",
		"#.###.#...##..#.###.#",
		"#.....#...###.#.....#",
		"#######.#.#.#.#######",
		"........#..##........",
		"#.##.###..###.#..#.##",
		".##........#####...#.",
		"#.#...#..#.#.....#.##",
		"##.##....#.#..#.#.##.",
		"#.#...#.....#..#.....",
		"........####..#....##",
		"#######.#..##...###.#",
		"#.....#.#.......###..",
		"#.###.#.....###..#.##",
		"#.###.#.####..##..##.",
		"#.###.#.#...#.##.##..",
		"#.....#..#...#..#.#..",
		"#######.###..#.#.#.#.",
	}
	bits := make([][]bool, len(rows))
	for y, row := range rows {
		for _, c := range row {
			bits[y] = append(bits[y], c == '#')
		}
	}
	return bits
}
