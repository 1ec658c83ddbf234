package spidtest

import (
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// Fault is one way in which a Response can be wrong. Names that are numbers are those of AgID's list of checks for
// service providers.
type Fault struct {
	Name  string
	Title string
	OK    bool // a service provider must accept it all the same
	edit  func(*draft)
}

// Faults returns all that an IdP can be told to do wrong.
func Faults() []Fault {
	return concat(signatureFaults(), responseFaults(), assertionFaults(), statementFaults(), wrappingFaults())
}

func concat(lists ...[]Fault) (out []Fault) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func findFault(name string) (Fault, bool) {
	for _, f := range Faults() {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}

// put sets an attribute, without removes one, drop removes an element, empty removes what is in one, say replaces its
// text. Paths are those of draft.at; what a path does not lead to is left alone.
func put(path, name, value string) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.CreateAttr(name, value)
		}
	}
}

func without(path, name string) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.RemoveAttr(name)
		}
	}
}

func drop(path string) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.Parent().RemoveChild(e)
		}
	}
}

func empty(path string) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.Child = nil
		}
	}
}

func say(path, text string) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.Child = nil
			e.SetText(text)
		}
	}
}

// shift sets an instant relative to now.
func shift(path, name string, by time.Duration) func(*draft) {
	return func(d *draft) {
		if e := d.at(path); e != nil {
			e.CreateAttr(name, d.now.Add(by).Format(stamp))
		}
	}
}

func afterSigning(f func(*draft)) func(*draft) {
	return func(d *draft) {
		d.signs.response = false
		d.then = append(d.then, f)
	}
}

func signatureFaults() []Fault {
	return []Fault{
		{"1", "right in everything", true, func(*draft) {}},
		{"assertion-only", "only the Assertion signed", true, func(d *draft) { d.signs.response = false }},
		{"2", "nothing signed", false, func(d *draft) { d.signs.assertion, d.signs.response = false, false }},
		{"3", "only the Response signed", false, func(d *draft) { d.signs.assertion = false }},
		{"4", "signed with another key", false, func(d *draft) { d.by.key = d.stranger().key }},
		{"5", "signed with another key, its certificate enclosed", false, func(d *draft) { d.by = d.stranger() }},
		{"100", "only the Assertion signed, with another key", false, func(d *draft) { d.by, d.signs.response = d.stranger(), false }},
		{"112", "the IdP's signed metadata first, the Assertion unsigned", false, func(d *draft) {
			d.signs.assertion, d.signs.response = false, false
			d.then = append(d.then, withMetadata)
		}},
		{"113", "the IdP's signed metadata first, the Assertion changed", false, afterSigning(func(d *draft) {
			withMetadata(d)
			impersonate(d.at("Assertion"))
		})},
		{"changed", "changed after signing", false, afterSigning(func(d *draft) { impersonate(d.at("Assertion")) })},
		{"response-changed", "the Response changed after signing", false, func(d *draft) {
			d.then = append(d.then, func(d *draft) { d.root.CreateAttr("Consent", "urn:oasis:names:tc:SAML:2.0:consent:obtained") })
		}},
		{"sha1", "signed with SHA-1", false, func(d *draft) {
			d.signs.assertion, d.signs.response = false, false
			d.then = append(d.then, func(d *draft) {
				a := d.at("Assertion")
				if sig, err := d.signature(a, dsig.RSASHA1SignatureMethod); err == nil {
					a.InsertChildAt(1, sig)
				}
			})
		}},
		{"hmac", "an HMAC in place of a signature", false, afterSigning(put("Assertion/Signature/SignedInfo/SignatureMethod", "Algorithm", "http://www.w3.org/2000/09/xmldsig#hmac-sha256"))},
		{"references", "two References", false, afterSigning(func(d *draft) {
			info := d.at("Assertion/Signature/SignedInfo")
			info.AddChild(d.at("Assertion/Signature/SignedInfo/Reference").Copy())
		})},
		{"reference-all", "a Reference to the whole document", false, afterSigning(put("Assertion/Signature/SignedInfo/Reference", "URI", ""))},
		{"xslt", "a stylesheet as a transform", false, afterSigning(func(d *draft) {
			t := d.at("Assertion/Signature/SignedInfo/Reference/Transforms/Transform")
			t.CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
			t.CreateElement("xsl:stylesheet").CreateAttr("xmlns:xsl", "http://www.w3.org/1999/XSL/Transform")
		})},
	}
}

