package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/sync/hub/anpr/anprtest"
)

// maxAnswer is how much is read of what a part answers, in bytes.
const maxAnswer = 16 << 20

// A control is the HTTP interface of a part that the demo looks at or turns knobs of.
type control struct {
	base   string // http://127.0.0.1:1234
	client *http.Client
}

func newControl(base string) control {
	return control{base: base, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}}
}

// get reads a path; with a non-nil v as JSON into v.
func (c control) get(ctx context.Context, path string, v any) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	return c.do(req, v)
}

// post turns a knob.
func (c control) post(ctx context.Context, path string, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("turn %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = c.do(req, nil)
	return err
}

func (c control) do(req *http.Request, v any) ([]byte, error) {
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, clip(strings.TrimSpace(string(b)), 200))
	}
	if v == nil {
		return b, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return b, nil
}

// up says whether path is answered with 200.
func (c control) up(ctx context.Context, path string) bool {
	_, err := c.get(ctx, path, nil)
	return err == nil
}

// printerControl turns the knobs of the simulated printer.
type printerControl struct{ control }

// printerState is what the console makes of the printer's knobs.
type printerState string

// The states of the printer on the console.
const (
	printerReady printerState = "ready"
	printerPaper printerState = "paper" // none left
	printerJam   printerState = "jam"
	printerGone  printerState = "gone" // switched off or unplugged
	printerKey   printerState = "key"  // has another TLS key, as after an update of its program; it stays so
)

// fullTray is how many sheets are loaded when somebody helps the printer.
const fullTray = 250

// Set brings the printer from whatever state it is in to another.
func (p *printerControl) Set(ctx context.Context, s printerState) error {
	paper := fullTray
	switch s {
	case printerReady, printerJam, printerGone:
	case printerPaper:
		paper = 0
	case printerKey:
		return p.post(ctx, "/key", nil)
	default:
		return fmt.Errorf("printer %q: %w", s, errUnknown)
	}
	for _, k := range []struct{ path, name, value string }{
		{"/paper", "n", strconv.Itoa(paper)},
		{"/jam", "on", strconv.FormatBool(s == printerJam)},
		{"/gone", "on", strconv.FormatBool(s == printerGone)},
	} {
		if err := p.post(ctx, k.path, url.Values{k.name: {k.value}}); err != nil {
			return err
		}
	}
	return nil
}

// State says how the printer is.
func (p *printerControl) State(ctx context.Context) (printerState, error) {
	var st ipptest.Status
	if _, err := p.get(ctx, "/", &st); err != nil {
		return "", err
	}
	switch {
	case st.Gone:
		return printerGone, nil
	case strings.Contains(strings.Join(st.Reasons, " "), "jam"):
		return printerJam, nil
	case st.Paper == 0:
		return printerPaper, nil
	}
	return printerReady, nil
}

// Pin is the SHA-256 of the printer's TLS public key.
func (p *printerControl) Pin(ctx context.Context) (string, error) {
	var st ipptest.Status
	_, err := p.get(ctx, "/", &st)
	return st.Pin, err
}

// Sheets returns what came out, oldest first, without the documents.
func (p *printerControl) Sheets(ctx context.Context) ([]ipptest.Sheet, error) {
	var s []ipptest.Sheet
	_, err := p.get(ctx, "/sheets", &s)
	return s, err
}

// PDF returns the document of sheet n, as it arrived.
func (p *printerControl) PDF(ctx context.Context, n int) ([]byte, error) {
	return p.get(ctx, "/sheets/"+strconv.Itoa(n)+".pdf", nil)
}

// Began returns when each job began to be printed, oldest first.
func (p *printerControl) Began(ctx context.Context) ([]time.Time, error) {
	var t []time.Time
	_, err := p.get(ctx, "/processing", &t)
	return t, err
}

// registryControl turns the knobs of the simulated registry.
type registryControl struct{ control }

// Set has the registry answer, or cut every connection.
func (r *registryControl) Set(ctx context.Context, answers bool) error {
	return r.post(ctx, "/down", url.Values{"on": {strconv.FormatBool(!answers)}})
}

// Issued returns what the registry has sent so far, oldest first.
func (r *registryControl) Issued(ctx context.Context) ([]anprtest.Issued, error) {
	var i []anprtest.Issued
	_, err := r.get(ctx, "/issued", &i)
	return i, err
}
