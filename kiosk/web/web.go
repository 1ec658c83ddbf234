// Package web shows the kiosk's pages: it reads what a citizen pressed or typed, tells kiosk.Desk, and draws the page
// the session is on.
//
// Pages are HTML over HTTP/1.1 (RFC 9112) that works without script: every step is a link or a form, answered with
// 303 See Other. A script adds live state (Server-Sent Events), the warning before an idle session ends, and keyboards
// on the screen. Nothing personal is kept in the browser: pages are no-store, the one cookie dies with the session.
package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/sync/desired"
	"sportello.example/sync/health"
)

// DefaultScreen is the size of a CSS pixel on a 21.5" screen of 1920×1080, in millimetres.
const DefaultScreen = 0.248

// maxBody is how much of a form is read, in bytes.
const maxBody = 16 << 10

// Config is what the pages are made of.
type Config struct {
	Desk    *kiosk.Desk
	Board   *health.Board
	Printer kiosk.Printer     // asked for its status only
	Texts   *locale.Catalogue //
	Hosts   []string          // names under which kiosks reach the box, besides localhost and IP addresses
	Called  func() string     // a name more, which may change: the box's own by mDNS; nil: it has none
	Screens map[int]float64   // millimetres per CSS pixel, by kiosk; DefaultScreen where nothing is said
	Now     func() time.Time  // in the branch's time zone: clocks on pages show it
	Log     *slog.Logger      //
	City    string            // "": Comune di Milano
	Staff   string            // address of the staff's pages on this box, "/staff/"; "": there are none

	// Notices returns the municipality's messages to citizens that count now, the gravest first; nil: there are none.
	Notices func() []desired.Posted
	// NoticesChanged returns a channel that holds a value whenever Notices may return others, until ctx ends; nil: pages
	// that are open notice within a second.
	NoticesChanged func(ctx context.Context) <-chan struct{}
}

// Server draws the pages. Make one with New.
type Server struct {
	cfg     Config
	desk    *kiosk.Desk
	log     *slog.Logger
	static  *static
	pages   map[string]*pageSet // by language
	steps   map[kiosk.Step]step
	echo    *echo.Echo
	handler http.Handler
	closed  context.Context
	close   context.CancelFunc
}

// New reads every template in every language and returns an error when one cannot be used.
func New(cfg Config) (*Server, error) {
	st, err := loadStatic()
	if err != nil {
		return nil, err
	}
	pages := map[string]*pageSet{}
	for _, l := range cfg.Texts.Languages() {
		if pages[l.Tag], err = loadPages(l, st); err != nil {
			return nil, fmt.Errorf("pages in %s: %w", l.Tag, err)
		}
	}
	return newServer(cfg, st, pages)
}

// newServer draws pages that have been read: they never change.
func newServer(cfg Config, st *static, pages map[string]*pageSet) (*Server, error) {
	if cfg.City == "" {
		cfg.City = "Comune di Milano"
	}
	s := &Server{cfg: cfg, desk: cfg.Desk, log: cfg.Log, static: st, pages: pages}
	s.closed, s.close = context.WithCancel(context.Background())
	s.steps = s.allSteps()
	for name := range s.steps {
		if err := s.known(string(name)); err != nil {
			return nil, err
		}
	}
	s.route()
	return s, nil
}

// known says whether there is a template of that name in every language.
func (s *Server) known(name string) error {
	for tag, set := range s.pages {
		if set.templates[set.file(name)] == nil {
			return fmt.Errorf("no page %s in %s", name, tag)
		}
	}
	return nil
}

// Handler returns the handler of all pages.
func (s *Server) Handler() http.Handler { return s.handler }

// Guard puts other pages of the box behind what guards these: the same headers, the same names, no form from elsewhere, and
// none larger than a page's.
func (s *Server) Guard(next http.Handler) http.Handler {
	return s.guard(http.MaxBytesHandler(next, maxBody))
}

