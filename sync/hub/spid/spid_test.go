package spid_test

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
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

	dsig "github.com/russellhaering/goxmldsig"

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
	p := &place{idp: idp, dir: keyDir(t)}
	p.Provider, err = spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://127.0.0.1:8081"), Dir: p.dir, Sources: []string{idp.MetadataURL()},
		Now: p.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// keyDir returns a directory with the service provider's key already in it: making one takes a second, and only
// TestKeyIsMadeOnceAndKeptPrivate looks at how it is made.
func keyDir(t testing.TB) string {
	t.Helper()
	pem, err := providerKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spid-key.pem"), pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

var providerKey = sync.OnceValues(func() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
})

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
	redirect, err := p.Begin(t.Context(), p.idp.URL(), "flow")
	if err != nil {
		t.Fatal(err)
	}
	res, relay, err := p.idp.Answer(p.Metadata(), redirect, fiscalCode, fault)
	if err != nil {
		t.Fatal(err)
	}
	req, err := p.Take(t.Context(), relay)
	if err != nil {
		t.Fatal(err)
	}
	return req, res
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
		redirect, err := p.Begin(t.Context(), p.idp.URL(), "flow")
		if err != nil {
			t.Fatal(err)
		}
		res, relay, err := p.idp.AnswerError(p.Metadata(), redirect, code)
		if err != nil {
			t.Fatal(err)
		}
		req, err := p.Take(t.Context(), relay)
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
		{"twice", func(p *place, relay string) (string, time.Duration) {
			_, _ = p.Take(context.Background(), relay)
			return relay, 0
		}, spid.ErrNoRequest},
		{"unknown", func(*place, string) (string, time.Duration) { return "unknown", 0 }, spid.ErrNoRequest},
		{"empty", func(*place, string) (string, time.Duration) { return "", 0 }, spid.ErrNoRequest},
		{"long", func(*place, string) (string, time.Duration) { return strings.Repeat("x", 1<<20), 0 }, spid.ErrNoRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.offset = 0
			redirect, err := p.Begin(t.Context(), p.idp.URL(), "my flow")
			if err != nil {
				t.Fatal(err)
			}
			relay, later := tt.do(p, parse(t, redirect).Query().Get("RelayState"))
			p.offset = later
			req, err := p.Take(t.Context(), relay)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err == nil && req.Flow != "my flow" {
				t.Errorf("flow is %q", req.Flow)
			}
		})
	}
}

func TestOneRequestForEachFlow(t *testing.T) {
	p := newPlace(t)
	begin := func(flow string) string {
		t.Helper()
		redirect, err := p.Begin(t.Context(), p.idp.URL(), flow)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, redirect).Query().Get("RelayState")
	}
	first, second, other, over := begin("a"), begin("a"), begin("b"), begin("c")
	if err := errors.Join(p.Forget(t.Context(), "c"), p.Forget(t.Context(), "nobody's")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, relay string
		want        error
	}{
		{"replaced", first, spid.ErrNoRequest},
		{"the last one", second, nil},
		{"another flow's", other, nil},
		{"of a flow that is over", over, spid.ErrNoRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := p.Take(t.Context(), tt.relay); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAuthnRequest(t *testing.T) {
	p := newPlace(t)
	if _, err := p.Begin(t.Context(), "https://another.example", "flow"); !errors.Is(err, spid.ErrUnknownIdP) {
		t.Errorf("unknown IdP: got %v", err)
	}
	redirect, err := p.Begin(t.Context(), p.idp.URL(), "flow")
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

func TestKeyIsMadeOnceAndKeptPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spid")
	var published [2][]byte
	for i := range published {
		p, err := spid.New(t.Context(), spid.Config{
			PublicURL: parse(t, "https://sportello.comune.example"), Dir: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		published[i] = p.Metadata()
	}
	if !bytes.Equal(published[0], published[1]) {
		t.Error("another start makes another key")
	}
	info, err := os.Stat(filepath.Join(dir, "spid-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v", info.Mode())
	}
}

func TestATestIdPCannotBeConfiguredInProduction(t *testing.T) {
	p := newPlace(t)
	production, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "https://sportello.comune.example"), Dir: keyDir(t), Sources: []string{p.idp.MetadataURL()},
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
		PublicURL: parse(t, "https://sportello.comune.example"), Dir: keyDir(t), Sources: []string{file},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(production.IdPs()); n != 0 {
		t.Errorf("by file: %d IdPs", n)
	}
	if _, err := spid.New(t.Context(), spid.Config{
		PublicURL: parse(t, "http://sportello.comune.example"), Dir: keyDir(t), Now: time.Now, Log: slog.New(slog.DiscardHandler),
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

func TestHubsOnOneFolderMakeOneKey(t *testing.T) {
	dir, public := t.TempDir(), &url.URL{Scheme: "https", Host: "sportello.comune.example"}
	var got [3][]byte
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			p, err := spid.New(t.Context(), spid.Config{PublicURL: public, Dir: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = p.Metadata()
		})
	}
	wg.Wait()
	if !bytes.Equal(got[0], got[1]) || !bytes.Equal(got[0], got[2]) {
		t.Error("hubs that start at once publish different metadata")
	}
}
