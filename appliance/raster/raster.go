// Package raster turns PDF pages into pictures and looks a PDF over before it is shown or printed.
//
// A PDF from outside is hostile until proven otherwise, so the parser (pdfium, compiled to WebAssembly) never runs in
// the box's own process. Each document gets a process of its own that lives for that document only: it has an empty
// file system inside the sandbox, no environment, no network where the kernel allows an unprivileged process to give it
// up, and limits on memory, processor time and wall time; at the first overrun it is killed. The document goes in by
// standard input and the pictures come out by standard output: nothing of it is in an argument, a file or the cache.
//
// The child is the calling program itself, started as Command (a subcommand that calls Child).
package raster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// What can be wrong with a document. Test with errors.Is; Reason gives the word that may be counted.
var (
	ErrNotPDF       = errors.New("not a PDF")
	ErrTruncated    = errors.New("the PDF has no end")
	ErrDamaged      = errors.New("the PDF is damaged")
	ErrEncrypted    = errors.New("the PDF is encrypted")
	ErrActive       = errors.New("the PDF holds a script, an action or a file")
	ErrNoPages      = errors.New("the PDF has no pages")
	ErrTooManyPages = errors.New("the PDF has too many pages")
	ErrTooBig       = errors.New("the PDF is too big")
	ErrPageSize     = errors.New("a page is larger than A3")
	ErrNotA4        = errors.New("a page is not A4")
	ErrBlack        = errors.New("a page came out nearly all black")
	ErrBlank        = errors.New("a page came out white")
	ErrLimits       = errors.New("the PDF needs more time or memory than a document may")
)

// ErrEngine means that the fault is not the document's: the child could not be started or did not do as it was told.
var ErrEngine = errors.New("the PDF engine failed")

// Reason is the word for err that statistics and texts use: "not_pdf", "truncated", …, or "engine" for everything that
// is not the document's fault.
func Reason(err error) string {
	for _, w := range words {
		if errors.Is(err, w.err) {
			return w.word
		}
	}
	return "engine"
}

var words = [...]struct {
	word string
	err  error
}{
	{"not_pdf", ErrNotPDF},
	{"truncated", ErrTruncated},
	{"damaged", ErrDamaged},
	{"encrypted", ErrEncrypted},
	{"active", ErrActive},
	{"no_pages", ErrNoPages},
	{"too_many_pages", ErrTooManyPages},
	{"too_big", ErrTooBig},
	{"page_size", ErrPageSize},
	{"not_a4", ErrNotA4},
	{"black", ErrBlack},
	{"blank", ErrBlank},
	{"limits", ErrLimits},
}

// Limits of one document. A zero field means the default named beside it.
type Limits struct {
	Bytes  int           // of the PDF: 10 MiB
	Pages  int           // 20
	Wall   time.Duration // from start to answer, 30 s; a context that ends earlier wins
	CPU    time.Duration // processor time, whole seconds: 20 s
	Memory int64         // resident bytes of the child before it is killed: 600 MiB
}

func (l Limits) filled() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 10 << 20
	}
	if l.Pages <= 0 {
		l.Pages = 20
	}
	if l.Wall <= 0 {
		l.Wall = 30 * time.Second
	}
	if l.CPU <= 0 {
		l.CPU = 20 * time.Second
	}
	if l.Memory <= 0 {
		l.Memory = 600 << 20
	}
	return l
}

// CertificateLimits are those of a certificate: 5 MiB and 20 pages.
func CertificateLimits() Limits { return Limits{Bytes: 5 << 20, Pages: 20} }

// Size is what a page measures, as it is shown (after its own rotation).
type Size struct {
	Width, Height float64 // millimetres
}

// A4 reports whether the page is A4 to the millimetre, upright or lying.
func (s Size) A4() bool {
	near := func(a, b float64) bool { return a > b-1 && a < b+1 }
	return near(s.Width, 210) && near(s.Height, 297) || near(s.Width, 297) && near(s.Height, 210)
}

// Info is what can be said of a document without drawing it.
type Info struct {
	Pages int
	Sizes []Size // of each page
}

// Options say how pages are drawn.
type Options struct {
	Width    int  // pixels across; the height follows from the page. 0: from DPI
	DPI      int  // used when Width is 0; 0: 100. At most 600
	MaxPages int  // draw the first MaxPages only; 0: all
	Gray     bool // one byte per pixel
}

// Rasteriser draws documents. Its zero value works; it must not be copied once used. Methods block until the child is
// gone, and may be called from several goroutines: two children run at a time, the others wait.
type Rasteriser struct {
	// Command starts the child. Default: this program with the argument "raster".
	Command []string
	// CacheDir keeps the compiled engine (about 14 MB, no documents), which saves 2–3 s at each child's start. Code is
	// executed from it: nobody but the box may write there. "" does without.
	CacheDir string
	// Limits of Pages, Inspect and Print.
	Limits Limits

	once  sync.Once
	slots chan struct{}
	mu    sync.Mutex // guards warm, and is held while the cache is being filled
	warm  bool
}