func responseFaults() []Fault {
	const r = "Response"
	return []Fault{
		{"8", "Response: ID empty", false, put(r, "ID", "")},
		{"9", "Response: no ID", false, func(d *draft) { d.signs.response = false; d.root.RemoveAttr("ID") }},
		{"10", "Response: Version not 2.0", false, put(r, "Version", "3.0")},
		{"11", "Response: IssueInstant empty", false, put(r, "IssueInstant", "")},
		{"12", "Response: no IssueInstant", false, without(r, "IssueInstant")},
		{"13", "Response: IssueInstant malformed", false, put(r, "IssueInstant", "22/11/2026 10:00")},
		{"14", "Response: IssueInstant before the request", false, shift(r, "IssueInstant", -24*time.Hour)},
		{"15", "Response: IssueInstant in the future", false, shift(r, "IssueInstant", 10*time.Minute)},
		{"ahead", "the IdP's clock 20 seconds ahead", true, func(d *draft) {
			shift(r, "IssueInstant", 20*time.Second)(d)
			shift("Assertion", "IssueInstant", 20*time.Second)(d)
			shift("Assertion/Conditions", "NotBefore", 20*time.Second)(d)
		}},
		{"16", "Response: InResponseTo empty", false, put(r, "InResponseTo", "")},
		{"17", "Response: no InResponseTo", false, without(r, "InResponseTo")},
		{"18", "Response: InResponseTo of another request", false, put(r, "InResponseTo", "_other")},
		{"19", "Response: Destination empty", false, put(r, "Destination", "")},
		{"20", "Response: no Destination", false, without(r, "Destination")},
		{"21", "Response: another Destination", false, put(r, "Destination", "https://another.example/acs")},
		{"22", "Status empty", false, empty("Status")},
		{"23", "no Status", false, drop("Status")},
		{"24", "StatusCode empty", false, put("Status/StatusCode", "Value", "")},
		{"25", "no StatusCode", false, drop("Status/StatusCode")},
		{"26", "StatusCode unknown", false, put("Status/StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Perhaps")},
		{"27", "Response: Issuer empty", false, empty("Issuer")},
		{"28", "Response: no Issuer", false, drop("Issuer")},
		{"29", "Response: another Issuer", false, say("Issuer", "https://another.example")},
		{"30", "Response: Issuer with a wrong Format", false, put("Issuer", "Format", transientFormat)},
		{"31", "Response: Issuer without Format", true, without("Issuer", "Format")},
		{"32", "no Assertion", false, drop("Assertion")},
		{"success-and-failure", "an Assertion with a failure status", false, put("Status/StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")},
	}
}

