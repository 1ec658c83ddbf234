package staff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
)

// Desk is the visits at the branch's kiosks. Package kiosk implements it.
type Desk interface {
	// Waiting says whether the visit is still open, with its document, in which an uncertain print was made.
	Waiting(print string) bool
	// Settle tells that visit what was found in the tray. kiosk.ErrNoSession when there is none any more.
	Settle(ctx context.Context, print string, v kiosk.Verdict) error
}

// Config is what the pages are made of. All but City is needed.
type Config struct {
	Spool     Spool
	Adoptions Adoptions
	Alarms    *Alarms
	Desk      Desk
	Door      Door
	Texts     *locale.Catalogue
	Asset     func(name string) string                 // address of a file that the kiosk's pages load, too
	Icon      func(name string) (template.HTML, error) // an icon, as SVG
	Branch    func() string
	Now       func() time.Time // in the branch's time zone
	Log       *slog.Logger
	City      string // "": Comune di Milano
}

// Server draws the pages. Make one with New.
type Server struct {
	cfg      Config
	pages    map[string]map[string]*template.Template // by language and name
	sessions *sessions
	entering chan struct{} // holds a value while a code is checked: one at a time
	handler  http.Handler

	ctx    context.Context //nolint:containedctx // the life of what the pages had printers do
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards the field that follows
	tasks map[string]*task
}

// New reads every template in every language and returns an error when one cannot be used.
func New(cfg Config) (*Server, error) {
	if cfg.City == "" {
		cfg.City = "Comune di Milano"
	}
	s := &Server{
		cfg: cfg, sessions: newSessions(cfg.Now), entering: make(chan struct{}, 1), tasks: map[string]*task{}, pages: map[string]map[string]*template.Template{},
	}
	for _, l := range cfg.Texts.Languages() {
		set, err := s.load(l)
		if err != nil {
			return nil, fmt.Errorf("staff pages in %s: %w", l.Tag, err)
		}
		s.pages[l.Tag] = set
	}
	s.ctx, s.cancel = context.WithCancel(context.Background()) // ends with Close
	s.route()
	return s, nil
}

// Handler returns the handler of everything under /staff. It must stand behind what guards the kiosk's pages
// (web.Server.Guard): that is what turns away forms of other sites, and large ones.
func (s *Server) Handler() http.Handler { return s.handler }

// Close cancels what printers were told to do by these pages, and waits for its end.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
}

// Addresses of the pages.
const (
	home      = "/staff/"
	login     = "/staff/login"
	logout    = "/staff/logout"
	language  = "/staff/language"
	mark      = "/staff/mark"
	printers  = "/staff/printers"
	retire    = "/staff/retire"
	prints    = "/staff/prints"
	adopt     = "/staff/adopt"
	candidate = "/staff/candidate"
	code      = "/staff/code"
	alarms    = "/staff/alarms"
)

func (s *Server) route() {
	m := http.NewServeMux()
	open := func(pattern string, h handler) { m.Handle(pattern, s.open(h)) }
	in := func(pattern string, h handler) { m.Handle(pattern, s.open(s.in(h))) }
	m.Handle("GET /staff", http.RedirectHandler(home, http.StatusSeeOther))
	open("GET "+login, s.askLogin)
	open("POST "+login, s.enter)
	open("POST "+logout, s.leave)
	open("GET "+mark, s.mark)
	in("GET "+home+"{$}", s.show("printers", s.printersPage))
	in("POST "+printers, s.printer)
	in("GET "+retire, s.askRetire)
	in("POST "+retire, s.retire)
	in("GET "+prints, s.show("prints", s.printsPage))
	in("POST "+prints, s.decide)
	in("GET "+adopt, s.candidates)
	in("POST "+adopt, s.addCandidate)
	in("GET "+candidate, s.candidate)
	in("POST "+candidate, s.begin)
	in("POST "+code, s.confirm)
	in("POST "+alarms, s.clearAlarm)
	in("POST "+language, s.setLanguage)
	open("/staff/", func(http.ResponseWriter, *http.Request, *visit) error { return errNotFound })
	s.handler = m
}

// visit is one request.
type visit struct {
	session *session // nil when nobody is in
	who     entry    // of session
	kiosk   int      // the kiosk on whose screen the pages are shown, 0 for another one
	lang    *locale.Language
}

func (v *visit) base() string {
	if v.kiosk > 0 {
		return login + "?kiosk=" + fmt.Sprint(v.kiosk)
	}
	return login
}

