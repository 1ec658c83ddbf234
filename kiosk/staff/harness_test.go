package staff

import (
	"context"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
)

const (
	rightCode  = "1234 5678"
	paperCode  = "4071"
	hostile    = `<b>Laser</b>" onload="x` // what a stranger may call a printer
	hostileRaw = `<b>Laser</b>`
)

// branch is what the pages ask about: what it says is what the test has put there.
type branch struct {
	mu         sync.Mutex
	clock      time.Time
	devices    []Device
	adopted    []Adopted
	candidates []Candidate
	undecided  []Print
	waiting    bool
	decide     error
	hangUp     func() // called while a print is decided; nil: nobody hangs up
	free       error
	door       error
	begin      error
	confirm    error
	did        []string // what the pages had done, in order
}

func (b *branch) set(f func()) { b.mu.Lock(); defer b.mu.Unlock(); f() }

func (b *branch) note(what ...string) {
	b.set(func() { b.did = append(b.did, strings.Join(what, " ")) })
}

func (b *branch) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.did, ", ")
}

func (b *branch) now() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.clock }

func (b *branch) Devices() []Device { b.mu.Lock(); defer b.mu.Unlock(); return b.devices }

func (b *branch) TestPage(_ context.Context, uuid string) error { b.note("test", uuid); return nil }

func (b *branch) Undecided(context.Context) ([]Print, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.undecided, nil
}

func (b *branch) Decide(_ context.Context, id string, v kiosk.Verdict, by string) error {
	b.note("decide", id, string(v), by)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hangUp != nil {
		b.hangUp()
	}
	if b.decide == nil {
		b.undecided = nil
	}
	return b.decide
}

func (b *branch) Free(_ context.Context, uuid, by string) error {
	b.note("free", uuid, by)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free
}

func (b *branch) Adopted(context.Context) ([]Adopted, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.adopted, nil
}

func (b *branch) Candidates(context.Context) ([]Candidate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.candidates, nil
}

func (b *branch) Add(_ context.Context, uri string) (Candidate, error) {
	if !strings.HasPrefix(uri, "ipp") {
		return Candidate{}, ErrAddress
	}
	c := Candidate{ID: "typed", Name: "Laser", URI: uri, Source: "manual", TLS: true, Keys: []string{strings.Repeat("ab", 32)}}
	b.set(func() { b.candidates = append(b.candidates, c) })
	return c, nil
}

func (b *branch) Begin(_ context.Context, id string, raster bool, risk *Risk, by string) (Trial, error) {
	what := "pdf"
	if raster {
		what = "picture"
	}
	if risk != nil {
		what += " at the risk of " + risk.By + " because " + risk.Why
	}
	b.note("begin", id, what, by)
	b.mu.Lock()
	err := b.begin
	b.mu.Unlock()
	if err != nil {
		return Trial{}, err
	}
	return Trial{ID: id, Name: "Laser", Format: "application/pdf", Started: b.now(), Ends: b.now().Add(10 * time.Minute), Left: 3}, nil
}

func (b *branch) Confirm(_ context.Context, id, code string, right bool, by string) (Adopted, error) {
	b.note("confirm", id, code, by)
	b.mu.Lock()
	err := b.confirm
	b.mu.Unlock()
	if err != nil {
		return Adopted{}, err
	}
	if code != paperCode || !right {
		return Adopted{}, ErrCode
	}
	return Adopted{Name: "Laser"}, nil
}

func (b *branch) Retire(_ context.Context, uuid, by string) error {
	b.note("retire", uuid, by)
	return nil
}

func (b *branch) SetRaster(_ context.Context, uuid string, always bool) error {
	b.note("raster", uuid, map[bool]string{true: "on", false: "off"}[always])
	return nil
}

func (b *branch) Waiting(string) bool { b.mu.Lock(); defer b.mu.Unlock(); return b.waiting }

func (b *branch) Settle(ctx context.Context, id string, v kiosk.Verdict) error {
	b.note("settle", id, string(v))
	return ctx.Err()
}

func (b *branch) Enter(_, code string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.door != nil {
		return b.door
	}
	if code != rightCode {
		return ErrWrong
	}
	return nil
}

// browser is somebody in front of the pages, who follows where they lead.
type browser struct {
	t      *testing.T
	b      *branch
	alarms *Alarms
	base   string
	client *http.Client
	where  string // path of the page that is shown
	status int
	text   string // its HTML
	header http.Header

	handler http.Handler
}

func open(t *testing.T) *browser {
	t.Helper()
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := &branch{clock: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
	alarms := &Alarms{}
	s, err := New(Config{
		Spool: b, Adoptions: b, Alarms: alarms, Desk: b, Door: b, Texts: texts, Asset: func(name string) string { return "/s/" + name },
		Icon:   func(string) (template.HTML, error) { return "<svg></svg>", nil },
		Branch: func() string { return "Biblioteca Harar" }, Now: b.now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, b: b, alarms: alarms, base: srv.URL, client: &http.Client{Jar: jar}, handler: s.Handler()}
}

func (w *browser) do(method, path string, form url.Values) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.where, w.status, w.text, w.header = resp.Request.URL.Path, resp.StatusCode, string(text), resp.Header
	if resp.Header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s may be kept: %q", w.where, resp.Header.Get("Cache-Control"))
	}
	if resp.StatusCode >= 500 {
		w.t.Errorf("%s %s: %d", method, path, resp.StatusCode)
	}
}

func (w *browser) get(path string) { w.t.Helper(); w.do(http.MethodGet, path, nil) }

// post sends a form of names and values.
func (w *browser) post(path string, fields ...string) {
	w.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	w.do(http.MethodPost, path, form)
}

func (w *browser) enter(lang string) {
	w.t.Helper()
	w.post(login, "code", rightCode, "by", "M. Rossi", "lang", lang)
	w.at(home)
}

func (w *browser) at(path string) {
	w.t.Helper()
	if w.where != path {
		w.t.Fatalf("at %s (%d), want %s", w.where, w.status, path)
	}
}

func (w *browser) shows(words ...string) {
	w.t.Helper()
	for _, s := range words {
		if !strings.Contains(w.text, s) {
			w.t.Errorf("%s does not say %q:\n%s", w.where, s, w.text)
		}
	}
}

// eventually loads a page until it shows something: what a printer does takes time.
func (w *browser) eventually(path, words string) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.get(path)
		if strings.Contains(w.text, words) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s never says %q:\n%s", path, words, w.text)
		}
	}
}
