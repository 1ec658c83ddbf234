package web_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/spid/spidtest"
	"sportello.example/sync/hub/web"
	"sportello.example/sync/wire"
)

const (
	maria = "RSSMRA80A01Y100Z"
	anna  = "VRDNNA75E55Y200Q"
)

func TestFromTheKiosksQRToTheIdentityAtTheBox(t *testing.T) {
	h := newHarar(t)
	c, qr := h.qr(t)
	b := phone(t)
	page, err := spidtest.Login(t.Context(), b.Client, qr, maria)
	if err != nil {
		t.Fatalf("%v\n%s", err, page)
	}
	code, err := spidtest.Code(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{code[:4] + " " + code[4:], "Biblioteca Harar", "Postazione 2", "Non comunicarlo a nessuno", "Non sono io", "circa 7 minuti"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	title := page[strings.Index(page, "<title>"):strings.Index(page, "</title>")]
	if strings.Contains(title, code[:4]) {
		t.Errorf("the code is in the title %q", title)
	}

	level, typed, err := h.box.Enter(2, code)
	if err != nil || level != 2 || typed != c {
		t.Fatalf("level %d, %v", level, err)
	}
	res, err := h.desk.Result(t.Context(), 7, c.NonceHex(), time.Second)
	if err != nil || res.State != wire.LoginDone {
		t.Fatalf("got %v, %v", res.State, err)
	}
	tok, err := crossdevice.OpenToken(res.Token, h.hubPub, h.boxKey, typed, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if tok.FiscalCode.Reveal() != maria || tok.Name.Reveal() != "Maria" || tok.FamilyName.Reveal() != "Rossi" {
		t.Errorf("got %s %s %s", tok.FiscalCode.Reveal(), tok.Name.Reveal(), tok.FamilyName.Reveal())
	}
	for _, secret := range []string{code, maria, "Rossi", c.NonceHex()} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, h.log.String())
		}
	}

	t.Run("the page loaded again shows the code again", func(t *testing.T) {
		walk(t, b, h.url+"/login/code")
		says(t, b, http.StatusOK, code[:4]+" "+code[4:])
	})
	t.Run("the QR used a second time", func(t *testing.T) {
		other := phone(t)
		walk(t, other, qr)
		says(t, other, http.StatusGone, "Codice QR già usato", "nuovo codice QR")
	})
	t.Run("the code is not shown after the kiosk has stopped waiting", func(t *testing.T) {
		h.later(9 * time.Minute)
		walk(t, b, h.url+"/login/code")
		says(t, b, http.StatusGone, "scaduto")
	})
}

func TestBadQR(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(t *testing.T, h *harar) string
		status int
		words  string
	}{
		{"forged", func(t *testing.T, h *harar) string {
			_, qr := h.qr(t)
			return qr[:len(qr)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(qr, "A")]
		}, http.StatusNotFound, "non è nostro"},
		{"no challenge", func(t *testing.T, h *harar) string { return h.url + "/P/HELLO" }, http.StatusNotFound, "non è nostro"},
		{"a script in place of a challenge", func(t *testing.T, h *harar) string {
			return h.url + "/p/%3Cscript%3Ealert(1)%3C%2Fscript%3E"
		}, http.StatusNotFound, "non è nostro"},
		{"expired", func(t *testing.T, h *harar) string {
			_, qr := h.qr(t)
			h.later(20 * time.Minute)
			return qr
		}, http.StatusGone, "scaduto"},
		{"of a revoked box", func(t *testing.T, h *harar) string {
			_, qr := h.qr(t)
			h.mu.Lock()
			h.revoked = true
			h.mu.Unlock()
			return qr
		}, http.StatusForbidden, "non è attiva"},
		{"cancelled", func(t *testing.T, h *harar) string {
			_, qr := h.qr(t)
			walk(t, phone(t), qr, "cancel")
			return qr
		}, http.StatusGone, "annullato"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarar(t)
			b := phone(t)
			walk(t, b, tt.do(t, h))
			says(t, b, tt.status, tt.words)
			if strings.Contains(b.HTML, "<script") || strings.Contains(b.HTML, `id="continue"`) {
				t.Error("the page offers to go on")
			}
		})
	}
}