// Asset returns the address of a file that pages load: "kiosk.css". It is "/s/" for one that is not there.
func (s *Server) Asset(name string) string { return s.static.url(name) }

// Icon returns an icon as SVG, for people who see.
func (s *Server) Icon(name string) (template.HTML, error) { return s.static.icon(name) }

// Close ends every stream of live state, which would otherwise keep an http.Server from shutting down. Give it to
// http.Server.RegisterOnShutdown.
func (s *Server) Close() { s.close() }

func (s *Server) route() {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.fail
	e.Use(readForm)
	s.echo = e
	e.GET("/", s.root)
	e.GET("/healthz", s.healthz)
	e.GET("/sw.js", s.serviceWorker)
	e.GET("/favicon.ico", func(c echo.Context) error { return c.Redirect(http.StatusFound, s.static.url("icon.svg")) })
	e.GET("/s/:name", s.asset)
	k := e.Group("/k/:kiosk")
	k.GET("", s.attract)
	k.GET("/screen.css", s.screen)
	k.GET("/events", s.events)
	k.GET("/language", s.languages)
	k.POST("/language", s.setLanguage)
	k.POST("/look", s.setLook)
	k.POST("/touch", s.touch)
	k.GET("/exit", s.askExit)
	k.POST("/exit", s.exit)
	k.GET("/help", s.help)
	k.GET("/spid", s.spid)
	k.GET("/now", s.now)
	k.GET("/assist", s.askAssist)
	k.POST("/assist", s.setAssist)
	k.GET("/page/:png", s.picture)
	k.GET("/goodbye", s.goodbye)
	k.GET("/:step", s.getStep)
	k.POST("/:step", s.postStep)
	s.handler = s.Guard(e)
}

// formLimit is how long a form may take to arrive: it is small, and who dribbles one holds a connection.
const formLimit = 10 * time.Second

// readForm reads the form of a POST before anything is done with it.
func readForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method != http.MethodPost {
			return next(c)
		}
		control := http.NewResponseController(c.Response().Writer)
		_ = control.SetReadDeadline(time.Now().Add(formLimit)) //nolint:forbidigo // a deadline of the system's; a recorder in a test has none
		var tooLarge *http.MaxBytesError
		if err := c.Request().ParseForm(); errors.As(err, &tooLarge) {
			return err
		} else if err != nil {
			return fmt.Errorf("%w: form: %w", kiosk.ErrUnknown, err)
		}
		_ = control.SetReadDeadline(time.Time{})
		return next(c)
	}
}

// visit is one request at one kiosk.
type visit struct {
	kiosk   int
	session *kiosk.Session // nil when the browser has no session open here
	view    kiosk.View     // of session
	stale   bool           // the browser holds the cookie of a session that has ended
	lineUp  bool
}

// visit reads which kiosk a request is for and which session its cookie opens.
func (s *Server) visit(c echo.Context) (visit, error) {
	n, err := strconv.Atoi(c.Param("kiosk"))
	if err != nil || n < 1 || n > s.desk.Kiosks() {
		return visit{}, kiosk.ErrNoKiosk
	}
	v := visit{kiosk: n, lineUp: s.desk.LineUp()}
	if cookie, err := c.Cookie(sessionCookie); err == nil && cookie.Value != "" {
		ses, err := s.desk.Session(n, cookie.Value)
		v.stale = err != nil
		if err == nil {
			v.session, v.view = ses, ses.View()
		}
	}
	return v, nil
}

// reload takes the session's view anew, after something was done to it.
func (v *visit) reload() {
	if v.session != nil {
		v.view = v.session.View()
	}
}

func (v visit) base() string { return "/k/" + strconv.Itoa(v.kiosk) }

func (v visit) path(step kiosk.Step) string { return v.base() + "/" + string(step) }

// here returns the address of the page the visit belongs on.
func (v visit) here() string {
	if v.session == nil {
		return v.base()
	}
	return v.path(v.view.Page(v.lineUp))
}