type handler func(w http.ResponseWriter, r *http.Request, v *visit) error

// formLimit is how long a form may take to arrive: it is small, and who dribbles one holds a connection.
const formLimit = 10 * time.Second

// open reads a request, and shows what a person can read when it cannot be answered.
func (s *Server) open(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		v := &visit{}
		err := s.read(w, r, v)
		if err == nil {
			err = h(w, r, v)
		}
		if err != nil {
			s.fail(w, r, v, err)
		}
	})
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, v *visit) error {
	v.lang = s.cfg.Texts.Language(r.URL.Query().Get("lang"))
	v.kiosk = kioskNumber(r.URL.Query().Get("kiosk"))
	if r.Method == http.MethodPost {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(formLimit)) //nolint:forbidigo // a deadline of the system's; a recorder in a test has none
		if err := r.ParseForm(); err != nil {
			return fmt.Errorf("%w: form: %w", kiosk.ErrUnknown, err)
		}
		_ = control.SetReadDeadline(time.Time{})
	}
	key, screen := readCookie(r)
	if key == "" {
		return nil
	}
	alone := r.URL.Query().Get("auto") != "" || r.URL.Path == mark // a page that loads itself anew is nobody's touch
	if v.session = s.sessions.find(key, !alone); v.session == nil {
		if v.kiosk == 0 { // whose stay is over leaves the screen of a kiosk to who comes next
			v.kiosk = screen
		}
		return nil
	}
	v.who = s.sessions.view(v.session)
	v.lang, v.kiosk = s.cfg.Texts.Language(v.who.lang), v.who.kiosk
	if v.kiosk > 0 { // the next citizen must find the kiosk
		w.Header().Set("Refresh", fmt.Sprintf("%d; url=/k/%d", int(kioskIdle.Seconds()), v.kiosk))
	}
	return nil
}

// in lets only those in who have entered the code.
func (s *Server) in(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		if v.session == nil {
			return errOutside
		}
		return h(w, r, v)
	}
}

// Errors of requests.
var (
	errOutside  = errors.New("nobody is in")
	errNotFound = errors.New("no such page")
)

// fail shows what a person can read. A cause that nobody foresaw is logged whole and never shown.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	status, key := http.StatusInternalServerError, "staff.error.internal"
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errOutside):
		http.Redirect(w, r, v.base(), http.StatusSeeOther)
		return
	case errors.Is(err, errNotFound):
		status, key = http.StatusNotFound, "staff.error.notfound"
	case errors.Is(err, ErrGone):
		status, key = http.StatusGone, "staff.error.gone"
	case errors.As(err, &tooLarge):
		status, key = http.StatusRequestEntityTooLarge, "staff.error.unknown"
	case errors.Is(err, kiosk.ErrUnknown):
		status, key = http.StatusBadRequest, "staff.error.unknown"
	default:
		s.cfg.Log.Error("staff page not shown", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	p := s.page(v, "error", r.URL.Path)
	p.TitleKey = "staff.error.title"
	p.Error = p.t(key)
	if err := s.render(w, status, p); err != nil {
		s.cfg.Log.Error("staff page not shown", "err", err)
		http.Error(w, http.StatusText(status), status)
	}
}

// seeOther answers a form: the next page is a GET, so that nothing is sent twice.
func seeOther(w http.ResponseWriter, r *http.Request, to string) error {
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// say keeps a text that the next page shows once.
func (s *Server) say(v *visit, key string) error {
	text, err := v.lang.T(key)
	s.said(v, text)
	return err
}

// said keeps words that the next page shows once.
func (s *Server) said(v *visit, text string) { s.sessions.say(v.session, text) }

// render draws a page; nothing is sent unless all of it could be drawn.
func (s *Server) render(w http.ResponseWriter, status int, p *page) error {
	if p.err != nil {
		return fmt.Errorf("page %s: %w", p.Name, p.err)
	}
	var b bytes.Buffer
	if err := s.pages[p.lang.Tag][p.Name].ExecuteTemplate(&b, "base.html", p); err != nil {
		return fmt.Errorf("page %s in %s: %w", p.Name, p.lang.Tag, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := b.WriteTo(w); err != nil {
		s.cfg.Log.Debug("answer not sent", "err", err)
	}
	return nil
}

// at returns an address with one parameter.
func at(path, name, value string) string { return path + "?" + url.Values{name: {value}}.Encode() }
