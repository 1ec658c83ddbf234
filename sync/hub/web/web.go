// Package web serves the hub's three audiences: the boxes (JSON over mutual TLS, see package wire), the citizens'
// phones (files phone*.go) and the municipality (one page of figures).
package web

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/provisioning/admit"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
)

//go:embed templates static
var files embed.FS

// Config is what a Server is made of.
type Config struct {
	Log *slog.Logger
	Now func() time.Time

	// PublicURL is where phones and the municipality reach the hub. Requests for another host are refused.
	PublicURL *url.URL
	// Municipality is its name as people know it: "Comune di Milano".
	Municipality string
	// Place is where days begin and end.
	Place *time.Location

	Enroll   *admit.Desk    // lets boxes in
	Fleet    *fleet.Fleet   // which boxes there are
	Ingest   *ingest.Ingest // where events go
	Reports  *stats.Reports // what they add up to
	Content  *content.Desk  // what boxes are to have; nil: they are not told
	Requests *pickup.Desk   // what citizens left while the line was down
	Logins   Logins         // what phones have done
	Registry Registry       // certificates and families
	Phones   Phones         // what the citizens' pages need; see Phones
}

// Server answers HTTP for all three audiences. Make one with New.
type Server struct {
	cfg          Config
	public       *echo.Echo
	boxes        *echo.Echo
	municipality *template.Template
	figures      *figures
	unpacking    chan struct{} // holds a value for each batch that is being unpacked
}

// New returns a server. It fails when a template or a setting is wrong.
func New(cfg Config) (*Server, error) {
	if cfg.PublicURL == nil || cfg.PublicURL.Host == "" {
		return nil, errors.New("web: public URL is not set")
	}
	s := &Server{cfg: cfg, figures: newFigures(cfg.Reports, cfg.Now), unpacking: make(chan struct{}, maxUnpacking)}
	var err error
	if s.municipality, err = template.New("").Funcs(template.FuncMap{"clock": s.clock, "date": date, "queue": s.queue, "notes": notes}).
		ParseFS(files, "templates/municipality.html"); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.boxes = s.newEcho()
	s.boxRoutes(s.boxes)

	s.public = s.newEcho()
	s.public.Use(s.onlyHost, publicHeaders)
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.public.GET("/static/*", echo.WrapHandler(http.StripPrefix("/static/", http.FileServerFS(static))))
	s.public.GET(healthPath, func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	s.municipalityRoutes(s.public)
	s.phoneRoutes(s.public)
	return s, nil
}

// PublicHandler serves phones and the municipality.
func (s *Server) PublicHandler() http.Handler { return s.public }

// BoxHandler serves boxes. It must be behind the TLS configuration of ca.CA.TLSConfig.
func (s *Server) BoxHandler() http.Handler { return s.boxes }

// healthPath answers "ok" under any host name, to whoever watches over the hub.
const healthPath = "/healthz"

func (s *Server) newEcho() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.fail
	return e
}

// fail answers a request whose handler returned an error that it did not answer itself. A cause that nobody foresaw is
// logged and not shown. Paths are not logged: they hold challenges and nonces.
func (s *Server) fail(err error, c echo.Context) {
	status := http.StatusInternalServerError
	var he *echo.HTTPError
	if errors.As(err, &he) {
		status = he.Code
	}
	ctx := c.Request().Context()
	if status >= http.StatusInternalServerError && ctx.Err() == nil {
		s.cfg.Log.ErrorContext(ctx, "request failed", "err", err, "method", c.Request().Method, "route", c.Path())
	}
	if !c.Response().Committed {
		_ = c.String(status, http.StatusText(status)+"\n") // the client has gone
	}
}

// onlyHost refuses requests for a host that is not this hub's: they come from a page of somebody else whose name was
// pointed at this address (DNS rebinding).
func (s *Server) onlyHost(next echo.HandlerFunc) echo.HandlerFunc {
	want := bareHost(s.cfg.PublicURL.Host, s.cfg.PublicURL.Scheme)
	return func(c echo.Context) error {
		r := c.Request()
		if r.URL.Path != healthPath && bareHost(r.Host, s.cfg.PublicURL.Scheme) != want {
			return echo.NewHTTPError(http.StatusMisdirectedRequest)
		}
		return next(c)
	}
}

// bareHost returns a host and port as they are compared: in lower case, without the port that the scheme implies.
func bareHost(host, scheme string) string {
	host = strings.ToLower(host)
	if h, port, err := net.SplitHostPort(host); err == nil && (scheme == "https" && port == "443" || scheme == "http" && port == "80") {
		return h
	}
	return host
}

// publicHeaders sets what holds for every public page; a handler may set its own Content-Security-Policy after it.
func publicHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; font-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if !strings.HasPrefix(c.Request().URL.Path, "/static/") {
			h.Set("Cache-Control", "no-store")
		}
		return next(c)
	}
}
