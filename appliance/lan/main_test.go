package lan_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/appliance/raster"
)

// TestMain makes this process a box of its own (package lantest). It is also the box that is killed, and the child that
// draws pages.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "raster" {
		if err := raster.Child(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(doomedDir); dir != "" {
		fmt.Fprintln(os.Stderr, doomed(dir)) // it returns only when it was not killed
		os.Exit(1)
	}
	flag.Parse()
	// The tests wait for printers: how many run at once has nothing to do with the number of processors.
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(lantest.Main(m))
}
