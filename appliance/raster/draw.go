package raster

import (
	"bytes"
	"fmt"
	"image"
	"image/png"

	"github.com/klippa-app/go-pdfium"
	"github.com/klippa-app/go-pdfium/enums"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/structs"
)

// draw renders the pages on white. go-pdfium's own RenderPage… calls are not used: they draw a page that has
// transparency on black with an alpha channel, and round its size up.
func draw(inst pdfium.Pdfium, doc references.FPDF_DOCUMENT, a answer, o Options) ([][]byte, error) {
	n := len(a.Points)
	if o.MaxPages > 0 {
		n = min(n, o.MaxPages)
	}
	form, err := openForm(inst, doc)
	if err != nil {
		return nil, err
	}
	pages := make([][]byte, 0, n)
	total := 0
	for i := range n {
		w, h := o.pixels(a.Points[i][0], a.Points[i][1])
		if w > maxSide || h > maxSide || w*h > maxArea {
			return nil, fmt.Errorf("page %d would be %d×%d pixels: %w", i+1, w, h, ErrLimits)
		}
		b, err := drawPage(inst, doc, form, i, w, h, o.Gray)
		if err != nil {
			return nil, fmt.Errorf("draw page %d: %w", i+1, err)
		}
		if total += len(b); len(b) > maxImage || total > maxTotal {
			return nil, fmt.Errorf("draw page %d: %d bytes: %w", i+1, total, ErrLimits)
		}
		pages = append(pages, b)
	}
	return pages, nil
}

func drawPage(
	inst pdfium.Pdfium, doc references.FPDF_DOCUMENT, form references.FPDF_FORMHANDLE, index, w, h int, gray bool,
) ([]byte, error) {
	c, err := newCanvas(inst, w, h, enums.FPDF_BITMAP_FORMAT_BGRX)
	if err != nil {
		return nil, err
	}
	c.form = form
	page := requests.Page{ByIndex: &requests.PageByIndex{Document: doc, Index: index}}
	pix, err := c.draw(page, spot{w: w, h: h}, enums.FPDF_RENDER_FLAG_REVERSE_BYTE_ORDER)
	if err != nil {
		return nil, err
	}
	b, err := encode(pix, c.stride, w, h, gray)
	if err != nil {
		return nil, err
	}
	// The bitmap of the last page would otherwise stay in the sandbox's memory.
	return b, c.close()
}

// canvas is a picture in the sandbox's memory.
type canvas struct {
	inst   pdfium.Pdfium
	bitmap references.FPDF_BITMAP
	w, h   int
	pixel  int // bytes
	stride int
	form   references.FPDF_FORMHANDLE // "": the document has no form
}

func newCanvas(inst pdfium.Pdfium, w, h int, format enums.FPDF_BITMAP_FORMAT) (*canvas, error) {
	bm, err := inst.FPDFBitmap_CreateEx(&requests.FPDFBitmap_CreateEx{Width: w, Height: h, Format: format, Pointer: uint64(0)})
	if err != nil {
		return nil, ErrLimits
	}
	c := &canvas{inst: inst, bitmap: bm.Bitmap, w: w, h: h, pixel: 4}
	switch format {
	case enums.FPDF_BITMAP_FORMAT_GRAY:
		c.pixel = 1
	case enums.FPDF_BITMAP_FORMAT_BGR:
		c.pixel = 3
	}
	stride, err := inst.FPDFBitmap_GetStride(&requests.FPDFBitmap_GetStride{Bitmap: bm.Bitmap})
	if err != nil || stride.Stride < c.pixel*w {
		return nil, ErrLimits
	}
	c.stride = stride.Stride
	return c, nil
}

