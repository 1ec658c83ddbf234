package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed templates static
var files embed.FS

const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// A console is the page with the switches. It shows a stage and tells it what to do.
type console struct {
	stage     *stage
	log       *slog.Logger
	templates *template.Template
}

func newConsole(s *stage, log *slog.Logger) (*console, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"short": func(sha string) string { return sha[:min(len(sha), 12)] + "…" },
		"clock": func(t time.Time) string { return t.Local().Format("15:04:05") },
		"mib":   func(kib int) string { return strconv.FormatFloat(float64(kib)/1024, 'f', 1, 64) },
	}).ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	return &console{stage: s, log: log, templates: t}, nil
}

// Handler returns the console's pages. They answer to this machine's own names only.
func (c *console) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.show("page"))
	mux.HandleFunc("GET /live", c.show("live"))
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, c.stage.State(r.Context())) })
	mux.HandleFunc("POST /api/switch", c.turn)
	mux.HandleFunc("GET /phone", c.phone)
	mux.HandleFunc("GET /sheet/{file}", c.sheet)
	mux.HandleFunc("GET /pdf/{file}", c.pdf)
	mux.Handle("GET /static/", http.FileServerFS(files))
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", consolePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !loopback(strings.Trim(host, "[]")) {
			http.Error(w, "the console does not go by that name", http.StatusMisdirectedRequest)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func (c *console) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := c.templates.ExecuteTemplate(&b, name, data); err != nil {
		c.log.Error("page not drawn", "page", name, "err", err)
		http.Error(w, "page not drawn", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func (c *console) show(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.render(w, http.StatusOK, name, newView(c.stage.State(r.Context())))
	}
}

// turn turns a switch: form values switch and to.
func (c *console) turn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	err := c.stage.Switch(context.WithoutCancel(r.Context()), r.FormValue("switch"), r.FormValue("to"))
	switch {
	case errors.Is(err, errUnknown):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		c.log.Error("switch not turned", "switch", r.FormValue("switch"), "err", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
	case strings.Contains(r.Header.Get("Accept"), "json"):
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// phone opens what the QR on the kiosk's screen holds, as a camera would, if it leads to the hub.
func (c *console) phone(w http.ResponseWriter, r *http.Request) {
	qr, ok := c.stage.tap.QR()
	if !ok {
		c.render(w, http.StatusOK, "nophone", screen{})
		return
	}
	to, err := url.Parse(qr.QR)
	if err != nil || !strings.EqualFold(to.Host, c.stage.hubHost()) {
		c.render(w, http.StatusOK, "nophone", qr)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, qr.QR, http.StatusSeeOther)
}

func (c *console) sheet(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(r.PathValue("file"), ".png")
	id, err := strconv.Atoi(name)
	if !ok || err != nil {
		http.NotFound(w, r)
		return
	}
	png, err := c.stage.tray.Picture(r.Context(), id)
	switch {
	case errors.Is(err, errUnknown):
		http.NotFound(w, r)
	case err != nil:
		http.Error(w, "picture not drawn", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Cache-Control", "private, max-age=3600")
		_, _ = w.Write(png)
	}
}

func (c *console) pdf(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(r.PathValue("file"), ".pdf")
	pdf, found := c.stage.tray.PDF(name)
	if !ok || !found {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(pdf)
}
