package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/citizen"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/spid"
)

// Phones is what the citizens' pages need.
type Phones struct {
	Login *login.Desk
	SPID  *spid.Provider
	// Moments is where phones' logins are kept; nil: in memory of the Server's own. Somebody else sweeps it.
	Moments moment.Store
}

// Paths of the phone's pages. A kiosk's QR holds /P/ and a challenge, in upper case throughout; the rest is lower case.
const (
	pathChallenge = "/p/:challenge"
	pathProvider  = "/login/provider"
	pathSPID      = "/spid/login"
	pathConfirm   = "/login/confirm"
	pathCancel    = "/login/cancel"
	pathCode      = "/login/code"
	pathNotMe     = "/login/notme"
)

const (
	flowFor  = 15 * time.Minute // how long a phone has for all of it
	maxFlows = 20_000           // phones at once: more is an attack
	// Whoever photographs a QR must not be able to keep phones away from other kiosks, nor from the other boxes.
	perChallenge = 5         // phones between a QR and its code
	perBox       = 200       // phones at one box
	maxName      = 64        // characters of a flow's name
	maxForm      = 16 << 10  // bytes of our own forms
	maxACS       = 512 << 10 // bytes of what an identity provider's page posts
)

// phones serves the citizens' phones: from the kiosk's QR to the code.
type phones struct {
	*Server
	desk     *login.Desk
	spid     *spid.Provider
	cookie   http.Cookie // how the flow cookie is set
	sameSite *http.CrossOriginProtection
	moments  moment.Store
}

var (
	errFlowGone   = errors.New("login over, or never begun in this browser")
	errNoCookies  = errors.New("browser keeps no cookies")
	errOtherPhone = errors.New("response to a request of another browser")
	errNoIdP      = errors.New("no identity provider is known")
	errManyFlows  = errors.New("too many phones at once")
)

// phoneRoutes adds the pages that citizens' phones see.
func (s *Server) phoneRoutes(e *echo.Echo) {
	if s.cfg.Phones.Login == nil || s.cfg.Phones.SPID == nil {
		return // a hub without logins, as some tests make it
	}
	p := &phones{
		Server: s, desk: s.cfg.Phones.Login, spid: s.cfg.Phones.SPID, moments: s.cfg.Phones.Moments, sameSite: http.NewCrossOriginProtection(),
		// The identity provider's page posts to us across sites: only SameSite=None is sent along then, and only over
		// TLS. On loopback, where both are the same site to a browser, Lax does.
		cookie: http.Cookie{
			Name: "__Host-login", Path: "/", MaxAge: int(flowFor / time.Second),
			HttpOnly: true, Secure: true, SameSite: http.SameSiteNoneMode,
		},
	}
	if p.moments == nil {
		p.moments = moment.New(s.cfg.Now)
	}
	if s.cfg.PublicURL.Scheme != "https" {
		p.cookie.Name, p.cookie.Secure, p.cookie.SameSite = "login", false, http.SameSiteLaxMode
	}
	// Not a group: echo's groups answer 404 where 405 is right.
	for _, path := range []string{pathChallenge, "/P/:challenge"} {
		e.GET(path, p.landing, p.headers)
		e.POST(path, p.answer, p.headers, p.ownForm)
	}
	e.GET(pathProvider, p.provider, p.headers)
	e.GET(pathSPID, p.toIdP, p.headers)
	e.POST(spid.PathACS, p.fromIdP, p.headers)
	e.POST(pathConfirm, p.confirm, p.headers, p.ownForm)
	e.POST(pathCancel, p.cancel, p.headers, p.ownForm)
	e.GET(pathCode, p.code, p.headers)
	e.POST(pathNotMe, p.notMe, p.headers, p.ownForm)
	e.GET(spid.PathLogout, p.logout, p.headers)
	e.GET(spid.PathMetadata, func(c echo.Context) error {
		return c.Blob(http.StatusOK, "application/samlmetadata+xml", p.spid.Metadata())
	})
}

