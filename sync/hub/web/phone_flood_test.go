package web_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/spid/spidtest"
)

// scan presses "Continua" behind a QR in n browsers that nobody has seen before and returns the last one's status.
func scan(t *testing.T, qr string, n int) (status int) {
	t.Helper()
	// The answer to the form is what matters, not the page after it.
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, qr, strings.NewReader("answer=yes"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		status = res.StatusCode
	}
	return status
}

func TestManyPhones(t *testing.T) {
	t.Run("at one QR, the phone that came first is forgotten", func(t *testing.T) {
		h := newHarar(t)
		_, qr := h.qr(t)
		choosing, away := phone(t), phone(t)
		walk(t, choosing, qr, "continue")
		walk(t, away, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		if status := scan(t, qr, 5); status != http.StatusSeeOther {
			t.Errorf("the last one got %d", status)
		}
		walk(t, choosing, h.url+"/login/provider")
		says(t, choosing, http.StatusGone, "scaduta")
		if err := away.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, away, http.StatusForbidden, "nuovo codice QR")
	})
	t.Run("four others do no harm", func(t *testing.T) {
		h := newHarar(t)
		_, qr := h.qr(t)
		b := phone(t)
		walk(t, b, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		scan(t, qr, 4)
		if err := b.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, b, http.StatusOK, "Scrivi questo codice")
	})
	t.Run("one QR does not keep phones from another", func(t *testing.T) {
		h := newHarar(t)
		_, mine := h.qr(t)
		_, theirs := h.qr(t)
		scan(t, theirs, 1000)
		if page, err := spidtest.Login(t.Context(), phone(t).Client, mine, maria); err != nil {
			t.Errorf("%v\n%s", err, page)
		}
	})
	t.Run("one box does not keep phones from another", func(t *testing.T) {
		h := newHarar(t)
		for range 40 {
			_, qr := h.qr(t)
			if status := scan(t, qr, 5); status != http.StatusSeeOther {
				t.Fatalf("got %d", status)
			}
		}
		_, qr := h.qr(t)
		if status := scan(t, qr, 1); status != http.StatusServiceUnavailable {
			t.Errorf("phone 201 at the box: %d", status)
		}
		other := crossdevice.NewBox(crossdevice.BoxConfig{Number: 8, Epoch: 1, Keys: crossdevice.Derive(bytes.Repeat([]byte{5}, 32), 8, 1), Now: time.Now})
		_, encoded, err := other.New(1)
		if err != nil {
			t.Fatal(err)
		}
		if page, err := spidtest.Login(t.Context(), phone(t).Client, crossdevice.URL(h.url, encoded), maria); err != nil {
			t.Errorf("%v\n%s", err, page)
		}
	})
	t.Run("the provider chosen last is the one that counts", func(t *testing.T) {
		h := newHarar(t)
		_, qr := h.qr(t)
		b := phone(t)
		walk(t, b, qr, "continue", "idp-0", "citizen-"+maria, "agree")
		first := *b
		walk(t, b, h.url+"/login/provider", "idp-0", "citizen-"+maria, "agree")
		if err := first.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, &first, http.StatusForbidden, "già stata usata")
		if err := b.Press(t.Context(), "send"); err != nil {
			t.Fatal(err)
		}
		says(t, b, http.StatusOK, "Scrivi questo codice")
	})
}
