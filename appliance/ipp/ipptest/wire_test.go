package ipptest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenPrinting/goipp"

	"sportello.example/appliance/ipp/ipptest"
)

const host = "printer.test:631"

// wire speaks to a printer in a network in memory with nothing of ours but the printer: HTTP and IPP by other people's
// hands. It lives in a bubble of fake time.
type wire struct {
	t    *testing.T
	net  *ipptest.Net
	http *http.Client
	tls  bool
	pins []string // seen
}

// inMemory runs test in fake time with a printer that is switched on.
func inMemory(t *testing.T, cfg ipptest.Config, test func(t *testing.T, p *ipptest.Printer, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{t: t, net: &ipptest.Net{}, tls: cfg.TLS}
		tr := &http.Transport{
			DisableKeepAlives: true, DialContext: w.net.Dial, DisableCompression: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
				sum := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
				w.pins = append(w.pins, hex.EncodeToString(sum[:]))
				return nil
			}},
		}
		w.http = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		cfg.Listen = func() (net.Listener, error) { return w.net.Listen(host) }
		p := ipptest.New(cfg)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		test(t, p, w)
		p.Close()
		tr.CloseIdleConnections()
	})
}

func (w *wire) request(op goipp.Op, id int, attrs ...goipp.Attribute) *goipp.Message {
	m := goipp.NewRequest(goipp.MakeVersion(2, 0), op, 7)
	m.Operation.Add(goipp.MakeAttribute("attributes-charset", goipp.TagCharset, goipp.String("utf-8")))
	m.Operation.Add(goipp.MakeAttribute("attributes-natural-language", goipp.TagLanguage, goipp.String("en")))
	m.Operation.Add(goipp.MakeAttribute("printer-uri", goipp.TagURI, goipp.String("ipp://"+host+"/ipp/print")))
	if id > 0 {
		m.Operation.Add(goipp.MakeAttribute("job-id", goipp.TagInteger, goipp.Integer(id)))
	}
	for _, a := range attrs {
		switch {
		case strings.HasPrefix(a.Name, "media"), a.Name == "job-hold-until":
			m.Job.Add(a)
		default:
			m.Operation.Add(a)
		}
	}
	return m
}

// post sends a request and its document. The caller closes the body.
func (w *wire) post(ctx context.Context, m *goipp.Message, document []byte) (*http.Response, error) {
	b, err := m.EncodeBytes()
	if err != nil {
		w.t.Fatal(err)
	}
	scheme := "http://"
	if w.tls {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+host+"/ipp/print", bytes.NewReader(append(b, document...)))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", goipp.ContentType)
	return w.http.Do(req)
}

// ask wants an answer.
func (w *wire) ask(op goipp.Op, id int, document []byte, attrs ...goipp.Attribute) *goipp.Message {
	w.t.Helper()
	resp, err := w.post(w.t.Context(), w.request(op, id, attrs...), document)
	if err != nil {
		w.t.Fatalf("%v: %v", op, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var m goipp.Message
	if err := m.Decode(resp.Body); err != nil {
		w.t.Fatalf("%v: %s, %v", op, resp.Status, err)
	}
	return &m
}

func texts(as goipp.Attributes, name string) []string {
	var all []string
	for _, a := range as {
		if a.Name == name {
			for _, v := range a.Values {
				all = append(all, v.V.String())
			}
		}
	}
	return all
}

func text(as goipp.Attributes, name string) string { return strings.Join(texts(as, name), " ") }

func keyword(name, value string) goipp.Attribute {
	return goipp.MakeAttribute(name, goipp.TagKeyword, goipp.String(value))
}

func format(f string) goipp.Attribute {
	return goipp.MakeAttribute("document-format", goipp.TagMimeType, goipp.String(f))
}

// print makes a job, gives it a document and lets a minute pass.
func (w *wire) print(f string, doc []byte, attrs ...goipp.Attribute) (create, job *goipp.Message) {
	w.t.Helper()
	create = w.ask(goipp.OpCreateJob, 0, nil, attrs...)
	if create.Code >= 0x100 {
		w.t.Fatalf("Create-Job: %v", goipp.Status(create.Code))
	}
	id := int(create.Job[0].Values[0].V.(goipp.Integer))
	if sent := w.ask(goipp.OpSendDocument, id, doc, format(f), goipp.MakeAttribute("last-document", goipp.TagBoolean, goipp.Boolean(true))); sent.Code >= 0x100 {
		w.t.Fatalf("Send-Document: %v", goipp.Status(sent.Code))
	}
	time.Sleep(time.Minute)
	return create, w.ask(goipp.OpGetJobAttributes, id, nil)
}

func pdf() goipp.Attribute { return format("application/pdf") }

var a4 = goipp.MakeAttribute("media", goipp.TagKeyword, goipp.String("iso_a4_210x297mm"))

func TestMisbehavesInWhatItSaysAndPrints(t *testing.T) {
	for _, tt := range []struct {
		name    string
		do      func(p *ipptest.Printer)
		printer string // printer-state and reasons afterwards
		job     string // job-state, reasons and job-impressions-completed afterwards
		sheets  int
		more    func(t *testing.T, create *goipp.Message, p *ipptest.Printer)
	}{
		{"nothing", func(*ipptest.Printer) {}, "3 none", "9 job-completed-successfully 2", 2, nil},
		{"stopped", func(p *ipptest.Printer) { p.Stopped(true) }, "5 paused", "6 printer-stopped 0", 0, nil},
		{"stopped with reasons without a severity", func(p *ipptest.Printer) {
			p.Stopped(true)
			p.Reasons("media-empty", "media-needed")
		}, "5 media-empty media-needed", "6 printer-stopped 0", 0, nil},
		{
			"an error by name", func(p *ipptest.Printer) { p.Reasons("fuser-over-temp-error", "other-warning") },
			"5 fuser-over-temp-error other-warning", "6 printer-stopped 0", 0, nil,
		},
		{
			"a warning by name", func(p *ipptest.Printer) { p.Reasons("marker-waste-almost-full-report") },
			"3 marker-waste-almost-full-report", "9 job-completed-successfully 2", 2, nil,
		},
		{"jam in the middle", func(p *ipptest.Printer) { p.JamAfter(1) }, "5 media-jam-error", "6 printer-stopped 1", 1, nil},
		{"toner low", func(p *ipptest.Printer) { p.Toner(9) }, "3 toner-low-warning", "9 job-completed-successfully 2", 2, nil},
		{"toner empty", func(p *ipptest.Printer) { p.Toner(0) }, "5 toner-empty-error", "6 printer-stopped 0", 0, nil},
		{
			"substitutes paper", func(p *ipptest.Printer) { p.Substitute("na_letter_8.5x11in") }, "3 none", "9 job-completed-successfully 2", 2,
			func(t *testing.T, create *goipp.Message, p *ipptest.Printer) {
				if text(create.Unsupported, "media") == "" || p.Sheets()[0].Media != "na_letter_8.5x11in" {
					t.Errorf("unsupported %v, printed on %s", create.Unsupported, p.Sheets()[0].Media)
				}
			},
		},
		{"counts nothing", func(p *ipptest.Printer) { p.Count(ipptest.CountsNothing) }, "3 none", "9 job-completed-successfully 0", 2, nil},
		{"does not count", func(p *ipptest.Printer) { p.Count(ipptest.CountsNot) }, "3 none", "9 job-completed-successfully ", 2, nil},
		{"hides the state", func(p *ipptest.Printer) { p.HideState(true) }, "3 none", "  2", 2, nil},
		{"forgets", func(p *ipptest.Printer) { p.Forget(true) }, "3 none", "  ", 2, nil},
		{
			"sleeps until the job", func(p *ipptest.Printer) { p.Sleep(true) }, "3 none", "9 job-completed-successfully 2", 2,
			func(t *testing.T, _ *goipp.Message, p *ipptest.Printer) {
				if p.Status().Asleep {
					t.Error("still asleep")
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
				tt.do(p)
				create, job := w.print("application/pdf", document, a4)
				is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer
				if got := text(is, "printer-state") + " " + text(is, "printer-state-reasons"); got != tt.printer {
					t.Errorf("printer %q, want %q", got, tt.printer)
				}
				if got := text(job.Job, "job-state") + " " + text(job.Job, "job-state-reasons") + " " + text(job.Job, "job-impressions-completed"); got != tt.job {
					t.Errorf("job %q, want %q", got, tt.job)
				}
				if n := len(p.Sheets()); n != tt.sheets || text(is, "printer-impressions-completed") != map[int]string{0: "0", 1: "1", 2: "2"}[n] {
					t.Errorf("%d sheets, counter %s, want %d", n, text(is, "printer-impressions-completed"), tt.sheets)
				}
				if tt.more != nil {
					tt.more(t, create, p)
				}
			})
		})
	}
}

func TestAnswersBadly(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *ipptest.Printer)
		want func(resp *http.Response, body []byte, err, readErr error) bool
	}{
		{"nested", func(p *ipptest.Printer) { p.Reply("Get-Jobs", ipptest.Nested) }, func(_ *http.Response, b []byte, _, rerr error) bool {
			return len(b) > 40<<20 && rerr == nil && bytes.Count(b, []byte{0x4a, 0, 0, 0, 1, 'a', 0x34}) > 3_000_000
		}},
		{"endless", func(p *ipptest.Printer) { p.Reply("", ipptest.Endless) }, func(_ *http.Response, b []byte, _, rerr error) bool {
			return len(b) == 50<<20 && rerr == nil
		}},
		{"wrong request-id", func(p *ipptest.Printer) { p.Reply("", ipptest.WrongID) }, func(_ *http.Response, b []byte, _, _ error) bool {
			var m goipp.Message
			return m.DecodeBytes(b) == nil && m.RequestID == 8
		}},
		{"garbage", func(p *ipptest.Printer) { p.Reply("", ipptest.Garbage) }, func(_ *http.Response, b []byte, _, _ error) bool {
			var m goipp.Message
			return m.DecodeBytes(b) != nil && len(b) > 0
		}},
		{"a page for people", func(p *ipptest.Printer) { p.Reply("", ipptest.HTML) }, func(r *http.Response, b []byte, _, _ error) bool {
			return r.Header.Get("Content-Type") == "text/html" && len(b) > 0
		}},
		{"no HTTP", func(p *ipptest.Printer) { p.Reply("", ipptest.NotHTTP) }, func(r *http.Response, _ []byte, err, _ error) bool {
			return r == nil && strings.Contains(err.Error(), "malformed HTTP")
		}},
		{"bad chunks", func(p *ipptest.Printer) { p.Reply("", ipptest.BadChunks) }, func(r *http.Response, _ []byte, _, rerr error) bool {
			return r != nil && rerr != nil
		}},
		{"too short", func(p *ipptest.Printer) { p.Reply("", ipptest.Short) }, func(_ *http.Response, b []byte, _, rerr error) bool {
			return len(b) > 0 && errors.Is(rerr, io.ErrUnexpectedEOF)
		}},
		{"stalled", func(p *ipptest.Printer) { p.Reply("", ipptest.Stalled) }, func(r *http.Response, b []byte, _, rerr error) bool {
			return r != nil && len(b) == 0 && errors.Is(rerr, context.DeadlineExceeded)
		}},
		{"redirect", func(p *ipptest.Printer) { p.Redirect("http://other.test/ipp/print") }, func(r *http.Response, _ []byte, _, _ error) bool {
			return r.StatusCode == http.StatusTemporaryRedirect && r.Header.Get("Location") == "http://other.test/ipp/print"
		}},
		{"slow", func(p *ipptest.Printer) { p.AnswerRate(1) }, func(_ *http.Response, b []byte, _, rerr error) bool {
			return len(b) > 1790 && len(b) < 1810 && errors.Is(rerr, context.DeadlineExceeded)
		}},
		{"honest again", func(p *ipptest.Printer) {
			p.Reply("", ipptest.Garbage)
			p.Reply("Get-Printer-Attributes", ipptest.Honest)
		}, func(_ *http.Response, b []byte, _, _ error) bool {
			var m goipp.Message
			return m.DecodeBytes(b) == nil && m.RequestID == 7
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
				tt.do(p)
				op := goipp.OpGetPrinterAttributes
				if tt.name == "nested" {
					op = goipp.OpGetJobs
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
				defer cancel()
				resp, err := w.post(ctx, w.request(op, 0), nil)
				var body []byte
				var readErr error
				if err == nil {
					defer func() { _ = resp.Body.Close() }()
					body, readErr = io.ReadAll(io.LimitReader(resp.Body, 50<<20))
				}
				if !tt.want(resp, body, err, readErr) {
					t.Errorf("%v, %d bytes, %v, %v", resp, len(body), err, readErr)
				}
			})
		})
	}
}

func TestHoldsAndReleases(t *testing.T) {
	inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
		if is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer; text(is, "job-hold-until-supported") != "" {
			t.Error("holds without having been told to")
		}
		p.Holds(true)
		_, job := w.print("application/pdf", document, keyword("job-hold-until", "indefinite"))
		if got := text(job.Job, "job-state") + text(job.Job, "job-state-reasons"); got != "4job-hold-until-specified" || len(p.Sheets()) != 0 {
			t.Fatalf("job %s, %d sheets", got, len(p.Sheets()))
		}
		// Others print meanwhile.
		if _, other := w.print("application/pdf", document); text(other.Job, "job-state") != "9" || len(p.Take()) != 2 {
			t.Errorf("another job: %v", other.Job)
		}
		if a := w.ask(goipp.OpReleaseJob, 1, nil); a.Code != 0 {
			t.Fatalf("Release-Job: %v", goipp.Status(a.Code))
		}
		time.Sleep(time.Minute)
		if n := len(p.Take()); n != 2 {
			t.Errorf("%d sheets after the release", n)
		}
		if a := w.ask(goipp.OpReleaseJob, 1, nil); goipp.Status(a.Code) != goipp.StatusErrorNotPossible {
			t.Errorf("second Release-Job: %v", goipp.Status(a.Code))
		}
		// Held afterwards, and cancelled.
		p.Stopped(true)
		_, first := w.print("application/pdf", document, keyword("job-hold-until", "indefinite"))
		id := int(first.Job[0].Values[0].V.(goipp.Integer))
		if a := w.ask(goipp.OpCancelJob, id, nil); a.Code != 0 {
			t.Fatalf("Cancel-Job: %v", goipp.Status(a.Code))
		}
		if jobs := p.Jobs(); jobs[len(jobs)-1].State != "canceled" {
			t.Errorf("jobs %+v", jobs)
		}
	})
}

