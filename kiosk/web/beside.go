package web

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
)

// languagesPage lists the languages by what they call themselves.
type languagesPage struct {
	Languages []languageLink
	Staff     string // address of the staff's pages, on the attract page only
}

type languageLink struct {
	Tag, Name, Dir string
	Words          string // what the page says, in this language
	Chosen         bool
}

// languageLinks lists every language, and the text under key in each.
func (s *Server) languageLinks(key, chosen string) (languagesPage, error) {
	var d languagesPage
	for _, l := range s.cfg.Texts.Languages() {
		words, err := l.T(key)
		if err != nil {
			return d, err
		}
		d.Languages = append(d.Languages, languageLink{l.Tag, l.Name, l.Direction, words, l.Tag == chosen})
	}
	return d, nil
}

// attract is the page that waits for the next citizen. Whoever's session is open goes on where it is.
func (s *Server) attract(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session != nil {
		return c.Redirect(http.StatusSeeOther, v.here())
	}
	if v.stale {
		forget(c, v)
	}
	p := s.page(c, v, "attract")
	if v.stale {
		p.Look = look{}
	}
	p.Self = v.base()
	p.Live.Reload, p.Live.Idle = true, 0
	if p.Look != (look{}) {
		p.Live.Idle = idle // the next citizen finds the page as it was made
	}
	if p.Banner, err = s.lineBanner(p.lang, v); err != nil {
		return err
	}
	d, err := s.languageLinks("attract.touch", p.Lang)
	if err != nil {
		return err
	}
	if s.cfg.Staff != "" {
		d.Staff = s.cfg.Staff + "?kiosk=" + itoa(v.kiosk)
	}
	p.Data = d
	return s.render(c, http.StatusOK, p)
}

// languages asks for the language: to begin, or in the middle of a session.
func (s *Server) languages(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session == nil && v.stale {
		forget(c, v)
	}
	p := s.page(c, v, "language")
	p.Back = v.here()
	chosen := ""
	if v.session != nil {
		chosen = v.view.Language
	}
	if p.Data, err = s.languageLinks("language.title", chosen); err != nil {
		return err
	}
	return s.render(c, http.StatusOK, p)
}

// setLanguage begins a session in that language, or changes the language of the one that is open.
func (s *Server) setLanguage(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	tag := c.FormValue("language")
	if v.session != nil {
		s.desk.Touch(v.session)
		if err := s.desk.SetLanguage(c.Request().Context(), v.session, tag); err != nil {
			return err
		}
		return seeOther(c, v.here())
	}
	ses, err := s.desk.Start(c.Request().Context(), v.kiosk, tag, kiosk.SelfService)
	if err != nil {
		return err
	}
	v.session = ses
	v.reload()
	cookie(c, v, sessionCookie, ses.Key)
	return seeOther(c, v.here())
}

// touch says that somebody is at the kiosk, though no page was asked for.
func (s *Server) touch(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session != nil {
		s.desk.Touch(v.session)
	}
	return c.NoContent(http.StatusNoContent)
}

// askExit asks before everything is forgotten: the button is easily touched by mistake.
func (s *Server) askExit(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session == nil {
		return seeOther(c, v.base())
	}
	p := s.page(c, v, "exit")
	p.Back = v.here()
	return s.render(c, http.StatusOK, p)
}

// exit ends the session. Who pressed "Esci" is shown that nothing is left; when nobody was there any more the kiosk
// goes back to the attract page at once.
func (s *Server) exit(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	forget(c, v)
	if v.session == nil {
		return seeOther(c, v.base())
	}
	if c.FormValue("reason") == "idle" {
		s.desk.End(c.Request().Context(), v.session, kiosk.OutcomeAbandoned)
		return seeOther(c, v.base())
	}
	if v.view.Stage != kiosk.StageGoodbye {
		s.desk.Goodbye(c.Request().Context(), v.session)
	}
	return seeOther(c, v.base()+"/goodbye")
}

// goodbye says that nothing is left. It knows nothing of anybody, so anybody may see it.
func (s *Server) goodbye(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session != nil && v.view.Stage != kiosk.StageGoodbye {
		return seeOther(c, v.here())
	}
	p := s.page(c, v, "goodbye")
	p.InSession, p.Look, p.Live.Idle = false, look{}, 0
	if v.session != nil || v.stale {
		forget(c, v)
	}
	c.Response().Header().Set("Refresh", "5; url="+v.base())
	return s.render(c, http.StatusOK, p)
}

// help says where to find a person.
func (s *Server) help(c echo.Context) error { return s.besides(c, "help") }

// spid says what to do without SPID or CIE.
func (s *Server) spid(c echo.Context) error { return s.besides(c, "spid") }

func (s *Server) besides(c echo.Context, name string) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session != nil {
		s.desk.Touch(v.session)
	}
	p := s.page(c, v, name)
	p.Back = v.here()
	if from := c.QueryParam("from"); v.session != nil && v.view.Allows(kiosk.Step(from), v.lineUp) {
		p.Back = v.path(kiosk.Step(from))
	}
	return s.render(c, http.StatusOK, p)
}

// askAssist asks whether a facilitator may help, and says what they see and what they never see.
func (s *Server) askAssist(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session == nil {
		return seeOther(c, v.base())
	}
	s.desk.Touch(v.session)
	p := s.page(c, v, "assist")
	p.Back = v.here()
	return s.render(c, http.StatusOK, p)
}

func (s *Server) setAssist(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	if v.session == nil {
		return kiosk.ErrNoSession
	}
	mode := kiosk.Mode(strings.TrimSpace(c.FormValue("mode")))
	if mode != v.view.Mode {
		if err := s.desk.SetMode(c.Request().Context(), v.session, mode); err != nil {
			return err
		}
	}
	return seeOther(c, v.here())
}