// headers sets what the phone's pages need beyond publicHeaders: no script at all, and a Referer (hence an Origin that
// can be compared) within the hub only.
func (p *phones) headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		return next(c)
	}
}

// ownForm lets only forms of our own pages through.
func (p *phones) ownForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := p.sameSite.Check(c.Request()); err != nil {
			return p.sorry(c, errOtherPhone)
		}
		c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxForm)
		return next(c)
	}
}

// landing says which kiosk the QR is of.
func (p *phones) landing(c echo.Context) error {
	v, err := p.desk.Open(c.Request().Context(), c.Param("challenge"))
	if err != nil {
		return p.sorry(c, err)
	}
	return p.render(c, http.StatusOK, "landing", phoneView{Visit: v, Challenge: c.Param("challenge")})
}

// answer is "Continua" or "No, annulla" on the landing page.
func (p *phones) answer(c echo.Context) error {
	v, err := p.desk.Open(c.Request().Context(), c.Param("challenge"))
	if err != nil {
		return p.sorry(c, err)
	}
	switch c.FormValue("answer") {
	case "no":
		if err := p.desk.Cancel(c.Request().Context(), v); err != nil {
			return p.sorry(c, err)
		}
		return p.render(c, http.StatusOK, "cancelled", phoneView{Visit: v})
	case "yes":
		if err := p.begin(c, &flow{visit: v, lang: p.lang(c)}); err != nil {
			return p.sorry(c, err)
		}
		return c.Redirect(http.StatusSeeOther, pathProvider)
	default:
		return echo.NewHTTPError(http.StatusBadRequest)
	}
}

// provider lets the citizen choose an identity provider.
func (p *phones) provider(c echo.Context) error {
	_, f, err := p.flow(c)
	if errors.Is(err, errFlowGone) && p.name(c) == "" {
		err = errNoCookies // it was set a moment ago
	}
	if err != nil {
		return p.sorry(c, err)
	}
	idps := p.spid.IdPs()
	if len(idps) == 0 {
		return p.sorry(c, errNoIdP)
	}
	return p.render(c, http.StatusOK, "provider", phoneView{Visit: f.visit, IdPs: idps})
}