func TestAsksForAPassword(t *testing.T) {
	inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
		p.Password("maria", "segreta")
		if is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer; text(is, "uri-authentication-supported") != "basic" {
			t.Errorf("authentication %s", text(is, "uri-authentication-supported"))
		}
		resp, err := w.post(t.Context(), w.request(goipp.OpCreateJob, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" || len(p.Jobs()) != 0 {
			t.Errorf("%s, jobs %v", resp.Status, p.Jobs())
		}
	})
}

func TestReadsSlowly(t *testing.T) {
	inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
		p.ReadRate(1000)
		w.ask(goipp.OpCreateJob, 0, nil)
		began := time.Now()
		w.ask(goipp.OpSendDocument, 1, append(slices.Clone(document), bytes.Repeat([]byte("%"), 3_600_000)...), pdf())
		if took := time.Since(began); took < 59*time.Minute || took > 70*time.Minute {
			t.Errorf("3.6 MB at 1000 bytes a second took %v", took)
		}
	})
}

func TestKeys(t *testing.T) {
	inMemory(t, ipptest.Config{TLS: true, TwoKeys: true, UUID: "7f3c2b10-1111-4222-8333-444455556666", Make: "Acme LX-5", Serial: "SN 42"},
		func(t *testing.T, p *ipptest.Printer, w *wire) {
			before := p.Pins()
			is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer
			w.ask(goipp.OpGetPrinterAttributes, 0, nil)
			if len(before) != 2 || !slices.Equal(w.pins, before) {
				t.Errorf("keys shown %v, of %v", w.pins, before)
			}
			if id := text(is, "printer-device-id"); !strings.Contains(id, "MDL:Acme LX-5;") || !strings.Contains(id, "SN:SN 42;") {
				t.Errorf("printer-device-id %q", id)
			}
			if err := p.NewKey(); err != nil {
				t.Fatal(err)
			}
			w.ask(goipp.OpGetPrinterAttributes, 0, nil)
			if after := p.Pins(); slices.Contains(before, after[0]) || slices.Contains(before, after[1]) || !slices.Contains(after, w.pins[2]) {
				t.Errorf("keys %v after %v, shown %v", after, before, w.pins)
			}
		})
}

