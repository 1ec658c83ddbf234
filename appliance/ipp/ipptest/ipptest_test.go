package ipptest_test

import (
	"bytes"
	"encoding/json"
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

var document = []byte("%PDF-1.4\n1 0 obj <</Type /Pages>> 2 0 obj <</Type /Page >> 3 0 obj <</Type/Page/X 1>>\n%%EOF\n")

func start(t *testing.T) (*ipptest.Printer, *ipp.Client) {
	t.Helper()
	p := ipptest.New(ipptest.Config{PageTime: 10 * time.Millisecond})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c, err := ipp.New(ipp.Config{URI: p.URI()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return p, c
}

func send(t *testing.T, c *ipp.Client) ipp.Job {
	t.Helper()
	j, _, err := c.Create(t.Context(), ipp.Ticket{Name: "prova"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), j.ID, ipp.PDF, document); err != nil {
		t.Fatal(err)
	}
	return j
}

func wait(t *testing.T, c *ipp.Client, id int, state ipp.JobState) ipp.Job {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		j, err := c.Job(t.Context(), id)
		if err == nil && j.State == state {
			return j
		}
		if time.Now().After(end) {
			t.Fatalf("job %+v, %v: want %v", j, err, state)
		}
	}
}

func TestStopsAsRealPrintersDo(t *testing.T) {
	p, c := start(t)
	p.SetPaper(1)
	j := send(t, c)
	stopped := wait(t, c, j.ID, ipp.JobProcessingStopped)
	if stopped.Impressions != 1 || !slices.Contains(stopped.Reasons, "printer-stopped") {
		t.Errorf("job %+v", stopped)
	}
	is, err := c.Printer(t.Context())
	if err != nil || is.State != ipp.PrinterStopped || !slices.Contains(is.Reasons, "media-empty-error") || !slices.Contains(is.Reasons, "media-needed-error") {
		t.Errorf("printer %+v, %v", is, err)
	}
	p.SetPaper(10)
	if done := wait(t, c, j.ID, ipp.JobCompleted); done.Impressions != 2 || p.Paper() != 9 {
		t.Errorf("job %+v, %d sheets left", done, p.Paper())
	}
}

func TestCancelledWhileStopped(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		p, c := start(t)
		p.StickyCancel(sticky)
		p.SetPaper(0)
		j := send(t, c)
		wait(t, c, j.ID, ipp.JobProcessingStopped)
		if err := c.Cancel(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		if sticky {
			if marked := wait(t, c, j.ID, ipp.JobProcessing); !slices.Contains(marked.Reasons, "processing-to-stop-point") {
				t.Errorf("job %+v", marked)
			}
			p.SetPaper(10)
		}
		wait(t, c, j.ID, ipp.JobCanceled)
		if n, want := len(p.Sheets()), map[bool]int{true: 1}[sticky]; n != want {
			t.Errorf("sticky %v: %d sheets, want %d", sticky, n, want)
		}
	}
}

func TestRestartForgets(t *testing.T) {
	p, c := start(t)
	wait(t, c, send(t, c).ID, ipp.JobCompleted)
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Job(t.Context(), 1); !ipp.IsStatus(err, ipp.StatusNotFound) {
		// The first answer after the restart may be that of the old connection.
		if _, err = c.Job(t.Context(), 1); !ipp.IsStatus(err, ipp.StatusNotFound) {
			t.Errorf("job 1 after the restart: %v", err)
		}
	}
	if j := send(t, c); j.ID != 1 {
		t.Errorf("job ids go on at %d", j.ID)
	}
}

func TestControl(t *testing.T) {
	p, c := start(t)
	srv := httptest.NewServer(p.Control())
	defer srv.Close()
	post := func(path string) (ipptest.Status, int) {
		t.Helper()
		resp, err := http.Post(srv.URL+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var s ipptest.Status
		if resp.StatusCode == http.StatusOK {
			if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
				t.Fatal(err)
			}
		}
		return s, resp.StatusCode
	}
	get := func(path string) []byte {
		t.Helper()
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		path string
		ok   func(ipptest.Status) bool
	}{
		{"/paper?n=0", func(s ipptest.Status) bool { return s.Paper == 0 && slices.Contains(s.Reasons, "media-empty-error") }},
		{"/paper?n=7", func(s ipptest.Status) bool { return s.Paper == 7 }},
		{"/jam?on=true", func(s ipptest.Status) bool { return slices.Contains(s.Reasons, "media-jam-error") }},
		{"/jam?on=false", func(s ipptest.Status) bool { return s.State == "idle" }},
		{"/cover?on=true", func(s ipptest.Status) bool { return slices.Contains(s.Reasons, "cover-open-error") }},
		{"/cover?on=false", func(s ipptest.Status) bool { return s.State == "idle" }},
		{"/busy?on=true", func(s ipptest.Status) bool { return s.State == "processing" }},
		{"/busy?on=false", func(s ipptest.Status) bool { return s.State == "idle" }},
		{"/sleep?on=true", func(s ipptest.Status) bool { return s.Asleep }},
		{"/sleep?on=false", func(s ipptest.Status) bool { return !s.Asleep }},
		{"/stopped?on=true", func(s ipptest.Status) bool { return s.State == "stopped" }},
		{"/stopped?on=false", func(s ipptest.Status) bool { return s.State == "idle" }},
		{"/toner?percent=5", func(s ipptest.Status) bool { return s.Toner == 5 }},
		{"/toner?percent=50", func(s ipptest.Status) bool { return s.Toner == 50 }},
		{"/reasons?reason=other-warning&reason=media-low", func(s ipptest.Status) bool { return slices.Contains(s.Reasons, "media-low") }},
		{"/reasons", func(s ipptest.Status) bool { return !slices.Contains(s.Reasons, "media-low") }},
		{"/jamafter?sheets=0", func(ipptest.Status) bool { return true }},
		{"/substitute?media=", func(ipptest.Status) bool { return true }},
		{"/key", func(s ipptest.Status) bool { return s.URI == p.URI() }},
		{"/gone?on=true", func(s ipptest.Status) bool { return s.Gone }},
		{"/gone?on=false", func(s ipptest.Status) bool { return !s.Gone }},
		{"/formats?type=image/urf&type=application/pdf", func(ipptest.Status) bool { return true }},
		{"/media?name=na_letter_8.5x11in&name=iso_a4_210x297mm", func(ipptest.Status) bool { return true }},
		{"/pagetime?ms=1", func(ipptest.Status) bool { return true }},
		{"/restart", func(s ipptest.Status) bool { return s.URI == p.URI() }},
	} {
		if s, code := post(tt.path); code != http.StatusOK || !tt.ok(s) {
			t.Errorf("%s: %d %+v", tt.path, code, s)
		}
	}
	for _, path := range []string{"/paper?n=x", "/jam", "/gone?on=maybe"} {
		if _, code := post(path); code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, code)
		}
	}
	is, err := c.Printer(t.Context())
	if err != nil || !slices.Equal(is.Formats, []string{"image/urf", ipp.PDF}) || is.MediaDefault != "na_letter_8.5x11in" {
		t.Errorf("printer %+v, %v", is, err)
	}
	told := make(chan ipptest.Sheet, 10)
	p.OnSheet(func(s ipptest.Sheet) { told <- s })
	wait(t, c, send(t, c).ID, ipp.JobCompleted)
	if s := <-told; s.JobName != "prova" || s.Page != 1 || !bytes.Equal(s.PDF, document) {
		t.Errorf("told of %+v", s)
	}
	var sheets []ipptest.Sheet
	if err := json.Unmarshal(get("/sheets"), &sheets); err != nil || len(sheets) != 2 || sheets[1].Page != 2 {
		t.Errorf("sheets %+v, %v", sheets, err)
	}
	if !bytes.Equal(get("/sheets/2.pdf"), document) {
		t.Error("sheet 2 is not the document")
	}
	if s := string(get("/sheets/3.pdf")); !strings.Contains(s, "not found") {
		t.Errorf("sheet 3: %s", s)
	}
}
