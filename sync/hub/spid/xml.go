package spid

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/beevik/etree"
	xrv "github.com/mattermost/xml-roundtrip-validator"
)

// Namespaces and the fixed words of the messages.
const (
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsDSig      = "http://www.w3.org/2000/09/xmldsig#"

	entityFormat    = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
	transientFormat = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	bearer          = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
)

const maxDepth = 24

// lex refuses what could be read in two ways, before anything is built from it: document type definitions, processing
// instructions, deep nesting, too many tokens, and names that Go's XML does not write back as it read them.
func lex(raw []byte, maxTokens int) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	depth := 0
	for n := 1; ; n++ {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse("XML", Malformed)
		}
		switch v := t.(type) {
		case xml.Directive:
			return refuse("XML", Forbidden)
		case xml.ProcInst:
			if v.Target != "xml" || n != 1 {
				return refuse("XML", Forbidden)
			}
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return refuse("XML", TooMany)
			}
		case xml.EndElement:
			depth--
		}
		if n > maxTokens {
			return refuse("XML", TooMany)
		}
	}
	if err := xrv.Validate(bytes.NewReader(raw)); err != nil {
		return refuse("XML", Malformed)
	}
	return nil
}

// is compares the namespace itself: prefixes mean nothing.
func is(e *etree.Element, ns, tag string) bool { return e.Tag == tag && e.NamespaceURI() == ns }

func kids(e *etree.Element, ns, tag string) (out []*etree.Element) {
	for _, c := range e.ChildElements() {
		if is(c, ns, tag) {
			out = append(out, c)
		}
	}
	return out
}

// one returns the only child of that name.
func one(e *etree.Element, ns, tag string) (*etree.Element, error) {
	switch k := kids(e, ns, tag); len(k) {
	case 0:
		return nil, refuse(e.Tag+"/"+tag, Missing)
	case 1:
		return k[0], nil
	default:
		return nil, refuse(e.Tag+"/"+tag, TooMany)
	}
}

// path follows only children down from e.
func path(e *etree.Element, ns string, tags ...string) (*etree.Element, error) {
	for _, tag := range tags {
		var err error
		if e, err = one(e, ns, tag); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// attr returns an attribute without a namespace, which must not be empty.
func attr(e *etree.Element, name string) (string, error) {
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == name {
			if a.Value == "" {
				return "", refuse(e.Tag+"@"+name, Empty)
			}
			return a.Value, nil
		}
	}
	return "", refuse(e.Tag+"@"+name, Missing)
}

// attrIs checks an attribute that can have one value only.
func attrIs(e *etree.Element, name, want string) error {
	v, err := attr(e, name)
	if err == nil && v != want {
		err = refuse(e.Tag+"@"+name, Mismatch)
	}
	return err
}

// text returns the whole text of an element without children. A comment in it cuts nothing off: a reader that stops
// there would see another value than the one that was signed.
func text(e *etree.Element) (string, error) {
	if len(e.ChildElements()) > 0 {
		return "", refuse(e.Tag, Malformed)
	}
	var b strings.Builder
	for _, c := range e.Child {
		if t, ok := c.(*etree.CharData); ok {
			b.WriteString(t.Data)
		}
	}
	s := strings.TrimSpace(b.String())
	if s == "" {
		return "", refuse(e.Tag, Empty)
	}
	return s, nil
}

// instantSyntax is narrower than what time.Parse takes: SAML wants xs:dateTime with a zone.
var instantSyntax = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$`)

func instant(e *etree.Element, name string) (time.Time, error) {
	s, err := attr(e, name)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || !instantSyntax.MatchString(s) {
		return time.Time{}, refuse(e.Tag+"@"+name, Malformed)
	}
	return t, nil
}

func walk(e *etree.Element, f func(*etree.Element)) {
	f(e)
	for _, c := range e.ChildElements() {
		walk(c, f)
	}
}
