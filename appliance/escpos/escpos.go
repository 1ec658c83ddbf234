// Package escpos prints slips on receipt printers: ESC/POS as Epson documents it, over TCP port 9100 or a device file.
//
// Such a printer says little of what became of a job: that it took the bytes does not mean that paper came out. So it
// gets slips only, which anybody may ask for again, and never a certificate.
//
// Text is in code page 858, in lines of 42 columns, which every printer for rolls of 80 mm has.
package escpos

import (
	"bytes"
	"errors"
	"fmt"

	qrcode "github.com/skip2/go-qrcode"

	"sportello.example/kiosk/paper"
)

// module is how many dots a module of a QR is wide: 1 mm, to be read by any phone. It is 8 because then every byte of the
// picture is 0x00 or 0xff: printers look for real-time commands (DLE EOT, DLE DC4) also in pictures.
const module = 8

// Sizes of characters (GS !): width and height less one.
const (
	normal = 0x00
	double = 0x11
	wide   = 0x44 // five times: a pick-up code of six and its gap fill 35 of 42 columns
	huge   = 0x77 // eight times: four digits
)

// roll is a strip of paper that is being written.
type roll struct{ bytes.Buffer }

// begin resets what somebody before left behind. FS . ends the double-byte mode in which printers made for China begin, and
// which takes two letters with accents for one sign.
func begin() *roll {
	r := &roll{}
	r.WriteString("\x1b@\x1c.\x1bt\x13") // ESC @, FS ., ESC t 19
	return r
}

func (r *roll) align(center bool) {
	n := byte(0)
	if center {
		n = 1
	}
	r.Write([]byte{0x1b, 'a', n})
}

// text writes s in lines, the second and later ones indented.
func (r *roll) text(s string, size byte, bold bool, first, indent string) {
	b := byte(0)
	if bold {
		b = 1
	}
	r.Write([]byte{0x1d, '!', size, 0x1b, 'E', b})
	for i, line := range wrap(s, columns/(int(size>>4)+1)-len(indent)) {
		if i == 0 {
			r.WriteString(first)
		} else {
			r.WriteString(indent)
		}
		r.Write(line)
		r.WriteByte('\n')
	}
}

func (r *roll) para(s string)    { r.text(s, normal, false, "", "") }
func (r *roll) bold(s string)    { r.text(s, normal, true, "", "") }
func (r *roll) feed(lines byte)  { r.Write([]byte{0x1b, 'd', lines}) }
func (r *roll) rule()            { r.para("------------------------------------------") }
func (r *roll) item(m, s string) { r.text(s, normal, false, m, "   "[:len(m)]) }

// qr draws text at level M as a picture (GS v 0): printers that have a command for it get it wrong in different ways.
func (r *roll) qr(text string) error {
	code, err := qrcode.New(text, qrcode.Medium)
	if err != nil {
		return fmt.Errorf("qr of %d characters: %w", len(text), err)
	}
	bits := code.Bitmap()
	width, height := len(bits), len(bits)*module // bytes, dots
	r.Write([]byte{0x1d, 'v', '0', 0, byte(width), byte(width >> 8), byte(height), byte(height >> 8)})
	for _, row := range bits {
		line := make([]byte, width)
		for x, dark := range row {
			if dark {
				line[x] = 0xff
			}
		}
		for range module {
			r.Write(line)
		}
	}
	return nil
}

// cut feeds the last line past the knife and cuts (GS V 66).
func (r *roll) cut() []byte {
	r.Write([]byte{0x1d, 'V', 66, 3})
	return r.Bytes()
}

// Slip makes the bytes of a slip with a pick-up code: what paper.Slip says, on a strip of paper. Its errors are those of
// paper.Slip.
func Slip(form paper.SlipForm) ([]byte, error) {
	if err := form.Check(); err != nil {
		return nil, fmt.Errorf("slip: %w", err)
	}
	it, err := paper.WordsOfSlip("it")
	if err != nil {
		return nil, err
	}
	w, err := paper.WordsOfSlip(form.Language)
	if err != nil {
		return nil, err
	}
	r := begin()
	r.align(true)
	r.text(it.Title, double, true, "", "")
	r.feed(1)
	r.para(it.Code)
	r.text(form.GroupedCode(), wide, true, "", "")
	r.feed(1)
	r.align(false)
	if len(form.Certificates) > 0 {
		r.para(it.Certificates + ":")
		for _, c := range form.Certificates {
			r.text(c, normal, true, "- ", "  ")
		}
	}
	if form.Branch != "" {
		r.bold(it.Branch + ": " + form.Branch)
	}
	r.moments(form, it, "it")
	r.feed(1)
	r.bold(it.Next)
	r.rest(it)
	if form.Language != "it" {
		r.rule()
		r.bold(w.Title + " - " + w.Code + " " + form.GroupedCode())
		r.moments(form, w, form.Language)
		r.rest(w)
	}
	return r.cut(), nil
}

func (r *roll) moments(form paper.SlipForm, w paper.SlipWords, language string) {
	r.para(w.Left + " " + paper.Moment(form.Left, language))
	if !form.Expires.IsZero() {
		r.para(w.Expires + " " + paper.Moment(form.Expires, language))
	}
}

// rest is what happens next, and the note.
func (r *roll) rest(w paper.SlipWords) {
	for i, s := range w.Steps {
		r.item(fmt.Sprintf("%d. ", i+1), s)
	}
	r.feed(1)
	r.para(w.Note)
}

// Adoption makes the bytes of the page by which a printer is adopted: a code of four digits, and what shows whether the
// printer has the letters and draws pictures. branch may be empty.
func Adoption(code, branch string) ([]byte, error) {
	if len(code) != 4 || bytes.ContainsFunc([]byte(code), func(c rune) bool { return c < '0' || c > '9' }) {
		return nil, errors.New("adoption slip: want a code of four digits")
	}
	r := begin()
	r.align(true)
	r.text("Adozione di una stampante", normal, true, "", "")
	if branch != "" {
		r.para(branch)
	}
	r.feed(1)
	r.para("Codice da scrivere · Code to type")
	r.text(code, huge, true, "", "")
	r.feed(1)
	r.para("àèéìòù ÀÈÉÌÒÙ çñüößøå € « »")
	if err := r.qr("SPORTELLO " + code); err != nil {
		return nil, err
	}
	r.feed(1)
	r.align(false)
	r.bold("Che cosa controllare")
	for i, s := range []string{
		"Gli accenti e il simbolo dell’euro sono giusti?",
		"Il quadrato è nitido e intero?",
		"La carta è tagliata, e non manca niente?",
		"Scrivere il codice nella pagina del personale, entro 10 minuti, e dire se il foglio è giusto. Poi buttare il foglio.",
	} {
		r.item(fmt.Sprintf("%d. ", i+1), s)
	}
	r.feed(1)
	r.para("Check: are the accents and the euro sign right? Is the square sharp and whole? Is the paper cut, with nothing missing? " +
		"Then type the code on the staff page, within 10 minutes, and say whether the sheet is right. Then throw it away.")
	return r.cut(), nil
}
