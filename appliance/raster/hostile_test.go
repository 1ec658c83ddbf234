package raster_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/raster"
	"sportello.example/sync/hub/anpr/anprtest"
)

// build makes a PDF of objects 1, 2, 3 …; the first is the catalogue. extra goes into the trailer.
func build(objects []string, extra ...string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	var at []int
	for i, o := range objects {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, n := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, strings.Join(extra, " "), xref)
	return b.Bytes()
}

func stream(dict, content string) string {
	return fmt.Sprintf("<< /Length %d %s >>\nstream\n%s\nendstream", len(content), dict, content)
}

// flate compresses s.
func flate(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// bomb is what a gigabyte of s compresses to. A mebibyte that follows another one like it always compresses to the same
// bytes, so that only two of them have to be compressed. The checksum is wrong: nobody gets that far.
func bomb(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	chunk := strings.Repeat(s, 1<<20/len(s))
	for range 2 {
		_, _ = io.WriteString(w, chunk)
		_ = w.Flush()
	}
	first := b.Len()
	_, _ = io.WriteString(w, chunk)
	_ = w.Flush()
	return b.String() + strings.Repeat(b.String()[first:], 1021) + "\x01\x00\x00\xff\xff\x00\x00\x00\x00"
}

// pages is a PDF of n A4 pages with a line on each; catalog goes into its catalogue.
func pages(n int, catalog string) []byte { return sized(n, 595.28, 841.89, catalog) }

func sized(n int, w, h float64, catalog string) []byte {
	var kids strings.Builder
	objects := []string{"<< /Type /Catalog /Pages 2 0 R " + catalog + " >>", "", stream("", "2 w 50 50 m 300 300 l S")}
	for i := range n {
		fmt.Fprintf(&kids, "%d 0 R ", i+4)
		objects = append(objects, fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.2f %.2f] /Contents 3 0 R >>", w, h))
	}
	objects[1] = fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", kids.String(), n)
	return build(objects)
}

// drawing is one A4 page with the given content and objects 5, 6 … beside it.
func drawing(content string, more ...string) []byte {
	return build(append([]string{
		"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595.28 841.89] /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>", content,
	}, more...))
}

// onePage is one page whose dictionary also holds extra; objects 4, 5 … are more.
func onePage(extra string, more ...string) []byte {
	return build(append([]string{
		"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Page /Parent 2 0 R " + extra + " >>",
	}, more...))
}

// encrypted opens without a password; its owner's password only forbids.
func encrypted(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "pdf", "encrypted.pdf"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCheckRefuses(t *testing.T) {
	r := rasteriser(t)
	whole := certificate(t, nil)
	cut := func(b []byte, from int) []byte { return b[:len(b)-from] }
	hidden := flate("1 0 << /S /JavaScript /JS (app.alert) >> ")
	bare := pages(1, "")
	for _, tt := range []struct {
		name string
		pdf  []byte
		want error
	}{
		{"nothing", nil, raster.ErrNotPDF},
		{"a web page", []byte("<!DOCTYPE html>\n<p>Sessione scaduta</p>"), raster.ErrNotPDF},
		{"something before the header", append([]byte("\n"), bare...), raster.ErrNotPDF},
		{"half a certificate", certificate(t, func(s *anprtest.Server) { s.Truncate(true) }), raster.ErrTruncated},
		{"its last kilobyte is missing", cut(whole, 1024), raster.ErrTruncated},
		{"its last line is missing", cut(bare, 7), raster.ErrTruncated},
		{"its first half is missing", append([]byte("%PDF-1.7\n"), bare[len(bare)/2:]...), raster.ErrDamaged},
		{"only the ends", []byte("%PDF-1.7\nstartxref\n9\n%%EOF\n"), raster.ErrDamaged},
		{"noise between the ends", []byte("%PDF-1.7\n" + strings.Repeat("\x8b\x02 7", 500) + "xref\nstartxref\n9\n%%EOF\n"), raster.ErrDamaged},
		{"5 MiB and a byte", append(bytes.Clone(bare), make([]byte, 5<<20)...), raster.ErrTooBig},
		{"no pages", build([]string{"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>"}), raster.ErrNoPages},
		{"21 pages", pages(21, ""), raster.ErrTooManyPages},
		{"US Letter", certificate(t, func(s *anprtest.Server) { s.Letter(true) }), raster.ErrNotA4},
		{"A3", sized(1, 841.89, 1190.55, ""), raster.ErrNotA4},
		{"A2", sized(1, 1190.55, 1683.78, ""), raster.ErrPageSize},
		{"200 inches", sized(1, 14400, 14400, ""), raster.ErrPageSize},
		{"A4 cut out of A3", onePage("/MediaBox [0 0 841.89 1190.55] /CropBox [0 0 595.28 841.89]"), raster.ErrNotA4},
		{"A4 with another unit", onePage("/MediaBox [0 0 595.28 841.89] /UserUnit 2"), raster.ErrNotA4},
		{"A4 with the usual unit", onePage("/MediaBox [0 0 595.28 841.89] /UserUnit 1.0"), nil},
		{"encrypted", encrypted(t), raster.ErrEncrypted},
		{"a script when it is opened", pages(1, "/OpenAction << /S /JavaScript /JS (app.alert\\(1\\)) >>"), raster.ErrActive},
		{"a script by an escaped name", pages(1, "/OpenAction << /S /J#61vaScript /#4AS (x) >>"), raster.ErrActive},
		{"a script in an object stream", build([]string{
			"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>",
			stream("/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode", hidden),
		}), raster.ErrActive},
		{"an object stream behind a decoy", build([]string{
			"<< /Type /Catalog /Pages 2 0 R >>", "(stream)", stream("/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode", hidden),
		}), raster.ErrActive},
		{"an object stream that cannot be read", build([]string{stream("/Type /ObjStm /Filter /LZWDecode", "x")}), raster.ErrActive},
		{"an object stream of a gigabyte", build([]string{stream("/Type /ObjStm /Filter /FlateDecode", bomb(" "))}), raster.ErrLimits},
		{"starts a program", pages(1, "/OpenAction << /S /Launch /F (cmd) >>"), raster.ErrActive},
		{"an action on printing", pages(1, "/AA << /WP << /S /Named /N /Print >> >>"), raster.ErrActive},
		{"prints when it is opened", pages(1, "/OpenAction << /S /Named /N /Print >>"), raster.ErrActive},
		{"opens something else", pages(1, "/OpenAction 9 0 R"), raster.ErrActive},
		{"a file inside", pages(1, "/Names << /EmbeddedFiles << /Names [(a) << /Type /Filespec /EF << /F 3 0 R >> >>] >> >>"), raster.ErrActive},
		{"an XFA form", pages(1, "/AcroForm << /XFA 3 0 R >>"), raster.ErrActive},
		{"opens at a page", pages(1, "/OpenAction [4 0 R /Fit]"), nil},
		{"goes to a page", pages(1, "/OpenAction << /S /GoTo /D [4 0 R /Fit] >>"), nil},
		{"20 pages", pages(20, ""), nil},
		{"A4 lying", sized(1, 841.89, 595.28, ""), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Check(t.Context(), tt.pdf, raster.CertificateLimits())
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestBombs draws documents made to hurt, two at a time, on screen and for a printer. Each ends with an error about
// itself or is drawn; this process gets no fatter by it; and a good document comes out after them as it did before.
func TestBombs(t *testing.T) {
	r := rasteriser(t)
	good := func() []byte {
		b, err := r.Print(t.Context(), pages(2, ""), raster.PrintOptions{Format: raster.PWG})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := good()
	limited := func(l raster.Limits) *raster.Rasteriser {
		return &raster.Rasteriser{Command: r.Command, CacheDir: r.CacheDir, Limits: l}
	}
	fat, slow := limited(raster.Limits{Memory: 300 << 20}), limited(raster.Limits{CPU: time.Second})
	long := strings.Repeat("0 0 m 100 900 400 -200 500 800 c S\n", 280_000)
	var nest []string // forms that draw the next one ten times
	for i := range 12 {
		nest = append(nest, stream(fmt.Sprintf("/Type /XObject /Subtype /Form /BBox [0 0 600 900] /Resources << /XObject << /X %d 0 R >> >>", i+6),
			strings.Repeat("/X Do ", 10)))
	}
	nest = append(nest, stream("/Type /XObject /Subtype /Form /BBox [0 0 600 900]", strings.Repeat("0 0 m 9 9 l S ", 100)))
	list := []struct {
		name string
		r    *raster.Rasteriser
		pdf  []byte
		ok   bool // may also be drawn
	}{
		{"a gigabyte of spaces", fat, drawing(stream("/Filter /FlateDecode", bomb(" "))), false},
		{"a gigabyte of numbers", fat, drawing(stream("/Filter /FlateDecode", bomb("1 2 3 "))), false},
		{"twice compressed", fat, drawing(stream("/Filter [/FlateDecode /FlateDecode]", flate(bomb(" ")))), false},
		{"ten to the twelfth lines", fat, drawing(stream("", "/X Do"), nest...), true},
		{"a form that draws itself", slow, drawing(stream("", "/X Do"), stream("/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>", "/X Do")), true},
		{"a picture of 50,000 × 50,000", slow, drawing(stream("", "595 0 0 842 0 0 cm /X Do"),
			stream("/Type /XObject /Subtype /Image /Width 50000 /Height 50000 /ColorSpace /DeviceGray /BitsPerComponent 1 /Filter /FlateDecode", flate(strings.Repeat("\x00", 1<<20)))), true},
		{"280,000 curves", slow, drawing(stream("", long)), true},
	}
	lean := memory(t, "VmRSS")
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // VmHWM begins anew
		t.Fatal(err)
	}
	t.Run("two at a time", func(t *testing.T) {
		for _, tt := range list {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				_, drawn := tt.r.Pages(t.Context(), tt.pdf, raster.Options{Width: 800})
				doc, printed := tt.r.Print(t.Context(), tt.pdf, raster.PrintOptions{Format: raster.URF, DPI: 150})
				t.Logf("%v; %v", drawn, printed)
				for _, err := range []error{drawn, printed} {
					if err == nil && !tt.ok || errors.Is(err, raster.ErrEngine) {
						t.Errorf("got %v", err)
					}
				}
				if printed != nil && doc != nil {
					t.Errorf("%d bytes are to be printed all the same", len(doc))
				}
			})
		}
	})
	most := memory(t, "VmHWM")
	t.Logf("this process had %d MiB, and %d at most", lean>>20, most>>20)
	if most-lean > 100<<20 {
		t.Error("the bombs were felt outside of the child")
	}
	if !bytes.Equal(good(), first) {
		t.Error("a good document is drawn in another way after them")
	}
	t.Run("all black", func(t *testing.T) {
		_, err := r.Pages(t.Context(), drawing(stream("", "0 g 0 0 600 900 re f")), raster.Options{Width: 100})
		if !errors.Is(err, raster.ErrBlack) {
			t.Errorf("got %v, want %v", err, raster.ErrBlack)
		}
	})
}

// memory is a value of /proc/self/status in bytes.
func memory(t *testing.T, name string) int {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(b), "\n"+name+":")
	var kib int
	if _, err := fmt.Sscan(value, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func FuzzCheck(f *testing.F) {
	f.Add(pages(1, "/OpenAction [4 0 R /Fit]"))
	f.Add(pages(1, "/OpenAction << /S /J#61vaScript >>"))
	f.Add(build([]string{stream("/Type /ObjStm /Filter /FlateDecode", flate("1 0 << /AA 1 >>"))}))
	// The parts that run before the engine, and on every byte: they must end and not panic.
	f.Fuzz(func(_ *testing.T, pdf []byte) { raster.Scan(pdf) })
}
