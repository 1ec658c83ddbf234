package pwgraster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sportello.example/appliance/pwgraster"
)

// sheet is a page with its lines.
type sheet struct {
	pwgraster.Page
	lines [][]byte
}

func write(t testing.TB, f pwgraster.Format, sheets []sheet) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pwgraster.NewWriter(&b, f, len(sheets))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sheets {
		if err := w.Page(s.Page); err != nil {
			t.Fatal(err)
		}
		for _, l := range s.lines {
			if err := w.Line(l); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// errLarge is a document too large for a test to keep.
var errLarge = errors.New("more than 8 MiB")

func read(b []byte) (pwgraster.Format, []sheet, error) {
	d, err := pwgraster.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", nil, err
	}
	var all []sheet
	for {
		p, err := d.Page()
		if errors.Is(err, io.EOF) {
			return d.Format(), all, nil
		}
		if err != nil {
			return "", nil, err
		}
		s := sheet{Page: p}
		if p.Stride()*p.Height > 1<<23 {
			return "", nil, errLarge
		}
		for {
			l, err := d.Line()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return "", nil, err
			}
			s.lines = append(s.lines, bytes.Clone(l))
		}
		all = append(all, s)
	}
}

func page(f pwgraster.Format, w, h int, c pwgraster.Color) pwgraster.Page {
	p := pwgraster.A4().Page(300, c)
	p.Width, p.Height = w, h
	if f == pwgraster.URF {
		p.Points, p.Size = [2]int{}, ""
	}
	return p
}

// edges has lines with runs and literals of every length around PackBits's limits, repeated around theirs.
func edges(f pwgraster.Format, c pwgraster.Color) []sheet {
	random := rand.New(rand.NewPCG(1, 2))
	s := sheet{Page: page(f, 900, 0, c)}
	unit := max(1, s.Stride()/s.Width) // bytes
	if c == pwgraster.Black {
		s.Width *= 8
	}
	add := func(times int, kinds ...int) {
		var line []byte
		for at := 0; len(line) < s.Stride(); at++ {
			n := []int{1, 2, 3, 127, 128, 129, 130, 255, 256, 257}[random.IntN(10)]
			px := make([]byte, unit)
			for i := range n {
				if i == 0 || kinds[at%len(kinds)] == 0 { // 0: all different, 1: all the same
					for j := range px {
						px[j] = byte(random.Uint32())
					}
				}
				line = append(line, px...)
			}
		}
		for range times {
			s.lines = append(s.lines, line[:s.Stride()])
		}
	}
	for _, times := range []int{1, 255, 256, 257, 512} {
		add(times, 0, 1)
		add(1, 0)
		add(1, 1)
		add(1, 1, 0, 0)
	}
	s.Height = len(s.lines)
	small := sheet{Page: page(f, 1, 1, c), lines: [][]byte{make([]byte, max(1, unit))}}
	return []sheet{s, small, s}
}

var kinds = []struct {
	format pwgraster.Format
	color  pwgraster.Color
	header string // as libcups sees that of edges' first page; the sizes are filled in
}{
	{pwgraster.PWG, pwgraster.Gray, `%dx%d 300x300 dpi bits 8/8 space 18 colors 1 stride %d order 0 points 595x842 name "iso_a4_210x297mm" pages 3 duplex 0 tumble 0`},
	{pwgraster.PWG, pwgraster.RGB, `%dx%d 300x300 dpi bits 8/24 space 19 colors 3 stride %d order 0 points 595x842 name "iso_a4_210x297mm" pages 3 duplex 0 tumble 0`},
	{pwgraster.PWG, pwgraster.Black, `%dx%d 300x300 dpi bits 1/1 space 3 colors 1 stride %d order 0 points 595x842 name "iso_a4_210x297mm" pages 3 duplex 0 tumble 0`},
	{pwgraster.URF, pwgraster.Gray, `%dx%d 300x300 dpi bits 8/8 space 18 colors 1 stride %d order 0 points %dx%d name "" pages 0 duplex 0 tumble 0`},
	{pwgraster.URF, pwgraster.RGB, `%dx%d 300x300 dpi bits 8/24 space 19 colors 3 stride %d order 0 points %dx%d name "" pages 0 duplex 0 tumble 0`},
}

// TestLibcups has CUPS's library read what we write: the same pages, the same pixels.
func TestLibcups(t *testing.T) {
	reader := filepath.Join(t.TempDir(), "read")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-O1", "-o", reader, "testdata/read.c", "-lcups").CombinedOutput(); err != nil {
		t.Fatalf("install the Debian packages gcc, libc6-dev and libcups2-dev: %v\n%s", err, out)
	}
	for _, k := range kinds {
		t.Run(fmt.Sprint(k.format, " ", k.color), func(t *testing.T) {
			sheets := edges(k.format, k.color)
			cmd := exec.CommandContext(t.Context(), reader)
			cmd.Stdin = bytes.NewReader(write(t, k.format, sheets))
			var complaints bytes.Buffer
			cmd.Stderr = &complaints
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, complaints.String())
			}
			for i, s := range sheets {
				want := []any{s.Width, s.Height, s.Stride()}
				if k.format == pwgraster.URF {
					want = append(want, s.Width*72/300, s.Height*72/300)
				}
				header, rest, _ := bytes.Cut(got, []byte("\n"))
				if w := fmt.Sprintf(k.header, want...); string(header) != w {
					t.Fatalf("page %d: got\n%.300s, want\n%s", i+1, header, w)
				}
				pixels := bytes.Join(s.lines, nil)
				if !bytes.HasPrefix(rest, pixels) {
					t.Fatalf("page %d: the pixels differ", i+1)
				}
				got = rest[len(pixels):]
			}
			if len(got) > 0 {
				t.Errorf("%d bytes more than three pages", len(got))
			}
		})
	}
}

