package spid

import (
	"crypto/x509"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// The algorithms that SPID allows. The library would take weaker ones.
const excC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"

func allowedSignature(a string) bool {
	switch a {
	case "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":
		return true
	}
	return false
}

func allowedDigest(a string) bool {
	switch a {
	case "http://www.w3.org/2001/04/xmlenc#sha256",
		"http://www.w3.org/2001/04/xmldsig-more#sha384",
		"http://www.w3.org/2001/04/xmlenc#sha512":
		return true
	}
	return false
}

func allowedTransform(a string) bool {
	return a == excC14N || a == "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
}

// verifySignature checks the enveloped signature that is a child of el with each of certs in turn, and returns the
// element parsed again from the very bytes that were digested. Nothing else of the message may be believed.
func verifySignature(el *etree.Element, certs []*x509.Certificate, now time.Time) (*etree.Element, error) {
	if err := checkShape(el); err != nil {
		return nil, err
	}
	for _, cert := range certs {
		cp := el.Copy()
		// A copy has no parents, and with them would lose the namespaces that they declare.
		for p := el.Parent(); p != nil; p = p.Parent() {
			for _, a := range p.Attr {
				if (a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns") && cp.SelectAttr(a.FullKey()) == nil {
					cp.CreateAttr(a.FullKey(), a.Value)
				}
			}
		}
		// Whoever made the message chose its KeyInfo; only the certificates of the metadata count.
		for _, s := range kids(cp, nsDSig, "Signature") {
			for _, k := range kids(s, nsDSig, "KeyInfo") {
				s.RemoveChild(k)
			}
		}
		ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{cert}})
		ctx.IdAttribute = "ID"
		ctx.Clock = dsig.NewFakeClockAt(now)
		if out, err := ctx.Validate(cp); err == nil && out != nil {
			return out, nil
		}
	}
	return nil, refuse(el.Tag+"/Signature", Invalid)
}

// checkShape lets only signatures through that sign el and nothing else, with the algorithms and transforms that SPID
// allows.
func checkShape(el *etree.Element) error {
	sig, err := one(el, nsDSig, "Signature")
	if err != nil {
		return err
	}
	id, err := attr(el, "ID")
	if err != nil {
		return err
	}
	info, err := one(sig, nsDSig, "SignedInfo")
	if err != nil {
		return err
	}
	for _, alg := range []struct {
		tag string
		ok  func(string) bool
	}{
		{"CanonicalizationMethod", func(a string) bool { return a == excC14N }},
		{"SignatureMethod", allowedSignature},
	} {
		if err := algorithm(info, alg.tag, alg.ok); err != nil {
			return err
		}
	}
	ref, err := one(info, nsDSig, "Reference")
	if err != nil {
		return err
	}
	if err := attrIs(ref, "URI", "#"+id); err != nil {
		return err
	}
	if err := algorithm(ref, "DigestMethod", allowedDigest); err != nil {
		return err
	}
	transforms, err := one(ref, nsDSig, "Transforms")
	if err != nil {
		return err
	}
	list := transforms.ChildElements()
	if len(list) == 0 || len(list) > 2 {
		return refuse("Transforms", TooMany)
	}
	for _, t := range list {
		if a, _ := attr(t, "Algorithm"); !is(t, nsDSig, "Transform") || !allowedTransform(a) {
			return refuse("Transform", Forbidden)
		}
		for _, c := range t.ChildElements() {
			if !is(c, excC14N, "InclusiveNamespaces") {
				return refuse("Transform", Forbidden)
			}
		}
	}
	return nil
}

func algorithm(e *etree.Element, tag string, ok func(string) bool) error {
	m, err := one(e, nsDSig, tag)
	if err != nil {
		return err
	}
	a, err := attr(m, "Algorithm")
	if err == nil && !ok(a) {
		err = refuse(tag+"@Algorithm", Forbidden)
	}
	return err
}