func TestTheSamePrinterTwice(t *testing.T) {
	const uuid = "7f3c2b10-1111-4222-8333-444455556666"
	inMemory(t, ipptest.Config{UUID: uuid}, func(t *testing.T, _ *ipptest.Printer, w *wire) {
		other := ipptest.New(ipptest.Config{UUID: uuid, Name: "Altra", Listen: func() (net.Listener, error) { return w.net.Listen("other.test:631") }})
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer; text(is, "printer-uuid") != "urn:uuid:"+other.UUID() {
			t.Errorf("%s and %s", text(is, "printer-uuid"), other.UUID())
		}
	})
}

func TestWhatItIsMadeOf(t *testing.T) {
	inMemory(t, ipptest.Config{}, func(t *testing.T, p *ipptest.Printer, w *wire) {
		p.Media("na_letter_8.5x11in", "iso_a4_210x297mm")
		p.SetPaper(40)
		p.Toner(55)
		p.Message("Cassetto 2 quasi vuoto")
		p.Formats("image/urf", "image/pwg-raster")
		p.Without("Get-Jobs")
		is := w.ask(goipp.OpGetPrinterAttributes, 0, nil).Printer
		for name, want := range map[string]string{
			"marker-levels": "55 20", "marker-types": "toner waste-toner", "media-ready": "na_letter_8.5x11in iso_a4_210x297mm",
			"printer-state-message": "Cassetto 2 quasi vuoto", "document-format-supported": "image/urf image/pwg-raster",
			"urf-supported": "V1.4 CP1 W8 SRGB24 PQ3-4-5 RS300-600", "pwg-raster-document-resolution-supported": "300x300dpi 600x600dpi",
			"pwg-raster-document-type-supported": "black_1 sgray_8 srgb_8", "pwg-raster-document-sheet-back": "normal",
		} {
			if got := text(is, name); got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
		trays := ""
		for _, a := range is {
			if a.Name == "printer-input-tray" {
				for _, v := range a.Values {
					trays += string(v.V.(goipp.Binary))
				}
			}
		}
		if !strings.Contains(trays, "level=40;status=0;name=main;") || !strings.Contains(trays, "level=-2;status=0;name=tray-2;") {
			t.Errorf("trays %q", trays)
		}
		if a := w.ask(goipp.OpGetJobs, 0, nil); goipp.Status(a.Code) != goipp.StatusErrorOperationNotSupported || slices.Contains(texts(is, "operations-supported"), "10") {
			t.Errorf("Get-Jobs: %v, operations %v", goipp.Status(a.Code), texts(is, "operations-supported"))
		}
	})
}
