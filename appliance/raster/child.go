package raster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/klippa-app/go-pdfium"
	pdfiumerrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
)

// wasmPages is the most memory the sandbox may have, in units of 64 KiB: enough for A4 at 600 dpi. While it grows, wazero
// holds the old and the new copy, so the process may for a moment hold more than twice as much.
const wasmPages = 256 << 20 / (64 << 10)

// Child is the life of one child process: it gives up what it does not need, reads one request and one document from
// stdin, and writes the answer to stdout. What is wrong with the document is in the answer; the error it returns is for
// a child that could not even say so. The program that calls it must do nothing else, before or after.
func Child(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	debug.SetTraceback("none") // a crash must not show what is in memory
	debug.SetGCPercent(25)     // the sandbox's outgrown copies are large and few
	br := bufio.NewReaderSize(stdin, maxLine)
	line, err := br.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if req.Bytes < 0 || req.Bytes > 1<<30 {
		return fmt.Errorf("read the request: %d bytes", req.Bytes)
	}
	// From here on whatever goes wrong goes wrong in here.
	if err := restrict(req); err != nil {
		return fmt.Errorf("restrict the process: %w", err)
	}
	pdf := make([]byte, req.Bytes)
	if _, err := io.ReadFull(br, pdf); err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	if req.Op == opPrint {
		return printAnswer(ctx, req, pdf, stdout)
	}
	ans, pages := work(ctx, req, pdf, nil)
	for _, p := range pages {
		ans.PNG = append(ans.PNG, len(p))
	}
	head, err := json.Marshal(ans)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	for _, b := range append([][]byte{append(head, '\n')}, pages...) {
		if _, err := stdout.Write(b); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	return nil
}

// work does what req asks; the document that opPrint makes goes to out. Engine calls that trap are reported as damage:
// after one the instance is never used again.
func work(ctx context.Context, req request, pdf []byte, out io.Writer) (a answer, pages [][]byte) {
	defer func() {
		if p := recover(); p != nil { // go-pdfium panics where it should return an error
			a, pages = refusal(fmt.Errorf("panic in the engine: %w", ErrDamaged)), nil
		}
	}()
	if req.Op == opCheck {
		if err := scanActive(pdf); err != nil {
			return refusal(err), nil
		}
	}
	if req.Op != opWarm && req.CacheDir != "" && emptyCache(req.CacheDir) {
		return refusal(errCold), nil // compiling would take seconds, and end in a file that may not be written
	}
	inst, err := engine(ctx, req.CacheDir)
	if err != nil {
		cause := ErrEngine
		if req.Op != opWarm && (isFileLimit(err) || errors.Is(err, os.ErrPermission)) {
			cause = errCold // it had to compile, and could not put the result into the cache
		}
		return refusal(fmt.Errorf("%w: %w", cause, err)), nil
	}
	if req.Op == opWarm {
		return answer{}, nil
	}
	doc, err := inst.OpenDocument(&requests.OpenDocument{File: &pdf})
	if err != nil {
		return refusal(openProblem(err)), nil
	}
	a, err = measure(inst, doc.Document, req)
	if err != nil {
		return refusal(err), nil
	}
	switch req.Op {
	case opPages:
		pages, err = draw(inst, doc.Document, a, req.Options)
	case opPrint:
		a.Empty, err = printPages(inst, doc.Document, a, req.Print, out)
	}
	if err != nil {
		return refusal(err), nil
	}
	return a, pages
}

func refusal(err error) answer {
	word := Reason(err)
	if errors.Is(err, errCold) {
		word = "cold"
	}
	return answer{Problem: word, Detail: fmt.Sprintf("%.200s", err)}
}

func openProblem(err error) error {
	switch {
	case errors.Is(err, pdfiumerrors.ErrPassword), errors.Is(err, pdfiumerrors.ErrSecurity):
		return ErrEncrypted
	default:
		return ErrDamaged
	}
}

// emptyCache reports whether there is nothing in the cache; wazero keeps its files in a folder named after its version.
func emptyCache(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	return err == nil && len(found) == 0
}

// engine starts pdfium in a sandbox with an empty file system: by default go-pdfium would give it the whole of "/".
func engine(ctx context.Context, cacheDir string) (pdfium.Pdfium, error) {
	rc := wazero.NewRuntimeConfig().WithMemoryLimitPages(wasmPages)
	if cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(cacheDir)
		if err != nil {
			return nil, fmt.Errorf("open the engine's cache: %w", err)
		}
		rc = rc.WithCompilationCache(cache)
	}
	pool, err := webassembly.Init(webassembly.Config{
		MinIdle: 1, MaxIdle: 1, MaxTotal: 1,
		FSConfig: wazero.NewFSConfig(), RuntimeConfig: rc, Stdout: io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	inst, err := pool.GetInstanceWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	return inst, nil
}

// measure counts and measures the pages; for a check it also asks pdfium what else is in the document.
func measure(inst pdfium.Pdfium, doc references.FPDF_DOCUMENT, req request) (answer, error) {
	var a answer
	pc, err := inst.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc})
	if err != nil {
		return a, fmt.Errorf("count pages: %w", ErrDamaged)
	}
	switch {
	case pc.PageCount <= 0:
		return a, ErrNoPages
	case pc.PageCount > req.MaxPages || pc.PageCount > maxPages:
		return a, fmt.Errorf("%d pages: %w", pc.PageCount, ErrTooManyPages)
	}
	rev, err := inst.FPDF_GetSecurityHandlerRevision(&requests.FPDF_GetSecurityHandlerRevision{Document: doc})
	if err != nil {
		return a, fmt.Errorf("ask for encryption: %w", ErrDamaged)
	}
	if rev.SecurityHandlerRevision >= 0 {
		return a, ErrEncrypted
	}
	for i := range pc.PageCount {
		s, err := inst.FPDF_GetPageSizeByIndex(&requests.FPDF_GetPageSizeByIndex{Document: doc, Index: i})
		if err != nil {
			return a, fmt.Errorf("measure page %d: %w", i+1, ErrDamaged)
		}
		long, narrow := max(s.Width, s.Height), min(s.Width, s.Height)
		if math.IsNaN(long+narrow) || narrow < 1 {
			return a, fmt.Errorf("measure page %d: %w", i+1, ErrDamaged)
		}
		if long > a3Points || narrow > a3Narrow {
			return a, fmt.Errorf("page %d: %w", i+1, ErrPageSize)
		}
		a.Points = append(a.Points, [2]float64{s.Width, s.Height})
	}
	if req.Op == opCheck {
		if err := checkExtras(inst, doc, a); err != nil {
			return a, err
		}
	}
	return a, nil
}

