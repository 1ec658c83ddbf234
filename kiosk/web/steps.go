package web

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
)

// step is one page of the way: what it shows, and what its form does.
type step struct {
	show func(c echo.Context, v visit, p *page) error
	post func(c echo.Context, v visit) error // nil: nothing can be sent
}

// refusal is an answer that cannot be taken, with the words that say why. The page is shown again with them.
type refusal struct {
	key    string
	args   []any
	fields map[string]string // field → reason, for a form with several
}

func (r *refusal) Error() string { return "refused: " + r.key }

// allSteps says what each page of the way does.
func (s *Server) allSteps() map[kiosk.Step]step {
	return map[kiosk.Step]step{
		kiosk.StepNeed:        {s.showNeed, s.postNeed},
		kiosk.StepRecipient:   {s.showRecipient, s.postRecipient},
		kiosk.StepAdvice:      {s.showAdvice, s.postAdvice},
		kiosk.StepCertificate: {s.showCertificate, s.postCertificate},
		kiosk.StepHolder:      {s.showHolder, s.postHolder},
		kiosk.StepStamp:       {s.showStamp, s.postStamp},
		kiosk.StepExemption:   {s.showExemption, s.postExemption},
		kiosk.StepCollect:     {s.showCollect, s.postCollect},
		kiosk.StepLogin:       {s.showLogin, s.postLogin},
		kiosk.StepQR:          {s.showQR, s.postQR},
		kiosk.StepCode:        {s.showCode, s.postCode},
		kiosk.StepIdentity:    {s.showIdentity, s.postIdentity},
		kiosk.StepMember:      {s.showMember, s.postMember},
		kiosk.StepReview:      {s.showReview, s.postReview},
		kiosk.StepPreparing:   {s.showPreparing, nil},
		kiosk.StepFacts:       {s.showFacts, s.postFacts},
		kiosk.StepFill:        {s.showFill, s.postFill},
		kiosk.StepPerson:      {s.showForm, s.postForm},
		kiosk.StepBirth:       {s.showForm, s.postForm},
		kiosk.StepAddress:     {s.showForm, s.postForm},
		kiosk.StepSince:       {s.showForm, s.postForm},
		kiosk.StepCivil:       {s.showForm, s.postForm},
		kiosk.StepRelatives:   {s.showRelatives, s.postRelatives},
		kiosk.StepRequest:     {s.showRequest, s.postRequest},
		kiosk.StepPreview:     {s.showPreview, s.postPreview},
		kiosk.StepPrinting:    {s.showPrinting, s.postPrinting},
		kiosk.StepTake:        {s.showTake, s.postTake},
		kiosk.StepProblem:     {s.showProblem, s.postProblem},
	}
}

// open returns the visit and the page that a request is about. A browser without the session's cookie is led to the
// attract page, and forgets the cookie of a session that has ended.
func (s *Server) open(c echo.Context) (visit, step, kiosk.Step, error) {
	v, err := s.visit(c)
	if err != nil {
		return v, step{}, "", err
	}
	name := kiosk.Step(c.Param("step"))
	st, ok := s.steps[name]
	switch {
	case !ok:
		return v, st, name, echo.ErrNotFound
	case v.session == nil && v.stale:
		forget(c, v)
		return v, st, name, kiosk.ErrNoSession
	case v.session == nil:
		return v, st, name, kiosk.ErrNoSession
	case !v.view.Allows(name, v.lineUp):
		return v, st, name, kiosk.ErrNotNow
	}
	return v, st, name, nil
}

// getStep shows a page of the way.
func (s *Server) getStep(c echo.Context) error {
	v, st, name, err := s.open(c)
	if err != nil {
		return err
	}
	p := s.page(c, v, string(name))
	if p.Live.Refresh == 0 && !waits(name) {
		s.desk.Touch(v.session) // a page that loads itself anew is nobody's touch
	}
	return s.show(c, v, st, p, http.StatusOK)
}

// waits says whether a page is one to wait on: it changes without anybody's doing.
func waits(name kiosk.Step) bool {
	switch name {
	case kiosk.StepQR, kiosk.StepIdentity, kiosk.StepPreparing, kiosk.StepPrinting, kiosk.StepTake, kiosk.StepProblem:
		return true
	}
	return false
}

func (s *Server) show(c echo.Context, v visit, st step, p *page, status int) error {
	if back := v.view.Back(p.step); back != "" {
		p.Back = v.path(back)
	}
	if err := st.show(c, v, p); err != nil {
		return fmt.Errorf("page %s: %w", p.Name, err)
	}
	return s.render(c, status, p)
}

// postStep takes an answer. What is refused is said on the same page, which keeps what was typed.
func (s *Server) postStep(c echo.Context) error {
	v, st, name, err := s.open(c)
	if err != nil {
		return err
	}
	if st.post == nil {
		return kiosk.ErrNotNow
	}
	s.desk.Touch(v.session)
	err = st.post(c, v)
	if c.Response().Committed {
		return err
	}
	v.reload()
	v.lineUp = s.desk.LineUp()
	var r *refusal
	switch {
	case errors.As(err, &r):
		if !v.view.Allows(name, v.lineUp) {
			return kiosk.ErrNotNow
		}
		p := s.page(c, v, string(name))
		if p.Error, err = p.lang.T(r.key, r.args...); err != nil {
			return err
		}
		c.Set(refusedKey, r)
		return s.show(c, v, st, p, http.StatusUnprocessableEntity)
	case err != nil:
		return err
	}
	return seeOther(c, v.here())
}

// refusedKey is where a request keeps its refusal while the page is shown again.
const refusedKey = "refused"

func refused(c echo.Context) *refusal {
	r, _ := c.Get(refusedKey).(*refusal)
	return r
}
