package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// svgQR is a page with a QR on it.
func svgQR(t *testing.T, text string) string {
	t.Helper()
	rows := drawn(t, text)
	var d strings.Builder
	for y, row := range rows {
		for x, dark := range row {
			if dark {
				fmt.Fprintf(&d, "M%d %dh1v1H%dz", x, y, x)
			}
		}
	}
	return string(page(fmt.Sprintf(`<svg viewBox="0 0 %d %d"><path d="%s"/></svg>`, len(rows), len(rows), d.String())))
}

func TestTap(t *testing.T) {
	withQR := svgQR(t, inQR)
	var host string
	events := make(chan string)
	boxServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		switch r.URL.Path {
		case "/k/1/qr", "/k/1/qr-old", "/k/2/qr":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, withQR)
		case "/k/1/refused":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, withQR)
		case "/k/1/events":
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for e := range events {
				_, _ = fmt.Fprintf(w, "data: %s\n\n", e)
				w.(http.Flusher).Flush()
			}
		default:
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("X-Seen", r.Header.Get("X-Forwarded-For")+r.Header.Get("Accept-Encoding"))
			_, _ = io.WriteString(w, "<p>ciao</p>")
		}
	}))
	defer boxServer.Close()
	u, err := url.Parse(boxServer.URL)
	if err != nil {
		t.Fatal(err)
	}
	tp := newTap(u, time.Now, slog.New(slog.DiscardHandler))
	kiosk := httptest.NewServer(tp)
	defer kiosk.Close()
	get := func(t *testing.T, path string) string {
		t.Helper()
		resp, err := http.Get(kiosk.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	t.Run("a page passes byte for byte, and its QR is seen", func(t *testing.T) {
		if got := get(t, "/k/1/qr"); got != withQR {
			t.Errorf("got %d bytes, want %d", len(got), len(withQR))
		}
		if s, ok := tp.QR(); !ok || s.QR != inQR || s.Kiosk != 1 {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("the box reads the name that the browser calls it by", func(t *testing.T) {
		get(t, "/k/1/qr")
		if want := strings.TrimPrefix(kiosk.URL, "http://"); host != want {
			t.Errorf("got %s, want %s", host, want)
		}
	})
	t.Run("other files of the kiosk leave the QR on the screen", func(t *testing.T) {
		for _, path := range []string{"/k/1/screen.css", "/s/kiosk.css", "/k/1/page/1.png", "/k/1/refused"} {
			get(t, path)
			if _, ok := tp.QR(); !ok {
				t.Errorf("%s takes the QR off the screen", path)
			}
		}
	})
	t.Run("the next page takes it off", func(t *testing.T) {
		get(t, "/k/1/code")
		if s, ok := tp.QR(); ok {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("of two kiosks the younger QR is seen", func(t *testing.T) {
		get(t, "/k/1/qr")
		get(t, "/k/2/qr")
		if s, _ := tp.QR(); s.Kiosk != 2 {
			t.Errorf("got kiosk %d, want 2", s.Kiosk)
		}
		tp.Forget()
		if _, ok := tp.QR(); ok {
			t.Error("a box without power shows a QR")
		}
	})
	t.Run("live state arrives while it is said", func(t *testing.T) {
		resp, err := http.Get(kiosk.URL + "/k/1/events")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		defer close(events)
		r := bufio.NewScanner(resp.Body)
		for _, e := range []string{"uno", "due"} {
			events <- e
			if !r.Scan() || r.Text() != "data: "+e || !r.Scan() {
				t.Fatalf("got %q", r.Text())
			}
		}
	})
	t.Run("a box that is off answers nothing", func(t *testing.T) {
		boxServer.Close()
		if resp, err := http.Get(kiosk.URL + "/k/1/need"); err == nil {
			_ = resp.Body.Close()
			t.Errorf("got %s", resp.Status)
		}
	})
}