func assertionFaults() []Fault {
	const (
		a    = "Assertion"
		id   = "Assertion/Subject/NameID"
		conf = "Assertion/Subject/SubjectConfirmation"
		data = "Assertion/Subject/SubjectConfirmation/SubjectConfirmationData"
	)
	return []Fault{
		{"33", "Assertion: ID empty", false, put(a, "ID", "")},
		{"34", "Assertion: no ID", false, func(d *draft) { d.signs.assertion = false; d.at(a).RemoveAttr("ID") }},
		{"35", "Assertion: Version not 2.0", false, put(a, "Version", "3.0")},
		{"36", "Assertion: IssueInstant empty", false, put(a, "IssueInstant", "")},
		{"37", "Assertion: no IssueInstant", false, without(a, "IssueInstant")},
		{"38", "Assertion: IssueInstant malformed", false, put(a, "IssueInstant", "yesterday")},
		{"39", "Assertion: IssueInstant before the request", false, shift(a, "IssueInstant", -24*time.Hour)},
		{"40", "Assertion: IssueInstant in the future", false, shift(a, "IssueInstant", 10*time.Minute)},
		{"41", "Subject empty", false, empty("Assertion/Subject")},
		{"42", "no Subject", false, drop("Assertion/Subject")},
		{"43", "NameID empty", false, empty(id)},
		{"44", "no NameID", false, drop(id)},
		{"45", "NameID: Format empty", false, put(id, "Format", "")},
		{"46", "NameID: no Format", false, without(id, "Format")},
		{"47", "NameID: another Format", false, put(id, "Format", entityFormat)},
		{"48", "NameID: NameQualifier empty", false, put(id, "NameQualifier", "")},
		{"49", "NameID: no NameQualifier", false, without(id, "NameQualifier")},
		{"51", "SubjectConfirmation empty", false, empty(conf)},
		{"52", "no SubjectConfirmation", false, drop(conf)},
		{"53", "SubjectConfirmation: Method empty", false, put(conf, "Method", "")},
		{"54", "SubjectConfirmation: no Method", false, without(conf, "Method")},
		{"55", "SubjectConfirmation: another Method", false, put(conf, "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")},
		{"56", "no SubjectConfirmationData", false, drop(data)},
		{"57", "Recipient empty", false, put(data, "Recipient", "")},
		{"58", "no Recipient", false, without(data, "Recipient")},
		{"59", "another Recipient", false, put(data, "Recipient", "https://another.example/acs")},
		{"60", "SubjectConfirmationData: InResponseTo empty", false, put(data, "InResponseTo", "")},
		{"61", "SubjectConfirmationData: no InResponseTo", false, without(data, "InResponseTo")},
		{"62", "SubjectConfirmationData: InResponseTo of another request", false, put(data, "InResponseTo", "_other")},
		{"63", "SubjectConfirmationData: NotOnOrAfter empty", false, put(data, "NotOnOrAfter", "")},
		{"64", "SubjectConfirmationData: no NotOnOrAfter", false, without(data, "NotOnOrAfter")},
		{"65", "SubjectConfirmationData: NotOnOrAfter malformed", false, put(data, "NotOnOrAfter", "soon")},
		{"66", "SubjectConfirmationData: NotOnOrAfter past", false, shift(data, "NotOnOrAfter", -time.Minute)},
		{"67", "Assertion: Issuer empty", false, empty("Assertion/Issuer")},
		{"68", "Assertion: no Issuer", false, drop("Assertion/Issuer")},
		{"69", "Assertion: another Issuer", false, say("Assertion/Issuer", "https://another.example")},
		{"70", "Assertion: Issuer Format empty", false, put("Assertion/Issuer", "Format", "")},
		{"71", "Assertion: Issuer without Format", false, without("Assertion/Issuer", "Format")},
		{"72", "Assertion: Issuer with a wrong Format", false, put("Assertion/Issuer", "Format", transientFormat)},
		{"110", "IssueInstant with fractions of a second", true, func(d *draft) {
			d.at(a).CreateAttr("IssueInstant", d.now.Format("2006-01-02T15:04:05.000000Z"))
		}},
	}
}