// Pages draws the pages of pdf and returns each as a PNG.
func (r *Rasteriser) Pages(ctx context.Context, pdf []byte, o Options) ([][]byte, error) {
	lim := r.Limits.filled()
	if err := checkEnds(pdf, lim); err != nil {
		return nil, fmt.Errorf("draw pages: %w", err)
	}
	if o.Width == 0 && o.DPI == 0 {
		o.DPI = 100
	}
	if o.Width < 0 || o.Width > maxSide || o.DPI < 0 || o.DPI > 600 {
		return nil, fmt.Errorf("draw pages: %d pixels or %d dpi: %w", o.Width, o.DPI, ErrEngine)
	}
	ans, pages, err := r.run(ctx, request{Op: opPages, Options: o}, lim, pdf)
	if err != nil {
		return nil, fmt.Errorf("draw pages: %w", err)
	}
	if err := checkPictures(ans, pages, o); err != nil {
		return nil, fmt.Errorf("draw pages: %w", err)
	}
	return pages, nil
}

// Inspect opens pdf and measures its pages.
func (r *Rasteriser) Inspect(ctx context.Context, pdf []byte) (Info, error) {
	lim := r.Limits.filled()
	if err := checkEnds(pdf, lim); err != nil {
		return Info{}, fmt.Errorf("inspect: %w", err)
	}
	ans, _, err := r.run(ctx, request{Op: opInspect}, lim, pdf)
	if err != nil {
		return Info{}, fmt.Errorf("inspect: %w", err)
	}
	return ans.info(), nil
}

// Check says whether pdf may be shown and printed as a certificate: a whole PDF within lim, of A4 pages, not encrypted,
// and with nothing in it that acts. The scan for scripts, launches, embedded files and the like reads the names in the
// file and in its compressed object streams; it does not read what a page's own content does, which is drawing only.
// What it cannot read (an object stream with a filter other than Flate) it refuses.
func (r *Rasteriser) Check(ctx context.Context, pdf []byte, lim Limits) (Info, error) {
	lim = lim.filled()
	if err := checkEnds(pdf, lim); err != nil {
		return Info{}, fmt.Errorf("check: %w", err)
	}
	if err := checkWhole(pdf); err != nil {
		return Info{}, fmt.Errorf("check: %w", err)
	}
	ans, _, err := r.run(ctx, request{Op: opCheck}, lim, pdf)
	if err != nil {
		return Info{}, fmt.Errorf("check: %w", err)
	}
	info := ans.info()
	for i, s := range info.Sizes {
		if !s.A4() {
			return info, fmt.Errorf("check: page %d is %.0f × %.0f mm: %w", i+1, s.Width, s.Height, ErrNotA4)
		}
	}
	return info, nil
}

// Warm fills the cache, so that the first citizen does not wait for the engine to be compiled (2–4 s). Without a
// CacheDir it does nothing. Pages, Inspect, Check and Print call it when nobody has.
func (r *Rasteriser) Warm(ctx context.Context) error {
	if r.CacheDir == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.warm {
		return nil
	}
	if err := os.MkdirAll(r.CacheDir, 0o700); err != nil {
		return fmt.Errorf("warm the PDF engine: %w", err)
	}
	// Compiling is the box's own work: a slow board may take longer than a document may.
	lim := Limits{Wall: 3 * time.Minute, CPU: 3 * time.Minute}.filled()
	if _, _, err := r.child(ctx, request{Op: opWarm, CacheDir: r.CacheDir}, lim, nil); err != nil {
		return fmt.Errorf("warm the PDF engine: %w", err)
	}
	r.warm = true
	return nil
}

// run waits for a place, sees that the cache is there, and has the child do req with pdf.
func (r *Rasteriser) run(ctx context.Context, req request, lim Limits, pdf []byte) (answer, [][]byte, error) {
	r.once.Do(func() { r.slots = make(chan struct{}, 2) })
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return answer{}, nil, ctx.Err()
	}
	req.CacheDir, req.MaxPages = r.CacheDir, lim.Pages
	for try := 0; ; try++ {
		if err := r.Warm(ctx); err != nil {
			return answer{}, nil, err
		}
		ans, pages, err := r.child(ctx, req, lim, pdf)
		if !errors.Is(err, errCold) || try > 0 {
			return ans, pages, err
		}
		r.mu.Lock() // somebody emptied the cache; a document's child may not write it
		r.warm = false
		r.mu.Unlock()
	}
}
