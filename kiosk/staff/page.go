package staff

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"sportello.example/kiosk/locale"
)

//go:embed templates/*.html
var templateFiles embed.FS

// page is what a template gets.
type page struct {
	Lang, Dir string
	Name      string
	Self      string // address of this page
	City      string
	Branch    string
	By        string // who is in, "" when nobody is
	TitleKey  string
	Mark      string // what the page shows of the state of things: it is loaded anew when that changes; "" for never
	Anew      string // address to load it anew from, without anybody's touch
	Said      string // what came of the button pressed before
	Error     string
	Languages []otherLanguage
	Undecided int // prints that wait for somebody to look at the tray
	Data      any

	lang *locale.Language
	now  time.Time
	err  error // the first text that was missing
}

type otherLanguage struct{ Tag, Name, Dir string }

// Title returns the page's heading.
func (p *page) Title() string { return p.t(p.TitleKey) }

// t returns a text, and remembers the first that is missing.
func (p *page) t(key string, args ...any) string {
	s, err := p.lang.T(key, args...)
	if err != nil && p.err == nil {
		p.err = err
	}
	return s
}

// count returns a text about a number of things.
func (p *page) count(key string, n int, args ...any) string {
	s, err := p.lang.Count(key, n, args...)
	if err != nil && p.err == nil {
		p.err = err
	}
	return s
}

// since says since when something lasts.
func (p *page) since(at time.Time) string {
	s, err := p.lang.Since(at, p.now)
	if err != nil && p.err == nil {
		p.err = err
	}
	return s
}

// day writes a date out.
func (p *page) day(at time.Time) string {
	at = at.In(p.now.Location())
	return fmt.Sprintf("%d %s %d", at.Day(), p.lang.Months[at.Month()-1], at.Year())
}

// page begins a page of that name.
func (s *Server) page(v *visit, name, self string) *page {
	p := &page{
		Lang: v.lang.Tag, Dir: v.lang.Direction, Name: name, Self: self, City: s.cfg.City, Branch: s.cfg.Branch(), TitleKey: "staff." + name + ".title",
		lang: v.lang, now: s.cfg.Now(),
	}
	for _, l := range s.cfg.Texts.Languages() {
		if l.Tag != v.lang.Tag {
			p.Languages = append(p.Languages, otherLanguage{l.Tag, l.Name, l.Direction})
		}
	}
	if v.session != nil {
		p.By = v.who.by
	}
	return p
}

// filler puts on a page what it shows.
type filler func(r *http.Request, p *page) error

// show answers with a page that follows what happens.
func (s *Server) show(name string, fill filler) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		p := s.page(v, name, r.URL.Path)
		if err := s.fill(r, p, fill); err != nil {
			return err
		}
		p.Said = s.sessions.hear(v.session)
		p.Anew = p.Self + "?auto=1"
		return s.render(w, http.StatusOK, p)
	}
}

// fill fills a page and marks it with what it shows.
func (s *Server) fill(r *http.Request, p *page, fill filler) error {
	if err := fill(r, p); err != nil {
		return err
	}
	p.Mark = markOf(p.Undecided, p.Data)
	return nil
}

// markOf names what is shown. Two marks are equal when the pages would look the same.
func markOf(what ...any) string {
	b, err := json.Marshal(what)
	if err != nil {
		return "" // nothing that a page shows cannot be written down
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// mark says to the script of a page whether the page would look different by now. It is nobody's touch.
func (s *Server) mark(w http.ResponseWriter, r *http.Request, v *visit) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if v.session == nil {
		_, err := w.Write([]byte("out"))
		return err
	}
	text, err := s.markNow(r, v)
	if err != nil {
		return err
	}
	_, err = w.Write([]byte(text))
	return err
}

func (s *Server) markNow(r *http.Request, v *visit) (string, error) {
	p := s.page(v, r.URL.Query().Get("on"), "")
	switch p.Name {
	case "printers":
		err := s.fill(r, p, s.printersPage)
		return p.Mark, errors.Join(err, p.err)
	case "prints":
		err := s.fill(r, p, s.printsPage)
		return p.Mark, errors.Join(err, p.err)
	case "wait":
		return s.taskMark(adoptTask(r.URL.Query().Get("id"))), nil
	}
	return "", errNotFound
}

// taskMark names how a task is going.
func (s *Server) taskMark(key string) string {
	t, known := s.task(key)
	return markOf(known, t.running, t.err != nil, t.trial)
}

// load reads every template for a language.
func (s *Server) load(l *locale.Language) (map[string]*template.Template, error) {
	funcs := template.FuncMap{
		"t": l.T, "icon": s.cfg.Icon, "asset": s.cfg.Asset, "count": l.Count,
		"key": func(parts ...string) string { return strings.Join(parts, ".") },
	}
	base, err := template.New("base.html").Funcs(funcs).Option("missingkey=error").ParseFS(templateFiles, "templates/base.html")
	if err != nil {
		return nil, err
	}
	set := map[string]*template.Template{}
	for _, name := range []string{"login", "printers", "retire", "prints", "adopt", "candidate", "wait", "code", "error"} {
		clone, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if set[name], err = clone.ParseFS(templateFiles, "templates/"+name+".html"); err != nil {
			return nil, err
		}
	}
	return set, nil
}