func statementFaults() []Fault {
	const (
		con   = "Assertion/Conditions"
		aud   = "Assertion/Conditions/AudienceRestriction"
		authn = "Assertion/AuthnStatement"
		ctx   = "Assertion/AuthnStatement/AuthnContext"
		ref   = "Assertion/AuthnStatement/AuthnContext/AuthnContextClassRef"
		attrs = "Assertion/AttributeStatement"
	)
	number := func(v string) func(*draft) { return say(attrs+"/Attribute/AttributeValue", v) }
	return []Fault{
		{"73", "Conditions empty", false, func(d *draft) { e := d.at(con); e.Child, e.Attr = nil, nil }},
		{"74", "no Conditions", false, drop(con)},
		{"75", "NotBefore empty", false, put(con, "NotBefore", "")},
		{"76", "no NotBefore", false, without(con, "NotBefore")},
		{"77", "NotBefore malformed", false, put(con, "NotBefore", "now")},
		{"78", "NotBefore in the future", false, shift(con, "NotBefore", 10*time.Minute)},
		{"79", "NotOnOrAfter empty", false, put(con, "NotOnOrAfter", "")},
		{"80", "no NotOnOrAfter", false, without(con, "NotOnOrAfter")},
		{"81", "NotOnOrAfter malformed", false, put(con, "NotOnOrAfter", "soon")},
		{"82", "NotOnOrAfter past", false, shift(con, "NotOnOrAfter", -time.Minute)},
		{"83", "AudienceRestriction empty", false, empty(aud)},
		{"84", "no AudienceRestriction", false, drop(aud)},
		{"85", "Audience empty", false, empty(aud + "/Audience")},
		{"86", "no Audience", false, drop(aud + "/Audience")},
		{"87", "another Audience", false, say(aud+"/Audience", "https://another.example")},
		{"88", "AuthnStatement empty", false, empty(authn)},
		{"89", "no AuthnStatement", false, drop(authn)},
		{"90", "AuthnContext empty", false, empty(ctx)},
		{"91", "no AuthnContext", false, drop(ctx)},
		{"92", "AuthnContextClassRef empty", false, empty(ref)},
		{"93", "no AuthnContextClassRef", false, drop(ref)},
		{"94", "level 1", false, say(ref, "https://www.spid.gov.it/SpidL1")},
		{"95", "level 2", true, say(ref, "https://www.spid.gov.it/SpidL2")},
		{"96", "level 3", true, say(ref, "https://www.spid.gov.it/SpidL3")},
		{"97", "level unknown", false, say(ref, "urn:oasis:names:tc:SAML:2.0:ac:classes:SpidL2")},
		{"1-NS", "no SessionIndex", true, without(authn, "SessionIndex")},
		{"98", "AttributeStatement empty", false, empty(attrs)},
		{"99", "Attribute without a value", false, func(d *draft) {
			for _, e := range d.at(attrs).ChildElements() {
				e.Child = nil
			}
		}},
		{"103", "other attributes than asked for", false, func(d *draft) {
			for _, e := range d.at(attrs).ChildElements() {
				e.CreateAttr("Name", "x"+e.SelectAttrValue("Name", ""))
			}
		}},
		{"109", "attributes without NameFormat", true, func(d *draft) {
			for _, e := range d.at(attrs).ChildElements() {
				e.RemoveAttr("NameFormat")
			}
		}},
		{"two-numbers", "two fiscalNumbers", false, func(d *draft) { d.at(attrs).AddChild(d.at(attrs + "/Attribute").Copy()) }},
		{"not-a-number", "a fiscalNumber that is none", false, number("TINIT-ROSSI")},
		{"foreign-number", "a fiscalNumber of another country", false, number("TINDE-12345678901")},
		{"long-name", "a very long name", false, func(d *draft) {
			for _, e := range d.at(attrs).ChildElements() {
				if e.SelectAttrValue("Name", "") == "name" {
					e.ChildElements()[0].SetText(strings.Repeat("a", 300))
				}
			}
		}},
		{"comment", "a comment inside the fiscalNumber, after signing", true, afterSigning(func(d *draft) {
			v := d.at(attrs + "/Attribute/AttributeValue")
			t := v.Text()
			v.Child = nil
			v.CreateText(t[:12])
			v.CreateComment("cut here")
			v.CreateText(t[12:])
		})},
		{"encrypted", "an EncryptedAssertion besides", false, func(d *draft) { d.root.CreateElement("saml:EncryptedAssertion").CreateAttr("xmlns:saml", nsAssertion) }},
		{"advice", "Advice inside the Assertion", false, func(d *draft) { d.at("Assertion").CreateElement("saml:Advice") }},
		{"dtd", "a document type definition", false, func(d *draft) {
			d.text = func(s string) string { return `<!DOCTYPE r [<!ENTITY e "x">]>` + s }
		}},
		{"pi", "a processing instruction", false, func(d *draft) { d.text = func(s string) string { return s + `<?php exit ?>` } }},
		{"deep", "nested very deep", false, func(d *draft) {
			e := d.root
			for range 50 {
				e = e.CreateElement("x")
			}
		}},
		{"huge", "very many elements", false, func(d *draft) {
			for range 6000 {
				d.root.CreateElement("x")
			}
		}},
		{"big", "half a megabyte", false, func(d *draft) { d.root.CreateElement("x").SetText(strings.Repeat("a", 512<<10)) }},
		{"garbage", "no XML at all", false, func(d *draft) { d.text = func(string) string { return "it works on my machine" } }},
		{"truncated", "half a Response", false, func(d *draft) { d.text = func(s string) string { return s[:len(s)/2] } }},
		{"html", "a page in place of a Response", false, func(d *draft) {
			d.text = func(string) string { return "<html><body>502</body></html>" }
		}},
	}
}

const nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"

