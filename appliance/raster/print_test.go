package raster_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"sportello.example/appliance/ipp/ipptest/eve"
	"sportello.example/appliance/pwgraster"
	"sportello.example/appliance/raster"
)

// decode reads a printed document as grays.
func decode(t testing.TB, doc []byte) []*image.Gray {
	t.Helper()
	d, err := pwgraster.NewReader(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	var all []*image.Gray
	for {
		p, err := d.Page()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		m := image.NewGray(image.Rect(0, 0, p.Width, p.Height))
		var last []byte
		for y := range p.Height {
			line, err := d.Line()
			if err != nil {
				t.Fatal(err)
			}
			row := m.Pix[y*m.Stride:][:p.Width]
			if y > 0 && bytes.Equal(line, last) {
				copy(row, m.Pix[(y-1)*m.Stride:])
				continue
			}
			last = append(last[:0], line...)
			switch p.Color {
			case pwgraster.RGB:
				for x := range row {
					row[x] = byte((30*int(line[3*x]) + 59*int(line[3*x+1]) + 11*int(line[3*x+2])) / 100)
				}
			case pwgraster.Black:
				for x := range row {
					row[x] = ^-(line[x/8] >> (7 - x%8) & 1)
				}
			default:
				copy(row, line)
			}
		}
		all = append(all, m)
	}
}

// poppler draws the first page of pdf with pdftoppm.
func poppler(t testing.TB, pdf []byte, w, h int) *image.Gray {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "pdftoppm", "-gray", "-r", "300", "-l", "1",
		"-scale-to-x", fmt.Sprint(w), "-scale-to-y", fmt.Sprint(h), file).Output()
	if err != nil {
		t.Fatalf("install the Debian package poppler-utils: %v", err)
	}
	head := fmt.Sprintf("P5\n%d %d\n255\n", w, h)
	if !bytes.HasPrefix(out, []byte(head)) || len(out) != len(head)+w*h {
		t.Fatalf("pdftoppm wrote %d bytes: %.20q", len(out), out)
	}
	return &image.Gray{Pix: out[len(head):], Stride: w, Rect: image.Rect(0, 0, w, h)}
}

func dark(m *image.Gray) (n int) {
	for _, v := range m.Pix {
		if v < 128 {
			n++
		}
	}
	return n
}

// apart counts the pixels of two pictures that are more than some grays apart.
func apart(a, b *image.Gray, grays int) (n int) {
	for i, v := range a.Pix {
		if d := int(v) - int(b.Pix[i]); d > grays || d < -grays {
			n++
		}
	}
	return n
}

// TestPrint prints samples in every format and colour. The QR code can be read, and the picture is poppler's but for
// where edges fall.
func TestPrint(t *testing.T) {
	r := rasteriser(t)
	cert, decl := certificate(t, nil), declaration(t)
	for _, tt := range []struct {
		name string
		pdf  []byte
		qr   bool
		o    raster.PrintOptions
		w, h int
	}{
		{"certificate", cert, true, raster.PrintOptions{Format: raster.PWG}, 2480, 3508},
		{"certificate in bits", cert, true, raster.PrintOptions{Format: raster.PWG, Color: raster.Black}, 2480, 3508},
		{"certificate in colour", cert, true, raster.PrintOptions{Format: raster.URF, Color: raster.RGB, DPI: 200}, 1654, 2339},
		{"self-declaration", decl, false, raster.PrintOptions{Format: raster.URF, DPI: 300}, 2480, 3508},
		{"self-declaration in colour", decl, false, raster.PrintOptions{Format: raster.PWG, Color: raster.RGB, DPI: 150}, 1240, 1754},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := r.Print(t.Context(), tt.pdf, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			pages := decode(t, doc)
			if len(pages) != 1 || pages[0].Rect.Max != image.Pt(tt.w, tt.h) {
				t.Fatalf("%d pages of %v", len(pages), pages[0].Rect)
			}
			want := poppler(t, tt.pdf, tt.w, tt.h)
			share := 100 * float64(apart(pages[0], want, 128)) / float64(tt.w*tt.h)
			ink, wantInk := dark(pages[0]), dark(want)
			t.Logf("%.2f %% of the pixels differ; %d are dark, poppler's %d; %d bytes", share, ink, wantInk, len(doc))
			// Dots for grays are apart from the grays, and some of them are dark.
			if tt.o.Color != raster.Black && (share > 1 || ink < wantInk*8/10 || ink > wantInk*12/10) || share > 5 {
				t.Error("not what poppler draws")
			}
			if tt.qr {
				code := pages[0].SubImage(image.Rect(0, tt.h*3/4, tt.w*7/20, tt.h*19/20))
				bmp, err := gozxing.NewBinaryBitmapFromImage(code)
				if err != nil {
					t.Fatal(err)
				}
				text, err := qrcode.NewQRCodeReader().Decode(bmp, nil)
				if err != nil || !strings.HasPrefix(text.GetText(), "https://verifica.anpr.example/c?n=") {
					t.Errorf("QR code: %v, %v", text, err)
				}
			}
		})
	}
}

