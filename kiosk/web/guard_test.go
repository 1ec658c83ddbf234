package web

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/wire"
)

func TestGuard(t *testing.T) {
	h := newBranch(t).web.Handler()
	for _, tt := range []struct {
		name, method, host, origin, site string
		want                             int
	}{
		{"by IP address", "GET", "192.168.1.20:8080", "", "", 200},
		{"by IPv6 address", "GET", "[fd00::1]:8080", "", "", 200},
		{"by its own name", "GET", "box.sportello.internal", "", "", 200},
		{"by localhost", "GET", "localhost:8080", "", "", 200},
		{"by a name pointed at the box", "GET", "evil.example", "", "", 421},
		{"form of its own page", "POST", "box.sportello.internal", "https://box.sportello.internal", "same-origin", 303},
		{"form of another site", "POST", "box.sportello.internal", "https://evil.example", "cross-site", 403},
		{"form of another site, old browser", "POST", "box.sportello.internal", "https://evil.example", "", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/k/1", nil)
			if tt.method == "POST" {
				r = httptest.NewRequest(tt.method, "/k/1/language", strings.NewReader("language=it"))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			r.Host = tt.host
			r.Header.Set("Origin", tt.origin)
			r.Header.Set("Sec-Fetch-Site", tt.site)
			if tt.origin == "" {
				r.Header.Del("Origin")
				r.Header.Del("Sec-Fetch-Site")
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code != tt.want {
				t.Errorf("%d, want %d", rec.Code, tt.want)
			}
			if rec.Header().Get("Content-Security-Policy") != policy {
				t.Error("no content security policy")
			}
		})
	}
}

// TestGuardFollowsTheNameOfTheBox renames the box, as mDNS does when another machine has its name (RFC 6762 §9).
func TestGuardFollowsTheNameOfTheBox(t *testing.T) {
	b := newBranch(t)
	called := "Sportello-Harar.local"
	b.web.cfg.Called = func() string { return called }
	h := b.web.Handler()
	for _, tt := range []struct {
		called, host string
		want         int
	}{
		{"Sportello-Harar.local", "sportello-harar.local:8080", 200},
		{"Sportello-Harar.local", "sportello-harar-2.local", 421},
		{"sportello-harar-2.local", "SPORTELLO-harar-2.local.", 200},
		{"sportello-harar-2.local", "sportello-harar.local", 421}, // that is another machine now
		{"", "", 421},
	} {
		called = tt.called
		r := httptest.NewRequest(http.MethodGet, "/k/1", nil)
		r.Host = tt.host
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, r); rec.Code != tt.want {
			t.Errorf("called %q, asked for %q: %d, want %d", tt.called, tt.host, rec.Code, tt.want)
		}
	}
}

func TestLargeFormsAreRefused(t *testing.T) {
	w := begin(t, newBranch(t))
	w.send("/k/1/need", "choice", strings.Repeat("x", maxBody))
	if w.status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", w.status)
	}
}

func TestSessionIsItsBrowsersOnly(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toPreview(b, w)
	other := another(t, w.base)
	for _, path := range []string{"/preview", "/review", "/need", "/exit", "/assist"} {
		other.open("/k/1" + path)
		other.on("")
	}
	other.open("/k/1/page/1.png")
	if other.status != http.StatusNotFound {
		t.Errorf("picture without the cookie: %d", other.status)
	}
	other.send("/k/1/preview", "action", "print")
	other.on("")
	other.send("/k/1/exit")
	if v := b.view(); v.Stage != kiosk.StagePreview {
		t.Errorf("somebody else's browser moved the session to %s", v.Stage)
	}
	other.send("/k/1/language", "language", "it")
	if other.status != http.StatusConflict {
		t.Errorf("second session at a kiosk: %d", other.status)
	}
	other.says("La postazione è in uso")
	other.open("/k/2/language") // the other kiosk is free
	other.press("language", "en")
	if other.at.Path != "/k/2/need" {
		t.Errorf("at %s", other.at)
	}
}

