package raster

import (
	"context"
	"fmt"
)

// Formats that Print makes.
const (
	PWG = "image/pwg-raster" // PWG 5102.4
	URF = "image/urf"        // Apple Raster
)

// Color is the meaning of a pixel of a printed page.
type Color string

// The colours, by the names of pwg-raster-document-type-supported.
const (
	Gray  Color = "sgray_8"
	Black Color = "black_1"
	RGB   Color = "srgb_8"
)

// PrintOptions say what picture a printer wants of an A4 document. Pages are printed on one side.
type PrintOptions struct {
	Format string // PWG or URF
	Color  Color  // "": Gray
	DPI    int    // 0: 300; 150 to 600
}

// Print draws every page of pdf for a printer: each becomes a page of A4 at the resolution asked for, its own size kept
// when it is A4, else fitted and centred. The result is one document in o.Format. Before it is returned it is looked at:
// every page has its size, and no page has come out black, nor white where the PDF is not known to have an empty page.
func (r *Rasteriser) Print(ctx context.Context, pdf []byte, o PrintOptions) ([]byte, error) {
	return nil, fmt.Errorf("print %s: %w", o.Format, ErrEngine)
}