// TestPrintPlaces prints one document with a mark on each of its pages, which all have another shape.
func TestPrintPlaces(t *testing.T) {
	const a4 = "/MediaBox [0 0 595.28 841.89]"
	mark := func(x, y float64) string { return fmt.Sprintf("0 g %.2f %.2f 40 20 re f", x, y) }
	type rect struct{ left, top, right, bottom float64 } // points on paper, from its upper left corner
	low := rect{10, 841.89 - 30, 50, 841.89 - 10}
	list := []struct {
		name, page, content string
		want                rect
	}{
		{"A4", a4, mark(10, 10), low},
		{"A4 by inheritance", "", mark(10, 10), low},
		{"A4 somewhere", "/MediaBox [100 -200 695.28 641.89]", mark(110, -190), low},
		{"A4 upside down in the file", "/MediaBox [595.28 841.89 0 0]", mark(10, 10), low},
		{"A4 cut out of A3", "/MediaBox [0 0 841.89 1190.55] /CropBox [50 60 645.28 901.89]", mark(60, 70), low},
		{"A4 shown turned", "/MediaBox [0 0 841.89 595.28] /Rotate 90", mark(10, 10), rect{10, 10, 30, 50}},
		{"A4 turned and cut", "/MediaBox [0 0 900 900] /CropBox [20 30 861.89 625.28] /Rotate 270", mark(30, 40), rect{565.28, 791.89, 585.28, 831.89}},
		{"A4 lying", "/MediaBox [0 0 841.89 595.28]", mark(10, 10), rect{565.28, 791.89, 585.28, 831.89}},
		{"A5", "/MediaBox [0 0 419.53 595.28]", mark(10, 10), rect{15.11, 799.45, 71.68, 827.75}},
		{"Letter", "/MediaBox [0 0 612 792]", mark(10, 10), rect{9.73, 777, 48.63, 796.4}},
		{"a signature", "/Annots [5 0 R]", "", low},
		{"a signature on a turned page", "/MediaBox [0 0 841.89 595.28] /Rotate 90 /Annots [6 0 R]", "", rect{10, 10, 30, 50}},
	}
	widget := "<< /Type /Annot /Subtype /Widget /FT /Sig /T (s%d) /F 132 /Rect [10 10 50 30] /AP << /N 4 0 R >> >>"
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R /AcroForm << /SigFlags 3 /Fields [5 0 R 6 0 R] >> >>", "", "null",
		stream("/Type /XObject /Subtype /Form /BBox [0 0 40 20]", "0 g 0 0 40 20 re f"), fmt.Sprintf(widget, 1), fmt.Sprintf(widget, 2),
	}
	var kids strings.Builder
	for _, p := range list {
		n := len(objects) + 1
		fmt.Fprintf(&kids, "%d 0 R ", n)
		objects = append(objects, fmt.Sprintf("<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R >>", p.page, n+1), stream("", p.content))
	}
	objects[1] = fmt.Sprintf("<< /Type /Pages %s /Kids [%s] /Count %d >>", a4, kids.String(), len(list))
	doc, err := rasteriser(t).Print(t.Context(), build(objects), raster.PrintOptions{Format: raster.PWG, DPI: 150})
	if err != nil {
		t.Fatal(err)
	}
	pages := decode(t, doc)
	if len(pages) != len(list) {
		t.Fatalf("%d pages", len(pages))
	}
	for i, tt := range list {
		got := image.Rectangle{}
		for y := range pages[i].Rect.Max.Y {
			row := pages[i].Pix[y*pages[i].Stride:][:pages[i].Stride]
			for x, v := range row {
				if v < 128 {
					got = got.Union(image.Rect(x, y, x+1, y+1))
				}
			}
		}
		px := func(points float64) int { return int(points*150/72 + 0.5) }
		want := image.Rect(px(tt.want.left), px(tt.want.top), px(tt.want.right), px(tt.want.bottom))
		if !got.In(want.Inset(-1)) || !want.In(got.Inset(-1)) {
			t.Errorf("%s: the mark is at %v, want %v", tt.name, got, want)
		}
	}
}

