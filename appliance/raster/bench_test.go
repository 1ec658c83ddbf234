package raster_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/raster"
)

// measured runs a command and writes the most memory it had, in KiB, into the file args[0]. It is a process of its own,
// because what a process once had counts as its children's (getrusage of a program that was started by a fat one). What
// the command says comes when it has ended: the box kills a child that has said all.
func measured(args []string) error {
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	said, err := cmd.Output()
	if err != nil {
		return err
	}
	most := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	if err := os.WriteFile(args[0], fmt.Append(nil, most), 0o600); err != nil {
		return err
	}
	_, err = os.Stdout.Write(said)
	return err
}

// twice is a document with all pages of pdf two times.
func twice(b *testing.B, pdf []byte) []byte {
	b.Helper()
	dir := b.TempDir()
	in, out := filepath.Join(dir, "in.pdf"), filepath.Join(dir, "out.pdf")
	if err := os.WriteFile(in, pdf, 0o600); err != nil {
		b.Fatal(err)
	}
	if said, err := exec.CommandContext(b.Context(), "qpdf", "--empty", "--pages", in, in, "--", out).CombinedOutput(); err != nil {
		b.Fatalf("qpdf: %v: %s", err, said)
	}
	two, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	return two
}

// BenchmarkRaster prints certificates at 300 dpi from start to checked document, beside pdftoppm -gray, which draws the
// same pages and throws them away. The one-page document is the time to the first page.
func BenchmarkRaster(b *testing.B) {
	one := certificate(b, nil)
	for _, tt := range []struct {
		name   string
		pdf    []byte
		format string
	}{
		{"pages=1/pwg", one, raster.PWG},
		{"pages=1/urf", one, raster.URF},
		{"pages=2/pwg", twice(b, one), raster.PWG},
		{"pages=2/urf", twice(b, one), raster.URF},
	} {
		b.Run(tt.name, func(b *testing.B) { benchmarkRaster(b, tt.pdf, tt.format) })
	}
}

func benchmarkRaster(b *testing.B, pdf []byte, format string) {
	r := rasteriser(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	file, most := filepath.Join(dir, "in.pdf"), filepath.Join(dir, "most")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		b.Fatal(err)
	}
	print := func(r *raster.Rasteriser) {
		if _, err := r.Print(b.Context(), pdf, raster.PrintOptions{Format: format}); err != nil {
			b.Fatal(err)
		}
	}
	poppler := []string{"pdftoppm", "-gray", "-r", "300", file}
	run := func(argv ...string) {
		cmd := exec.CommandContext(b.Context(), argv[0], argv[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		_, copyErr := io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil || copyErr != nil {
			b.Fatal(err, copyErr)
		}
	}
	mebibytes := func() float64 {
		kib, err := os.ReadFile(most)
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.Atoi(string(kib))
		if err != nil {
			b.Fatal(err)
		}
		return float64(n) / 1024
	}
	print(&raster.Rasteriser{Command: []string{self, "measured", most, self, "raster"}, CacheDir: r.CacheDir})
	oursMiB := mebibytes()
	run(append([]string{self, "measured", most}, poppler...)...)
	theirsMiB := mebibytes()

	var ours, theirs []time.Duration
	timed := func(f func()) time.Duration {
		begin := time.Now()
		f()
		return time.Since(begin)
	}
	for b.Loop() {
		ours = append(ours, timed(func() { print(r) }))
		theirs = append(theirs, timed(func() { run(poppler...) }))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	us, them := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(0, "ns/op") // it would be of both
	b.ReportMetric(float64(us)/1e6, "ms")
	b.ReportMetric(float64(them)/1e6, "ms-pdftoppm")
	b.ReportMetric(float64(us)/float64(them), "x-pdftoppm")
	b.ReportMetric(oursMiB, "MiB")
	b.ReportMetric(theirsMiB, "MiB-pdftoppm")
}