func TestCancelledLogin(t *testing.T) {
	for _, tt := range []struct {
		name    string
		buttons []string
		status  int
		words   string
		want    wire.LoginState
	}{
		{"on the first page", []string{"cancel"}, http.StatusOK, "Accesso annullato", wire.LoginCancelled},
		{"while choosing", []string{"continue", "cancel"}, http.StatusOK, "Accesso annullato", wire.LoginCancelled},
		{"at the identity provider", []string{"continue", "idp-0", "cancel", "send"}, http.StatusForbidden, "Hai annullato l&#39;accesso", wire.LoginRefused},
		{"no consent", []string{"continue", "idp-0", "citizen-" + maria, "deny", "send"}, http.StatusForbidden, "consenso", wire.LoginRefused},
		{"suspended identity", []string{"continue", "idp-0", "error-23", "send"}, http.StatusForbidden, "sospesa", wire.LoginRefused},
		{"our request malformed", []string{"continue", "idp-0", "error-12", "send"}, http.StatusForbidden, "codice 12", wire.LoginRefused},
		{"not me", []string{"continue", "idp-0", "citizen-" + maria, "agree", "send", "notme"}, http.StatusOK, "Accesso bloccato", wire.LoginCancelled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarar(t)
			c, qr := h.qr(t)
			b := phone(t)
			walk(t, b, qr, tt.buttons...)
			says(t, b, tt.status, tt.words)
			if res, err := h.desk.Result(t.Context(), 7, c.NonceHex(), 0); err != nil || res.State != tt.want || res.Token != nil {
				t.Errorf("the box is told %v, %v; want %v", res.State, err, tt.want)
			}
			if _, err := h.desk.Citizen(t.Context(), 7, c.NonceHex()); !errors.Is(err, login.ErrNobody) {
				t.Error("the hub may act for somebody")
			}
			again := phone(t)
			walk(t, again, qr)
			says(t, again, http.StatusGone)
		})
	}
}

