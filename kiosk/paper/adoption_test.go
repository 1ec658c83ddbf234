package paper_test

import (
	"bytes"
	"errors"
	"image"
	_ "image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	zxqr "github.com/makiuchi-d/gozxing/qrcode"
	qrcode "github.com/skip2/go-qrcode"

	"sportello.example/kiosk/paper"
)

func adoption(t testing.TB) paper.AdoptionForm {
	t.Helper()
	code, err := qrcode.New("Sportello 4821", qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	return paper.AdoptionForm{
		Code: "4821", Printer: "HP LaserJet – Sala “studio”", Branch: "Valvassori Peroni",
		At: time.Date(2026, 11, 22, 15, 7, 0, 0, time.UTC), QR: code.Bitmap(),
	}
}

// drawn is the page as another program draws it, at 150 dpi.
func drawn(t *testing.T, pdf []byte) image.Image {
	t.Helper()
	out := filepath.Join(t.TempDir(), "page")
	tool(t, pdf, "pdftoppm", "-png", "-gray", "-singlefile", "-r", "150", "-", out)
	f, err := os.Open(out + ".png")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// tool gives a PDF to one of Poppler's.
func tool(t *testing.T, pdf []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(pdf)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

func TestAdoptionPage(t *testing.T) {
	f := adoption(t)
	page, err := paper.AdoptionPage(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := paper.AdoptionPage(f)
	if err != nil || !bytes.Equal(page, again) {
		t.Errorf("equal input, other bytes (%v)", err)
	}
	trial, err := paper.TestPage(f)
	if err != nil {
		t.Fatal(err)
	}
	f.QR = nil
	plain, err := paper.TestPage(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		pdf      []byte
		code, qr string
	}{
		{"adoption", page, "4821", "Sportello 4821"},
		{"test page", trial, "", "Sportello 4821"},
		{"test page with the code of every box", plain, "", "SPORTELLO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := pageCount(tt.pdf); n != 1 {
				t.Errorf("%d pages", n)
			}
			text := tool(t, tt.pdf, "pdftotext", "-layout", "-", "-")
			for _, want := range []string{"HP LaserJet – Sala “studio”", "Valvassori Peroni", "22 novembre 2026", "àèéìòù ÀÈÉÌÒÙ çñüößøå", "€ – “perché” l’età…", "La cornice è intera", "100 %"} {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not say %q:\n%s", want, text)
				}
			}
			if got := strings.Contains(text, "4821"); got != (tt.code != "") {
				t.Errorf("code on the page: %v", got)
			}
			img := drawn(t, tt.pdf)
			bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
			if err != nil {
				t.Fatal(err)
			}
			got, err := zxqr.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
			if err != nil || got.GetText() != tt.qr {
				t.Errorf("the QR says %v, %v; want %q", got, err, tt.qr)
			}
			checkFrame(t, img)
		})
	}
}

// checkFrame looks for the frame 5 mm from each edge: outside of it the paper is white, on it no pixel is missing.
func checkFrame(t *testing.T, img image.Image) {
	t.Helper()
	b := img.Bounds()
	const at = 30 // 5 mm at 150 dpi
	dark := func(x, y int) bool {
		r, _, _, _ := img.At(x, y).RGBA()
		return r < 0xc000
	}
	for _, side := range []struct {
		name string
		n    int
		at   func(i, depth int) (x, y int)
	}{
		{"left", b.Dy(), func(i, d int) (int, int) { return d, i }},
		{"right", b.Dy(), func(i, d int) (int, int) { return b.Dx() - 1 - d, i }},
		{"top", b.Dx(), func(i, d int) (int, int) { return i, d }},
		{"bottom", b.Dx(), func(i, d int) (int, int) { return i, b.Dy() - 1 - d }},
	} {
		for i := at + 2; i < side.n-at-2; i++ {
			depth := 0
			for depth < at+4 && !dark(side.at(i, depth)) {
				depth++
			}
			if depth < at-2 || depth > at+2 {
				t.Fatalf("%s side, %d: the first dark pixel is %d from the edge, want %d", side.name, i, depth, at)
			}
		}
	}
}

func TestAdoptionPageOfAStranger(t *testing.T) {
	f := adoption(t)
	f.Printer, f.Branch = strings.Repeat("打印机 \u202eWWWWW ", 20)+"\x00\xff", "Nguyễn "+sixty+sixty
	page, err := paper.AdoptionPage(f)
	if err != nil || pageCount(page) != 1 {
		t.Fatalf("%d pages, %v", pageCount(page), err)
	}
	text := tool(t, page, "pdftotext", "-layout", "-", "-")
	if !strings.Contains(text, "??? ?WWWWW") || !strings.Contains(text, "4821") || strings.Contains(text, sixty+sixty) {
		t.Errorf("got\n%s", text)
	}
}

func TestAdoptionPageRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   func(*paper.AdoptionForm)
		field string
		want  error
	}{
		{"no code", func(f *paper.AdoptionForm) { f.Code = "" }, "Code", paper.ErrMissing},
		{"a code of five", func(f *paper.AdoptionForm) { f.Code = "48215" }, "Code", paper.ErrMissing},
		{"letters", func(f *paper.AdoptionForm) { f.Code = "48x1" }, "Code", paper.ErrCharacter},
		{"a QR that is not square", func(f *paper.AdoptionForm) { f.QR = f.QR[1:] }, "QR", paper.ErrMissing},
		{"a QR larger than there are any", func(f *paper.AdoptionForm) { f.QR = make([][]bool, 186) }, "QR", paper.ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := adoption(t)
			tt.set(&f)
			_, err := paper.AdoptionPage(f)
			var fe *paper.FieldError
			if !errors.As(err, &fe) || fe.Field != tt.field || !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %s: %v", err, tt.field, tt.want)
			}
		})
	}
}