// toIdP sends the browser to the identity provider. The rules want status 302.
func (p *phones) toIdP(c echo.Context) error {
	name, _, err := p.flow(c)
	if err != nil {
		return p.sorry(c, err)
	}
	ctx := c.Request().Context()
	to, err := p.spid.Begin(ctx, c.QueryParam("idp"), name)
	if errors.Is(err, spid.ErrUnknownIdP) {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	if err == nil {
		if _, err = p.find(ctx, name); err != nil {
			// The flow was dropped meanwhile, and the request was not there to be dropped with it.
			err = errors.Join(err, p.spid.Forget(ctx, name))
		}
	}
	if err != nil {
		return p.sorry(c, err)
	}
	return c.Redirect(http.StatusFound, to)
}

// fromIdP takes what the identity provider's page posts. The request is used up whatever comes of it.
func (p *phones) fromIdP(c echo.Context) error {
	r := c.Request()
	r.Body = http.MaxBytesReader(c.Response(), r.Body, maxACS)
	if err := r.ParseForm(); err != nil {
		return p.sorry(c, spid.ErrNoRequest)
	}
	req, err := p.spid.Take(r.Context(), r.PostForm.Get("RelayState"))
	if err != nil {
		return p.sorry(c, err)
	}
	here := p.name(c)
	if here != "" && here != req.Flow {
		p.cfg.Log.Warn("response to a request of another browser", "idp", req.IdP)
		return p.sorry(c, errOtherPhone)
	}
	f, err := p.find(r.Context(), req.Flow)
	if err != nil {
		return p.sorry(c, err)
	}
	proof, err := p.spid.Verify(req, r.PostForm.Get("SAMLResponse"))
	if err != nil {
		return p.notProved(c, f, req.IdP, err)
	}
	if here == "" {
		// The identity provider's app came back in another browser than the one that scanned the QR. Who holds this one
		// has logged in, but has not said here that they stand at that kiosk.
		if err := p.forget(r.Context(), req.Flow); err != nil {
			return p.sorry(c, err)
		}
		if err := p.begin(c, &flow{visit: f.visit, lang: p.lang(c), proof: &proof}); err != nil {
			return p.sorry(c, err)
		}
		return p.render(c, http.StatusOK, "confirm", phoneView{Visit: f.visit})
	}
	return p.complete(c, req.Flow, f, proof)
}

// notProved answers a login that the identity provider did not grant, or that is not believed.
func (p *phones) notProved(c echo.Context, f flow, idp string, err error) error {
	var status *spid.StatusError
	if !errors.As(err, &status) {
		p.cfg.Log.Warn("spid response refused", "idp", idp, "err", err)
		return p.sorry(c, err)
	}
	if status.OurFault() {
		p.cfg.Log.Error("identity provider finds our request malformed", "idp", idp, "code", status.Code)
	}
	return p.sorry(c, errors.Join(err, p.desk.Refuse(c.Request().Context(), f.visit)))
}

func (p *phones) complete(c echo.Context, name string, f flow, proof citizen.IdentityProof) error {
	code, err := p.desk.Complete(c.Request().Context(), f.visit, proof)
	if err != nil {
		return p.sorry(c, err)
	}
	if err := p.change(c.Request().Context(), name, func(f *flow) { f.code, f.proof = code, nil }); err != nil {
		return p.sorry(c, err)
	}
	return c.Redirect(http.StatusSeeOther, pathCode)
}

// confirm is "Continua" on the second confirmation, see fromIdP.
func (p *phones) confirm(c echo.Context) error {
	name, f, err := p.flow(c)
	if err == nil && f.proof == nil {
		err = errFlowGone
	}
	if err != nil {
		return p.sorry(c, err)
	}
	return p.complete(c, name, f, *f.proof)
}

// cancel is "Annulla" on any page before the code.
func (p *phones) cancel(c echo.Context) error {
	name, f, err := p.flow(c)
	if err != nil {
		return p.sorry(c, err)
	}
	ctx := c.Request().Context()
	if err := errors.Join(p.desk.Cancel(ctx, f.visit), p.forget(ctx, name)); err != nil {
		return p.sorry(c, err)
	}
	return p.render(c, http.StatusOK, "cancelled", phoneView{Visit: f.visit})
}

// code shows the code, to the browser that logged in and as long as the kiosk waits for it: phones drop pages and load
// them again when somebody looks at another app.
func (p *phones) code(c echo.Context) error {
	_, f, err := p.flow(c)
	if err == nil && f.code == "" {
		err = errFlowGone
	}
	left := f.visit.Until.Sub(p.cfg.Now())
	if err == nil && left <= 0 {
		err = login.ErrExpired
	}
	if err != nil {
		return p.sorry(c, err)
	}
	return p.render(c, http.StatusOK, "code", phoneView{Visit: f.visit, code: f.code, Left: left})
}

// notMe is "Non sono io" beside the code.
func (p *phones) notMe(c echo.Context) error {
	name, f, err := p.flow(c)
	if err != nil {
		return p.sorry(c, err)
	}
	ctx, over := c.Request().Context(), p.desk.NotMe
	if f.code == "" {
		over = p.desk.Cancel
	}
	if err := errors.Join(over(ctx, f.visit), p.forget(ctx, name)); err != nil {
		return p.sorry(c, err)
	}
	return p.render(c, http.StatusOK, "notme", phoneView{Visit: f.visit})
}

// logout has nothing to end: a login of level 2 leaves no session, neither here nor at the identity provider.
func (p *phones) logout(c echo.Context) error {
	return p.render(c, http.StatusOK, "logout", phoneView{})
}
