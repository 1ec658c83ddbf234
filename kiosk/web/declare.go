package web

import (
	"errors"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
)

// factsPage is what the choice of facts shows.
type factsPage struct{ Facts []fact }

type fact struct {
	Name, Icon string
	Chosen     bool
}

func (s *Server) showFacts(_ echo.Context, v visit, p *page) error {
	icons := map[kiosk.Fact]string{kiosk.FactResidence: "home", kiosk.FactFamily: "family", kiosk.FactCivil: "rings"}
	var d factsPage
	for _, f := range kiosk.AllFacts() {
		d.Facts = append(d.Facts, fact{string(f), icons[f], slices.Contains(v.view.Answers.Facts, f)})
	}
	p.Data = d
	return lead(p)
}

func (s *Server) postFacts(c echo.Context, v visit) error {
	var facts []kiosk.Fact
	for _, f := range c.Request().PostForm["fact"] {
		facts = append(facts, kiosk.Fact(f))
	}
	err := s.desk.SetFacts(c.Request().Context(), v.session, facts)
	if errors.Is(err, kiosk.ErrNothing) {
		return &refusal{key: "facts.nothing"}
	}
	return err
}

func (s *Server) showFill(_ echo.Context, v visit, p *page) error {
	answers := []string{string(kiosk.Typed), string(kiosk.Blank)}
	return choice(p, answers, map[string]string{"typed": "keyboard", "blank": "pencil"}, string(v.view.Answers.Fill))
}

func (s *Server) postFill(c echo.Context, v visit) error {
	return s.desk.SetFill(c.Request().Context(), v.session, kiosk.Fill(c.FormValue("choice")))
}

// formPage is what a page of the typed form shows.
type formPage struct{ Fields []field }

// field is one field, with what was typed into it and what is wrong with that.
type field struct {
	kiosk.Field
	Label, Hint string
	Value       string
	Wrong       string // in the page's language; "" when nothing is
	Options     []fieldOption
}

type fieldOption struct {
	Value, Label string
	Chosen       bool
}

// fields makes the fields of a page of the typed form: with what the session holds, or after a refusal with what was
// just typed.
func (s *Server) fields(c echo.Context, p *page, values map[string]string) ([]field, error) {
	t := &texts{l: p.lang}
	var fields []field
	r := refused(c)
	for _, kf := range kiosk.FormFields(p.step) {
		f := field{Field: kf, Label: t.t(joinKey("field", kf.Name, "label")), Value: values[kf.Name]}
		if key := joinKey("field", kf.Name, "hint"); p.lang.Has(key) {
			f.Hint = t.t(key)
		}
		if r != nil {
			f.Value = c.FormValue(kf.Name)
			if reason := r.fields[kf.Name]; reason != "" {
				f.Wrong = t.t(joinKey("wrong", reason))
			}
		}
		for _, o := range kf.Options {
			f.Options = append(f.Options, fieldOption{o, t.t(joinKey("field", kf.Name, o)), o == f.Value})
		}
		fields = append(fields, f)
	}
	return fields, t.err
}

func (s *Server) showForm(c echo.Context, v visit, p *page) (err error) {
	var d formPage
	d.Fields, err = s.fields(c, p, kiosk.FormValues(p.step, v.view.Answers.Form))
	p.Data = d
	return err
}

func (s *Server) postForm(c echo.Context, v visit) error {
	return formRefusal(s.desk.FillPage(c.Request().Context(), v.session, kiosk.Step(c.Param("step")), c.FormValue))
}

func formRefusal(err error) error {
	var fe *kiosk.FormError
	if errors.As(err, &fe) {
		return &refusal{key: "form.wrong", fields: fe.Fields}
	}
	return err
}

// relativesPage is what the list of the family shows.
type relativesPage struct {
	Relatives []paper.Relative
	Fields    []field
	Full      bool
}

func (s *Server) showRelatives(c echo.Context, v visit, p *page) (err error) {
	d := relativesPage{Relatives: v.view.Answers.Form.Family}
	d.Full = len(d.Relatives) >= paper.MaxRelatives
	d.Fields, err = s.fields(c, p, nil)
	p.Data = d
	return err
}

func (s *Server) postRelatives(c echo.Context, v visit) error {
	ctx := c.Request().Context()
	switch remove := c.FormValue("remove"); {
	case remove != "":
		n, err := strconv.Atoi(remove)
		if err != nil {
			return kiosk.ErrUnknown
		}
		if err := s.desk.RemoveRelative(ctx, v.session, n); err != nil {
			return err
		}
	case c.FormValue("add") != "":
		if err := s.desk.AddRelative(ctx, v.session, c.FormValue); err != nil {
			return formRefusal(err)
		}
	default:
		if c.FormValue("relative") != "" { // typed, and "Avanti" pressed instead of "Aggiungi"
			if err := s.desk.AddRelative(ctx, v.session, c.FormValue); err != nil {
				return formRefusal(err)
			}
		}
		return s.desk.FillPage(ctx, v.session, kiosk.StepRelatives, c.FormValue)
	}
	return seeOther(c, v.path(kiosk.StepRelatives))
}
