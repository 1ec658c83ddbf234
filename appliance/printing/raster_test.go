package printing_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/pwgraster"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
)

var errDraw = errors.New("the document cannot be drawn")

// drawer makes a picture with a white page for each of the document's.
type drawer struct {
	fails bool
	while func()
}

func (d drawer) Print(_ context.Context, pdf []byte, o raster.PrintOptions) ([]byte, error) {
	if d.while != nil {
		d.while()
	}
	if d.fails {
		return nil, errDraw
	}
	var b bytes.Buffer
	n := bytes.Count(pdf, []byte("/Type /Page "))
	w, err := pwgraster.NewWriter(&b, pwgraster.Format(o.Format), n)
	for range n {
		if err != nil {
			return nil, err
		}
		page := pwgraster.A4().Page(o.DPI, pwgraster.Color(o.Color))
		err = w.Page(page)
		white := bytes.Repeat([]byte{0xff}, page.Stride())
		for y := 0; err == nil && y < page.Height; y++ {
			err = w.Line(white)
		}
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

func TestPrintsPictures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		formats []string
		do      func(p *ipptest.Printer, cfg *printing.Config)
		want    string
		format  string // of what came out
		kind    string
		dpi     int
	}{
		{"takes URF only", []string{ipp.URF}, nil, "done", ipp.URF, "sgray_8", 300},
		{"takes PWG raster only", []string{ipp.PWG}, nil, "done", ipp.PWG, "sgray_8", 300},
		{"takes all", []string{ipp.PWG, ipp.URF, ipp.PDF}, nil, "done", ipp.PDF, "", 0},
		{"drew the adoption page badly", []string{ipp.PWG, ipp.URF, ipp.PDF}, func(_ *ipptest.Printer, cfg *printing.Config) { cfg.Adopted[0].PDF = false }, "done", ipp.URF, "sgray_8", 300},
		{"raster always", []string{ipp.PWG, ipp.PDF}, func(_ *ipptest.Printer, cfg *printing.Config) { cfg.Adopted[0].Raster = true }, "done", ipp.PWG, "sgray_8", 300},
		{"bits at 600 dpi only", []string{ipp.PWG}, func(p *ipptest.Printer, _ *printing.Config) {
			p.Raster(ipptest.Raster{Types: []string{"black_1"}, DPI: []int{600}})
		}, "done", ipp.PWG, "black_1", 600},
		{"cannot be drawn", []string{ipp.URF}, func(_ *ipptest.Printer, cfg *printing.Config) { cfg.Raster = drawer{fails: true} }, "other nothing_printed", "", "", 0},
		{"nobody draws", []string{ipp.URF}, func(_ *ipptest.Printer, cfg *printing.Config) { cfg.Raster = nil }, "format nothing_printed", "", "", 0},
		{"pictures we do not make", []string{ipp.PWG}, func(p *ipptest.Printer, _ *printing.Config) {
			p.Raster(ipptest.Raster{Types: []string{"cmyk_8"}, DPI: []int{300}})
		}, "format nothing_printed", "", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{})
			p.Formats(tt.formats...)
			j := &memory{}
			cfg := quick(p, j)
			// While it is drawn there is no job that keeps others from the printer.
			cfg.Raster = drawer{while: func() {
				if n := p.Requests("Create-Job"); n > 0 {
					t.Errorf("%d Create-Job before the picture was there", n)
				}
			}}
			if tt.do != nil {
				tt.do(p, &cfg)
			}
			s := spooler(t, cfg)
			job := jobOf(pdf(2, 1000), 2)
			if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
			sheets := p.Sheets()
			if tt.format == "" {
				if len(sheets) > 0 || p.Requests("Create-Job") > 0 {
					t.Errorf("%d sheets, %d jobs", len(sheets), p.Requests("Create-Job"))
				}
				return
			}
			if len(sheets) != 2 || sheets[0].Format != tt.format || sheets[0].Picture.Type != tt.kind || sheets[0].Picture.DPI != tt.dpi {
				t.Fatalf("%d sheets, the first %s, picture %+v", len(sheets), sheets[0].Format, sheets[0].Picture)
			}
			row := j.all()[0]
			if row.Bytes != len(sheets[0].Document) || row.SHA256 != fmt.Sprintf("%x", job.SHA256) {
				t.Errorf("row %+v: %d bytes were sent", row, len(sheets[0].Document))
			}
		})
	}
}

