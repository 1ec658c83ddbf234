package spid

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/etree"

	"sportello.example/sync/citizen"
)

// Limits of a Response.
const (
	maxResponse = 256 << 10 // bytes of XML
	maxTokens   = 5000
	maxValue    = 255 // bytes of an attribute's value
	skew        = 60 * time.Second
)

var (
	errorCode = regexp.MustCompile(`^ErrorCode nr(\d{2})$`)
	classRef  = regexp.MustCompile(`^https://www\.spid\.gov\.it/SpidL([123])$`)
)

// Verify checks the SAMLResponse (base64, as it was posted) that answers req, which Take returned, and says who logged
// in. The errors are *RefusedError for a message that is not believed, and *StatusError for an IdP's answer that there
// was no login.
func (p *Provider) Verify(req Request, samlResponse string) (citizen.IdentityProof, error) {
	if len(samlResponse) > base64.StdEncoding.EncodedLen(maxResponse)+4096 {
		return citizen.IdentityProof{}, refuse("SAMLResponse", TooBig)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(samlResponse), ""))
	switch {
	case err != nil:
		return citizen.IdentityProof{}, refuse("SAMLResponse", Malformed)
	case len(raw) > maxResponse:
		return citizen.IdentityProof{}, refuse("SAMLResponse", TooBig)
	}
	idp, ok := p.idp(req.IdP)
	if !ok {
		return citizen.IdentityProof{}, refuse("Response/Issuer", Unknown)
	}
	c := check{req: req, idp: idp, acs: p.acs, audience: p.cfg.EntityID, now: p.cfg.Now()}
	return c.response(raw)
}

// check is the verification of one Response.
type check struct {
	req           Request
	idp           IdP
	acs, audience string
	now           time.Time
}