func TestEdges(t *testing.T) {
	for _, k := range kinds {
		sheets := edges(k.format, k.color)
		f, got, err := read(write(t, k.format, sheets))
		if err != nil || f != k.format || !slices.EqualFunc(got, sheets, equal) {
			t.Errorf("%s %s: %d pages of %s, %v", k.format, k.color, len(got), f, err)
		}
	}
}

func equal(a, b sheet) bool {
	return a.Page == b.Page && slices.EqualFunc(a.lines, b.lines, bytes.Equal)
}

// TestRoundTrip draws documents of few colours, where runs, literals and repeats meet in every way.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		var sheets []sheet
		for range rapid.IntRange(1, 3).Draw(t, "pages") {
			s := sheet{Page: page(k.format, rapid.IntRange(1, 300).Draw(t, "width"), 0, k.color)}
			for range rapid.IntRange(1, 5).Draw(t, "lines") {
				line := rapid.SliceOfN(rapid.ByteRange(0, 2), s.Stride(), s.Stride()).Draw(t, "line")
				for range rapid.SampledFrom([]int{1, 2, 255, 256, 257}).Draw(t, "times") {
					s.lines = append(s.lines, line)
				}
			}
			s.Height = len(s.lines)
			sheets = append(sheets, s)
		}
		var b bytes.Buffer
		w, err := pwgraster.NewWriter(&b, k.format, len(sheets))
		for _, s := range sheets {
			err = errors.Join(err, w.Page(s.Page))
			for _, l := range s.lines {
				err = errors.Join(err, w.Line(l))
			}
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, got, err := read(b.Bytes()); err != nil || !slices.EqualFunc(got, sheets, equal) {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

// TestPacking looks at the bytes: nobody's reader may be needed to know that they are right.
func TestPacking(t *testing.T) {
	different := "0123456789"
	for _, tt := range []struct {
		name  string
		width int
		lines []string
		want  string
	}{
		{"one pixel", 1, []string{"a"}, "\x00\x00a"},
		{"a run", 4, []string{"aaaa"}, "\x00\x03a"},
		{"a literal", 10, []string{different}, "\x00\xf7" + different},
		{"a run, a literal, a run", 7, []string{"aabcdee"}, "\x00\x01a\xfebcd\x01e"},
		{"a line three times", 2, []string{"aa", "aa", "aa"}, "\x02\x01a"},
		{"another line", 2, []string{"aa", "ab"}, "\x00\x01a\x00\xffab"},
		{"128 and 129 pixels", 257, []string{strings.Repeat("a", 257)}, "\x00\x7fa\x7fa\x00a"},
		{"257 lines", 1, strings.Split(strings.Repeat("a", 257), ""), "\xff\x00a\x00\x00a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sheet{Page: page(pwgraster.URF, tt.width, len(tt.lines), pwgraster.Gray)}
			for _, l := range tt.lines {
				s.lines = append(s.lines, []byte(l))
			}
			if got := write(t, pwgraster.URF, []sheet{s})[12+32:]; string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestA4(t *testing.T) {
	for dpi, want := range map[int][2]int{150: {1240, 1754}, 200: {1654, 2339}, 300: {2480, 3508}, 600: {4961, 7016}} {
		p := pwgraster.A4().Page(dpi, pwgraster.Gray)
		if got := [2]int{p.Width, p.Height}; got != want || p.Points != [2]int{595, 842} {
			t.Errorf("%d dpi: got %v, %v points; want %v", dpi, got, p.Points, want)
		}
	}
}

// TestReaderRefuses changes every byte of headers, and cuts and lengthens documents: nothing but what was written is read.
func TestReaderRefuses(t *testing.T) {
	for _, f := range []pwgraster.Format{pwgraster.PWG, pwgraster.URF} {
		s := sheet{Page: page(f, 4, 2, pwgraster.Gray), lines: [][]byte{[]byte("aabc"), []byte("dddd")}}
		whole := write(t, f, []sheet{s})
		for i := range whole {
			if _, _, err := read(whole[:i]); !errors.Is(err, pwgraster.ErrFormat) {
				t.Errorf("%s: the first %d bytes: got %v", f, i, err)
			}
		}
		if _, _, err := read(append(bytes.Clone(whole), 0)); !errors.Is(err, pwgraster.ErrFormat) {
			t.Errorf("%s: a byte too many: got %v", f, err)
		}
		body := len(whole) - len("\x00\x01a\xffbc\x00\x03d")
		for i := range body {
			other := bytes.Clone(whole)
			other[i] ^= 0x81
			got, sheets, err := read(other)
			if errors.Is(err, pwgraster.ErrFormat) {
				continue
			}
			// What a header may say otherwise, it says of the page.
			if err != nil || got != f || len(sheets) != 1 || sheets[0].Page == s.Page {
				t.Errorf("%s: byte %d changed: got %v, %v", f, i, sheets, err)
			}
		}
		for _, bad := range []string{
			"\x00\x01a\x80bc\x00\x03d", "\x00\x01a\xfebcd\x00\x03d", "\x00\x04a\x00\x03d", "\x02\x01a\xffbc", "\x00\x01a\xffbc\x01\x03d",
		} {
			if _, _, err := read(append(bytes.Clone(whole[:body]), bad...)); !errors.Is(err, pwgraster.ErrFormat) {
				t.Errorf("%s: lines %q: got %v", f, bad, err)
			}
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	good := page(pwgraster.PWG, 2, 1, pwgraster.Gray)
	with := func(change func(*pwgraster.Page)) pwgraster.Page {
		p := good
		change(&p)
		return p
	}
	for _, tt := range []struct {
		name  string
		f     pwgraster.Format
		pages int
		do    func(*pwgraster.Writer) error
	}{
		{"another format", "application/pdf", 1, nil},
		{"no pages", pwgraster.PWG, 0, nil},
		{"a page less", pwgraster.PWG, 1, (*pwgraster.Writer).Close},
		{"a page more", pwgraster.PWG, 1, func(w *pwgraster.Writer) error {
			return errors.Join(w.Page(good), w.Line([]byte("aa")), w.Page(good))
		}},
		{"a line less", pwgraster.PWG, 1, func(w *pwgraster.Writer) error { return errors.Join(w.Page(good), w.Close()) }},
		{"a line more", pwgraster.PWG, 1, func(w *pwgraster.Writer) error {
			return errors.Join(w.Page(good), w.Line([]byte("aa")), w.Line([]byte("aa")))
		}},
		{"a short line", pwgraster.PWG, 1, func(w *pwgraster.Writer) error { return errors.Join(w.Page(good), w.Line([]byte("a"))) }},
		{"a bit in URF", pwgraster.URF, 1, func(w *pwgraster.Writer) error {
			return w.Page(with(func(p *pwgraster.Page) { p.Color = pwgraster.Black }))
		}},
		{"a colour of no printer", pwgraster.PWG, 1, func(w *pwgraster.Writer) error {
			return w.Page(with(func(p *pwgraster.Page) { p.Color = "cmyk_8" }))
		}},
		{"too wide", pwgraster.PWG, 1, func(w *pwgraster.Writer) error {
			return w.Page(with(func(p *pwgraster.Page) { p.Width = pwgraster.MaxSide + 1 }))
		}},
		{"a long name", pwgraster.PWG, 1, func(w *pwgraster.Writer) error {
			return w.Page(with(func(p *pwgraster.Page) { p.Size = strings.Repeat("a", 64) }))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := pwgraster.NewWriter(io.Discard, tt.f, tt.pages)
			if err == nil && tt.do != nil {
				err = tt.do(w)
			}
			if !errors.Is(err, pwgraster.ErrFormat) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzReader reads anything: it must end, and what is read must be what a Writer writes of it. With kind it is the lines
// of a page with a good header: a fuzzer does not come by the 1,796 bytes of one.
func FuzzReader(f *testing.F) {
	for i := range kinds {
		f.Add(byte(i), uint16(3), uint16(3), []byte("\x00\x01abc\x00xyz\x01\xffabcdef"))
	}
	whole := sheet{Page: page(pwgraster.URF, 3, 2, pwgraster.Gray), lines: [][]byte{[]byte("aab"), []byte("aab")}}
	f.Add(byte(len(kinds)), uint16(0), uint16(0), write(f, pwgraster.URF, []sheet{whole, whole}))
	f.Fuzz(func(t *testing.T, kind byte, width, height uint16, b []byte) {
		if int(kind) < len(kinds) {
			k := kinds[kind]
			var head bytes.Buffer
			w, err := pwgraster.NewWriter(&head, k.format, 1)
			if err != nil {
				t.Fatal(err)
			}
			if w.Page(page(k.format, int(width), int(height), k.color)) != nil {
				return
			}
			b = append(head.Bytes(), b...)
		}
		format, sheets, err := read(b)
		if errors.Is(err, errLarge) {
			return
		}
		if err != nil {
			if !errors.Is(err, pwgraster.ErrFormat) {
				t.Errorf("got %v", err)
			}
			return
		}
		if _, again, err := read(write(t, format, sheets)); err != nil || !slices.EqualFunc(again, sheets, equal) {
			t.Errorf("read %v, wrote it, read %v, %v", sheets, again, err)
		}
	})
}