// undrawing stands before p and makes it a printer whose PDF interpreter gives up: a job with a PDF is aborted, because of
// the document.
func undrawing(t *testing.T, p *ipptest.Printer, reason string) string {
	t.Helper()
	c, err := ipp.New(ipp.Config{URI: p.URI()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/ipp")
		const sendDocument = 6
		head := body[:min(len(body), 600)]
		if binary.BigEndian.Uint16(body[2:]) == sendDocument && bytes.Contains(head, []byte("application/pdf")) {
			at := bytes.Index(head, []byte("job-id\x00\x04")) + len("job-id\x00\x04")
			if err := c.Cancel(r.Context(), int(binary.BigEndian.Uint32(head[at:]))); err != nil {
				t.Error(err)
			}
			answer := append([]byte{2, 0, 0, 0}, body[4:8]...)
			answer = append(answer, "\x01\x47\x00\x12attributes-charset\x00\x05utf-8\x48\x00\x1battributes-natural-language\x00\x02en\x03"...)
			_, _ = w.Write(answer)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://"+p.Addr()+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/ipp")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		const canceled, aborted = "job-state\x00\x04\x00\x00\x00\x07", "job-state\x00\x04\x00\x00\x00\x08"
		answer = bytes.ReplaceAll(answer, []byte(canceled), []byte(aborted))
		answer = bytes.ReplaceAll(answer, []byte("\x00\x14job-canceled-by-user"), append([]byte{0, byte(len(reason))}, reason...))
		_, _ = w.Write(answer)
	}))
	t.Cleanup(srv.Close)
	return strings.Replace(srv.URL, "http:", "ipp:", 1) + "/ipp/print"
}

// TestPictureAfterPDF prints on a printer that takes a PDF and gives it up.
func TestPictureAfterPDF(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		reason string
		counts bool // the printer is known to count sheets
		format []string
		want   string
		states []printing.State
	}{
		{"is sent again as a picture", "document-format-error", true, []string{ipp.PDF, ipp.URF}, "done", []printing.State{printing.Failed, printing.Done}},
		{"is sent again: unprintable", "document-unprintable-error", true, []string{ipp.PDF, ipp.PWG}, "done", []printing.State{printing.Failed, printing.Done}},
		{"not when nobody knows whether a sheet came out", "document-format-error", false, []string{ipp.PDF, ipp.URF}, "format uncertain", []printing.State{printing.Uncertain}},
		{"not for another reason", "aborted-by-system", true, []string{ipp.PDF, ipp.URF}, "other nothing_printed", []printing.State{printing.Failed}},
		{"not when it takes no picture", "document-format-error", true, []string{ipp.PDF}, "format nothing_printed", []printing.State{printing.Failed}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{})
			before := 0
			if tt.counts {
				before = used(t, p)
			}
			p.Formats(tt.format...)
			j := &memory{}
			cfg := quick(p, j)
			cfg.Adopted[0].URI = undrawing(t, p, tt.reason)
			cfg.Raster = drawer{}
			s := spooler(t, cfg)
			if got := describe(s.Print(t.Context(), jobOf(pdf(1, 1000), 1), func(kiosk.PrintProgress) {})); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			var states []printing.State
			for _, row := range j.all() {
				states = append(states, row.State)
			}
			if !slices.Equal(states, tt.states) {
				t.Errorf("journal %v, want %v", states, tt.states)
			}
			if n := len(p.Documents()) - before; (n == 1) != (tt.want == "done") {
				t.Errorf("%d documents", n)
			}
		})
	}
}