func (c *check) response(raw []byte) (citizen.IdentityProof, error) {
	var nobody citizen.IdentityProof
	if err := lex(raw, maxTokens); err != nil {
		return nobody, err
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil {
		return nobody, refuse("XML", Malformed)
	}
	r := doc.Root()
	if r == nil || !is(r, nsProtocol, "Response") {
		return nobody, refuse("Response", Missing)
	}
	if err := shape(r); err != nil {
		return nobody, err
	}
	if len(kids(r, nsDSig, "Signature")) > 0 {
		if _, err := verifySignature(r, c.idp.certs, c.now); err != nil {
			return nobody, err
		}
	}
	if err := c.header(r); err != nil {
		return nobody, err
	}
	if err := attrIs(r, "InResponseTo", c.req.ID); err != nil {
		return nobody, err
	}
	if err := attrIs(r, "Destination", c.acs); err != nil {
		return nobody, err
	}
	if err := c.issuer(r, false); err != nil {
		return nobody, err
	}
	if err := c.status(r); err != nil {
		return nobody, err
	}
	as, err := one(r, nsAssertion, "Assertion")
	if err != nil {
		return nobody, err
	}
	a, err := verifySignature(as, c.idp.certs, c.now) // from here on, only what was signed
	if err != nil {
		return nobody, err
	}
	if !is(a, nsAssertion, "Assertion") {
		return nobody, refuse("Assertion", Misplaced)
	}
	return c.assertion(a)
}

// shape checks the whole document before any part of it is believed: one Assertion where it belongs, Signatures where
// they belong, no ID twice, nothing that could hide another message.
func shape(r *etree.Element) error {
	var err error
	bad := func(part string, why Why) {
		if err == nil {
			err = refuse(part, why)
		}
	}
	ids := make(map[string]bool)
	assertions := 0
	walk(r, func(e *etree.Element) {
		for _, a := range e.Attr {
			if strings.EqualFold(a.Key, "ID") && a.Space != "xmlns" {
				if ids[a.Value] {
					bad("ID", TooMany)
				}
				ids[a.Value] = true
			}
		}
		up := e.Parent()
		switch e.Tag {
		case "Assertion":
			assertions++
			if up != r || e.NamespaceURI() != nsAssertion {
				bad("Assertion", Misplaced)
			}
		case "EncryptedAssertion", "EncryptedID", "EncryptedAttribute", "Advice":
			bad(e.Tag, Forbidden)
		case "Response":
			if e != r {
				bad("Response", Misplaced)
			}
		case "EntityDescriptor", "EntitiesDescriptor":
			bad(e.Tag, Misplaced)
		case "Signature":
			if up != r && (up.Tag != "Assertion" || up.Parent() != r) || len(kids(up, nsDSig, "Signature")) != 1 {
				bad("Signature", Misplaced)
			}
		}
	})
	if assertions > 1 {
		bad("Assertion", TooMany)
	}
	return err
}

// header checks what a Response and an Assertion have in common.
func (c *check) header(e *etree.Element) error {
	if _, err := attr(e, "ID"); err != nil {
		return err
	}
	if err := attrIs(e, "Version", "2.0"); err != nil {
		return err
	}
	t, err := instant(e, "IssueInstant")
	switch {
	case err != nil:
		return err
	case t.Before(c.req.Issued.Truncate(time.Second).Add(-skew)):
		return refuse(e.Tag+"@IssueInstant", TooEarly)
	case t.After(c.now.Add(skew)):
		return refuse(e.Tag+"@IssueInstant", TooLate)
	}
	return nil
}

func (c *check) issuer(e *etree.Element, formatRequired bool) error {
	i, err := one(e, nsAssertion, "Issuer")
	if err != nil {
		return err
	}
	switch t, err := text(i); {
	case err != nil:
		return refuse(e.Tag+"/Issuer", Empty)
	case t != c.idp.EntityID:
		return refuse(e.Tag+"/Issuer", Mismatch)
	}
	if i.SelectAttr("Format") == nil && !formatRequired {
		return nil
	}
	return attrIs(i, "Format", entityFormat)
}

// status returns nil for success, and a *StatusError for the IdP's refusal.
func (c *check) status(r *etree.Element) error {
	st, err := one(r, nsProtocol, "Status")
	if err != nil {
		return err
	}
	sc, err := one(st, nsProtocol, "StatusCode")
	if err != nil {
		return err
	}
	code, err := attr(sc, "Value")
	if err != nil {
		return err
	}
	const prefix = "urn:oasis:names:tc:SAML:2.0:status:"
	switch code {
	case prefix + "Success":
		return nil
	case prefix + "Requester", prefix + "Responder", prefix + "VersionMismatch":
	default:
		return refuse("StatusCode@Value", Unknown)
	}
	if len(kids(r, nsAssertion, "Assertion")) > 0 {
		return refuse("Assertion", Misplaced)
	}
	failure := &StatusError{}
	if m := kids(st, nsProtocol, "StatusMessage"); len(m) == 1 {
		if t, err := text(m[0]); err == nil {
			if g := errorCode.FindStringSubmatch(t); g != nil {
				failure.Code, _ = strconv.Atoi(g[1]) // two digits
			}
		}
	}
	return failure
}

// assertion reads the signed Assertion.
func (c *check) assertion(a *etree.Element) (citizen.IdentityProof, error) {
	var nobody citizen.IdentityProof
	if err := c.header(a); err != nil {
		return nobody, err
	}
	if err := c.issuer(a, true); err != nil {
		return nobody, err
	}
	if err := c.subject(a); err != nil {
		return nobody, err
	}
	if err := c.conditions(a); err != nil {
		return nobody, err
	}
	ref, err := path(a, nsAssertion, "AuthnStatement", "AuthnContext", "AuthnContextClassRef")
	if err != nil {
		return nobody, err
	}
	class, err := text(ref)
	if err != nil {
		return nobody, err
	}
	g := classRef.FindStringSubmatch(class)
	if g == nil {
		return nobody, refuse("AuthnContextClassRef", Unknown)
	}
	level := g[1][0] - '0'
	if level < c.req.Level {
		return nobody, refuse("AuthnContextClassRef", TooLow)
	}
	attrs, err := attributes(a)
	if err != nil {
		return nobody, err
	}
	number, ok := strings.CutPrefix(attrs["fiscalNumber"], "TINIT-")
	code, err := citizen.ParseFiscalCode(number)
	if !ok || err != nil || code.Reveal() != number {
		return nobody, refuse("fiscalNumber", Malformed)
	}
	for _, n := range []string{"name", "familyName"} {
		if attrs[n] == "" {
			return nobody, refuse(n, Missing)
		}
	}
	return citizen.IdentityProof{
		Scheme: citizen.SPID, Level: level, At: c.now, TransactionID: c.req.ID,
		FiscalCode: code, Name: citizen.NewName(attrs["name"]), FamilyName: citizen.NewName(attrs["familyName"]),
	}, nil
}

func (c *check) subject(a *etree.Element) error {
	sub, err := one(a, nsAssertion, "Subject")
	if err != nil {
		return err
	}
	id, err := one(sub, nsAssertion, "NameID")
	if err != nil {
		return err
	}
	if _, err := text(id); err != nil {
		return err
	}
	if err := attrIs(id, "Format", transientFormat); err != nil {
		return err
	}
	if _, err := attr(id, "NameQualifier"); err != nil {
		return err
	}
	conf, err := one(sub, nsAssertion, "SubjectConfirmation")
	if err != nil {
		return err
	}
	if err := attrIs(conf, "Method", bearer); err != nil {
		return err
	}
	data, err := one(conf, nsAssertion, "SubjectConfirmationData")
	if err != nil {
		return err
	}
	if err := attrIs(data, "Recipient", c.acs); err != nil {
		return err
	}
	if err := attrIs(data, "InResponseTo", c.req.ID); err != nil {
		return err
	}
	return c.before(data)
}

func (c *check) conditions(a *etree.Element) error {
	con, err := one(a, nsAssertion, "Conditions")
	if err != nil {
		return err
	}
	from, err := instant(con, "NotBefore")
	if err != nil {
		return err
	}
	if c.now.Add(skew).Before(from) {
		return refuse("Conditions@NotBefore", TooLate)
	}
	if err := c.before(con); err != nil {
		return err
	}
	aud, err := path(con, nsAssertion, "AudienceRestriction", "Audience")
	if err != nil {
		return err
	}
	switch t, err := text(aud); {
	case err != nil:
		return err
	case t != c.audience:
		return refuse("Audience", Mismatch)
	}
	return nil
}

// before checks NotOnOrAfter. No skew is granted here: IdPs give minutes, so a message on the edge is an old one.
func (c *check) before(e *etree.Element) error {
	t, err := instant(e, "NotOnOrAfter")
	if err == nil && !c.now.Before(t) {
		err = refuse(e.Tag+"@NotOnOrAfter", TooEarly)
	}
	return err
}

// attributes returns the values by name, whatever the NameFormat.
func attributes(a *etree.Element) (map[string]string, error) {
	st, err := one(a, nsAssertion, "AttributeStatement")
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, e := range kids(st, nsAssertion, "Attribute") {
		name, err := attr(e, "Name")
		if err != nil {
			return nil, err
		}
		value, err := one(e, nsAssertion, "AttributeValue")
		if err != nil {
			return nil, err
		}
		t, err := text(value)
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, refuse("Attribute", TooMany)
		}
		if len(t) > maxValue {
			return nil, refuse("AttributeValue", TooBig)
		}
		out[name] = t
	}
	if len(out) == 0 {
		return nil, refuse("AttributeStatement/Attribute", Missing)
	}
	return out, nil
}
