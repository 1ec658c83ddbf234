package web

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
)

//go:embed templates/*.html
var templateFiles embed.FS

// page is what a template gets.
type page struct {
	Lang, Dir string
	Name      string // of the page, in its address and its texts
	Base      string // address of the kiosk
	Self      string // address of this page
	Kiosk     int
	City      string
	Branch    string
	Look      look
	InSession bool
	Assisted  bool
	TitleKey  string
	TitleArgs []any
	Lead      string // what stands under the title, already in the page's language
	Banner    string // what must be known before anything else, such as that the line is down
	Notices   []noticeView
	Error     string // what was wrong with what was sent
	State     string // the lights in a few words
	AllGood   bool   // nothing is wrong with any light
	Back      string // address of the page before; "" when there is none
	Cards     []card
	Live      liveness
	View      kiosk.View
	Data      any

	lang *locale.Language
	step kiosk.Step
	err  error // a text that every page needs is missing
}

// liveness tells the script how a page follows what happens.
type liveness struct {
	Mark    string // what the page shows of the state of things; the page is loaded anew when it changes
	Reload  bool   // a change of Mark loads the page anew; never where something is typed
	Refresh int    // seconds between loads when there is no script; 0: none
	Idle    int    // seconds without a touch before the page asks; 0: never
	Warn    int    // seconds it waits for the answer
}

// card is one answer, as large as a hand.
type card struct {
	Name, Value string // of the form, when it is a button
	Href        string // when it is a link
	Icon        string
	Title, Text string
	Note        string // one line more, set apart: "può lasciare la richiesta"
	Chosen      bool   // the answer given before
	Toggle      bool   // can be chosen together with others
}

// Title returns the page's heading.
func (p *page) Title() (string, error) { return p.lang.T(p.TitleKey, p.TitleArgs...) }

// How long a page waits for a touch before it asks, and then for the answer: in seconds, and longer for who reads
// slowly or is helped. On the pages where people look at their phone it waits as long as logging in takes.
const (
	idle, warn         = 90, 20
	idleSlow, warnSlow = 180, 60
	idlePhone          = 300
)

// page begins a page of that name.
func (s *Server) page(c echo.Context, v visit, name string) *page {
	l := s.cfg.Texts.Language(s.language(c, v))
	p := &page{
		Lang: l.Tag, Dir: l.Direction, Name: name, Base: v.base(), Self: v.base() + "/" + name, Kiosk: v.kiosk,
		City: s.cfg.City, Branch: s.desk.Branch(), Look: readLook(c), InSession: v.session != nil,
		Assisted: v.view.Mode == kiosk.Assisted, TitleKey: name + ".title", View: v.view, lang: l, step: kiosk.Step(name),
	}
	p.Live.Idle, p.Live.Warn = idle, warn
	if p.Look.Size == "xl" || p.Assisted {
		p.Live.Idle, p.Live.Warn = idleSlow, warnSlow
	}
	ls := s.lights(l)
	p.State, p.AllGood, p.err = ls.summary, ls.good, ls.err
	p.Live.Mark = s.mark(v, p.step)
	if ns, err := s.notices(l, name, v.lineUp); v.kiosk > 0 {
		p.Notices = ns
		if p.err == nil {
			p.err = err
		}
	}
	return p
}

// language returns the language of a visit: the session's, or the one that the address of a page without a session
// asks for.
func (s *Server) language(c echo.Context, v visit) string {
	if v.session != nil {
		return v.view.Language
	}
	if last, err := s.desk.Session(max(v.kiosk, 1), ""); err == nil && c.Path() == "/k/:kiosk/goodbye" {
		return last.View().Language
	}
	if tag := c.QueryParam("lang"); s.cfg.Texts.Has(tag) {
		return tag
	}
	return locale.Default
}

// pageSet is every template in one language.
type pageSet struct {
	templates map[string]*template.Template
}

// shared names the pages that are drawn by another page's template: a question whose answers are cards.
var shared = map[string]string{
	"need": "choice", "recipient": "choice", "holder": "choice", "stamp": "choice", "exemption": "choice", "fill": "choice",
	"kiosks": "choice", "member": "choice", "advice": "choice",
	"person": "form", "birth": "form", "address": "form", "since": "form", "civil": "form",
	"code": "pad", "collect": "pad",
}

func (*pageSet) file(name string) string {
	if f, ok := shared[name]; ok {
		return f
	}
	return name
}

// loadPages reads every template for a language.
func loadPages(l *locale.Language, st *static) (*pageSet, error) {
	funcs := template.FuncMap{
		"t": l.T, "count": l.Count, "icon": st.icon, "asset": st.url,
		"key":  func(parts ...any) string { return joinKey(parts...) },
		"has":  l.Has,
		"list": func(items ...any) []any { return items },
		"add":  func(a, b int) int { return a + b },
		"keys": func(alphabet string) []string { return strings.Split(alphabet, "") },
		"dict": dict,
	}
	base, err := template.New("base.html").Funcs(funcs).Option("missingkey=error").ParseFS(templateFiles, "templates/base.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	set := &pageSet{templates: map[string]*template.Template{}}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "base" || name == "parts" {
			continue
		}
		clone, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if set.templates[name], err = clone.ParseFS(templateFiles, file); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (set *pageSet) execute(w io.Writer, p *page) error {
	t := set.templates[set.file(p.Name)]
	if t == nil {
		return fmt.Errorf("no template %s", p.Name)
	}
	return t.ExecuteTemplate(w, "base.html", p)
}

// joinKey makes the key of a text that depends on what is shown: "cert", "residenza", "name" → cert.residenza.name.
func joinKey(parts ...any) string {
	s := make([]string, len(parts))
	for i, p := range parts {
		s[i] = fmt.Sprint(p)
	}
	return strings.Join(s, ".")
}

// dict hands several things to a part of a page.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d arguments are not pairs", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m, nil
}

// Certificate is how a certificate is called on a page, and what it says in plain words.
type certificateText struct{ Slug, Name, Text string }

// certificate returns the words for a certificate. One that the translations have not heard of yet goes by its
// official name: the catalogue is data, and may grow before they do.
func (s *Server) certificate(l *locale.Language, slug string) certificateText {
	row, _ := s.desk.Catalogue().Certificate(slug)
	ct := certificateText{Slug: slug, Name: row.Name}
	if name, err := l.T(joinKey("cert", slug, "name")); err == nil {
		ct.Name = name
	}
	if text, err := l.T(joinKey("cert", slug, "text")); err == nil {
		ct.Text = text
	}
	return ct
}

// texts collects texts and remembers the first error, so that a page with many of them reads well.
type texts struct {
	l   *locale.Language
	err error
}

func (t *texts) t(key string, args ...any) string {
	s, err := t.l.T(key, args...)
	if err != nil && t.err == nil {
		t.err = err
	}
	return s
}

func (t *texts) since(at, now time.Time) string {
	s, err := t.l.Since(at, now)
	if err != nil && t.err == nil {
		t.err = err
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }
