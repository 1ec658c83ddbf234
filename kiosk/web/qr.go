package web

import (
	"fmt"
	"strings"

	qrcode "github.com/skip2/go-qrcode"
)

// qr is a QR code (ISO/IEC 18004) as one path of an SVG: always black on white, in any theme, because a phone reads
// no other colours well.
type qr struct {
	Size int    // modules of a side, with the border of 4
	Path string // of the dark modules, in modules
}

// drawQR draws text at level M in the smallest version that holds it.
func drawQR(text string) (qr, error) {
	code, err := qrcode.New(text, qrcode.Medium)
	if err != nil {
		return qr{}, fmt.Errorf("qr of %d characters: %w", len(text), err)
	}
	bits := code.Bitmap()
	var b strings.Builder
	for y, row := range bits {
		for x := 0; x < len(row); {
			start := x
			for x < len(row) && row[x] {
				x++
			}
			if x > start {
				fmt.Fprintf(&b, "M%d %dh%dv1H%dz", start, y, x-start, start)
			} else {
				x++
			}
		}
	}
	return qr{Size: len(bits), Path: b.String()}, nil
}
