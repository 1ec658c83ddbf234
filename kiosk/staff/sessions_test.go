package staff

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
)

func TestCookie(t *testing.T) {
	for _, address := range []string{"http://localhost/staff/login", "https://localhost/staff/login"} {
		w := open(t)
		r := httptest.NewRequest(http.MethodPost, address, strings.NewReader("code=1234+5678&by=Anna"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		got := rec.Header().Get("Set-Cookie")
		for _, want := range []string{"staff=", "; Path=/staff", "; HttpOnly", "; SameSite=Strict"} {
			if !strings.Contains(got, want) {
				t.Errorf("cookie %q without %q", got, want)
			}
		}
		if secure := strings.Contains(got, "; Secure"); secure != strings.HasPrefix(address, "https") || strings.Contains(got, "Expires") {
			t.Errorf("%s: cookie %q", address, got)
		}
	}
}

// TestAtAKiosk opens the pages on a kiosk's own screen, where the next to touch it is a citizen.
func TestAtAKiosk(t *testing.T) {
	w := open(t)
	w.get(home + "?kiosk=2")
	w.at(login)
	w.shows(`name="kiosk" value="2"`, `href="/k/2"`)
	if got := w.header.Get("Refresh"); !strings.HasSuffix(got, "; url=/k/2") {
		t.Errorf("the way in stays on the screen: %q", got)
	}
	w.post(login, "code", rightCode, "by", "Anna", "lang", "it", "kiosk", "2")
	w.at(home)
	if got := w.header.Get("Refresh"); !strings.HasSuffix(got, "; url=/k/2") {
		t.Errorf("the pages stay on the screen: %q", got)
	}
	w.b.set(func() { w.b.clock = w.b.clock.Add(kioskIdle) })
	w.get(home)
	w.at(login)
}

// TestPageThatLoadsItselfIsNobody leaves a page open that follows what happens.
func TestPageThatLoadsItselfIsNobody(t *testing.T) {
	w := open(t)
	w.enter("it")
	for range 31 {
		w.b.set(func() { w.b.clock = w.b.clock.Add(time.Minute) })
		w.get(mark + "?on=printers")
		if w.b.now().Sub(time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)) < stayIdle {
			w.get(home + "?auto=1")
			w.at(home)
		}
	}
	w.get(mark + "?on=printers")
	if w.text != "out" {
		t.Errorf("half an hour later: %q", w.text)
	}
}

func TestStayEnds(t *testing.T) {
	w := open(t)
	w.enter("it")
	for end := w.b.now().Add(stay); w.b.now().Before(end); {
		w.get(home)
		w.at(home)
		w.b.set(func() { w.b.clock = w.b.clock.Add(20 * time.Minute) })
	}
	w.get(home)
	w.at(login)
}

func TestSessionsAreFew(t *testing.T) {
	clock := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	ss := newSessions(func() time.Time { return clock })
	first := ss.begin(entry{by: "first"})
	clock = clock.Add(time.Second)
	second := ss.begin(entry{by: "second"})
	clock = clock.Add(time.Second)
	if ss.find(first, true) == nil {
		t.Fatal("the first is out")
	}
	for range maxInside - 1 {
		ss.begin(entry{by: "another"})
	}
	if len(ss.all) != maxInside || ss.find(second, false) != nil || ss.find(first, false) == nil {
		t.Errorf("%d are in; want %d without the one not seen for longest", len(ss.all), maxInside)
	}
}

func TestName(t *testing.T) {
	for text, want := range map[string]string{
		" M.  Rossi ": "M. Rossi", "Zoë": "Zoë", "": "", "\u202eissoR": "", strings.Repeat("à", 40): strings.Repeat("à", 40), strings.Repeat("a", 41): "",
		"a\x00b": "",
	} {
		if got := name(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestAdoptionThatFails says in words why a printer was not adopted.
func TestAdoptionThatFails(t *testing.T) {
	for _, tt := range []struct {
		name           string
		begin, confirm error
		want           string
	}{
		{"no paper", &kiosk.PrintError{Trouble: kiosk.TroublePaper, Outcome: kiosk.NothingPrinted, Err: errors.New("x")}, nil, "È finita la carta"},
		{"gone before", ErrGone, nil, "Non c&#39;è più"},
		{"nobody foresaw this", errors.New("x"), nil, "non è riuscita"},
		{"another printer answers", nil, ErrChanged, "Ora risponde un&#39;altra stampante"},
		{"too late", nil, ErrOver, "Il tempo o le prove sono finiti"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := open(t)
			w.b.set(func() { full(w.b); w.b.begin, w.b.confirm = tt.begin, tt.confirm })
			w.enter("it")
			w.post(candidate, "id", "a", "as", "document")
			if tt.confirm == nil {
				w.eventually(candidate+"?id=a", tt.want)
				return
			}
			w.eventually(candidate+"?id=a", `name="code"`)
			w.post(code, "id", "a", "code", paperCode, "look", "right")
			w.at(candidate)
			w.shows(tt.want)
			if !strings.Contains(w.text, `value="document"`) {
				t.Error("it cannot be tried again")
			}
		})
	}
}

// TestKioskGetsItsScreenBack leaves a page open that loads itself anew on a kiosk's own screen until nobody is in any more.
func TestKioskGetsItsScreenBack(t *testing.T) {
	w := open(t)
	w.post(login, "code", rightCode, "by", "Anna", "lang", "it", "kiosk", "2")
	w.b.set(func() { w.b.clock = w.b.clock.Add(kioskIdle) })
	w.get(mark + "?on=printers")
	if w.text != "out" {
		t.Fatalf("still in: %q", w.text)
	}
	w.get(home + "?auto=1") // what the page's script does then
	w.at(login)
	w.shows(`href="/k/2"`)
	if got := w.header.Get("Refresh"); !strings.HasSuffix(got, "; url=/k/2") {
		t.Errorf("the way in stays on the screen: %q", got)
	}
	w.post(login, "code", rightCode, "by", "Anna", "lang", "it") // at a desk, with the same browser
	w.at(home)
	if got := w.header.Get("Refresh"); got != "" {
		t.Errorf("no kiosk, and the page leaves: %q", got)
	}
}

// TestHangUp closes the browser while what was found is being stored: the kiosk is told all the same.
func TestHangUp(t *testing.T) {
	w := open(t)
	w.b.set(func() { full(w.b); w.b.waiting = true })
	w.enter("it")
	at, err := url.Parse(w.base + home)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.b.set(func() { w.b.hangUp = cancel })
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, prints, strings.NewReader("id=7f2c9a11-0000&verdict=out"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range w.client.Jar.Cookies(at) {
		r.AddCookie(c)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if ctx.Err() == nil || rec.Code != http.StatusSeeOther {
		t.Errorf("the kiosk is not told: %d", rec.Code)
	}
}

// TestTasksAreFew presses the button of more printers than tasks are kept.
func TestTasksAreFew(t *testing.T) {
	w := open(t)
	w.enter("it")
	for i := range maxTasks + 1 {
		id := strconv.Itoa(i)
		w.b.set(func() {
			w.b.clock = w.b.clock.Add(time.Second)
			w.b.candidates = []Candidate{{ID: id, Name: "Laser " + id, TLS: true}}
		})
		w.post(candidate, "id", id, "as", "document")
		w.eventually(candidate+"?id="+id, `name="code"`)
	}
}
