package ipp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
)

var document = []byte("%PDF-1.4\n1 0 obj <</Type /Page >> endobj\n" + strings.Repeat("x", 5000) + "\n%%EOF\n")

var ticket = ipp.Ticket{Name: "prova", Format: ipp.PDF, Size: ipp.A4, Sides: "one-sided"}

func start(t *testing.T, cfg ipptest.Config) *ipptest.Printer {
	t.Helper()
	p := ipptest.New(cfg)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func client(t *testing.T, cfg ipp.Config) *ipp.Client {
	t.Helper()
	c, err := ipp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func waitFor(t *testing.T, c *ipp.Client, id int, state ipp.JobState) ipp.Job {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		j, err := c.Job(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if j.State == state {
			return j
		}
		if time.Now().After(end) {
			t.Fatalf("job %d is %v %v, want %v", id, j.State, j.Reasons, state)
		}
	}
}

func TestPrintsOneDocument(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  ipptest.Config
		do   func(*ipptest.Printer)
	}{
		{"over ipp", ipptest.Config{}, func(*ipptest.Printer) {}},
		{"over ipps", ipptest.Config{TLS: true}, func(*ipptest.Printer) {}},
		{"with IPP/1.1", ipptest.Config{}, func(p *ipptest.Printer) { p.OnlyVersion11(true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, tt.cfg)
			tt.do(p)
			cfg := ipp.Config{URI: p.URI(), User: "sportello-1"}
			if tt.cfg.TLS {
				cfg.Pins = []string{strings.Repeat("0", 64), strings.ToUpper(p.Pin())}
			}
			c := client(t, cfg)
			ctx := t.Context()
			if ignored, err := c.Validate(ctx, ticket); err != nil || len(ignored) > 0 {
				t.Fatalf("Validate: %v, ignored %v", err, ignored)
			}
			j, ignored, err := c.Create(ctx, ticket)
			if err != nil || len(ignored) > 0 {
				t.Fatalf("Create: %v, ignored %v", err, ignored)
			}
			if err := c.Send(ctx, j.ID, ipp.PDF, document); err != nil {
				t.Fatal(err)
			}
			done := waitFor(t, c, j.ID, ipp.JobCompleted)
			if done.UUID != j.UUID || done.UUID == "" || done.Name != "prova" || done.Impressions != 1 {
				t.Errorf("job %+v, created as %+v", done, j)
			}
			if docs := p.Documents(); len(docs) != 1 || !bytes.Equal(docs[0], document) {
				t.Errorf("%d documents came out, want the one that was sent", len(docs))
			}
			if m := p.Sheets()[0].Media; m != ipp.A4Name {
				t.Errorf("printed on %s", m)
			}
			ended, err := c.Jobs(ctx, ipp.Completed)
			if err != nil || len(ended) != 1 || ended[0].ID != j.ID {
				t.Errorf("Jobs: %v, %v", ended, err)
			}
			if err := c.Cancel(ctx, j.ID); !ipp.IsStatus(err, ipp.StatusNotPossible) {
				t.Errorf("Cancel of an ended job: %v", err)
			}
		})
	}
}

func TestPrinterSaysHowItIs(t *testing.T) {
	p := start(t, ipptest.Config{Name: "Sala\x00 \u202e1", UUID: "AB-cd"})
	c := client(t, ipp.Config{URI: p.URI()})
	pr, err := c.Printer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if pr.UUID != "ab-cd" || pr.Name != "Sala 1" || pr.State != ipp.PrinterIdle || len(pr.Reasons) != 0 || !pr.Accepting ||
		!slices.Contains(pr.Formats, ipp.PDF) || !slices.Contains(pr.MediaReady, ipp.A4Name) ||
		!slices.Contains(pr.SizesReady, ipp.A4) || !slices.Equal(pr.TrayLevels, []int{250}) || pr.UpTime < 1 {
		t.Errorf("printer %+v", pr)
	}
	p.SetPaper(0)
	if pr, err = c.Printer(t.Context()); err != nil || !slices.Equal(pr.Reasons, []string{"media-empty-error"}) {
		t.Errorf("without paper: %+v, %v", pr, err)
	}
}

func TestOneActiveJob(t *testing.T) {
	p := start(t, ipptest.Config{})
	c := client(t, ipp.Config{URI: p.URI()})
	j, _, err := c.Create(t.Context(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Create(t.Context(), ticket)
	var se *ipp.StatusError
	if !errors.As(err, &se) || !se.Later() || se.Status != ipp.StatusBusy {
		t.Errorf("second Create-Job: %v", err)
	}
	if err := c.Cancel(t.Context(), j.ID); err != nil {
		t.Error(err)
	}
	if _, _, err = c.Create(t.Context(), ticket); err != nil {
		t.Errorf("Create-Job after Cancel-Job: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	p := start(t, ipptest.Config{})
	c := client(t, ipp.Config{URI: p.URI()})
	p.Formats("image/urf")
	if _, err := c.Validate(t.Context(), ticket); !ipp.IsStatus(err, ipp.StatusFormat) {
		t.Errorf("wrong format: %v", err)
	}
	p.Formats(ipp.PDF)
	p.IgnoreMedia(true)
	if ignored, err := c.Validate(t.Context(), ticket); err != nil || !slices.Contains(ignored, "media-col") {
		t.Errorf("ignored media: %v, %v", ignored, err)
	}
	if _, err := c.Job(t.Context(), 99); !ipp.IsStatus(err, ipp.StatusNotFound) {
		t.Errorf("unknown job: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*ipptest.Printer) error
	}{
		{"gone", func(p *ipptest.Printer) error { return p.Gone(true) }},
		{"frozen", func(p *ipptest.Printer) error { p.Freeze(true); return nil }},
		{"answer lost", func(p *ipptest.Printer) error { p.LoseAnswer("Create-Job"); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, ipptest.Config{})
			c := client(t, ipp.Config{URI: p.URI(), Timeout: 300 * time.Millisecond})
			if err := tt.do(p); err != nil {
				t.Fatal(err)
			}
			_, _, err := c.Create(t.Context(), ticket)
			var te *ipp.TransportError
			if !errors.Is(err, ipp.ErrUnreachable) || !errors.As(err, &te) || te.Sent != 0 || te.Op != "Create-Job" {
				t.Errorf("got %v", err)
			}
			if n := p.Requests("Create-Job"); n > 1 {
				t.Errorf("the request was sent %d times", n)
			}
		})
	}
}

func TestCutDocument(t *testing.T) {
	for _, n := range []int{0, 1, len(document) / 2, len(document) - 1, len(document)} {
		t.Run(fmt.Sprintf("after %d bytes", n), func(t *testing.T) {
			p := start(t, ipptest.Config{})
			c := client(t, ipp.Config{URI: p.URI()})
			j, _, err := c.Create(t.Context(), ticket)
			if err != nil {
				t.Fatal(err)
			}
			p.CutAfter(n)
			err = c.Send(t.Context(), j.ID, ipp.PDF, document)
			var te *ipp.TransportError
			if !errors.As(err, &te) || te.Sent < n {
				t.Fatalf("got %v", err)
			}
			if got := p.Requests("Send-Document"); got != 1 {
				t.Errorf("Send-Document was sent %d times", got)
			}
			waitFor(t, c, j.ID, ipp.JobCompleted) // the trap this simulator lays
		})
	}
}

func TestKeyIsCheckedBeforeAnythingIsSaid(t *testing.T) {
	p := start(t, ipptest.Config{TLS: true})
	c := client(t, ipp.Config{URI: p.URI(), Pins: []string{strings.Repeat("0", 64)}})
	_, err := c.Printer(t.Context())
	if !errors.Is(err, ipp.ErrKey) || errors.Is(err, ipp.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if n := p.Requests("Get-Printer-Attributes"); n != 0 {
		t.Errorf("%d requests reached a printer with another key", n)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	redirected := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("redirect followed") }))
	defer redirected.Close()
	for _, tt := range []struct {
		name string
		do   http.HandlerFunc
	}{
		{"HTTP 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, redirected.URL, http.StatusTemporaryRedirect)
		}},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/ipp")
			_, _ = io.WriteString(w, "garbage")
		}},
		{"nothing", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/ipp") }},
		{"too much", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/ipp")
			_, _ = w.Write(make([]byte, 2<<20))
		}},
		{"an answer to something else", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/ipp")
			_, _ = w.Write([]byte{2, 0, 0, 0, 0x7f, 0, 0, 1, 3})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.do)
			defer srv.Close()
			c := client(t, ipp.Config{URI: strings.Replace(srv.URL, "http", "ipp", 1) + "/ipp/print"})
			if _, err := c.Printer(t.Context()); !errors.Is(err, ipp.ErrAnswer) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHowADocumentIsSent(t *testing.T) {
	var got *http.Request
	conns := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		conns[r.RemoteAddr] = true
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTeapot)
	}))
	defer srv.Close()
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	c := client(t, ipp.Config{URI: strings.Replace(srv.URL, "http", "ipp", 1) + "/ipp/print"})
	for range 2 {
		_ = c.Send(context.Background(), 1, ipp.PDF, document)
	}
	if got == nil {
		t.Fatal("nothing was sent")
	}
	if got.ContentLength <= int64(len(document)) || len(got.TransferEncoding) > 0 || got.Header.Get("Expect") != "" || !got.Close {
		t.Errorf("Content-Length %d, Transfer-Encoding %v, Expect %q, Close %v", got.ContentLength, got.TransferEncoding, got.Header.Get("Expect"), got.Close)
	}
	if len(conns) != 2 {
		t.Errorf("2 documents on %d connections", len(conns))
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []ipp.Config{
		{URI: ""},
		{URI: "http://p/"},
		{URI: "ipp:///x"},
		{URI: "ipp://user@p/"},
		{URI: "ipp://p/" + strings.Repeat("x", 1024)},
		{URI: "ipp://p/", Pins: []string{strings.Repeat("0", 64)}},
		{URI: "ipps://p/", Pins: []string{"00"}},
		{URI: "ipp://%zz/"},
	} {
		if _, err := ipp.New(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}
