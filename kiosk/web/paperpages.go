package web

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/sync/health"
)

// reviewPage is what "check your answers" shows.
type reviewPage struct {
	Rows []reviewRow
	Name string // first name of who is logged in
}

type reviewRow struct {
	Key    string // review.<key> is the label
	Values []string
	Change string // address of the question
}

func (s *Server) showReview(_ echo.Context, v visit, p *page) error {
	t := &texts{l: p.lang}
	a := v.view.Answers
	d := reviewPage{Name: v.view.FirstName}
	row := func(key string, step kiosk.Step, values ...string) {
		r := reviewRow{Key: key, Values: slices.DeleteFunc(values, func(v string) bool { return v == "" })}
		if v.view.Allows(step, v.lineUp) {
			r.Change = v.path(step)
		}
		d.Rows = append(d.Rows, r)
	}
	if a.Service == kiosk.SelfDeclaration {
		var facts []string
		for _, f := range a.Facts {
			facts = append(facts, t.t(joinKey("facts", f, "title")))
		}
		row("facts", kiosk.StepFacts, facts...)
		row("fill", kiosk.StepFill, t.t(joinKey("fill", a.Fill, "title")))
		if a.Fill == kiosk.Typed {
			f := a.Form
			row("person", kiosk.StepPerson, words(f.Person.Name, f.Person.FamilyName), f.Person.FiscalCode)
			row("birth", kiosk.StepBirth, words(f.Person.BirthPlace, f.Person.BirthProvince), f.Person.BirthDate)
			row("address", kiosk.StepAddress, words(f.Person.Street, f.Person.Number), words(f.Person.Place, f.Person.Province))
			for _, q := range a.Questions() {
				switch q {
				case kiosk.StepSince:
					if f.Residence != nil {
						row("since", q, f.Residence.Since)
					}
				case kiosk.StepCivil:
					if f.Civil != nil {
						row("civil", q, t.t(joinKey("field", "status", f.Civil.Status)), f.Civil.With)
					}
				case kiosk.StepRelatives:
					var names []string
					for _, m := range f.Family {
						names = append(names, m.Name)
					}
					row("relatives", q, names...)
				}
			}
		}
		p.Data = d
		return t.err
	}
	var certs []string
	for _, slug := range a.Certificates {
		certs = append(certs, s.certificate(p.lang, slug).Name)
	}
	row("certificate", kiosk.StepCertificate, certs...)
	row("recipient", kiosk.StepRecipient, t.t(joinKey("recipient", a.Recipient, "title")))
	holder := t.t("review.self")
	holderStep := kiosk.StepHolder
	for _, m := range v.view.Family {
		if m.Ref == a.Member && a.Holder == kiosk.Family {
			holder, holderStep = m.Name, kiosk.StepMember
		}
	}
	row("holder", holderStep, holder)
	if a.Stamp == kiosk.StampExempt {
		reason := t.t("stamp.exempt.title")
		if key := joinKey("exemption", a.Exemption, "title"); p.lang.Has(key) {
			reason = t.t(key)
		}
		row("stamp", kiosk.StepStamp, t.t("review.free"), reason)
	} else {
		row("stamp", kiosk.StepStamp, t.t("stamp.due.title"))
	}
	p.Data = d
	return t.err
}

func words(s ...string) string { return strings.TrimSpace(strings.Join(s, " ")) }

func (s *Server) postReview(c echo.Context, v visit) error {
	return s.desk.Prepare(c.Request().Context(), v.session)
}

// preparingPage is what the page shows while a document is made.
type preparingPage struct{ Late bool }

func (s *Server) showPreparing(_ echo.Context, v visit, p *page) error {
	p.Live.Reload, p.Live.Refresh, p.Live.Idle = true, 2, 0
	p.Data = preparingPage{Late: s.late(v.view)}
	return nil
}

// requestPage is what "leave the request" shows.
type requestPage struct {
	Since        string
	Certificates []certificateText
	Holder       kiosk.Holder
}

func (s *Server) showRequest(_ echo.Context, v visit, p *page) error {
	p.Live.Reload = true
	t := &texts{l: p.lang}
	d := requestPage{Holder: v.view.Answers.Holder}
	if !v.lineUp {
		d.Since = t.since(s.cfg.Board.Status(health.Hub).Since, s.cfg.Now())
	}
	for _, slug := range v.view.Answers.Certificates {
		d.Certificates = append(d.Certificates, s.certificate(p.lang, slug))
	}
	p.Data = d
	return t.err
}

func (s *Server) postRequest(c echo.Context, v visit) error {
	return s.desk.LeaveRequest(c.Request().Context(), v.session)
}

// previewPage is what the preview shows.
type previewPage struct {
	Kind  string // certificate | declaration | slip
	Pages []int
	Zoom  bool
	Slip  string // pick-up code in two groups
	Stop  string // what keeps the printer from printing now, in the page's language
	On    string // UUID of the printer on which it is printed, when the branch has several
	Name  string // … and its name

	Printers []printerChoice // that can be chosen; none when the branch has only one
}

