package spid

import (
	"net/url"
	"strings"
	"testing"
)

const sampleIdP = `<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example"><md:IDPSSODescriptor>` +
	`<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>AAAA</ds:X509Certificate>` +
	`</ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" ` +
	`Location="https://idp.example/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>`

func TestMetadataRefused(t *testing.T) {
	p := &Provider{cfg: Config{PublicURL: &url.URL{Scheme: "https", Host: "sportello.comune.example"}}}
	for _, tt := range []struct{ name, in string }{
		{"nothing", ""},
		{"not XML", "hello"},
		{"a page", "<html></html>"},
		{"no entity in a list", `<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"/>`},
		{"a certificate that is none", sampleIdP},
		{"no certificate", strings.Replace(sampleIdP, "ds:X509Certificate>", "ds:X509SKI>", 2)},
		{"an endpoint without TLS", strings.Replace(sampleIdP, "https://idp.example/sso", "http://idp.example/sso", 1)},
		{"an endpoint on this machine", strings.Replace(sampleIdP, "https://idp.example/sso", "https://127.0.0.1/sso", 1)},
		{"a script as endpoint", strings.Replace(sampleIdP, "https://idp.example/sso", "javascript:alert(1)", 1)},
		{"only another binding", strings.Replace(sampleIdP, "HTTP-Redirect", "HTTP-POST", 1)},
		{"a DTD", "<!DOCTYPE x>" + sampleIdP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if idps, err := p.parse([]byte(tt.in)); err == nil {
				t.Errorf("got %v", idps)
			}
		})
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(sampleIdP))
	f.Add([]byte(`<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">` + sampleIdP + `</md:EntitiesDescriptor>`))
	p := &Provider{cfg: Config{PublicURL: &url.URL{Scheme: "https", Host: "sportello.comune.example"}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		idps, err := p.parse(raw)
		for _, i := range idps {
			if err == nil && (len(i.certs) == 0 || !strings.HasPrefix(strings.ToLower(i.SSO), "https://")) {
				t.Errorf("an unusable IdP: %+v", i)
			}
		}
	})
}
