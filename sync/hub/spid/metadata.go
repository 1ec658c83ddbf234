package spid

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"strings"
	"text/template"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// metadataTemplate is the metadata of a public service provider (AgID's rules, with the extensions of Avviso 29). The
// signature becomes the first child.
var metadataTemplate = template.Must(template.New("metadata").Funcs(template.FuncMap{"x": escape}).Parse(
	`<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" ` +
		`xmlns:spid="https://spid.gov.it/saml-extensions" ID="{{.ID}}" entityID="{{x .EntityID}}">` +
		`<md:SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol" AuthnRequestsSigned="true" WantAssertionsSigned="true">` +
		`<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{{.Cert}}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>` +
		`<md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{{x .Logout}}"/>` +
		`<md:NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:transient</md:NameIDFormat>` +
		`<md:AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{{x .ACS}}" index="0" isDefault="true"/>` +
		`<md:AttributeConsumingService index="0"><md:ServiceName xml:lang="it">Sportello</md:ServiceName>` +
		`<md:RequestedAttribute Name="fiscalNumber"/><md:RequestedAttribute Name="name"/><md:RequestedAttribute Name="familyName"/>` +
		`</md:AttributeConsumingService></md:SPSSODescriptor>` +
		`<md:Organization><md:OrganizationName xml:lang="it">{{x .Org.Name}}</md:OrganizationName>` +
		`<md:OrganizationDisplayName xml:lang="it">{{x .Org.DisplayName}}</md:OrganizationDisplayName>` +
		`<md:OrganizationURL xml:lang="it">{{x .Org.URL}}</md:OrganizationURL></md:Organization>` +
		`<md:ContactPerson contactType="other"><md:Extensions><spid:IPACode>{{x .Org.IPACode}}</spid:IPACode><spid:Public/></md:Extensions>` +
		`<md:EmailAddress>{{x .Org.Email}}</md:EmailAddress><md:TelephoneNumber>{{x .Org.Phone}}</md:TelephoneNumber></md:ContactPerson>` +
		`</md:EntityDescriptor>`))

// signMetadata builds and signs the metadata. Nothing in it depends on time or chance (an RSA PKCS #1 v1.5 signature
// does not either), so that every start publishes the same bytes.
func (p *Provider) signMetadata() ([]byte, error) {
	data := map[string]any{
		"ID": "_", "EntityID": p.cfg.EntityID, "ACS": p.acs, "Logout": p.cfg.PublicURL.JoinPath(PathLogout).String(),
		"Cert": base64.StdEncoding.EncodeToString(p.cert.Raw), "Org": p.cfg.Organization,
	}
	var b strings.Builder
	if err := metadataTemplate.Execute(&b, data); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(b.String()))
	data["ID"] = "_" + hex.EncodeToString(sum[:20])
	b.Reset()
	if err := metadataTemplate.Execute(&b, data); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromString(b.String()); err != nil {
		return nil, err
	}
	ctx, err := dsig.NewSigningContext(p.key, [][]byte{p.cert.Raw})
	if err != nil {
		return nil, err
	}
	ctx.Hash = crypto.SHA256
	ctx.IdAttribute = "ID"
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := ctx.SetSignatureMethod(dsig.RSASHA256SignatureMethod); err != nil {
		return nil, err
	}
	root := doc.Root()
	sig, err := ctx.ConstructSignature(root, true)
	if err != nil {
		return nil, err
	}
	root.InsertChildAt(0, sig)
	return doc.WriteToBytes()
}

// escape makes s fit for an attribute or text of XML.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}
