package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/spid"
)

var phonePages = template.Must(template.ParseFS(files, "templates/phone*.html"))

// phoneView is what a phone's page is made of.
type phoneView struct {
	Page         string
	Lang         string // it | en
	Municipality string
	Host         string // of the hub, as it stands below the QR
	Here         string // path of this page, for the links that change the language; "" without
	Visit        login.Visit
	Challenge    string
	IdPs         []spid.IdP
	Left         time.Duration
	Sorry        sorry
	code         string // unexported, so that no template shows it by mistake; see Digits
}

// T returns the text in the language of the page.
func (v phoneView) T(it, en string) string {
	if v.Lang == "en" {
		return en
	}
	return it
}

// Digits returns the code in two groups of four.
func (v phoneView) Digits() string { return crossdevice.Spaced(v.code) }

// Minutes says how long the code is still good for.
func (v phoneView) Minutes() string {
	n := int(math.Floor(v.Left.Minutes()))
	switch {
	case n < 1:
		return v.T("meno di un minuto", "less than a minute")
	case n == 1:
		return v.T("circa 1 minuto", "about 1 minute")
	default:
		return fmt.Sprintf(v.T("circa %d minuti", "about %d minutes"), n)
	}
}

// sorry is what a page says when there is no going on. Each text is Italian, then English.
type sorry struct {
	status int
	Title  [2]string
	Text   [2]string
	Retry  bool // the citizen may choose an identity provider again
}

func (v phoneView) SorryTitle() string { return v.T(v.Sorry.Title[0], v.Sorry.Title[1]) }
func (v phoneView) SorryText() string  { return v.T(v.Sorry.Text[0], v.Sorry.Text[1]) }

// sorries are the pages of foreseen errors.
func sorries() []struct {
	err error
	sorry
} {
	again := [2]string{"Torna allo schermo della postazione e chiedi un nuovo codice QR.", "Go back to the kiosk's screen and ask for a new QR code."}
	and := func(it, en string) [2]string { return [2]string{it + " " + again[0], en + " " + again[1]} }
	return []struct {
		err error
		sorry
	}{
		{login.ErrForged, sorry{http.StatusNotFound, [2]string{"Questo codice QR non è nostro", "This QR code is not ours"}, [2]string{
			"Non viene da una postazione del Comune. Non inserire dati: chiudi questa pagina e avvisa il personale della sede.",
			"It does not come from one of the municipality's kiosks. Do not enter any data: close this page and tell the staff of the branch.",
		}, false}},
		{login.ErrRevoked, sorry{http.StatusForbidden, [2]string{"Questa postazione non è attiva", "This kiosk is not active"}, [2]string{
			"La postazione non può più ricevere accessi. Avvisa il personale della sede.",
			"The kiosk can no longer accept logins. Tell the staff of the branch.",
		}, false}},
		{login.ErrExpired, sorry{http.StatusGone, [2]string{"Il codice QR è scaduto", "The QR code has expired"}, and("È passato troppo tempo.", "Too much time has passed."), false}},
		{login.ErrUsed, sorry{http.StatusGone, [2]string{"Codice QR già usato", "QR code already used"}, and(
			"Con questo codice QR qualcuno è già entrato, e vale una volta sola.", "Somebody has already logged in with this QR code, and it works only once."), false}},
		{login.ErrCancelled, sorry{http.StatusGone, [2]string{"Accesso annullato", "Login cancelled"}, and("Questo codice QR non vale più.", "This QR code is no longer valid."), false}},
		{login.ErrBusy, sorry{http.StatusServiceUnavailable, [2]string{"Troppi accessi insieme", "Too many logins at once"}, [2]string{
			"Riprova fra qualche minuto.", "Try again in a few minutes.",
		}, false}},
		{errFlowGone, sorry{http.StatusGone, [2]string{"Questa pagina è scaduta", "This page has expired"}, again, false}},
		{spid.ErrNoRequest, sorry{http.StatusForbidden, [2]string{"Questa pagina è già stata usata", "This page was already used"}, and(
			"Una risposta del gestore SPID vale una volta sola e per pochi minuti.", "An answer of the SPID provider works only once and for a few minutes."), false}},
		{errOtherPhone, sorry{http.StatusForbidden, [2]string{"Accesso non riconosciuto", "Login not recognised"}, and(
			"L'accesso era stato iniziato su un altro dispositivo o in un'altra finestra.", "The login was begun on another device or in another window."), false}},
		{errNoCookies, sorry{http.StatusForbidden, [2]string{"Il browser non accetta i cookie", "The browser does not accept cookies"}, [2]string{
			"Per entrare serve un cookie tecnico, che dura pochi minuti. Apri il codice QR con il browser del telefono, non dentro un'altra app.",
			"Logging in needs a technical cookie that lasts a few minutes. Open the QR code with the phone's browser, not inside another app.",
		}, false}},
		{errNoIdP, sorry{http.StatusServiceUnavailable, [2]string{"SPID non risponde", "SPID does not answer"}, [2]string{
			"In questo momento non è possibile entrare con SPID. Riprova fra qualche minuto.",
			"Logging in with SPID is not possible at the moment. Try again in a few minutes.",
		}, true}},
		{errManyFlows, sorry{http.StatusServiceUnavailable, [2]string{"Troppi accessi insieme", "Too many logins at once"}, [2]string{
			"Riprova fra qualche minuto.", "Try again in a few minutes.",
		}, false}},
		{spid.ErrBusy, sorry{http.StatusServiceUnavailable, [2]string{"Troppi accessi insieme", "Too many logins at once"}, [2]string{
			"Riprova fra qualche minuto.", "Try again in a few minutes.",
		}, true}},
	}
}

