package escpostest

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"strings"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// ErrNoQR means that a slip has no picture that is a QR.
var ErrNoQR = errors.New("no QR on the slip")

// Line is a line of text on paper.
type Line struct {
	Text          string
	Width, Height int // of the characters, 1 to 8
	Bold          bool
	Align         int // 0 left, 1 centre, 2 right
}

// Columns is how many columns of normal characters the line takes.
func (l Line) Columns() int { return len([]rune(l.Text)) * l.Width }

// Slip is what came out between two cuts.
type Slip struct {
	Lines    []Line
	Pictures []image.Image
	Cut      bool
	Unknown  []string // commands it does not know, in hex
}

// Text is all the text, a line a line.
func (s Slip) Text() string {
	var b strings.Builder
	for _, l := range s.Lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// QR reads the first picture that is one, as a phone would. ErrNoQR.
func (s Slip) QR() (string, error) {
	for _, p := range s.Pictures {
		bmp, err := gozxing.NewBinaryBitmapFromImage(p)
		if err != nil {
			continue
		}
		if r, err := qrcode.NewQRCodeReader().Decode(bmp, nil); err == nil {
			return r.GetText(), nil
		}
	}
	return "", ErrNoQR
}

// The most bytes that a picture may have, and a row of it: no head is wider.
const (
	maxPicture = 1 << 20
	maxRow     = 128
)

// Interpreter is what a printer does with what it is sent. The zero value is a printer after ESC @ that is set to code
// page 437, as they come.
type Interpreter struct {
	page   byte
	size   byte
	bold   bool
	align  int
	line   strings.Builder
	slip   Slip
	slips  []Slip
	asked  int // GS r since the last look
	double bool
}

// Next returns how many bytes at the beginning of b are one letter or command, 0 when there may be more of it to come.
func Next(b []byte) int {
	need := func(n int) int {
		if len(b) < n {
			return 0
		}
		return n
	}
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case 0x10: // DLE EOT n
		return need(3)
	case 0x1c:
		return need(2)
	case 0x1b:
		if len(b) < 2 {
			return 0
		}
		if b[1] == '@' {
			return 2
		}
		return need(3)
	case 0x1d:
		switch {
		case len(b) < 3:
			return 0
		case b[1] == 'V' && b[2] >= 65:
			return need(4)
		case b[1] == 'v':
			if len(b) < 8 {
				return 0
			}
			row := int(b[4]) + int(b[5])<<8
			n := row * (int(b[6]) + int(b[7])<<8)
			if row > maxRow || n > maxPicture {
				return 8 // no printer has such paper: what follows is text to it
			}
			return need(8 + n)
		}
		return 3
	}
	return 1
}

// Feed prints b, which must be whole letters and commands: see Next.
func (in *Interpreter) Feed(b []byte) {
	for len(b) > 0 {
		n := Next(b)
		if n == 0 {
			in.unknown(b)
			return
		}
		in.one(b[:n])
		b = b[n:]
	}
}

// Slips returns what has been cut off so far.
func (in *Interpreter) Slips() []Slip { return in.slips }

// Rest is what hangs out of the printer.
func (in *Interpreter) Rest() Slip { return in.slip }

func (in *Interpreter) unknown(b []byte) {
	in.slip.Unknown = append(in.slip.Unknown, fmt.Sprintf("%x", b[:min(len(b), 8)]))
}

func (in *Interpreter) feed() {
	width, height := int(in.size>>4)+1, int(in.size&0x0f)+1
	in.slip.Lines = append(in.slip.Lines, Line{Text: in.line.String(), Width: width, Height: height, Bold: in.bold, Align: in.align})
	in.line.Reset()
}

func (in *Interpreter) one(c []byte) {
	switch c[0] {
	case 0x10, '\r':
	case '\n':
		in.feed()
	case 0x1b:
		in.esc(c)
	case 0x1c:
		switch c[1] {
		case '.':
			in.double = false
		case '&':
			in.double = true
		default:
			in.unknown(c)
		}
	case 0x1d:
		in.gs(c)
	default:
		in.letter(c[0])
	}
}

func (in *Interpreter) letter(b byte) {
	switch {
	case b < ' ' || b == 0x7f:
		in.unknown([]byte{b})
	case b < 0x80:
		in.line.WriteByte(b)
	case in.page == 19 && !in.double:
		in.line.WriteRune([]rune(codePage858)[b-0x80])
	default:
		in.line.WriteRune('\ufffd')
	}
}

func (in *Interpreter) esc(c []byte) {
	switch c[1] {
	case '@':
		in.page, in.size, in.bold, in.align = 0, 0, false, 0
		in.line.Reset()
	case 't':
		in.page = c[2]
	case 'E':
		in.bold = c[2]&1 == 1
	case 'a':
		in.align = int(c[2]) % 3
	case 'd':
		for range c[2] {
			in.feed()
		}
	default:
		in.unknown(c)
	}
}

func (in *Interpreter) gs(c []byte) {
	switch c[1] {
	case '!':
		in.size = c[2] & 0x77
	case 'V':
		in.slip.Cut = true
		in.slips = append(in.slips, in.slip)
		in.slip = Slip{}
	case 'v':
		if len(c) == 8 {
			in.unknown(c)
			return
		}
		in.slip.Pictures = append(in.slip.Pictures, picture(c))
	case 'r':
		in.asked++
	default:
		in.unknown(c)
	}
}

// picture draws a GS v 0, with the white paper around it.
func picture(c []byte) image.Image {
	const margin = 16
	row, height := int(c[4])+int(c[5])<<8, int(c[6])+int(c[7])<<8
	img := image.NewGray(image.Rect(0, 0, row*8+2*margin, height+2*margin))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	for y := range height {
		for x := range row * 8 {
			if c[8+y*row+x/8]&(0x80>>(x%8)) != 0 {
				img.SetGray(margin+x, margin+y, color.Gray{})
			}
		}
	}
	return img
}
