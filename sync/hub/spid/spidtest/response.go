package spidtest

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

const stamp = "2006-01-02T15:04:05.000Z"

// draft is a Response on its way out. Faults change it before it is signed, or afterwards.
type draft struct {
	p     *IdP
	req   authnRequest
	now   time.Time
	root  *etree.Element
	signs struct{ assertion, response bool }
	by    signer
	then  []func(*draft) // after signing
	text  func(string) string
	err   error
}

// stranger returns the key of somebody else.
func (d *draft) stranger() signer {
	s, err := d.p.other()
	if err != nil {
		d.err = err
		return d.by
	}
	return s
}

// success returns the base64 of a Response that says that c logged in.
func (p *IdP) success(req authnRequest, c Citizen, faultName string) (string, error) {
	d := &draft{p: p, req: req, now: p.cfg.Now().UTC(), by: p.good}
	d.signs.assertion, d.signs.response = true, true
	now, soon := d.now.Format(stamp), d.now.Add(5*time.Minute).Format(stamp)
	issuer := `<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Format="` + entityFormat + `">` + escape(p.url) + `</saml:Issuer>`
	attribute := func(name, value string) string {
		return `<saml:Attribute Name="` + name + `" NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:basic"><saml:AttributeValue ` +
			`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xs="http://www.w3.org/2001/XMLSchema" xsi:type="xs:string">` + escape(value) +
			`</saml:AttributeValue></saml:Attribute>`
	}
	err := d.parse(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_` + randomHex(20) + `" Version="2.0" IssueInstant="` + now +
		`" InResponseTo="` + escape(req.ID) + `" Destination="` + escape(req.ACS) + `">` + issuer +
		`<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>` +
		`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_` + randomHex(20) + `" Version="2.0" IssueInstant="` + now + `">` + issuer +
		`<saml:Subject><saml:NameID Format="` + transientFormat + `" NameQualifier="` + escape(p.url) + `">_` + randomHex(16) + `</saml:NameID>` +
		`<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData Recipient="` + escape(req.ACS) +
		`" InResponseTo="` + escape(req.ID) + `" NotOnOrAfter="` + soon + `"/></saml:SubjectConfirmation></saml:Subject>` +
		`<saml:Conditions NotBefore="` + now + `" NotOnOrAfter="` + soon + `"><saml:AudienceRestriction><saml:Audience>` + escape(req.Issuer) +
		`</saml:Audience></saml:AudienceRestriction></saml:Conditions>` +
		`<saml:AuthnStatement AuthnInstant="` + now + `" SessionIndex="_` + randomHex(16) + `"><saml:AuthnContext><saml:AuthnContextClassRef>` +
		`https://www.spid.gov.it/SpidL` + string(max(req.Level, '2')) + `</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>` +
		`<saml:AttributeStatement>` + attribute("fiscalNumber", "TINIT-"+c.FiscalCode) + attribute("name", c.Name) +
		attribute("familyName", c.FamilyName) + `</saml:AttributeStatement></saml:Assertion></samlp:Response>`)
	if err != nil {
		return "", err
	}
	if faultName != "" {
		f, ok := findFault(faultName)
		if !ok {
			return "", fmt.Errorf("no fault %q", faultName)
		}
		f.edit(d)
	}
	return d.finish()
}

// failure returns the base64 of a Response with one of AgID's error codes, unsigned as those of real IdPs are.
func (p *IdP) failure(req authnRequest, code int) (string, error) {
	d := &draft{p: p, req: req, now: p.cfg.Now().UTC(), by: p.good}
	err := d.parse(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_` + randomHex(20) + `" Version="2.0" IssueInstant="` +
		d.now.Format(stamp) + `" InResponseTo="` + escape(req.ID) + `" Destination="` + escape(req.ACS) + `">` +
		`<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Format="` + entityFormat + `">` + escape(p.url) + `</saml:Issuer>` +
		`<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder"><samlp:StatusCode ` +
		`Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></samlp:StatusCode><samlp:StatusMessage>ErrorCode nr` +
		twoDigits(code) + `</samlp:StatusMessage></samlp:Status></samlp:Response>`)
	if err != nil {
		return "", err
	}
	return d.finish()
}

func twoDigits(n int) string {
	if n < 10 {
		return "0" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

func (d *draft) parse(s string) error {
	doc := etree.NewDocument()
	if err := doc.ReadFromString(s); err != nil {
		return err
	}
	d.root = doc.Root()
	return nil
}

// finish signs the draft and returns it in base64.
func (d *draft) finish() (string, error) {
	if d.err != nil {
		return "", d.err
	}
	if a := d.at("Assertion"); a != nil && d.signs.assertion {
		if err := d.sign(a); err != nil {
			return "", err
		}
	}
	if d.signs.response {
		if err := d.sign(d.root); err != nil {
			return "", err
		}
	}
	for _, f := range d.then {
		f(d)
	}
	doc := etree.NewDocument()
	doc.SetRoot(d.root)
	s, err := doc.WriteToString()
	if err != nil {
		return "", err
	}
	if d.text != nil {
		s = d.text(s)
	}
	return base64.StdEncoding.EncodeToString([]byte(s)), nil
}

// sign puts an enveloped signature after the Issuer of e, where SAML's schema wants it.
func (d *draft) sign(e *etree.Element) error {
	sig, err := d.signature(e, dsig.RSASHA256SignatureMethod)
	if err != nil {
		return err
	}
	at := 0
	for i, c := range e.Child {
		if el, ok := c.(*etree.Element); ok && el.Tag == "Issuer" {
			at = i + 1
		}
	}
	e.InsertChildAt(at, sig)
	return nil
}

func (d *draft) signature(e *etree.Element, method string) (*etree.Element, error) {
	ctx, err := dsig.NewSigningContext(d.by.key, [][]byte{d.by.cert})
	if err != nil {
		return nil, err
	}
	ctx.Hash = crypto.SHA256
	ctx.IdAttribute = "ID"
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := ctx.SetSignatureMethod(method); err != nil {
		return nil, err
	}
	return ctx.ConstructSignature(e, true)
}

// at returns the element at a path of names below the root, nil when there is none. "Response" is the root itself.
func (d *draft) at(path string) *etree.Element {
	e := d.root
	if path == "Response" {
		return e
	}
	for name := range strings.SplitSeq(path, "/") {
		var next *etree.Element
		for _, c := range e.ChildElements() {
			if c.Tag == name {
				next = c
				break
			}
		}
		if next == nil {
			return nil
		}
		e = next
	}
	return e
}
