package spid_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/russellhaering/goxmldsig"

	"sportello.example/sync/citizen"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/spid/spidtest"
)

const someone = "RSSMRA80A01Y100Z"

// place is a hub's service provider and an IdP that know each other.
type place struct {
	*spid.Provider
	idp    *spidtest.IdP
	dir    string
	offset time.Duration // of the hub's clock
}

func (p *place) now() time.Time { return time.Now().Add(p.offset) }

func newPlace(t testing.TB) *place {
	t.Helper()
	idp, err := spidtest.New(spidtest.Config{
		Addr: "127.0.0.1:0", Now: time.Now,
		Citizens: []spidtest.Citizen{{FiscalCode: someone, Name: "Maria", FamilyName: "Rossi & Figli"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := idp.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	p := &place{idp: idp, dir: t.TempDir()}
	p.Provider, err = spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8081"), Dir: p.dir, Sources: []string{idp.MetadataURL()},
		Now: p.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// answer begins a login and returns its request and the IdP's Response, wrong in the way that fault names.
func (p *place) answer(t testing.TB, fiscalCode, fault string) (spid.Request, string) {
	t.Helper()
	redirect, err := p.Begin(p.idp.URL(), "flow")
	if err != nil {
		t.Fatal(err)
	}
	res, relay, err := p.idp.Answer(p.Metadata(), redirect, fiscalCode, fault)
	if err != nil {
		t.Fatal(err)
	}
	req, err := p.Take(relay)
	if err != nil {
		t.Fatal(err)
	}
	return req, res
}

// refusals are what Verify must say of each fault: the part of the Response, and what is wrong with it.
var refusals = map[string]string{
	"2": "Assertion/Signature missing", "3": "Assertion/Signature missing", "4": "Response/Signature invalid", "5": "Response/Signature invalid",
	"100": "Assertion/Signature invalid", "112": "EntityDescriptor misplaced", "113": "EntityDescriptor misplaced",
	"changed": "Assertion/Signature invalid", "response-changed": "Response/Signature invalid", "sha1": "SignatureMethod@Algorithm forbidden",
	"hmac": "SignatureMethod@Algorithm forbidden", "references": "SignedInfo/Reference too many", "reference-all": "Reference@URI empty", "xslt": "Transform forbidden",

	"8": "Response@ID empty", "9": "Response@ID missing", "10": "Response@Version mismatch", "11": "Response@IssueInstant empty",
	"12": "Response@IssueInstant missing", "13": "Response@IssueInstant malformed", "14": "Response@IssueInstant too early", "15": "Response@IssueInstant too late",
	"16": "Response@InResponseTo empty", "17": "Response@InResponseTo missing", "18": "Response@InResponseTo mismatch",
	"19": "Response@Destination empty", "20": "Response@Destination missing", "21": "Response@Destination mismatch",
	"22": "Status/StatusCode missing", "23": "Response/Status missing", "24": "StatusCode@Value empty", "25": "Status/StatusCode missing", "26": "StatusCode@Value unknown",
	"27": "Response/Issuer empty", "28": "Response/Issuer missing", "29": "Response/Issuer mismatch", "30": "Issuer@Format mismatch", "32": "Response/Assertion missing",
	"success-and-failure": "Assertion misplaced",

	"33": "Assertion@ID empty", "34": "Assertion/Signature missing", "35": "Assertion@Version mismatch", "36": "Assertion@IssueInstant empty",
	"37": "Assertion@IssueInstant missing", "38": "Assertion@IssueInstant malformed", "39": "Assertion@IssueInstant too early", "40": "Assertion@IssueInstant too late",
	"41": "Subject/NameID missing", "42": "Assertion/Subject missing", "43": "NameID empty", "44": "Subject/NameID missing",
	"45": "NameID@Format empty", "46": "NameID@Format missing", "47": "NameID@Format mismatch", "48": "NameID@NameQualifier empty", "49": "NameID@NameQualifier missing",
	"51": "SubjectConfirmation/SubjectConfirmationData missing", "52": "Subject/SubjectConfirmation missing", "53": "SubjectConfirmation@Method empty",
	"54": "SubjectConfirmation@Method missing", "55": "SubjectConfirmation@Method mismatch", "56": "SubjectConfirmation/SubjectConfirmationData missing",
	"57": "SubjectConfirmationData@Recipient empty", "58": "SubjectConfirmationData@Recipient missing", "59": "SubjectConfirmationData@Recipient mismatch",
	"60": "SubjectConfirmationData@InResponseTo empty", "61": "SubjectConfirmationData@InResponseTo missing", "62": "SubjectConfirmationData@InResponseTo mismatch",
	"63": "SubjectConfirmationData@NotOnOrAfter empty", "64": "SubjectConfirmationData@NotOnOrAfter missing",
	"65": "SubjectConfirmationData@NotOnOrAfter malformed", "66": "SubjectConfirmationData@NotOnOrAfter too early",
	"67": "Assertion/Issuer empty", "68": "Assertion/Issuer missing", "69": "Assertion/Issuer mismatch",
	"70": "Issuer@Format empty", "71": "Issuer@Format missing", "72": "Issuer@Format mismatch",

	"73": "Conditions@NotBefore missing", "74": "Assertion/Conditions missing", "75": "Conditions@NotBefore empty", "76": "Conditions@NotBefore missing",
	"77": "Conditions@NotBefore malformed", "78": "Conditions@NotBefore too late", "79": "Conditions@NotOnOrAfter empty", "80": "Conditions@NotOnOrAfter missing",
	"81": "Conditions@NotOnOrAfter malformed", "82": "Conditions@NotOnOrAfter too early",
	"83": "AudienceRestriction/Audience missing", "84": "Conditions/AudienceRestriction missing", "85": "Audience empty", "86": "AudienceRestriction/Audience missing", "87": "Audience mismatch",
	"88": "AuthnStatement/AuthnContext missing", "89": "Assertion/AuthnStatement missing", "90": "AuthnContext/AuthnContextClassRef missing", "91": "AuthnStatement/AuthnContext missing",
	"92": "AuthnContextClassRef empty", "93": "AuthnContext/AuthnContextClassRef missing", "94": "AuthnContextClassRef too low", "97": "AuthnContextClassRef unknown",
	"98": "AttributeStatement/Attribute missing", "99": "Attribute/AttributeValue missing", "103": "fiscalNumber malformed",
	"two-numbers": "Attribute too many", "not-a-number": "fiscalNumber malformed", "foreign-number": "fiscalNumber malformed", "long-name": "AttributeValue too big",

	"encrypted": "EncryptedAssertion forbidden", "advice": "Advice forbidden", "dtd": "XML forbidden", "pi": "XML forbidden", "deep": "XML too many", "huge": "XML too many",
	"big": "SAMLResponse too big", "garbage": "Response missing", "truncated": "XML malformed", "html": "Response missing",

	"xsw1": "Response misplaced", "xsw2": "Response misplaced", "xsw3": "Assertion too many", "xsw4": "Assertion misplaced", "xsw5": "Assertion too many",
	"xsw6": "Assertion misplaced", "xsw7": "Assertion misplaced", "xsw8": "Assertion misplaced", "same-id": "ID too many", "two-assertions": "Assertion too many",
}

func TestFaults(t *testing.T) {
	p := newPlace(t)
	for _, f := range spidtest.Faults() {
		t.Run(f.Name+" "+f.Title, func(t *testing.T) {
			req, res := p.answer(t, someone, f.Name)
			proof, err := p.Verify(req, res)
			if f.OK {
				if err != nil || proof.FiscalCode.Reveal() != someone {
					t.Errorf("got %q, %v; want a login", proof.FiscalCode.Reveal(), err)
				}
				return
			}
			var refused *spid.RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a RefusedError", err)
			}
			if got := refused.Part + " " + string(refused.Why); got != refusals[f.Name] {
				t.Errorf("got %q, want %q", got, refusals[f.Name])
			}
			if proof != (citizen.IdentityProof{}) {
				t.Error("a refused login names somebody")
			}
		})
	}
}

func TestProof(t *testing.T) {
	p := newPlace(t)
	req, res := p.answer(t, someone, "96")
	got, err := p.Verify(req, res)
	if err != nil {
		t.Fatal(err)
	}
	if got.Scheme != citizen.SPID || got.Level != 3 || got.Name.Reveal() != "Maria" || got.FamilyName.Reveal() != "Rossi & Figli" ||
		got.TransactionID != req.ID || time.Since(got.At) > time.Minute {
		t.Errorf("got %+v, %s %s", got, got.Name.Reveal(), got.FamilyName.Reveal())
	}
}

func TestErrorCodes(t *testing.T) {
	p := newPlace(t)
	for code, words := range map[int]string{
		19: "credenziali", 20: "livello 2", 21: "tempo", 22: "consenso", 23: "sospesa", 24: "non è riuscito", 25: "annullato", 30: "personale",
		12: "non è al momento disponibile (codice 12)",
	} {
		redirect, err := p.Begin(p.idp.URL(), "flow")
		if err != nil {
			t.Fatal(err)
		}
		res, relay, err := p.idp.AnswerError(p.Metadata(), redirect, code)
		if err != nil {
			t.Fatal(err)
		}
		req, err := p.Take(relay)
		if err != nil {
			t.Fatal(err)
		}
		var status *spid.StatusError
		if _, err := p.Verify(req, res); !errors.As(err, &status) || status.Code != code {
			t.Fatalf("%d: got %v", code, err)
		}
		if text := status.Text("it"); !strings.Contains(text, words) {
			t.Errorf("%d: %q does not say %q", code, text, words)
		}
		if status.Text("en") == status.Text("it") {
			t.Errorf("%d: no English text", code)
		}
		if status.OurFault() != (code == 12) {
			t.Errorf("%d: our fault: %v", code, status.OurFault())
		}
		t.Run("to another request", func(t *testing.T) {
			other := req
			other.ID = "_other"
			var refused *spid.RefusedError
			if _, err := p.Verify(other, res); !errors.As(err, &refused) {
				t.Errorf("got %v, want a RefusedError", err)
			}
		})
	}
}

func TestResponseToAnotherRequest(t *testing.T) {
	p := newPlace(t)
	mine, _ := p.answer(t, someone, "")
	_, theirs := p.answer(t, someone, "")
	var refused *spid.RefusedError
	if _, err := p.Verify(mine, theirs); !errors.As(err, &refused) || refused.Part != "Response@InResponseTo" {
		t.Errorf("got %v", err)
	}
}

func TestTake(t *testing.T) {
	p := newPlace(t)
	for _, tt := range []struct {
		name string
		do   func(p *place, relay string) (string, time.Duration)
		want error
	}{
		{"once", func(_ *place, relay string) (string, time.Duration) { return relay, 0 }, nil},
		{"after fourteen minutes", func(_ *place, relay string) (string, time.Duration) { return relay, 14 * time.Minute }, nil},
		{"after sixteen minutes", func(_ *place, relay string) (string, time.Duration) { return relay, 16 * time.Minute }, spid.ErrNoRequest},
		{"twice", func(p *place, relay string) (string, time.Duration) { _, _ = p.Take(relay); return relay, 0 }, spid.ErrNoRequest},
		{"unknown", func(*place, string) (string, time.Duration) { return "unknown", 0 }, spid.ErrNoRequest},
		{"empty", func(*place, string) (string, time.Duration) { return "", 0 }, spid.ErrNoRequest},
		{"long", func(*place, string) (string, time.Duration) { return strings.Repeat("x", 1<<20), 0 }, spid.ErrNoRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.offset = 0
			redirect, err := p.Begin(p.idp.URL(), "my flow")
			if err != nil {
				t.Fatal(err)
			}
			relay, later := tt.do(p, parse(t, redirect).Query().Get("RelayState"))
			p.offset = later
			req, err := p.Take(relay)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err == nil && req.Flow != "my flow" {
				t.Errorf("flow is %q", req.Flow)
			}
		})
	}
}

func TestAuthnRequest(t *testing.T) {
	p := newPlace(t)
	if _, err := p.Begin("https://another.example", "flow"); !errors.Is(err, spid.ErrUnknownIdP) {
		t.Errorf("unknown IdP: got %v", err)
	}
	redirect, err := p.Begin(p.idp.URL(), "flow")
	if err != nil {
		t.Fatal(err)
	}
	q := parse(t, redirect).Query()
	packed, err := base64.StdEncoding.DecodeString(q.Get("SAMLRequest"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`ForceAuthn="true"`, `Destination="` + p.idp.URL() + `/sso"`, `AssertionConsumerServiceIndex="0"`, `AttributeConsumingServiceIndex="0"`,
		`Comparison="minimum"`, `>https://www.spid.gov.it/SpidL2<`, `NameQualifier="http://127.0.0.1:8081"`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
	for _, no := range []string{"IsPassive", "AllowCreate", "ProtocolBinding", "Scoping", "\n"} {
		if strings.Contains(string(raw), no) {
			t.Errorf("%q in %s", no, raw)
		}
	}
	if strings.Contains(q.Get("RelayState"), "http") || len(q.Get("RelayState")) < 20 {
		t.Errorf("RelayState %q", q.Get("RelayState"))
	}
	if _, _, err := p.idp.Answer(p.Metadata(), strings.Replace(redirect, "RelayState=", "RelayState=x", 1), someone, ""); err == nil {
		t.Error("the signature does not cover the RelayState")
	}
}

func TestMetadata(t *testing.T) {
	p := newPlace(t)
	again, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8081"), Dir: p.dir, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Metadata(), p.Metadata()) {
		t.Error("another start publishes other bytes")
	}
	if info, err := os.Stat(filepath.Join(p.dir, "spid-key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	var doc struct {
		EntityID string `xml:"entityID,attr"`
		SP       struct {
			Signed string `xml:"AuthnRequestsSigned,attr"`
			Want   string `xml:"WantAssertionsSigned,attr"`
			ACS    []struct {
				Location string `xml:",attr"`
				Index    string `xml:"index,attr"`
			} `xml:"AssertionConsumerService"`
			Attributes []struct {
				Name string `xml:",attr"`
			} `xml:"AttributeConsumingService>RequestedAttribute"`
		} `xml:"SPSSODescriptor"`
		Contact struct {
			Type string `xml:"contactType,attr"`
			IPA  string `xml:"Extensions>IPACode"`
		} `xml:"ContactPerson"`
	}
	if err := xml.Unmarshal(p.Metadata(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.EntityID != "http://127.0.0.1:8081" || doc.SP.Signed != "true" || doc.SP.Want != "true" || len(doc.SP.ACS) != 1 ||
		doc.SP.ACS[0].Location != "http://127.0.0.1:8081/spid/acs" || len(doc.SP.Attributes) != 3 || doc.Contact.Type != "other" || doc.Contact.IPA == "" {
		t.Errorf("got %+v", doc)
	}
	if bytes.Index(p.Metadata(), []byte("Signature")) > bytes.Index(p.Metadata(), []byte("SPSSODescriptor")) {
		t.Error("the signature is not the first child")
	}
	if !bytes.Contains(p.Metadata(), []byte(dsig.RSASHA256SignatureMethod)) {
		t.Error("not signed with rsa-sha256")
	}
	other, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8082"), Dir: p.dir, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || bytes.Equal(other.Metadata(), p.Metadata()) {
		t.Errorf("a change of address is not taken over: %v", err)
	}
}

func TestATestIdPCannotBeConfiguredInProduction(t *testing.T) {
	p := newPlace(t)
	production, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "https://sportello.comune.example"), Dir: t.TempDir(), Sources: []string{p.idp.MetadataURL()},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(production.IdPs()); n != 0 {
		t.Errorf("by address: %d IdPs", n)
	}
	file := filepath.Join(t.TempDir(), "idp.xml")
	res, err := http.Get(p.idp.MetadataURL())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	production, err = spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "https://sportello.comune.example"), Dir: t.TempDir(), Sources: []string{file},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(production.IdPs()); n != 0 {
		t.Errorf("by file: %d IdPs", n)
	}
	if _, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://sportello.comune.example"), Dir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}); err == nil {
		t.Error("a hub for people without TLS")
	}
}

func TestLastGoodMetadataSurviveARestart(t *testing.T) {
	p := newPlace(t)
	p.idp.Down(true)
	again, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8081"), Dir: p.dir, Sources: []string{p.idp.MetadataURL()},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || len(again.IdPs()) != 1 || again.IdPs()[0].Name != "Identity provider di prova" {
		t.Errorf("got %+v, %v", again.IdPs(), err)
	}
}

func TestTheOrderOfIdPsIsUnbiased(t *testing.T) {
	p := newPlace(t)
	res, err := http.Get(p.idp.MetadataURL())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	const n, shows = 5, 10_000
	var list strings.Builder
	list.WriteString(`<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">`)
	for i := range n {
		list.WriteString(strings.Replace(string(raw), `entityID="`, `entityID="`+string(rune('a'+i)), 1))
	}
	list.WriteString(`</md:EntitiesDescriptor>`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, list.String()) }))
	defer srv.Close()
	many, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8081"), Dir: p.dir, Sources: []string{srv.URL}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || len(many.IdPs()) != n {
		t.Fatalf("%d IdPs, %v", len(many.IdPs()), err)
	}
	var first [n]float64
	for range shows {
		first[many.IdPs()[0].EntityID[0]-'a']++
	}
	chi := 0.0
	for _, got := range first {
		chi += (got - shows/n) * (got - shows/n) / (shows / n)
	}
	if chi > 23.5 { // 4 degrees of freedom: one run in ten thousand
		t.Errorf("χ² = %.1f: %v", chi, first)
	}
}

func FuzzVerify(f *testing.F) {
	p := newPlace(f)
	req, good := p.answer(f, someone, "")
	for _, fault := range []string{"", "2", "5", "26", "41", "112", "xsw3", "xsw8", "dtd", "comment", "truncated"} {
		_, res := p.answer(f, someone, fault)
		raw, err := base64.StdEncoding.DecodeString(res)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		res := base64.StdEncoding.EncodeToString(raw)
		if proof, err := p.Verify(req, res); err == nil && res != good && proof.FiscalCode.Reveal() != someone {
			t.Errorf("logged in with %s", raw)
		}
	})
}
