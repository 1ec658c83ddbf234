package web

import (
	"errors"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/sync/health"
	"sportello.example/sync/wire"
)

// loginPage is what "how do you want to log in" shows.
type loginPage struct{ LineUp bool }

func (s *Server) showLogin(_ echo.Context, v visit, p *page) (err error) {
	p.Live.Reload = true
	p.Data = loginPage{LineUp: v.lineUp}
	if p.Banner, err = s.lineBanner(p.lang, v); err != nil {
		return err
	}
	if v.view.Stage == kiosk.StageLogin {
		p.Back = "" // the form takes the login back
	}
	if !v.lineUp {
		p.TitleKey = "login.offline.title"
		return nil
	}
	return lead(p)
}

func (s *Server) postLogin(c echo.Context, v visit) error {
	if c.FormValue("action") == "cancel" {
		return s.cancelLogin(c, v)
	}
	return s.desk.BeginLogin(c.Request().Context(), v.session)
}

// cancelLogin goes back to the last question.
func (s *Server) cancelLogin(c echo.Context, v visit) error {
	s.desk.CancelLogin(v.session)
	v.reload()
	if back := v.view.Back(kiosk.StepLogin); back != "" {
		return seeOther(c, v.path(back))
	}
	return nil
}

// qrPage is what the page with the QR shows: the QR, or why there is none.
type qrPage struct {
	QR    qr
	Host  string // of the address in the QR, for people to compare with their phone
	State string // live | old | cancelled | refused | expired
}

func (s *Server) showQR(_ echo.Context, v visit, p *page) error {
	p.Live.Reload, p.Live.Refresh, p.Live.Idle, p.Live.Warn = true, 5, idlePhone, warnSlow
	d := qrPage{State: "live"}
	p.Back = "" // the form takes the login back
	switch {
	case v.view.LoginEnded != "":
		d.State = v.view.LoginEnded
	case v.view.QR == "" || !s.qrLive(v.view):
		d.State = "old"
	default:
		var err error
		if d.QR, err = drawQR(v.view.QR); err != nil {
			return err
		}
		if u, err := url.Parse(v.view.QR); err == nil {
			d.Host = strings.ToLower(u.Hostname())
		}
	}
	if d.State != "live" {
		p.TitleKey = joinKey("qr", d.State, "title")
	}
	p.Data = d
	return nil
}

func (s *Server) postQR(c echo.Context, v visit) error {
	switch c.FormValue("action") {
	case "new":
		return s.desk.BeginLogin(c.Request().Context(), v.session)
	case "cancel":
		s.desk.CancelLogin(v.session)
		return nil
	}
	return kiosk.ErrUnknown
}

// padPage is what a page with a code and keys for it shows.
type padPage struct {
	Field    string // of the form
	Value    string // what was typed so far, in groups
	Length   int
	Group    int // characters that stand together
	Alphabet string
	Columns  int
	Hint     string
}

const digits = "1234567890"

func (s *Server) showCode(c echo.Context, v visit, p *page) (err error) {
	p.Live.Idle, p.Live.Warn = idlePhone, warnSlow
	d := padPage{Field: "code", Length: 8, Group: 4, Alphabet: digits, Columns: 3, Value: typedCode(c, digits, 8, 4)}
	if v.view.LoginEnded != "" {
		p.Error, err = p.lang.T(joinKey("qr", v.view.LoginEnded, "title"))
	}
	p.Data = d
	return errors.Join(err, lead(p))
}

// typedCode returns what a key on the screen makes of what was typed. After a wrong code the field is empty.
func typedCode(c echo.Context, alphabet string, n, group int) string {
	if refused(c) != nil {
		return ""
	}
	s := kiosk.PressKey(c.FormValue("code"), c.FormValue("key"), alphabet, n)
	if len(s) > group {
		return s[:group] + " " + s[group:]
	}
	return s
}

