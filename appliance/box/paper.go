package box

import (
	"context"
	"fmt"

	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
)

// previewWidth is how many pixels across a page is drawn: enough to read a certificate's small print on the kiosk.
const previewWidth = 1240

// viewer makes a kiosk.Viewer of the rasteriser.
type viewer struct{ draw *raster.Rasteriser }

// Draw looks a document over and draws it.
func (v *viewer) Draw(ctx context.Context, pdf []byte, strict bool) ([][]byte, error) {
	if strict {
		if _, err := v.draw.Check(ctx, pdf, raster.CertificateLimits()); err != nil {
			return nil, documentError(ctx, err)
		}
	}
	pages, err := v.draw.Pages(ctx, pdf, raster.Options{Width: previewWidth})
	if err != nil {
		return nil, documentError(ctx, err)
	}
	return pages, nil
}

// documentError tells a bad document from an engine that failed.
func documentError(ctx context.Context, err error) error {
	if ctx.Err() != nil || raster.Reason(err) == "engine" {
		return fmt.Errorf("draw: %w", err)
	}
	return fmt.Errorf("%w: %w", kiosk.ErrDocument, err)
}