func (s *Server) showPreview(c echo.Context, v visit, p *page) error {
	p.Live.Reload = true
	t := &texts{l: p.lang}
	d := previewPage{Kind: v.view.Document, Zoom: c.QueryParam("zoom") == "1"}
	p.TitleKey = joinKey("preview", v.view.Document, "title")
	for n := range v.view.Pages {
		d.Pages = append(d.Pages, n+1)
	}
	if n := len(v.view.Slip); n > 3 {
		d.Slip = v.view.Slip[:3] + " " + v.view.Slip[3:]
	}
	all, on := s.printers(v)
	if all != nil {
		d.On, d.Name = on.UUID, printerName(t, all, on)
	}
	for _, p := range all {
		if usable(p) || p.UUID == on.UUID {
			d.Printers = append(d.Printers, printerChoice{p.UUID, printerName(t, all, p), p.UUID == on.UUID})
		}
	}
	if len(d.Printers) < 2 {
		d.Printers = nil
	}
	switch on.State {
	case kiosk.PrinterAttention:
		d.Stop = t.t(joinKey("trouble", trouble(on.Trouble), "title")) + "."
	case kiosk.PrinterOffline, kiosk.PrinterNone:
		d.Stop = t.t(joinKey("printer", on.State)) + "."
	}
	p.Data = d
	return t.err
}

func (s *Server) postPreview(c echo.Context, v visit) error {
	if uuid := c.FormValue("printer"); uuid != "" {
		return s.choose(v, uuid)
	}
	switch c.FormValue("action") {
	case "print":
		if uuid := c.FormValue("on"); uuid != "" { // what the page said is where it goes
			if err := s.choose(v, uuid); err != nil {
				return err
			}
		}
		return s.desk.Print(c.Request().Context(), v.session)
	case "back":
		s.desk.Back(v.session)
		return nil
	}
	return kiosk.ErrUnknown
}

// picture is one page of the document in hand, for the eyes of whose session it is.
func (s *Server) picture(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	name, ok := strings.CutSuffix(c.Param("png"), ".png")
	n, err := strconv.Atoi(name)
	if !ok || err != nil || v.session == nil {
		return echo.ErrNotFound
	}
	png := v.session.Page(n)
	if png == nil {
		return echo.ErrNotFound
	}
	return c.Blob(http.StatusOK, "image/png", png)
}

func (s *Server) showPrinting(_ echo.Context, v visit, p *page) error {
	p.Live.Reload, p.Live.Refresh, p.Live.Idle = true, 2, 0
	if v.view.Progress.Trouble != kiosk.TroubleNone {
		p.TitleKey = joinKey("trouble", v.view.Progress.Trouble, "title")
	}
	t := &texts{l: p.lang}
	p.Data = s.where(t, v)
	return t.err
}

func (s *Server) postPrinting(c echo.Context, v visit) error {
	if c.FormValue("action") != "cancel" {
		return kiosk.ErrUnknown
	}
	s.desk.CancelPrint(v.session)
	return seeOther(c, v.path(kiosk.StepPrinting))
}

func (s *Server) showTake(_ echo.Context, v visit, p *page) error {
	p.Live.Idle = 0 // the page ends by itself
	p.Live.Refresh = 10
	t := &texts{l: p.lang}
	name := s.where(t, v)
	if name == "" {
		return errors.Join(t.err, lead(p))
	}
	p.Lead = t.t("take.where", "name", name)
	return t.err
}

func (s *Server) postTake(c echo.Context, v visit) error {
	switch c.FormValue("action") {
	case "all":
		return s.desk.Taken(c.Request().Context(), v.session, true)
	case "missing":
		return s.desk.Taken(c.Request().Context(), v.session, false)
	}
	return kiosk.ErrUnknown
}

// problemPage is what a page about a problem shows.
type problemPage struct {
	kiosk.Problem
	Words  string          // key of its texts: the kind, or that staff have been told
	Leave  bool            // the request can be left now
	Back   bool            // the questions can be gone back to
	Others []printerChoice // printers on which it can be printed instead
}

func (s *Server) showProblem(_ echo.Context, v visit, p *page) error {
	p.Live.Reload = true
	d := problemPage{Problem: *v.view.Problem, Words: string(v.view.Problem.Kind)}
	if d.Waiting {
		p.Live.Idle, p.Live.Refresh = 0, 5
		d.Words = "waiting"
	}
	t := &texts{l: p.lang}
	if d.Kind == kiosk.ProblemPrinter && d.CanRetry {
		all := s.cfg.Printer.Printers()
		for _, o := range s.others(v) {
			d.Others = append(d.Others, printerChoice{UUID: o.UUID, Name: printerName(t, all, o)})
		}
	}
	d.Leave = d.CanLeave && v.view.Answers.Service == kiosk.Certificates
	d.Back = d.Kind != kiosk.ProblemUncertain && d.Kind != kiosk.ProblemNotRegistered
	p.TitleKey = joinKey("problem", d.Words, "title")
	p.Data = d
	return t.err
}

func (s *Server) postProblem(c echo.Context, v visit) error {
	ctx := c.Request().Context()
	if uuid := c.FormValue("printer"); uuid != "" {
		if err := s.choose(v, uuid); err != nil {
			return err
		}
		if err := s.desk.Again(ctx, v.session); err != nil {
			return err
		}
		return s.desk.Print(ctx, v.session)
	}
	switch c.FormValue("action") {
	case "again":
		return s.desk.Again(ctx, v.session)
	case "leave":
		return s.desk.LeaveRequest(ctx, v.session)
	case "back":
		s.desk.Back(v.session)
		return nil
	}
	return kiosk.ErrUnknown
}