// openForm prepares the drawing of form fields, which pdfium does on request only: the picture of a signature is one.
// What it returns is "" when there is no form. Nothing in a form comes to act: there is no interpreter for its scripts,
// and what it asks of a window is not done.
func openForm(inst pdfium.Pdfium, doc references.FPDF_DOCUMENT) (references.FPDF_FORMHANDLE, error) {
	kind, err := inst.FPDF_GetFormType(&requests.FPDF_GetFormType{Document: doc})
	if err != nil {
		return "", ErrDamaged
	}
	if kind.FormType != enums.FPDF_FORMTYPE_ACRO_FORM {
		return "", nil
	}
	f, err := inst.FPDFDOC_InitFormFillEnvironment(&requests.FPDFDOC_InitFormFillEnvironment{
		Document: doc,
		FormFillInfo: structs.FPDF_FORMFILLINFO{
			FFI_Invalidate:         func(references.FPDF_PAGE, float64, float64, float64, float64) {},
			FFI_SetCursor:          func(enums.FXCT) {},
			FFI_SetTimer:           func(int, func(int)) int { return 0 },
			FFI_KillTimer:          func(int) {},
			FFI_GetLocalTime:       func() structs.FPDF_SYSTEMTIME { return structs.FPDF_SYSTEMTIME{} },
			FFI_GetPage:            func(references.FPDF_DOCUMENT, int) *references.FPDF_PAGE { return nil },
			FFI_GetRotation:        func(references.FPDF_PAGE) enums.FPDF_PAGE_ROTATION { return 0 },
			FFI_ExecuteNamedAction: func(string) {},
		},
	})
	if err != nil {
		return "", ErrDamaged
	}
	return f.FormHandle, nil
}

// spot is where on a canvas a page is drawn, in pixels. It may reach beyond the canvas.
type spot struct {
	x, y, w, h int
	turn       enums.FPDF_PAGE_ROTATION
}

// draw makes the canvas white and draws a page on it. The pixels are the sandbox's own, good until its next call.
func (c *canvas) draw(page requests.Page, s spot, flags enums.FPDF_RENDER_FLAG) ([]byte, error) {
	_, err := c.inst.FPDFBitmap_FillRect(&requests.FPDFBitmap_FillRect{Bitmap: c.bitmap, Width: c.w, Height: c.h, Color: 0xFFFFFFFF})
	if err != nil {
		return nil, ErrLimits
	}
	_, err = c.inst.FPDF_RenderPageBitmap(&requests.FPDF_RenderPageBitmap{
		Bitmap: c.bitmap, Page: page, StartX: s.x, StartY: s.y, SizeX: s.w, SizeY: s.h, Rotate: s.turn,
		Flags: flags | enums.FPDF_RENDER_FLAG_ANNOT | enums.FPDF_RENDER_FLAG_PRINTING,
	})
	if err != nil {
		return nil, ErrDamaged // a trap: the engine ran out of memory or met what it cannot read
	}
	if c.form != "" {
		_, err := c.inst.FPDF_FFLDraw(&requests.FPDF_FFLDraw{
			FormHandle: c.form, Bitmap: c.bitmap, Page: page, StartX: s.x, StartY: s.y, SizeX: s.w, SizeY: s.h, Rotate: s.turn,
			Flags: flags | enums.FPDF_RENDER_FLAG_ANNOT | enums.FPDF_RENDER_FLAG_PRINTING,
		})
		if err != nil {
			return nil, ErrDamaged
		}
	}
	buf, err := c.inst.FPDFBitmap_GetBuffer(&requests.FPDFBitmap_GetBuffer{Bitmap: c.bitmap})
	if err != nil || len(buf.Buffer) < c.stride*(c.h-1)+c.pixel*c.w {
		return nil, ErrDamaged
	}
	return buf.Buffer, nil
}

func (c *canvas) close() error {
	if _, err := c.inst.FPDFBitmap_Destroy(&requests.FPDFBitmap_Destroy{Bitmap: c.bitmap}); err != nil {
		return ErrDamaged
	}
	return nil
}

// encode makes a PNG of pixels of four bytes (red, green, blue, unused).
func encode(pix []byte, stride, w, h int, gray bool) ([]byte, error) {
	var m image.Image
	if gray {
		g := image.NewGray(image.Rect(0, 0, w, h))
		for y := range h {
			s, d := pix[y*stride:], g.Pix[y*g.Stride:]
			for x := range w {
				d[x] = byte((299*int(s[4*x]) + 587*int(s[4*x+1]) + 114*int(s[4*x+2])) / 1000)
			}
		}
		m = g
	} else {
		for y := range h {
			for x, row := 3, pix[y*stride:]; x < 4*w; x += 4 {
				row[x] = 0xFF
			}
		}
		m = &image.RGBA{Pix: pix, Stride: stride, Rect: image.Rect(0, 0, w, h)}
	}
	var out bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&out, m); err != nil {
		return nil, fmt.Errorf("encode: %w: %w", ErrEngine, err)
	}
	return out.Bytes(), nil
}