// TestPrintBands looks at the seams of a page that is too large to be drawn at once.
func TestPrintBands(t *testing.T) {
	r := rasteriser(t)
	// A band of three bytes a pixel has 2,536 lines: the seams are 538 and 233 points above the foot of the page.
	pdf := drawing(stream("", "3 w 1 0 0 RG 0 520 m 595 550 l S 300 520 m 301 560 l S 0 220 m 300 250 l S 500 250 m 510 210 l S"), stream("", ""))
	whole, err := r.Print(t.Context(), pdf, raster.PrintOptions{Format: raster.PWG, DPI: 600})
	if err != nil {
		t.Fatal(err)
	}
	bands, err := r.Print(t.Context(), pdf, raster.PrintOptions{Format: raster.PWG, DPI: 600, Color: raster.RGB})
	if err != nil {
		t.Fatal(err)
	}
	if n := apart(decode(t, whole)[0], decode(t, bands)[0], 3); n > 0 {
		t.Errorf("%d pixels differ", n)
	}
}

func TestPrintRefuses(t *testing.T) {
	r := rasteriser(t)
	const box = "/MediaBox [0 0 595.28 841.89]"
	two := func(second string) []byte {
		return build([]string{
			"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
			"<< /Type /Page /Parent 2 0 R " + box + " /Contents 5 0 R >>", "<< /Type /Page /Parent 2 0 R " + box + second + " >>",
			stream("", "50 50 m 90 90 l S"), stream("", "1 g 0 0 500 500 re f"),
			stream("", "BT /F 12 Tf 50 50 Td ( ) Tj 0 20 Td (   ) Tj ET"), stream("", "1 g BT /F 12 Tf 50 50 Td (bianco) Tj ET"),
			"<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>",
		})
	}
	whole := certificate(t, nil)
	for _, tt := range []struct {
		name string
		pdf  []byte
		want error
		word string
	}{
		{"nothing", nil, raster.ErrNotPDF, "not_pdf"},
		{"more than 10 MiB", append(bytes.Clone(whole), make([]byte, 10<<20)...), raster.ErrTooBig, "too_big"},
		{"its first half is missing", append([]byte("%PDF-1.7\n"), whole[len(whole)/2:]...), raster.ErrDamaged, "damaged"},
		{"encrypted", encrypted(t), raster.ErrEncrypted, "encrypted"},
		{"10,000 pages", pages(10_000, ""), raster.ErrTooManyPages, "too_many_pages"},
		{"A2", sized(1, 1190.55, 1683.78, ""), raster.ErrPageSize, "page_size"},
		{"black", drawing(stream("", "0 g 0 0 600 900 re f")), raster.ErrBlack, "black"},
		{"a black strip", onePage("/MediaBox [0 0 100 800] /Contents 4 0 R", stream("", "0 g 0 0 100 800 re f")), raster.ErrBlack, "black"},
		{"white on white", drawing(stream("", "1 g 0 0 500 500 re f")), raster.ErrBlank, "blank"},
		{"a second page that is white", two(" /Contents 6 0 R"), raster.ErrBlank, "blank"},
		{"a second page that is empty", two(""), nil, ""},
		{"a second page of spaces", two(" /Contents 7 0 R /Resources 9 0 R"), nil, ""},
		{"a second page in white letters", two(" /Contents 8 0 R /Resources 9 0 R"), raster.ErrBlank, "blank"},
		{"a script when it is opened", pages(1, "/OpenAction << /S /JavaScript /JS (while\\(1\\)\\{\\}) >>"), nil, ""},
		{"starts a program", pages(1, "/OpenAction << /S /Launch /F (cmd) >> /AcroForm << /Fields [] >>"), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := r.Print(t.Context(), tt.pdf, raster.PrintOptions{Format: raster.URF, DPI: 150})
			if !errors.Is(err, tt.want) || (err != nil) == (doc != nil) || err != nil && raster.Reason(err) != tt.word {
				t.Errorf("got %d bytes, %v; want %v", len(doc), err, tt.want)
			}
		})
	}
	for _, o := range []raster.PrintOptions{
		{}, {Format: raster.URF, Color: raster.Black}, {Format: raster.PWG, DPI: 149}, {Format: raster.PWG, DPI: 601}, {Format: raster.PWG, Color: "cmyk_8"},
	} {
		if _, err := r.Print(t.Context(), whole, o); !errors.Is(err, raster.ErrEngine) {
			t.Errorf("%v: got %v", o, err)
		}
	}
}