// impersonate makes an Assertion speak of somebody else.
func impersonate(a *etree.Element) {
	for _, v := range a.FindElements("./AttributeStatement/Attribute/AttributeValue") {
		if strings.HasPrefix(v.Text(), "TINIT-") {
			v.SetText("TINIT-VRDNNA75E55Y200Q")
		}
	}
}

// evil returns a copy of a with another ID and another person in it, with or without the signature of a.
func evil(a *etree.Element, signed bool) *etree.Element {
	c := a.Copy()
	c.CreateAttr("ID", "_evil")
	impersonate(c)
	if !signed {
		dropSignature(c)
	}
	return c
}

func dropSignature(e *etree.Element) {
	for _, s := range e.SelectElements("Signature") {
		e.RemoveChild(s)
	}
}

// withMetadata puts the IdP's own metadata, with their valid signature, before everything else in the Response.
func withMetadata(d *draft) {
	doc := etree.NewDocument()
	if raw, err := d.p.signedMetadata(); err != nil || doc.ReadFromBytes(raw) != nil {
		return
	}
	ext := etree.NewElement("samlp:Extensions")
	ext.AddChild(doc.Root())
	d.root.InsertChildAt(0, ext)
}

// wrappingFaults are the eight classic signature wrapping attacks (Somorovsky et al., USENIX Security 2012), and two more.
func wrappingFaults() []Fault {
	assertion := func(f func(d *draft, a *etree.Element)) func(*draft) {
		return afterSigning(func(d *draft) { f(d, d.at("Assertion")) })
	}
	response := func(f func(d *draft, original *etree.Element)) func(*draft) {
		return func(d *draft) {
			d.then = append(d.then, func(d *draft) {
				original := d.root.Copy()
				dropSignature(original)
				d.root.CreateAttr("ID", "_evil")
				impersonate(d.at("Assertion"))
				dropSignature(d.at("Assertion"))
				f(d, original)
			})
		}
	}
	return []Fault{
		{"xsw1", "the signed Response inside the Signature of another", false, response(func(d *draft, o *etree.Element) { d.at("Signature").AddChild(o) })},
		{"xsw2", "the signed Response beside its Signature in another", false, response(func(d *draft, o *etree.Element) { d.root.InsertChildAt(1, o) })},
		{"xsw3", "another Assertion before the signed one", false, assertion(func(d *draft, a *etree.Element) { d.root.InsertChildAt(a.Index(), evil(a, false)) })},
		{"xsw4", "the signed Assertion inside another", false, assertion(func(d *draft, a *etree.Element) {
			e := evil(a, false)
			d.root.RemoveChild(a)
			e.AddChild(a)
			d.root.AddChild(e)
		})},
		{"xsw5", "another Assertion with the Signature of the signed one", false, assertion(func(d *draft, a *etree.Element) {
			d.root.InsertChildAt(a.Index(), evil(a, true))
			dropSignature(a)
		})},
		{"xsw6", "the signed Assertion inside the Signature of another", false, assertion(func(d *draft, a *etree.Element) {
			e := evil(a, true)
			d.root.RemoveChild(a)
			dropSignature(a)
			e.SelectElement("Signature").AddChild(a)
			d.root.AddChild(e)
		})},
		{"xsw7", "another Assertion in Extensions", false, assertion(func(d *draft, a *etree.Element) {
			x := etree.NewElement("samlp:Extensions")
			x.AddChild(evil(a, false))
			d.root.InsertChildAt(a.Index(), x)
		})},
		{"xsw8", "the signed Assertion in an Object of the Signature of another", false, assertion(func(d *draft, a *etree.Element) {
			e := evil(a, true)
			d.root.RemoveChild(a)
			dropSignature(a)
			e.SelectElement("Signature").CreateElement("ds:Object").AddChild(a)
			d.root.AddChild(e)
		})},
		{"same-id", "another element with the ID of the signed Assertion", false, assertion(func(d *draft, a *etree.Element) {
			d.root.CreateElement("x").CreateAttr("ID", a.SelectAttrValue("ID", ""))
		})},
		{"two-assertions", "the same signed Assertion twice", false, assertion(func(d *draft, a *etree.Element) {
			c := a.Copy()
			c.CreateAttr("ID", "_second")
			d.root.AddChild(c)
		})},
	}
}
