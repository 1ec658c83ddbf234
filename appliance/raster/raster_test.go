package raster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/raster"
	"sportello.example/kiosk/paper"
	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/anpr/anprtest"
	"sportello.example/sync/wire"
)

// TestMain is also the child: the Rasteriser under test starts this program with the argument "raster".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "raster" {
		if err := raster.Child(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "measured" {
		if err := measured(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "raster-cache-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.CacheDir = filepath.Join(dir, "cache")
	code := 1
	if shared.Command, err = childCommand(dir); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// childCommand is a child as it is shipped: under the race detector, this program built once more without it. Such a child
// is three times as slow, and cannot be given the limit on address space. TestManyAtATime does have the detector watch.
func childCommand(dir string) ([]string, error) {
	if !raster.RaceDetector {
		return nil, nil
	}
	child := filepath.Join(dir, "child")
	cmd := exec.Command("go", "test", "-c", "-o", child, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the child: %w\n%s", err, out)
	}
	return []string{child, "raster"}, nil
}

// shared is one Rasteriser for all tests, so that the engine is compiled once.
var shared raster.Rasteriser

func rasteriser(t testing.TB) *raster.Rasteriser {
	t.Helper()
	if err := shared.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &shared
}

func declaration(t testing.TB) []byte {
	t.Helper()
	b, err := paper.Declaration(paper.DeclarationForm{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificate is one that the stand-in registry issues; with letter on the wrong paper, with half only half of it.
func certificate(t testing.TB, set func(*anprtest.Server)) []byte {
	t.Helper()
	s, err := anprtest.New(anprtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if set != nil {
		set(s)
	}
	b, err := (&anpr.Client{BaseURL: s.URL()}).Certificate(ctx, anprtest.Citizens()[0].FiscalCode, wire.CertificateRequest{
		Certificates: []string{"residenza", "cittadinanza"}, Recipient: "private",
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoodDocuments(t *testing.T) {
	r := rasteriser(t)
	slip, err := paper.Slip(paper.SlipForm{Code: "C4F7H2", Left: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Language: "it"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		pdf  []byte
	}{
		{"self-declaration", declaration(t)},
		{"slip", slip},
		{"certificate", certificate(t, nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := r.Check(t.Context(), tt.pdf, raster.CertificateLimits())
			if err != nil || info.Pages != 1 || len(info.Sizes) != 1 || !info.Sizes[0].A4() {
				t.Errorf("check: %v, %v", info, err)
			}
			pages, err := r.Pages(t.Context(), tt.pdf, raster.Options{Width: 800})
			if err != nil || len(pages) != 1 {
				t.Fatalf("%d pages, %v", len(pages), err)
			}
			m, err := png.Decode(bytes.NewReader(pages[0]))
			if err != nil {
				t.Fatal(err)
			}
			if b := m.Bounds(); b.Dx() != 800 || b.Dy() != 1131 {
				t.Errorf("drawn as %v", b)
			}
			if c, _, _, _ := m.At(3, 3).RGBA(); c != 0xFFFF {
				t.Errorf("the corner is %x, not white", c)
			}
			dark := 0
			for y := range 1131 {
				for x := range 800 {
					if c, _, _, _ := m.At(x, y).RGBA(); c < 0x4000 {
						dark++
					}
				}
			}
			if dark < 800*1131/200 {
				t.Errorf("only %d dark pixels", dark)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	r := rasteriser(t)
	pdf := pages(3, "")
	for _, tt := range []struct {
		name  string
		o     raster.Options
		pages int
		w, h  int
		gray  bool
	}{
		{"100 dpi unless said", raster.Options{}, 3, 827, 1169, false},
		{"200 dpi", raster.Options{DPI: 200, MaxPages: 1}, 1, 1654, 2339, false},
		{"gray", raster.Options{Width: 500, Gray: true, MaxPages: 2}, 2, 500, 707, true},
		{"fewer pages than wanted", raster.Options{Width: 100, MaxPages: 9}, 3, 100, 141, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ps, err := r.Pages(t.Context(), pdf, tt.o)
			if err != nil || len(ps) != tt.pages {
				t.Fatalf("%d pages, %v", len(ps), err)
			}
			c, err := png.DecodeConfig(bytes.NewReader(ps[0]))
			if err != nil || c.Width != tt.w || c.Height != tt.h {
				t.Errorf("got %d×%d, %v; want %d×%d", c.Width, c.Height, err, tt.w, tt.h)
			}
			if gray := ps[0][25] == 0; gray != tt.gray { // colour type of IHDR
				t.Errorf("gray: %v", gray)
			}
		})
	}
	if _, err := r.Pages(t.Context(), pdf, raster.Options{DPI: 601}); !errors.Is(err, raster.ErrEngine) {
		t.Errorf("601 dpi: got %v", err)
	}
}

// TestTransparency draws half-transparent red on a page that asks for transparency: on white it is pink.
func TestTransparency(t *testing.T) {
	pdf := build([]string{
		`<< /Type /Catalog /Pages 2 0 R >>`,
		`<< /Type /Pages /Kids [3 0 R] /Count 1 >>`,
		`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595.28 841.89] /Contents 4 0 R /Group << /S /Transparency /CS /DeviceRGB >>
		 /Resources << /ExtGState << /G << /ca 0.5 >> >> >> >>`,
		stream("", "/G gs 1 0 0 rg 0 0 300 842 re f"),
	})
	ps, err := rasteriser(t).Pages(t.Context(), pdf, raster.Options{Width: 100})
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(ps[0]))
	if err != nil {
		t.Fatal(err)
	}
	r, g, b, a := m.At(10, 70).RGBA()
	if r>>8 != 255 || g>>8 < 120 || g>>8 > 135 || g != b || a != 0xFFFF {
		t.Errorf("half-transparent red on white is %d %d %d %d", r>>8, g>>8, b>>8, a>>8)
	}
	if r, g, b, _ := m.At(90, 70).RGBA(); r+g+b != 3*0xFFFF {
		t.Errorf("paper is %d %d %d", r>>8, g>>8, b>>8)
	}
}

func TestNothingStays(t *testing.T) {
	r := rasteriser(t)
	const canary = "Zanzibaroni Quintiliana"
	pdf, err := paper.Declaration(paper.DeclarationForm{Person: paper.Person{Name: canary, FamilyName: canary}})
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, r.CacheDir)
	if _, err := r.Pages(t.Context(), pdf, raster.Options{Width: 300}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Print(t.Context(), pdf, raster.PrintOptions{Format: raster.URF, DPI: 150}); err != nil {
		t.Fatal(err)
	}
	// Half of one may be mended by the engine or not (Check refuses it): it must not leave anything either.
	if _, err := r.Pages(t.Context(), pdf[:len(pdf)/2], raster.Options{Width: 300}); errors.Is(err, raster.ErrEngine) {
		t.Error(err)
	}
	if after := files(t, r.CacheDir); after != before {
		t.Errorf("the cache was\n%sand is\n%s", before, after)
	}
	if n := strings.Count(before, "\n"); n != 1 {
		t.Errorf("%d files in the cache:\n%s", n, before)
	}
}

// files lists a folder's files with their sizes.
func files(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			fmt.Fprintln(&out, path, fi.Size(), fi.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCacheLost(t *testing.T) {
	r := &raster.Rasteriser{Command: shared.Command, CacheDir: filepath.Join(t.TempDir(), "deep", "cache")}
	if err := os.CopyFS(r.CacheDir, os.DirFS(rasteriser(t).CacheDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Inspect(t.Context(), pages(1, "")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(r.CacheDir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Inspect(t.Context(), pages(1, "")); err != nil {
		t.Errorf("after the cache was removed: %v", err)
	}
	if files(t, r.CacheDir) == "" {
		t.Error("the cache was not filled again")
	}
}

func TestManyAtATime(t *testing.T) {
	r := &raster.Rasteriser{CacheDir: rasteriser(t).CacheDir} // this program is the child
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			n := i%3 + 1
			ps, err := r.Pages(t.Context(), pages(n, ""), raster.Options{Width: 200})
			if err != nil || len(ps) != n {
				t.Errorf("%d pages of %d, %v", len(ps), n, err)
			}
		})
	}
	wg.Wait()
}

func TestChildMisbehaves(t *testing.T) {
	sh := func(script string) *raster.Rasteriser {
		lim := raster.Limits{}
		if strings.Contains(script, "sleep") {
			lim.Wall = 700 * time.Millisecond
		}
		return &raster.Rasteriser{Command: []string{"/bin/sh", "-c", script}, Limits: lim}
	}
	for _, tt := range []struct {
		name   string
		script string
		want   error
	}{
		{"says nothing", `exit 0`, raster.ErrEngine},
		{"fails", `echo oh >&2; exit 3`, raster.ErrEngine},
		{"says nonsense", `echo '{"points":7}'`, raster.ErrEngine},
		{"says more than asked", `echo '{"points":[[595,842]],"secret":1}'`, raster.ErrEngine},
		{"a line without end", `head -c 200000 /dev/zero | /usr/bin/tr '\0' 'x'`, raster.ErrEngine},
		{"a huge picture", `echo '{"points":[[595,842]],"png":[2000000000]}'`, raster.ErrEngine},
		{"no picture", `echo '{"points":[[595,842]]}'`, raster.ErrEngine},
		{"a picture that is none", `echo '{"points":[[595,842]],"png":[4]}'; echo abc`, raster.ErrEngine},
		{"hangs", `exec sleep 60`, raster.ErrLimits},
		{"is killed", `kill -9 $$`, raster.ErrLimits},
		{"has no environment", `test -z "$HOME$USER$LANG" || exit 1; echo '{"problem":"black"}'`, raster.ErrBlack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sh(tt.script).Pages(t.Context(), pages(1, ""), raster.Options{})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := sh(`exec sleep 60`).Pages(ctx, pages(1, ""), raster.Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("there is none", func(t *testing.T) {
		r := &raster.Rasteriser{Command: []string{"/nowhere/at/all"}}
		if _, err := r.Inspect(t.Context(), pages(1, "")); !errors.Is(err, raster.ErrEngine) {
			t.Errorf("got %v", err)
		}
	})
}

// TestNoNetwork asks the child which interfaces it sees, on kernels that let a process give up the network.
func TestNoNetwork(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "unshare", "--user", "--net", "true").Run(); err != nil {
		t.Logf("this kernel keeps the network: %v", err)
		return
	}
	r := &raster.Rasteriser{Command: []string{"/bin/sh", "-c", `grep -v -e lo: -e '|' /proc/self/net/dev || echo '{"problem":"black"}'`}}
	if _, err := r.Inspect(t.Context(), pages(1, "")); !errors.Is(err, raster.ErrBlack) {
		t.Errorf("the child sees more than loopback: %v", err)
	}
}

func TestReason(t *testing.T) {
	for err, want := range map[error]string{
		raster.ErrTruncated: "truncated", fmt.Errorf("check: %w", raster.ErrNotA4): "not_a4", errors.New("x"): "engine",
	} {
		if got := raster.Reason(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

func BenchmarkFirstPage(b *testing.B) {
	r, pdf := rasteriser(b), certificate(b, nil)
	for b.Loop() {
		if _, err := r.Pages(b.Context(), pdf, raster.Options{DPI: 100, MaxPages: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r, pdf := rasteriser(b), certificate(b, nil)
	for b.Loop() {
		if _, err := r.Check(b.Context(), pdf, raster.CertificateLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