// answered is what a child writes that has printed a document.
func answered(doc []byte, answer string) []byte {
	piece := []byte{byte(len(doc) >> 24), byte(len(doc) >> 16), byte(len(doc) >> 8), byte(len(doc))}
	return append(append(append(piece, doc...), 0, 0, 0, 0), answer+"\n"...)
}

// sheets is a document of pages that are white but for lines of a gray at the top.
func sheets(t testing.TB, f pwgraster.Format, p pwgraster.Page, n, lines int, gray byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pwgraster.NewWriter(&b, f, n)
	for range n {
		err = errors.Join(err, w.Page(p))
		for y := range p.Height {
			v := byte(0xFF)
			if y < lines {
				v = gray
			}
			err = errors.Join(err, w.Line(bytes.Repeat([]byte{v}, p.Stride())))
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const oneA4 = `{"points":[[595.28,841.89]],"empty":[false]}`

// TestPrintDistrusts has a child say wrong things.
func TestPrintDistrusts(t *testing.T) {
	paper := pwgraster.A4().Page(150, pwgraster.Gray)
	good := sheets(t, pwgraster.PWG, paper, 1, 100, 0)
	twist := bytes.Clone(good)
	twist[4+340] = 9 // NumCopies
	for _, tt := range []struct {
		name string
		says []byte
		want error
	}{
		{"what is right", answered(good, oneA4), nil},
		{"nothing", nil, raster.ErrEngine},
		{"no document", answered(nil, oneA4), raster.ErrEngine},
		{"no end", answered(good, oneA4)[:len(good)], raster.ErrEngine},
		{"three gigabytes", answered(nil, oneA4)[4:], raster.ErrEngine},
		{"a document that is none", answered([]byte("%!PS-Adobe"), oneA4), raster.ErrEngine},
		{"a byte more", answered(append(bytes.Clone(good), 0), oneA4), raster.ErrEngine},
		{"a byte less", answered(good[:len(good)-1], oneA4), raster.ErrEngine},
		{"many copies", answered(twist, oneA4), raster.ErrEngine},
		{"another format", answered(sheets(t, pwgraster.URF, paper, 1, 100, 0), oneA4), raster.ErrEngine},
		{"another size", answered(sheets(t, pwgraster.PWG, pwgraster.A4().Page(200, pwgraster.Gray), 1, 100, 0), oneA4), raster.ErrEngine},
		{"a page more", answered(sheets(t, pwgraster.PWG, paper, 2, 100, 0), oneA4), raster.ErrEngine},
		{"a page less", answered(good, `{"points":[[595,842],[595,842]],"empty":[false,false]}`), raster.ErrEngine},
		{"not which are empty", answered(good, `{"points":[[595,842]]}`), raster.ErrEngine},
		{"a picture too", answered(good, `{"points":[[595,842]],"empty":[false],"png":[1]}`+"\nx"), raster.ErrEngine},
		{"black", answered(sheets(t, pwgraster.PWG, paper, 1, 1200, 9), oneA4), raster.ErrBlack},
		{"white", answered(sheets(t, pwgraster.PWG, paper, 1, 0, 0), oneA4), raster.ErrBlank},
		{"white, of an empty page", answered(sheets(t, pwgraster.PWG, paper, 1, 0, 0), `{"points":[[595,842]],"empty":[true]}`), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "says")
			if err := os.WriteFile(file, tt.says, 0o600); err != nil {
				t.Fatal(err)
			}
			r := &raster.Rasteriser{Command: []string{"/bin/cat", file}}
			doc, err := r.Print(t.Context(), pages(1, ""), raster.PrintOptions{Format: raster.PWG, DPI: 150})
			if !errors.Is(err, tt.want) || (err != nil) == (doc != nil) {
				t.Errorf("got %d bytes, %v; want %v", len(doc), err, tt.want)
			}
		})
	}
}

// TestRealPrinter prints on CUPS's printer, which takes one format only and turns it into PCL as one with ink would.
func TestRealPrinter(t *testing.T) {
	pdf := certificate(t, nil)
	for _, format := range []string{raster.PWG, raster.URF} {
		t.Run(format, func(t *testing.T) {
			doc, err := rasteriser(t).Print(t.Context(), pdf, raster.PrintOptions{Format: format})
			if err != nil {
				t.Fatal(err)
			}
			file, printed := filepath.Join(t.TempDir(), "doc"), filepath.Join(t.TempDir(), "pcl")
			if err := os.WriteFile(file, doc, 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := eve.Start(t.Context(), eve.Config{
				Dir: t.TempDir(), Formats: format, Engine: fmt.Sprintf("/usr/sbin/ippevepcl \"$1\" > %[1]s.part && mv %[1]s.part %[1]s", printed),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop()
			out, err := exec.CommandContext(t.Context(), "ipptool", "-tf", file, "-d", "filetype="+format, p.URI("ipp"), "print-job.test").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, p.Log())
			}
			kept, err := p.Documents()
			if err != nil || len(kept) != 1 || !bytes.Equal(kept[0], doc) {
				t.Errorf("the printer has %d documents, %v", len(kept), err)
			}
			for end := time.Now().Add(time.Minute); ; {
				pcl, err := os.ReadFile(printed)
				if err == nil && bytes.HasPrefix(pcl, []byte("\033")) && len(pcl) > 10_000 {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("it drew %d bytes, %v\n%s", len(pcl), err, p.Log())
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

func FuzzPrinted(f *testing.F) {
	paper := pwgraster.A4().Page(150, pwgraster.Gray)
	paper.Points, paper.Size = [2]int{}, ""
	f.Add(answered(sheets(f, pwgraster.URF, paper, 1, 100, 0), oneA4))
	f.Add(answered(nil, `{"problem":"damaged"}`))
	// It must end, and not panic.
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = raster.Printed(b, raster.PrintOptions{Format: raster.URF, Color: raster.Gray, DPI: 150})
	})
}
