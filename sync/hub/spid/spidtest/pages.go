package spidtest

import (
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strconv"

	"github.com/beevik/etree"
)

// errorCodes are the anomalies that a citizen can cause, with the words of AgID's table.
var errorCodes = []struct {
	Code int
	Text string
}{
	{19, "Credenziali errate troppe volte"},
	{20, "Credenziali di livello troppo basso"},
	{21, "Tempo scaduto"},
	{22, "Consenso negato"},
	{23, "Identità sospesa o revocata"},
	{24, "Riservato"},
	{30, "Identità non personale"},
	{12, "Richiesta del fornitore non valida"},
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} · {{.Name}}</title><link rel="stylesheet" href="/style.css"></head>
<body><header><p class="name">{{.Name}}</p><p class="warning">Simulatore: nessuna persona reale, nessuna password</p></header>
<main><h1>{{.Title}}</h1>
{{- if .Message}}<p>{{.Message}}</p>{{end}}
{{- if .Citizens}}
<p><strong>{{.SP}}</strong> chiede di sapere chi è. Scelga una persona inventata.</p>
<form method="post" action="/login"><input type="hidden" name="session" value="{{.Session}}">
{{range .Citizens}}<button class="citizen" id="citizen-{{.FiscalCode}}" name="citizen" value="{{.FiscalCode}}"><span>{{.Name}} {{.FamilyName}}</span> <span class="code">{{.FiscalCode}}</span></button>
{{end}}</form>
<form method="post" action="/error"><input type="hidden" name="session" value="{{.Session}}"><button class="plain" id="cancel" name="code" value="25">Annulla</button>
<h2>Oppure rispondi con un errore</h2><div class="errors">
{{range .Errors}}<button class="plain" id="error-{{.Code}}" name="code" value="{{.Code}}">{{.Code}} · {{.Text}}</button>
{{end}}</div></form>
{{- end}}
{{- if .Citizen}}
<p><strong>{{.SP}}</strong> riceverà questi dati:</p>
<dl><dt>Nome</dt><dd>{{.Citizen.Name}}</dd><dt>Cognome</dt><dd>{{.Citizen.FamilyName}}</dd><dt>Codice fiscale</dt><dd>{{.Citizen.FiscalCode}}</dd></dl>
<form method="post" action="/consent"><input type="hidden" name="session" value="{{.Session}}"><button id="agree">Acconsento</button></form>
<form method="post" action="/error"><input type="hidden" name="session" value="{{.Session}}"><button class="plain" id="deny" name="code" value="22">Non acconsento</button></form>
{{- end}}
{{- if .ACS}}
<p>Il browser torna ora al servizio. Se non succede nulla, prema il bottone.</p>
<form id="back" method="post" action="{{.ACS}}"><input type="hidden" name="SAMLResponse" value="{{.Response}}"><input type="hidden" name="RelayState" value="{{.Relay}}"><button id="send">Torna al servizio</button></form>
<script nonce="{{.Nonce}}">document.getElementById("back").submit()</script>
{{- end}}
</main></body></html>
`))

const css = `*{box-sizing:border-box}body{margin:0;font:18px/1.5 system-ui,sans-serif;color:#17324d;background:#f2f5f8}
header{background:#455a64;color:#fff;padding:16px 24px}.name{margin:0;font-weight:700;font-size:1.25em}.warning{margin:4px 0 0;font-size:.9em}
main{max-width:40em;margin:0 auto;padding:24px 16px}h1{font-size:1.6em;line-height:1.2}h2{font-size:1em;margin-top:32px}
button{display:block;width:100%;min-height:52px;margin:8px 0;padding:10px 16px;font:inherit;font-weight:600;text-align:left;color:#fff;background:#06c;border:0;border-radius:6px;cursor:pointer}
button:focus-visible{outline:3px solid #000;outline-offset:2px}.plain{background:#fff;color:#17324d;border:1px solid #5d7083;font-weight:400}
.citizen{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 16px}.code{font:.9em ui-monospace,monospace}
.errors{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:0 8px}dl{background:#fff;padding:16px;border-radius:6px}dt{font-size:.85em}dd{margin:0 0 8px;font-weight:600}`

type view struct {
	Name, Title, Message, Session, SP string
	Citizens                          []Citizen
	Errors                            any
	Citizen                           *Citizen
	ACS, Response, Relay, Nonce       string
}

func (p *IdP) show(w http.ResponseWriter, status int, v view) {
	v.Name, v.Errors = p.cfg.Name, errorCodes
	csp := "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
	if v.ACS != "" {
		v.Nonce = randomHex(16)
		if u, err := url.Parse(v.ACS); err == nil {
			csp += " " + u.Scheme + "://" + u.Host
		}
		csp += "; script-src 'nonce-" + v.Nonce + "'"
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", csp)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_ = page.Execute(w, v) // the browser has gone: nobody to tell
}

func (p *IdP) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write([]byte(css))
}

func (p *IdP) home(w http.ResponseWriter, _ *http.Request) {
	p.show(w, http.StatusOK, view{Title: "Identity provider di prova", Message: "Qui si arriva da un servizio che chiede l'accesso con SPID. " +
		"Conosce solo persone inventate e non chiede password."})
}

// metadata publishes what a service provider needs to know.
func (p *IdP) metadata(w http.ResponseWriter, _ *http.Request) {
	raw, err := p.signedMetadata()
	if err != nil {
		http.Error(w, "metadata", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	_, _ = w.Write(raw)
}

func (p *IdP) signedMetadata() ([]byte, error) {
	d := &draft{p: p, by: p.good}
	err := d.parse(`<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" ID="_` + randomHex(16) + `" entityID="` + escape(p.url) + `">` +
		`<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol" WantAuthnRequestsSigned="true">` +
		`<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>` +
		base64.StdEncoding.EncodeToString(p.good.cert) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>` +
		`<md:NameIDFormat>` + transientFormat + `</md:NameIDFormat>` +
		`<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="` + escape(p.url) + `/sso"/>` +
		`</md:IDPSSODescriptor><md:Organization><md:OrganizationName xml:lang="it">` + escape(p.cfg.Name) + `</md:OrganizationName>` +
		`<md:OrganizationDisplayName xml:lang="it">` + escape(p.cfg.Name) + `</md:OrganizationDisplayName>` +
		`<md:OrganizationURL xml:lang="it">` + escape(p.url) + `</md:OrganizationURL></md:Organization></md:EntityDescriptor>`)
	if err != nil {
		return nil, err
	}
	if err := d.sign(d.root); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	doc.SetRoot(d.root)
	return doc.WriteToBytes()
}

// sso is where a service provider sends the browser.
func (p *IdP) sso(w http.ResponseWriter, r *http.Request) {
	sp, err := p.serviceProvider(r.Context())
	if err != nil {
		p.show(w, http.StatusServiceUnavailable, view{Title: "Servizio non conosciuto", Message: err.Error()})
		return
	}
	req, relay, err := p.readRequest(r.URL.RawQuery, sp)
	if err != nil {
		p.show(w, http.StatusForbidden, view{Title: "Richiesta non valida", Message: "ErrorCode " + err.Error()})
		return
	}
	p.show(w, http.StatusOK, view{Title: "Chi entra?", Session: p.begin(req, relay), SP: sp.Name, Citizens: p.cfg.Citizens})
}

// login is the choice of a citizen.
func (p *IdP) login(w http.ResponseWriter, r *http.Request) {
	c := p.citizen(r.PostFormValue("citizen"))
	id := r.PostFormValue("session")
	if c == nil || !p.with(id, false, func(s *session) { s.citizen = c }) {
		p.gone(w)
		return
	}
	name := ""
	if sp, err := p.serviceProvider(r.Context()); err == nil {
		name = sp.Name
	}
	p.show(w, http.StatusOK, view{Title: "Consenso all'invio dei dati", Session: id, SP: name, Citizen: c})
}

// consent sends the citizen back with an Assertion.
func (p *IdP) consent(w http.ResponseWriter, r *http.Request) {
	var s session
	if !p.with(r.PostFormValue("session"), true, func(x *session) { s = *x }) || s.citizen == nil {
		p.gone(w)
		return
	}
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	res, err := p.success(s.req, *s.citizen, fault)
	p.back(w, s, res, err)
}

// refuse sends the citizen back with an error code.
func (p *IdP) refuse(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PostFormValue("code"))
	var s session
	if err != nil || code < 0 || code > 99 || !p.with(r.PostFormValue("session"), true, func(x *session) { s = *x }) {
		p.gone(w)
		return
	}
	res, err := p.failure(s.req, code)
	p.back(w, s, res, err)
}

func (p *IdP) back(w http.ResponseWriter, s session, response string, err error) {
	if err != nil {
		http.Error(w, "response: "+err.Error(), http.StatusInternalServerError)
		return
	}
	p.show(w, http.StatusOK, view{Title: "Fatto", ACS: s.req.ACS, Response: response, Relay: s.relay})
}

func (p *IdP) gone(w http.ResponseWriter) {
	p.show(w, http.StatusGone, view{Title: "Pagina scaduta", Message: "Torni al servizio e ricominci l'accesso."})
}

// Answer is what the browser would carry back to the service provider for the address that Begin gave it, without the
// pages in between: the Response in base64, and the RelayState. fault is a name of Faults, or "".
func (p *IdP) Answer(sp []byte, redirect, fiscalCode, fault string) (response, relayState string, err error) {
	s, err := p.direct(sp, redirect)
	if err != nil {
		return "", "", err
	}
	c := p.citizen(fiscalCode)
	if c == nil {
		c = &Citizen{FiscalCode: fiscalCode, Name: "Nome", FamilyName: "Cognome"}
	}
	response, err = p.success(s.req, *c, fault)
	return response, s.relay, err
}

// AnswerError is Answer with one of AgID's error codes.
func (p *IdP) AnswerError(sp []byte, redirect string, code int) (response, relayState string, err error) {
	s, err := p.direct(sp, redirect)
	if err != nil {
		return "", "", err
	}
	response, err = p.failure(s.req, code)
	return response, s.relay, err
}

func (p *IdP) direct(metadata []byte, redirect string) (session, error) {
	u, err := url.Parse(redirect)
	if err != nil {
		return session{}, err
	}
	sp, err := parseSP(metadata)
	if err != nil {
		return session{}, err
	}
	req, relay, err := p.readRequest(u.RawQuery, sp)
	return session{req: req, relay: relay}, err
}
