package spidtest

import (
	"compress/flate"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

const (
	entityFormat    = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
	transientFormat = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	rsaSHA256       = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
)

// serviceProvider is what an IdP reads from a service provider's metadata.
type serviceProvider struct {
	EntityID string
	ACS      string
	Name     string // for the consent page
	Key      *rsa.PublicKey
}

func parseSP(raw []byte) (*serviceProvider, error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil {
		return nil, err
	}
	root := doc.Root()
	if root == nil || root.Tag != "EntityDescriptor" {
		return nil, errors.New("not an EntityDescriptor")
	}
	find := func(path string) string {
		if e := root.FindElement(path); e != nil {
			return strings.TrimSpace(e.Text())
		}
		return ""
	}
	sp := &serviceProvider{EntityID: root.SelectAttrValue("entityID", ""), Name: find("./Organization/OrganizationDisplayName")}
	for _, e := range root.FindElements("./SPSSODescriptor/AssertionConsumerService") {
		if e.SelectAttrValue("index", "") == "0" {
			sp.ACS = e.SelectAttrValue("Location", "")
		}
	}
	der, err := base64.StdEncoding.DecodeString(find("./SPSSODescriptor/KeyDescriptor/KeyInfo/X509Data/X509Certificate"))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || sp.EntityID == "" || sp.ACS == "" {
		return nil, errors.New("no RSA key, entityID or AssertionConsumerService")
	}
	sp.Key = key
	// As AgID does when it registers a service provider: the file must be signed with the key it publishes.
	ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{cert}})
	ctx.IdAttribute = "ID"
	if _, err := ctx.Validate(root); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return sp, nil
}

// authnRequest is what matters of one.
type authnRequest struct {
	ID     string
	Issuer string
	ACS    string
	Level  byte // '1' to '3'
}

// xmlRequest is an AuthnRequest on the wire.
type xmlRequest struct {
	XMLName      xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:protocol AuthnRequest"`
	ID           string   `xml:",attr"`
	Version      string   `xml:",attr"`
	IssueInstant string   `xml:",attr"`
	Destination  string   `xml:",attr"`
	ForceAuthn   string   `xml:",attr"`
	IsPassive    string   `xml:",attr"`
	ACSIndex     string   `xml:"AssertionConsumerServiceIndex,attr"`
	AttrIndex    string   `xml:"AttributeConsumingServiceIndex,attr"`
	Issuer       struct {
		Text          string `xml:",chardata"`
		Format        string `xml:",attr"`
		NameQualifier string `xml:",attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	Policy struct {
		Format      string `xml:",attr"`
		AllowCreate string `xml:",attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:protocol NameIDPolicy"`
	Context struct {
		Comparison string   `xml:",attr"`
		Class      []string `xml:"urn:oasis:names:tc:SAML:2.0:assertion AuthnContextClassRef"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:protocol RequestedAuthnContext"`
}

// readRequest checks a message of the HTTP-Redirect binding as SPID's IdPs do. The error's number is AgID's.
func (p *IdP) readRequest(rawQuery string, sp *serviceProvider) (authnRequest, string, error) {
	parts := make(map[string]string) // as they were sent: the signature is over the escaped text
	for kv := range strings.SplitSeq(rawQuery, "&") {
		k, v, _ := strings.Cut(kv, "=")
		parts[k] = v
	}
	value := func(k string) string {
		v, err := url.QueryUnescape(parts[k])
		if err != nil {
			return ""
		}
		return v
	}
	signed := "SAMLRequest=" + parts["SAMLRequest"] + "&RelayState=" + parts["RelayState"] + "&SigAlg=" + parts["SigAlg"]
	sig, err := base64.StdEncoding.DecodeString(value("Signature"))
	if err != nil || value("SigAlg") != rsaSHA256 {
		return authnRequest{}, "", errors.New("nr05: signature missing or of another algorithm")
	}
	sum := sha256.Sum256([]byte(signed))
	if rsa.VerifyPKCS1v15(sp.Key, crypto.SHA256, sum[:], sig) != nil {
		return authnRequest{}, "", errors.New("nr05: signature not valid")
	}
	packed, err := base64.StdEncoding.DecodeString(value("SAMLRequest"))
	if err != nil {
		return authnRequest{}, "", errors.New("nr06: not base64")
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(strings.NewReader(string(packed))), 64<<10))
	if err != nil {
		return authnRequest{}, "", errors.New("nr06: not deflated")
	}
	var q xmlRequest
	if err := xml.Unmarshal(raw, &q); err != nil {
		return authnRequest{}, "", errors.New("nr08: not an AuthnRequest")
	}
	issued, terr := time.Parse("2006-01-02T15:04:05.000Z", q.IssueInstant)
	age := p.cfg.Now().Sub(issued)
	class := ""
	if len(q.Context.Class) == 1 {
		class = q.Context.Class[0]
	}
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{q.Version == "2.0", "nr09: Version"},
		{strings.TrimSpace(q.Issuer.Text) == sp.EntityID && q.Issuer.Format == entityFormat && q.Issuer.NameQualifier != "", "nr10: Issuer"},
		{strings.HasPrefix(q.ID, "_") && len(q.ID) >= 23, "nr11: ID"},
		{strings.HasPrefix(class, "https://www.spid.gov.it/SpidL") && strings.ContainsAny(class[len(class)-1:], "123"), "nr12: RequestedAuthnContext"},
		{terr == nil && age > -time.Minute && age < 5*time.Minute, "nr13: IssueInstant"},
		{q.Destination == p.url+"/sso", "nr14: Destination"},
		{q.IsPassive == "", "nr15: IsPassive"},
		{q.ACSIndex == "0", "nr16: AssertionConsumerServiceIndex"},
		{q.Policy.Format == transientFormat && q.Policy.AllowCreate == "", "nr17: NameIDPolicy"},
		{q.AttrIndex == "0", "nr18: AttributeConsumingServiceIndex"},
		{q.ForceAuthn == "true", "nr08: ForceAuthn is needed from level 2"},
		{value("RelayState") != "" && !strings.Contains(value("RelayState"), "http"), "nr08: RelayState"},
	} {
		if !c.ok {
			return authnRequest{}, "", errors.New(c.what)
		}
	}
	return authnRequest{ID: q.ID, Issuer: sp.EntityID, ACS: sp.ACS, Level: class[len(class)-1]}, value("RelayState"), nil
}