// checkExtras asks pdfium for what the scan of names may have missed.
func checkExtras(inst pdfium.Pdfium, doc references.FPDF_DOCUMENT, a answer) error {
	js, err := inst.FPDFDoc_GetJavaScriptActionCount(&requests.FPDFDoc_GetJavaScriptActionCount{Document: doc})
	if err != nil {
		return fmt.Errorf("ask for scripts: %w", ErrDamaged)
	}
	at, err := inst.FPDFDoc_GetAttachmentCount(&requests.FPDFDoc_GetAttachmentCount{Document: doc})
	if err != nil {
		return fmt.Errorf("ask for files: %w", ErrDamaged)
	}
	if js.JavaScriptActionCount > 0 || at.AttachmentCount > 0 {
		return fmt.Errorf("%d scripts, %d files: %w", js.JavaScriptActionCount, at.AttachmentCount, ErrActive)
	}
	// pdfium shows the crop box; a printer may print the media box.
	for i, p := range a.Points {
		box, err := inst.FPDFPage_GetMediaBox(&requests.FPDFPage_GetMediaBox{
			Page: requests.Page{ByIndex: &requests.PageByIndex{Document: doc, Index: i}},
		})
		if err != nil {
			continue // inherited or absent: then there is no other size to compare with
		}
		w, h := math.Abs(float64(box.Right-box.Left)), math.Abs(float64(box.Top-box.Bottom))
		if math.Abs(w+h-p[0]-p[1]) > 6 || math.Abs(math.Abs(w-h)-math.Abs(p[0]-p[1])) > 6 {
			return fmt.Errorf("page %d is cropped from %.0f × %.0f points: %w", i+1, w, h, ErrNotA4)
		}
	}
	return nil
}