func TestSessionCookie(t *testing.T) {
	h := newBranch(t).web.Handler()
	r := httptest.NewRequest("POST", "/k/1/language", strings.NewReader("language=it"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Host = "127.0.0.1"
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	got := rec.Header().Get("Set-Cookie")
	for _, want := range []string{"session=", "; Path=/k/1", "; HttpOnly", "; SameSite=Strict"} {
		if !strings.Contains(got, want) {
			t.Errorf("cookie %q without %q", got, want)
		}
	}
	if strings.Contains(got, "Expires") || strings.Contains(got, "Max-Age") {
		t.Errorf("cookie outlives the browser: %q", got)
	}
}

func TestEndedSessionIsForgotten(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	s, err := b.desk.Session(1, "")
	if err != nil {
		t.Fatal(err)
	}
	b.desk.End(t.Context(), s, kiosk.OutcomeAbandoned)
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, do := range []func(){func() { w.open("/k/1/need") }, func() { w.send("/k/1/need", "choice", "certificate") }} {
		do()
		if w.status != http.StatusSeeOther || w.header.Get("Location") != "/k/1" {
			t.Errorf("%d to %s", w.status, w.header.Get("Location"))
		}
	}
}

func TestAnswerThatIsNotWhereTheSessionIs(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.send("/k/1/stamp", "choice", "due")
	w.on("/need")
	toPrinting(b, w)
	w.send("/k/1/preview", "action", "print") // the same button once more
	w.on("/printing")
	w.send("/k/1/need", "choice", "declaration")
	w.on("/printing")
	w.send("/k/1/preparing")
	w.on("/printing")
}

func TestUnknownAnswers(t *testing.T) {
	w := begin(t, newBranch(t))
	w.send("/k/1/need", "choice", "passport")
	if w.status != http.StatusBadRequest {
		t.Errorf("status %d", w.status)
	}
	w.says("Non abbiamo capito la risposta")
	for _, path := range []string{"/k/9", "/k/x", "/k/1/nothing", "/s/nothing.css", "/nothing"} {
		w.open(path)
		if w.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.status)
		}
	}
}

func TestLook(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.press("set", "size")
	w.on("/need")
	w.press("set", "contrast")
	for n := range find(w.doc, "html") {
		if attr(n, "data-size") != "l" || attr(n, "data-theme") != "dark" {
			t.Errorf("size %q theme %q", attr(n, "data-size"), attr(n, "data-theme"))
		}
	}
	for _, away := range []string{"https://evil.example", "//evil.example", "/k/1//evil.example", "/k/1/\\evil", "/k/2/need"} {
		w.send("/k/1/look", "set", "contrast", "to", away)
		w.on("/need")
	}
	w.send("/k/1/exit")
	w.open("/k/1")
	for n := range find(w.doc, "html") {
		if attr(n, "data-size") != "" {
			t.Error("the next person finds the letters as the last one made them")
		}
	}
}

// stream reads the live state of a page.
func stream(t *testing.T, w *browser, on string) func() liveState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/k/1/events?on="+on, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("content type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "retry: 2000" {
		t.Fatalf("first line %q", lines.Text())
	}
	return func() liveState {
		t.Helper()
		event := ""
		for lines.Scan() {
			if e, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = e
			}
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok || event != "state" {
				continue
			}
			var st liveState
			if err := json.Unmarshal([]byte(data), &st); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			return st
		}
		t.Fatalf("stream ended: %v", lines.Err())
		return liveState{}
	}
}

func TestLiveState(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	w.press("action", "qr")
	next := stream(t, w, "qr")
	st := next()
	if st.Page != "/k/1/qr" || !st.Stay || st.QR != "live" || len(st.Lights) != 4 || !st.Good {
		t.Errorf("on connect: %+v", st)
	}
	b.setLine(false)
	for st = next(); st.Good; st = next() { // the lights change one after the other
	}
	if st.Lights[1].State != "down" || st.Lights[1].Since != "dalle 11:05" {
		t.Errorf("line down: %+v", st.Lights)
	}
	b.setLine(true)
	b.set(func() { b.login = wire.LoginDone })
	w.open("/k/1/code")
	w.press("action", "enter", "code", rightCode)
	for st = next(); st.Stay; st = next() {
	}
	if st.Page != "/k/1/identity" {
		t.Errorf("after the code: %+v", st)
	}
	w.send("/k/1/exit", "reason", "idle")
	for st = next(); st.Page != "/k/1"; st = next() {
	}
	if st.Stay {
		t.Error("the page may stay after the session has ended")
	}
}

func TestLiveStateOfThePrinter(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toPrinting(b, w)
	next := stream(t, w, "printing")
	next()
	b.report(kiosk.PrintProgress{State: kiosk.PrintStopped, Page: 1, Trouble: kiosk.TroubleJam})
	start := time.Now()
	st := next()
	if st.Print == nil || st.Print.Trouble != kiosk.TroubleJam || st.Print.Page != 1 {
		t.Errorf("%+v", st)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("the trouble was said after %s", d)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	req, err := http.NewRequest(http.MethodGet, w.base+"/k/1/events?on=need", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b.web.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
	}
	if err := resp.Body.Close(); err != nil || lines.Err() != nil {
		t.Errorf("%v %v", err, lines.Err())
	}
}
