package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

const inQR = "HTTP://127.0.0.1:8081/P/AEAACAAAAAAQCAZ7QHWZ4CKQJ2B5TYWQ3FQZ2NQWJ7Y6XLGQ"

// drawn returns the modules of a QR with a margin of four.
func drawn(t testing.TB, text string) [][]bool {
	t.Helper()
	m, err := qrcode.NewQRCodeWriter().Encode(text, gozxing.BarcodeFormat_QR_CODE, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]bool, m.GetHeight())
	for y := range rows {
		rows[y] = make([]bool, m.GetWidth())
		for x := range rows[y] {
			rows[y][x] = m.Get(x, y)
		}
	}
	return rows
}

func page(svg string) []byte {
	return []byte(`<!doctype html><html><body><svg viewBox="0 0 24 24"><path d="m13.9 5.4-.7.7c1 1 2 2z"/></svg>` + svg + `</body></html>`)
}

func TestReadQR(t *testing.T) {
	rows := drawn(t, inQR)
	n := len(rows)
	var runs, relative, rects strings.Builder
	for y, row := range rows {
		for x := 0; x < n; x++ {
			s := x
			for x < n && row[x] {
				x++
			}
			if x > s {
				fmt.Fprintf(&runs, "M%d %dh%dv1H%dz", s, y, x-s, s)
				fmt.Fprintf(&relative, "M%d,%d h%d v1 h-%d z ", s, y, x-s, x-s)
				fmt.Fprintf(&rects, `<rect x="%d" y="%d" width="%d" height="1"/>`, s, y, x-s)
			}
		}
	}
	paper := fmt.Sprintf(`<path d="M0 0h%dv%dH0z"/>`, n, n)
	for _, tt := range []struct{ name, svg string }{
		{"one path of runs", paper + `<path d="` + runs.String() + `"/>`},
		{"relative strokes and commas", paper + `<path d="` + relative.String() + `"/>`},
		{"a rectangle for each run", fmt.Sprintf(`<rect width="%d" height="%d"/>`, n, n) + rects.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readQR(page(fmt.Sprintf(`<svg viewBox="0 0 %d %d">%s</svg>`, n, n, tt.svg)))
			if err != nil || got != inQR {
				t.Errorf("got %q, %v, want %q", got, err, inQR)
			}
		})
	}
}

func TestReadQRFindsNone(t *testing.T) {
	for _, tt := range []struct{ name, page string }{
		{"an empty page", ""},
		{"a page without pictures", "<p>Grazie</p>"},
		{"an icon", string(page(""))},
		{"a picture that is all paper", string(page(`<svg viewBox="0 0 29 29"><path d="M0 0h29v29H0z"/></svg>`))},
		{"a picture of unheard-of size", string(page(`<svg viewBox="0 0 1e9 1e9"><path d="M0 0h1v1z"/></svg>`))},
		{"no size at all", string(page(`<svg viewBox="0 0 NaN Inf"><path d="M0 0h1v1z"/></svg>`))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := readQR([]byte(tt.page)); !errors.Is(err, errNoQR) {
				t.Errorf("got %q, %v, want errNoQR", got, err)
			}
		})
	}
}

func FuzzReadQR(f *testing.F) {
	f.Add([]byte(`<svg viewBox="0 0 29 29"><path d="M0 0h29v29H0zM4 4h7v1H4z"/><rect x="1" y="2" width="3" height="4"/></svg>`))
	f.Add([]byte(`<svg viewBox="0,0,3,3"><path d="m1 1h-5v-7z2"/></svg>`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = readQR(b) // must come back
	})
}