// pressed shows the page again with one more character: what the keys do in a browser that runs no script. The code
// is in the form and nowhere else, least of all in an address.
func (s *Server) pressed(c echo.Context, v visit, name kiosk.Step) error {
	return s.show(c, v, s.steps[name], s.page(c, v, string(name)), 200)
}

func (s *Server) postCode(c echo.Context, v visit) error {
	if c.FormValue("key") != "" {
		return s.pressed(c, v, kiosk.StepCode)
	}
	err := s.desk.EnterCode(c.Request().Context(), v.session, kiosk.PressKey(c.FormValue("code"), "", digits, 8))
	switch {
	case errors.Is(err, kiosk.ErrCodeWrong):
		v.reload()
		n := "other"
		if v.view.TriesLeft == 1 {
			n = "one"
		}
		r := &refusal{key: joinKey("code", "wrong", n)}
		if n == "other" {
			r.args = []any{"n", v.view.TriesLeft}
		}
		return r
	case errors.Is(err, kiosk.ErrLoginDead):
		return s.over(c, v, "code_dead")
	case errors.Is(err, kiosk.ErrLoginExpired):
		return s.over(c, v, "code_expired")
	}
	return err
}

// over says that a login has ended and leads back to how to log in.
func (s *Server) over(c echo.Context, v visit, kind string) error {
	v.reload()
	p := s.page(c, v, "error")
	p.Data = errorPage{Kind: kind}
	p.TitleKey = joinKey("error", kind, "title")
	return s.render(c, 410, p)
}

// identityPage is what "Sei tu?" shows.
type identityPage struct {
	Masked string // "" while it is not known who it is
	Since  string // when the line went down, "" while it is up
	Late   bool
	Leave  bool // the request can be left
}

func (s *Server) showIdentity(_ echo.Context, v visit, p *page) error {
	d := identityPage{Masked: v.view.Masked, Late: s.late(v.view) || !v.lineUp, Leave: v.view.Answers.Service == kiosk.Certificates}
	p.Live.Reload = true
	if d.Masked == "" {
		p.TitleKey = "identity.wait.title"
		p.Live.Refresh, p.Live.Idle, p.Live.Warn = 3, idleSlow, warnSlow
	}
	t := &texts{l: p.lang}
	if !v.lineUp {
		d.Since = t.since(s.cfg.Board.Status(health.Hub).Since, s.cfg.Now())
	}
	p.Data = d
	return t.err
}

func (s *Server) postIdentity(c echo.Context, v visit) error {
	ctx := c.Request().Context()
	switch c.FormValue("action") {
	case "yes":
		return s.desk.Accept(ctx, v.session, true)
	case "no":
		return s.desk.Accept(ctx, v.session, false)
	case "leave":
		return s.desk.LeaveRequest(ctx, v.session)
	case "cancel":
		s.desk.CancelLogin(v.session)
		return nil
	}
	return kiosk.ErrUnknown
}

func (s *Server) showCollect(c echo.Context, _ visit, p *page) error {
	p.Data = padPage{
		Field: "code", Length: kiosk.PickupDigits, Group: 3, Alphabet: wire.PickupAlphabet, Columns: 5,
		Value: typedCode(c, wire.PickupAlphabet, kiosk.PickupDigits, 3),
	}
	return lead(p)
}

func (s *Server) postCollect(c echo.Context, v visit) error {
	if c.FormValue("key") != "" {
		return s.pressed(c, v, kiosk.StepCollect)
	}
	err := s.desk.Collect(c.Request().Context(), v.session, c.FormValue("code"))
	for _, r := range []struct {
		err error
		key string
	}{
		{kiosk.ErrNoRequest, "collect.unknown"}, {kiosk.ErrTooMany, "collect.many"}, {kiosk.ErrOffline, "collect.offline"},
	} {
		if errors.Is(err, r.err) {
			return &refusal{key: r.key}
		}
	}
	return err
}
