package web

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/citizen"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/spid"
)

// Phones is what the citizens' pages need.
type Phones struct {
	Login *login.Desk
	SPID  *spid.Provider
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

	mu    sync.Mutex
	flows map[string]*flow
	byBox map[uint32][]string // names of flows, oldest first
}

// flow is one phone's login, from "Continua" to the code. The cookie holds its name; everything else stays here.
type flow struct {
	visit login.Visit
	lang  string
	born  time.Time
	end   *time.Timer
	proof *citizen.IdentityProof // of a browser that came back without the cookie, until it has confirmed
	code  string                 // "" before the login
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
		Server: s, desk: s.cfg.Phones.Login, spid: s.cfg.Phones.SPID,
		flows: make(map[string]*flow), byBox: make(map[uint32][]string), sameSite: http.NewCrossOriginProtection(),
		// The identity provider's page posts to us across sites: only SameSite=None is sent along then, and only over
		// TLS. On loopback, where both are the same site to a browser, Lax does.
		cookie: http.Cookie{
			Name: "__Host-login", Path: "/", MaxAge: int(flowFor / time.Second),
			HttpOnly: true, Secure: true, SameSite: http.SameSiteNoneMode,
		},
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
		p.desk.Cancel(v)
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
	to, err := p.spid.Begin(c.QueryParam("idp"), name)
	if errors.Is(err, spid.ErrUnknownIdP) {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	if err == nil {
		if _, err = p.find(name); err != nil {
			p.spid.Forget(name) // the flow was dropped meanwhile, and the request was not there to be dropped with it
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
	req, err := p.spid.Take(r.PostForm.Get("RelayState"))
	if err != nil {
		return p.sorry(c, err)
	}
	here := p.name(c)
	if here != "" && here != req.Flow {
		p.cfg.Log.Warn("response to a request of another browser", "idp", req.IdP)
		return p.sorry(c, errOtherPhone)
	}
	f, err := p.find(req.Flow)
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
		p.forget(req.Flow)
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
	p.desk.Refuse(f.visit)
	return p.sorry(c, err)
}

func (p *phones) complete(c echo.Context, name string, f flow, proof citizen.IdentityProof) error {
	code, err := p.desk.Complete(c.Request().Context(), f.visit, proof)
	if err != nil {
		return p.sorry(c, err)
	}
	p.mu.Lock()
	if f := p.flows[name]; f != nil {
		f.code, f.proof = code, nil
	}
	p.mu.Unlock()
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
	p.desk.Cancel(f.visit)
	p.forget(name)
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
	if f.code == "" {
		p.desk.Cancel(f.visit)
	} else {
		p.desk.NotMe(f.visit)
	}
	p.forget(name)
	return p.render(c, http.StatusOK, "notme", phoneView{Visit: f.visit})
}

// logout has nothing to end: a login of level 2 leaves no session, neither here nor at the identity provider.
func (p *phones) logout(c echo.Context) error {
	return p.render(c, http.StatusOK, "logout", phoneView{})
}

// begin remembers f under a new name and gives that to the browser. When too many phones answer one challenge, the one
// that came first is forgotten; when there are too many at the box or at the hub, the error is errManyFlows.
func (p *phones) begin(c echo.Context, f *flow) error {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	name := hex.EncodeToString(b)
	f.born = p.cfg.Now()
	p.mu.Lock()
	err := p.makeRoom(f.visit)
	if err == nil {
		box := f.visit.Box()
		p.flows[name], p.byBox[box] = f, append(p.byBox[box], name)
		// Also when nobody asks any more, nothing of the citizen stays.
		f.end = time.AfterFunc(flowFor, func() { p.forget(name) })
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	cookie := p.cookie
	cookie.Value = name
	c.SetCookie(&cookie)
	return nil
}

// makeRoom makes room for one more flow of v's challenge. A flow that has its code stays. The caller holds mu.
func (p *phones) makeRoom(v login.Visit) error {
	oldest, n := "", 0
	for _, name := range p.byBox[v.Box()] {
		if f := p.flows[name]; f.code == "" && f.visit.Same(v) {
			if n++; n == 1 {
				oldest = name
			}
		}
	}
	if n >= perChallenge {
		p.drop(oldest)
	}
	if len(p.byBox[v.Box()]) >= perBox || len(p.flows) >= maxFlows {
		return errManyFlows
	}
	return nil
}

// name returns what the browser's cookie says, "" when it has none.
func (p *phones) name(c echo.Context) string {
	ck, err := c.Cookie(p.cookie.Name)
	if err != nil {
		return ""
	}
	return ck.Value
}

// flow returns the flow of the browser.
func (p *phones) flow(c echo.Context) (string, flow, error) {
	name := p.name(c)
	f, err := p.find(name)
	return name, f, err
}

func (p *phones) find(name string) (flow, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flows[name]
	if f == nil || p.cfg.Now().Sub(f.born) >= flowFor {
		return flow{}, errFlowGone
	}
	return *f, nil
}

func (p *phones) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(name)
}

// drop forgets a flow, with its timer and its AuthnRequest: they would pile up otherwise, and the limits on flows would
// be none on them. The caller holds mu.
func (p *phones) drop(name string) {
	f := p.flows[name]
	if f == nil {
		return
	}
	f.end.Stop()
	p.spid.Forget(name)
	delete(p.flows, name)
	box := f.visit.Box()
	p.byBox[box] = slices.DeleteFunc(p.byBox[box], func(n string) bool { return n == name })
	if len(p.byBox[box]) == 0 {
		delete(p.byBox, box)
	}
}
