package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"sync"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/raster"
)

// A tray shows what came out of the printer, as pictures. It keeps documents and pictures in RAM only.
type tray struct {
	printer *printerControl
	draw    *raster.Rasteriser
	log     *slog.Logger

	mu     sync.Mutex // guards the fields that follow
	sheets []sheet    // oldest first
	docs   map[string]*paperwork
}

// sheet is one sheet of paper in the tray.
type sheet struct {
	ID       int       `json:"id"` // from 1, in the order in which they came out
	Job      int       `json:"job"`
	Page     int       `json:"page"`
	Pages    int       `json:"pages"` // of the document
	At       time.Time `json:"at"`
	Document string    `json:"document"` // names the document for /pdf/
	SHA256   string    `json:"sha256"`   // of the document as the printer received it
	Bytes    int       `json:"bytes"`
}

// paperwork is a document of which sheets came out.
type paperwork struct {
	pdf   []byte
	drawn chan struct{} // closed when pages holds what could be drawn
	pages [][]byte      // PNG
}

func newTray(printer *printerControl, cacheDir string, self string, log *slog.Logger) *tray {
	return &tray{
		printer: printer, log: log, docs: map[string]*paperwork{},
		draw: &raster.Rasteriser{Command: []string{self, "raster"}, CacheDir: cacheDir},
	}
}

// Look asks the printer for new sheets.
func (t *tray) Look(ctx context.Context) error {
	out, err := t.printer.Sheets(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	have := len(t.sheets)
	t.mu.Unlock()
	for i := have; i < len(out); i++ {
		if err := t.take(ctx, i+1, out[i]); err != nil {
			return err
		}
	}
	return nil
}

// take fetches the document of sheet id and puts the sheet into the tray.
func (t *tray) take(ctx context.Context, id int, s ipptest.Sheet) error {
	pdf, err := t.printer.PDF(ctx, id)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(pdf)
	sha := hex.EncodeToString(sum[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sheets) >= id {
		return nil // somebody else was faster
	}
	if t.docs[sha] == nil {
		doc := &paperwork{pdf: pdf, drawn: make(chan struct{})}
		t.docs[sha] = doc
		go t.picture(context.WithoutCancel(ctx), doc)
	}
	t.sheets = append(t.sheets, sheet{ID: id, Job: s.Job, Page: s.Page, At: s.At, Document: sha[:16], SHA256: sha, Bytes: len(pdf)})
	return nil
}

// picture draws a document in a process of its own, as the box does.
func (t *tray) picture(ctx context.Context, doc *paperwork) {
	defer close(doc.drawn)
	pages, err := t.draw.Pages(ctx, doc.pdf, raster.Options{Width: 1240})
	if err != nil {
		t.log.Warn("sheet not drawn", "err", err)
		return
	}
	doc.pages = pages
}

// Sheets returns what is in the tray, newest first. A sheet is in it once it is drawn.
func (t *tray) Sheets() []sheet {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]sheet, 0, len(t.sheets))
	for i := len(t.sheets) - 1; i >= 0; i-- {
		s := t.sheets[i]
		doc := t.docs[s.SHA256]
		select {
		case <-doc.drawn:
		default:
			continue
		}
		s.Pages = max(s.Page, len(doc.pages)) // what could not be drawn is a grey sheet
		out = append(out, s)
	}
	return out
}

// Picture returns sheet id as a PNG, and waits until it is drawn. A sheet that cannot be drawn is a grey one.
func (t *tray) Picture(ctx context.Context, id int) ([]byte, error) {
	t.mu.Lock()
	if id < 1 || id > len(t.sheets) {
		t.mu.Unlock()
		return nil, fmt.Errorf("sheet %d: %w", id, errUnknown)
	}
	s := t.sheets[id-1]
	doc := t.docs[s.SHA256]
	t.mu.Unlock()
	select {
	case <-doc.drawn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.Page < 1 || s.Page > len(doc.pages) {
		return greySheet()
	}
	return doc.pages[s.Page-1], nil
}

// PDF returns a document by the name that sheets give it.
func (t *tray) PDF(name string) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for sha, doc := range t.docs {
		if sha[:16] == name {
			return doc.pdf, true
		}
	}
	return nil, false
}

func greySheet() ([]byte, error) {
	img := image.NewGray(image.Rect(0, 0, 210, 297))
	for i := range img.Pix {
		img.Pix[i] = color.Gray{Y: 0xdd}.Y
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("grey sheet: %w", err)
	}
	return b.Bytes(), nil
}