// sorry answers with the page of err. A cause that nobody foresaw is logged and not shown.
func (p *phones) sorry(c echo.Context, err error) error {
	v := phoneView{}
	var status *spid.StatusError
	var refused *spid.RefusedError
	switch {
	case errors.As(err, &status):
		v.Sorry = sorry{
			status: http.StatusForbidden, Title: [2]string{"Accesso non riuscito", "Login not successful"},
			Text: [2]string{status.Text("it"), status.Text("en")},
		}
		v.Sorry.Text[0] += " Per riprovare, chiedi un nuovo codice QR alla postazione."
		v.Sorry.Text[1] += " To try again, ask for a new QR code at the kiosk."
	case errors.As(err, &refused):
		v.Sorry = sorry{
			status: http.StatusForbidden, Title: [2]string{"Accesso non riuscito", "Login not successful"}, Retry: true,
			Text: [2]string{
				"La risposta del gestore SPID non è valida, quindi non possiamo accettarla. Puoi riprovare.",
				"The answer of the SPID provider is not valid, so we cannot accept it. You can try again.",
			},
		}
	default:
		for _, s := range sorries() {
			if errors.Is(err, s.err) {
				v.Sorry = s.sorry
			}
		}
	}
	if v.Sorry.status == 0 {
		p.cfg.Log.Error("phone page failed", "err", err, "route", c.Path())
		v.Sorry = sorry{
			status: http.StatusInternalServerError, Title: [2]string{"Qualcosa non ha funzionato", "Something went wrong"},
			Text: [2]string{"È un problema nostro. Riprova fra qualche minuto.", "The problem is ours. Try again in a few minutes."},
		}
	}
	return p.render(c, v.Sorry.status, "sorry", v)
}

func (p *phones) render(c echo.Context, status int, page string, v phoneView) error {
	v.Page, v.Lang, v.Municipality, v.Host = page, p.lang(c), p.cfg.Municipality, p.cfg.PublicURL.Host
	if v.Municipality == "" {
		v.Municipality = "Comune"
	}
	if c.Request().Method == http.MethodGet {
		v.Here = c.Request().URL.Path
	}
	var b bytes.Buffer
	if err := phonePages.ExecuteTemplate(&b, "phone.html", v); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	return c.HTMLBlob(status, b.Bytes())
}

// lang returns the language of the page: what the address asks for, what was chosen before, or what the browser
// prefers. Who prefers neither Italian nor English gets English.
func (p *phones) lang(c echo.Context) string {
	l := c.QueryParam("lang")
	name, f, err := p.flow(c)
	if l == "it" || l == "en" {
		if err == nil && f.lang != l {
			if err := p.change(c.Request().Context(), name, func(f *flow) { f.lang = l }); err != nil {
				p.cfg.Log.Warn("language of a phone not kept", "err", err)
			}
		}
		return l
	}
	// A landing page is a new login, perhaps another person's on the same phone.
	if err == nil && !strings.HasPrefix(strings.ToLower(c.Path()), "/p/") {
		return f.lang
	}
	header := strings.ToLower(c.Request().Header.Get("Accept-Language"))
	if header == "" {
		return "it"
	}
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if strings.HasPrefix(tag, "it") {
			return "it"
		}
		if strings.HasPrefix(tag, "en") {
			return "en"
		}
	}
	return "en"
}
