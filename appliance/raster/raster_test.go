package raster_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"sportello.example/appliance/raster"
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
	os.Exit(m.Run())
}

func TestSmoke(t *testing.T) {
	r := &raster.Rasteriser{CacheDir: os.TempDir() + "/wzc"}
	b, err := os.ReadFile(os.Getenv("PDF"))
	if err != nil {
		t.Fatal(err)
	}
	ps, err := r.Pages(t.Context(), b, raster.Options{Width: 1000})
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/h/p.png", ps[0], 0o600)
	t.Log(len(ps), len(ps[0]))
	i, err := r.Check(t.Context(), b, raster.CertificateLimits())
	t.Log(i, err)
}
