package spid

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
)

const sigAlg = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"

// redirect returns the address of the HTTP-Redirect binding (SAML bindings §3.4): the request, the RelayState and the
// algorithm, in that order, and a signature over exactly those characters.
func (p *Provider) redirect(req Request, sso, relay string) (string, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write([]byte(p.authnRequest(req, sso))); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	query := "SAMLRequest=" + url.QueryEscape(base64.StdEncoding.EncodeToString(packed.Bytes())) +
		"&RelayState=" + url.QueryEscape(relay) +
		"&SigAlg=" + url.QueryEscape(sigAlg)
	sum := sha256.Sum256([]byte(query))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	sep := "?"
	if strings.Contains(sso, "?") {
		sep = "&"
	}
	return sso + sep + query + "&Signature=" + url.QueryEscape(base64.StdEncoding.EncodeToString(sig)), nil
}

// authnRequest is as AgID's rules want it: level 2 or more with a fresh authentication, no IsPassive, no AllowCreate,
// the endpoints by their index in the metadata, no white space around the class reference.
func (p *Provider) authnRequest(req Request, sso string) string {
	return `<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"` +
		` ID="` + escape(req.ID) + `" Version="2.0" IssueInstant="` + req.Issued.UTC().Format("2006-01-02T15:04:05.000Z") + `"` +
		` Destination="` + escape(sso) + `" ForceAuthn="true" AssertionConsumerServiceIndex="0" AttributeConsumingServiceIndex="0">` +
		`<saml:Issuer Format="` + entityFormat + `" NameQualifier="` + escape(p.cfg.EntityID) + `">` + escape(p.cfg.EntityID) + `</saml:Issuer>` +
		`<samlp:NameIDPolicy Format="` + transientFormat + `"/>` +
		`<samlp:RequestedAuthnContext Comparison="minimum"><saml:AuthnContextClassRef>https://www.spid.gov.it/SpidL2</saml:AuthnContextClassRef>` +
		`</samlp:RequestedAuthnContext></samlp:AuthnRequest>`
}