// seeOther answers a POST: the next page is a GET, so that nothing is sent twice.
func seeOther(c echo.Context, to string) error { return c.Redirect(http.StatusSeeOther, to) }

// root leads to the only kiosk, or lets a technician choose one.
func (s *Server) root(c echo.Context) error {
	if s.desk.Kiosks() == 1 {
		return c.Redirect(http.StatusFound, "/k/1")
	}
	p := s.page(c, visit{}, "kiosks")
	for n := range s.desk.Kiosks() {
		title, err := p.lang.T("kiosks.one", "n", n+1)
		if err != nil {
			return err
		}
		p.Cards = append(p.Cards, card{Href: "/k/" + strconv.Itoa(n+1), Title: title, Icon: "screen"})
	}
	return s.render(c, http.StatusOK, p)
}

// render draws a page; nothing is sent unless all of it could be drawn.
func (s *Server) render(c echo.Context, status int, p *page) error {
	if p.err != nil {
		return p.err
	}
	var b bytes.Buffer
	if err := s.pages[p.Lang].execute(&b, p); err != nil {
		return fmt.Errorf("page %s in %s: %w", p.Name, p.Lang, err)
	}
	return c.HTMLBlob(status, b.Bytes())
}

// healthz says to a watchdog that the box answers, and how it is.
func (s *Server) healthz(c echo.Context) error {
	type answer struct {
		Status string                         `json:"status"`
		Busy   bool                           `json:"busy"`
		Lights map[health.Light]health.Status `json:"lights"`
	}
	return c.JSON(http.StatusOK, answer{"ok", s.desk.Busy(), s.cfg.Board.Snapshot()})
}

// screens says what a citizen reads about an error, and with which status.
var screens = []struct {
	err    error
	status int
	name   string
}{
	{kiosk.ErrNoKiosk, http.StatusNotFound, "notfound"},
	{kiosk.ErrKioskBusy, http.StatusConflict, "busy"},
	{kiosk.ErrDiskFull, http.StatusInsufficientStorage, "disk"},
	{kiosk.ErrLoginLocked, http.StatusTooManyRequests, "locked"},
	{kiosk.ErrUnknown, http.StatusBadRequest, "unknown"},
	{echo.ErrNotFound, http.StatusNotFound, "notfound"},
	{echo.ErrMethodNotAllowed, http.StatusMethodNotAllowed, "notfound"},
}

// fail shows what a person can read. A cause that nobody foresaw is logged whole and never shown.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	v, verr := s.visit(c)
	if verr != nil {
		v = visit{kiosk: 1}
	}
	var tooLarge *http.MaxBytesError
	status, name := http.StatusInternalServerError, "internal"
	switch {
	case errors.Is(err, kiosk.ErrNoSession), errors.Is(err, kiosk.ErrNotNow), errors.Is(err, kiosk.ErrOffline):
		v.reload()
		if err := seeOther(c, v.here()); err != nil {
			s.log.Warn("answer not sent", "err", err)
		}
		return
	case errors.As(err, &tooLarge):
		status, name = http.StatusRequestEntityTooLarge, "unknown"
	}
	for _, sc := range screens {
		if errors.Is(err, sc.err) {
			status, name = sc.status, sc.name
			break
		}
	}
	if name == "internal" {
		s.log.Error("page not shown", "method", c.Request().Method, "route", c.Path(), "err", err)
	}
	p := s.page(c, v, "error")
	p.Data = errorPage{Kind: name, Wait: name == "busy" || name == "locked"}
	p.TitleKey = "error." + name + ".title"
	if name == "busy" {
		c.Response().Header().Set("Refresh", "20; url="+v.base())
	}
	if err := s.render(c, status, p); err != nil {
		s.log.Error("error page not shown", "err", err)
		if err := c.String(status, http.StatusText(status)); err != nil {
			s.log.Warn("answer not sent", "err", err)
		}
	}
}

// errorPage is what the error page shows.
type errorPage struct {
	Kind string
	Wait bool // trying again in a moment helps
}
