package ipptest_test

import (
	"encoding/binary"
	"testing"

	"sportello.example/appliance/ipp/ipptest"
)

// whiteLines are height white lines of n pixels, each of size bytes: runs of 128 pixels at most, lines repeated 256 times at
// most.
func whiteLines(height, n, size int) []byte {
	var line []byte
	for left := n; left > 0; left -= min(left, 128) {
		line = append(line, byte(min(left, 128)-1))
		for range size {
			line = append(line, 0xff)
		}
	}
	var b []byte
	for left := height; left > 0; left -= min(left, 256) {
		b = append(append(b, byte(min(left, 256)-1)), line...)
	}
	return b
}

func pwgPage(width, height, dpi int) []byte {
	h := make([]byte, 1796)
	copy(h, "PwgRaster")
	for at, v := range map[int]int{276: dpi, 280: dpi, 372: width, 376: height, 384: 8, 388: 8, 392: width, 400: 18, 420: 1} {
		binary.BigEndian.PutUint32(h[at:], uint32(v))
	}
	return append(h, whiteLines(height, width, 1)...)
}

func urfPage(width, height, dpi int) []byte {
	h := make([]byte, 32)
	h[0], h[1], h[2], h[3] = 24, 1, 1, 4
	for at, v := range map[int]int{12: width, 16: height, 20: dpi} {
		binary.BigEndian.PutUint32(h[at:], uint32(v))
	}
	return append(h, whiteLines(height, width, 3)...)
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func TestPrintsPictures(t *testing.T) {
	const pwg, urf = "image/pwg-raster", "image/urf"
	p1, p2 := pwgPage(2480, 3508, 300), pwgPage(4960, 7016, 600)
	u1 := urfPage(2480, 3508, 300)
	head := func(n byte) []byte { return append([]byte("UNIRAST\x00"), 0, 0, 0, n) }
	for _, tt := range []struct {
		name   string
		format string
		doc    []byte
		state  string
		sheets int
		first  ipptest.Picture
	}{
		{"PWG of two pages", pwg, join([]byte("RaS2"), p1, p2), "9", 2, ipptest.Picture{Width: 2480, Height: 3508, DPI: 300, Type: "sgray_8"}},
		{"URF of three pages", urf, join(head(3), u1, u1, u1), "9", 3, ipptest.Picture{Width: 2480, Height: 3508, DPI: 300, Type: "srgb_8"}},
		{
			"URF whose lines end early", urf, join(head(1), u1[:32], []byte{255, 128, 255, 128}, whiteLines(3508-512, 2480, 3)), "9", 1,
			ipptest.Picture{Width: 2480, Height: 3508, DPI: 300, Type: "srgb_8"},
		},
		{"second page broken off", pwg, join([]byte("RaS2"), p1, p2[:len(p2)-3]), "8", 1, ipptest.Picture{Width: 2480, Height: 3508, DPI: 300, Type: "sgray_8"}},
		{"not raster", pwg, document, "8", 0, ipptest.Picture{}},
		{"at a resolution it has not", pwg, join([]byte("RaS2"), pwgPage(1240, 1754, 150)), "8", 0, ipptest.Picture{}},
		{"fewer pages than it says", urf, join(head(2), u1), "8", 1, ipptest.Picture{Width: 2480, Height: 3508, DPI: 300, Type: "srgb_8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
				p.Formats(urf, pwg)
				_, job := w.print(tt.format, tt.doc)
				sheets := p.Sheets()
				if got := text(job.Job, "job-state"); got != tt.state || len(sheets) != tt.sheets {
					t.Fatalf("job-state %s (%s), %d sheets, want %s, %d", got, text(job.Job, "job-state-reasons"), len(sheets), tt.state, tt.sheets)
				}
				if tt.sheets > 0 && (sheets[0].Picture != tt.first || sheets[0].Format != tt.format || string(sheets[0].Document) != string(tt.doc) || sheets[0].PDF != nil) {
					t.Errorf("first sheet %+v, %s, want %+v", sheets[0].Picture, sheets[0].Format, tt.first)
				}
			})
		})
	}
}

// FuzzPages feeds the printer documents of any bytes: it counts their sheets or aborts the job, and never fails itself.
func FuzzPages(f *testing.F) {
	f.Add("image/pwg-raster", join([]byte("RaS2"), pwgPage(40, 300, 300)))
	f.Add("image/urf", join([]byte("UNIRAST\x00\x00\x00\x00\x01"), urfPage(40, 300, 300)))
	f.Add("application/pdf", document)
	f.Fuzz(func(t *testing.T, format string, doc []byte) {
		pictures, err := ipptest.Pages(format, doc)
		if err == nil && len(pictures) == 0 && len(doc) > 12 {
			t.Errorf("%d bytes of %s make no sheet and no error", len(doc), format)
		}
		for _, p := range pictures {
			if format != "application/pdf" && p != (ipptest.Picture{}) && (p.Width <= 0 || p.Height <= 0) {
				t.Errorf("a page of %+v", p)
			}
		}
	})
}