func TestResponseNotBelieved(t *testing.T) {
	h := newHarar(t)
	c, qr := h.qr(t)
	if err := h.idp.Fault("changed"); err != nil {
		t.Fatal(err)
	}
	b := phone(t)
	walk(t, b, qr, "continue", "idp-0", "citizen-"+maria, "agree", "send")
	says(t, b, http.StatusForbidden, "non è valida", "Riprova")
	if !strings.Contains(h.log.String(), "Assertion/Signature invalid") {
		t.Errorf("the log does not say why: %s", h.log.String())
	}
	if res, err := h.desk.Result(t.Context(), 7, c.NonceHex(), 0); err != nil || res.State != wire.LoginWaiting {
		t.Errorf("the box is told %v, %v", res.State, err)
	}
	if err := h.idp.Fault(""); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"retry", "idp-0", "citizen-" + maria, "agree", "send"} {
		if err := b.Press(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	says(t, b, http.StatusOK, "Postazione 2")
}

func TestSomebodyElsesPhone(t *testing.T) {
	t.Run("two phones, one QR: the first login wins", func(t *testing.T) {
		h := newHarar(t)
		c, qr := h.qr(t)
		first, second := phone(t), phone(t)
		walk(t, first, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		walk(t, second, qr, "continue", "idp-0", "citizen-"+anna, "agree")
		if err := errors.Join(first.Press(t.Context(), "send"), second.Press(t.Context(), "send")); err != nil {
			t.Fatal(err)
		}
		says(t, first, http.StatusOK, "Scrivi questo codice")
		says(t, second, http.StatusGone, "già usato")
		if f, err := h.desk.Citizen(t.Context(), 7, c.NonceHex()); err != nil || f != maria {
			t.Errorf("the kiosk's citizen is %q, %v", f, err)
		}
	})
	t.Run("a response carried to a browser with another login", func(t *testing.T) {
		h := newHarar(t)
		_, qr := h.qr(t)
		mine, theirs := phone(t), phone(t)
		walk(t, mine, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		walk(t, theirs, qr, "continue")
		jar := theirs.Client.Jar
		mine.Client.Jar = jar
		if err := mine.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, mine, http.StatusForbidden, "Accesso non riconosciuto")
	})
	t.Run("the cookie is lost on the way: asked again where they stand", func(t *testing.T) {
		h := newHarar(t)
		c, qr := h.qr(t)
		b := phone(t)
		walk(t, b, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		b.Client.Jar = phone(t).Client.Jar
		if err := b.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, b, http.StatusOK, "Sei davanti a questo schermo?", "Biblioteca Harar")
		if _, err := spidtest.Code(b.HTML); !errors.Is(err, spidtest.ErrNoCode) {
			t.Error("the code is shown at once")
		}
		if res, _ := h.desk.Result(t.Context(), 7, c.NonceHex(), 0); res.State != wire.LoginWaiting {
			t.Errorf("the box is told %v", res.State)
		}
		if err := b.Press(t.Context(), "continue"); err != nil {
			t.Fatal(err)
		}
		code, err := spidtest.Code(b.HTML)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.box.Enter(2, code); err != nil {
			t.Error(err)
		}
	})
	t.Run("the code page in another browser", func(t *testing.T) {
		h := newHarar(t)
		b := phone(t)
		walk(t, b, h.url+"/login/code")
		says(t, b, http.StatusGone, "scaduta")
	})
}

func TestACS(t *testing.T) {
	h := newHarar(t)
	_, qr := h.qr(t)
	b := phone(t)
	walk(t, b, qr, "continue", "idp-0", "citizen-"+maria, "agree")
	sent := *b
	if err := b.Press(t.Context(), "send"); err != nil {
		t.Fatal(err)
	}
	t.Run("the same response twice", func(t *testing.T) {
		if err := sent.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, &sent, http.StatusForbidden, "già stata usata")
	})
	t.Run("GET", func(t *testing.T) {
		walk(t, &sent, h.url+spid.PathACS)
		if sent.Status != http.StatusMethodNotAllowed {
			t.Errorf("status %d", sent.Status)
		}
	})
	for _, tt := range []struct{ name, body string }{
		{"unsolicited", "RelayState=whatever&SAMLResponse=PHg%2BPC94Pg%3D%3D"},
		{"empty", ""},
		{"no form", "%zz"},
		{"a megabyte", "SAMLResponse=" + strings.Repeat("A", 1<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := http.Post(h.url+spid.PathACS, "application/x-www-form-urlencoded", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("status %d, want 403", res.StatusCode)
			}
		})
	}
}

func TestPhonePages(t *testing.T) {
	h := newHarar(t)
	_, qr := h.qr(t)
	get := func(t *testing.T, path, language string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if language != "" {
			req.Header.Set("Accept-Language", language)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	for _, tt := range []struct{ name, query, header, want string }{
		{"no preference", "", "", `lang="it"`},
		{"English by the browser", "", "en-GB,en;q=0.9,it;q=0.8", `lang="en"`},
		{"Italian by the browser", "", "it-IT,it;q=0.9,en;q=0.8", `lang="it"`},
		{"neither", "", "ro-RO,ro;q=0.9", `lang="en"`},
		{"English by the address", "?lang=en", "it", `lang="en"`},
		{"nonsense in the address", "?lang=%22%3E", "it", `lang="it"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, body := get(t, qr+tt.query, tt.header); !strings.Contains(body, "<html "+tt.want) {
				t.Errorf("no %s", tt.want)
			}
		})
	}
	t.Run("headers and size", func(t *testing.T) {
		res, body := get(t, qr, "")
		if !strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(res.Header.Get("Content-Security-Policy"), "script-src") ||
			res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers: %v", res.Header)
		}
		_, css := get(t, h.url+"/static/phone.css", "")
		_, icon := get(t, h.url+"/static/icon.svg", "")
		if n := len(body) + len(css) + len(icon); n > 30<<10 {
			t.Errorf("first view is %d bytes", n)
		}
		for _, inline := range []string{"<script", "style=", "onclick", "<style"} {
			if strings.Contains(body, inline) {
				t.Errorf("the page has %s", inline)
			}
		}
	})
	t.Run("English all the way", func(t *testing.T) {
		_, qr := h.qr(t)
		b := phone(t)
		walk(t, b, qr+"?lang=en", "continue", "idp-0", "citizen-"+maria, "agree", "send")
		says(t, b, http.StatusOK, `<html lang="en"`, "Do not give it to anybody", "This is not me")
	})
	t.Run("a browser without cookies", func(t *testing.T) {
		_, qr := h.qr(t)
		b := phone(t)
		b.Client.Jar = nil
		walk(t, b, qr, "continue")
		says(t, b, http.StatusForbidden, "cookie")
	})
	t.Run("a form of another site", func(t *testing.T) {
		_, qr := h.qr(t)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, qr, strings.NewReader("answer=yes"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusForbidden || len(res.Cookies()) != 0 {
			t.Errorf("status %d, cookies %v", res.StatusCode, res.Cookies())
		}
	})
	t.Run("an identity provider that is not known", func(t *testing.T) {
		_, qr := h.qr(t)
		b := phone(t)
		walk(t, b, qr, "continue")
		walk(t, b, h.url+"/spid/login?idp=https://evil.example")
		if b.Status != http.StatusBadRequest {
			t.Errorf("status %d", b.Status)
		}
	})
	t.Run("a box that does not believe its clock", func(t *testing.T) {
		unsure := crossdevice.NewBox(crossdevice.BoxConfig{
			Number: 7, Epoch: 1, Keys: crossdevice.Derive(bytes.Repeat([]byte{5}, 32), 7, 1), Now: time.Now, ClockOK: func() bool { return false },
		})
		_, encoded, err := unsure.New(1)
		if err != nil {
			t.Fatal(err)
		}
		b := phone(t)
		walk(t, b, crossdevice.URL(h.url, encoded))
		says(t, b, http.StatusOK, "Non possiamo sapere quando")
	})
}

func TestFlowCookieOverTLS(t *testing.T) {
	h := newHarar(t)
	public, err := url.Parse("https://sportello.comune.example")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := spid.New(t.Context(), spid.Config{PublicURL: public, Dir: keyDir(t), Now: h.now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := web.New(web.Config{
		Log: slog.New(slog.DiscardHandler), Now: h.now, PublicURL: public, Place: time.UTC, Logins: h.desk,
		Phones: web.Phones{Login: h.desk, SPID: provider},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, encoded, err := h.box.New(2)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://sportello.comune.example/p/"+encoded, strings.NewReader("answer=yes"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	s.PublicHandler().ServeHTTP(rec, req)
	got := rec.Result().Cookies()
	if len(got) != 1 || got[0].Name != "__Host-login" || !got[0].Secure || !got[0].HttpOnly || got[0].SameSite != http.SameSiteNoneMode || got[0].Path != "/" || got[0].Domain != "" {
		t.Errorf("got %v", fmt.Sprint(got))
	}
}
