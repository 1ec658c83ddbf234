package anprtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/anpr/anprtest"
	"sportello.example/sync/wire"
)

func at() time.Time { return time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC) }

// start runs a registry for the length of the test and returns a client of it.
func start(t *testing.T) (*anprtest.Server, *anpr.Client) {
	t.Helper()
	s, err := anprtest.New(anprtest.Config{Now: at})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, &anpr.Client{BaseURL: s.URL(), Now: at}
}

// citizen finds an invented citizen by name.
func citizen(t *testing.T, name string) anprtest.Citizen {
	t.Helper()
	for _, c := range anprtest.Citizens() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no citizen %q", name)
	return anprtest.Citizen{}
}

func TestFiscalCodes(t *testing.T) {
	valid := regexp.MustCompile(`^[A-Z]{6}\d\d[ABCDEHLMPRST]\d\dY\d{3}[A-Z]$`)
	seen := map[string]bool{}
	for _, c := range anprtest.Citizens() {
		if !valid.MatchString(c.FiscalCode) || seen[c.FiscalCode] {
			t.Errorf("%s %s: %s", c.Name, c.FamilyName, c.FiscalCode)
		}
		seen[c.FiscalCode] = true
	}
	// Worked by hand from the decree's tables.
	for name, want := range map[string]string{"Lucia": "FRRLCU58D52Y000", "Nicolò": "DMCNCL18L09Y004", "Ștefania": "CLCSFN92M57Y005"} {
		if got := citizen(t, name).FiscalCode; got[:15] != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestEveryTypeIsIssued(t *testing.T) {
	_, c := start(t)
	for slug, name := range map[string]string{
		"nascita": "Lucia", "matrimonio": "Marco", "cittadinanza": "Lucia", "esistenza_in_vita": "Teresa", "residenza": "Ștefania",
		"residenza_aire": "Pietro", "stato_civile": "Teresa", "stato_famiglia": "Niccolò", "stato_famiglia_stato_civile": "Marco",
		"residenza_convivenza": "Agnese", "stato_famiglia_aire": "Pietro", "stato_famiglia_parentela": "Giulia", "stato_libero": "Lucia",
		"unione_civile": "Elena", "contratto_convivenza": "Paolo",
	} {
		t.Run(slug, func(t *testing.T) {
			_, err := c.Certificate(t.Context(), citizen(t, name).FiscalCode, wire.CertificateRequest{
				Certificates: []string{slug}, Recipient: "private",
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	_, c := start(t)
	for _, tt := range []struct {
		name  string
		who   string
		slugs []string
		to    string
		free  int
		want  error
	}{
		{"two types that go together", "Marco", []string{"residenza", "stato_famiglia"}, "abroad", 0, nil},
		{"exempt", "Lucia", []string{"residenza"}, "court", 3, nil},
		{"not in the registry", "Karim", []string{"residenza"}, "private", 0, anpr.ErrNotRegistered},
		{"forbidden pair", "Lucia", []string{"stato_civile", "stato_libero"}, "private", 0, anpr.ErrNotCertifiable},
		{"forbidden pair, other way round", "Lucia", []string{"stato_libero", "stato_civile"}, "private", 0, anpr.ErrNotCertifiable},
		{"abroad and resident together", "Pietro", []string{"residenza_aire", "residenza"}, "private", 0, anpr.ErrNotCertifiable},
		{"partly certifiable: residence", "Niccolò", []string{"residenza"}, "private", 0, nil},
		{"partly certifiable: nothing else", "Niccolò", []string{"cittadinanza"}, "private", 0, anpr.ErrNotCertifiable},
		{"citizenship of another country", "Ștefania", []string{"cittadinanza"}, "private", 0, anpr.ErrNotCertifiable},
		{"marriage of a single person", "Lucia", []string{"matrimonio"}, "private", 0, anpr.ErrNotCertifiable},
		{"kinship of somebody alone", "Teresa", []string{"stato_famiglia_parentela"}, "private", 0, anpr.ErrNotCertifiable},
		{"unknown type", "Lucia", []string{"morte"}, "private", 0, anpr.ErrNotCertifiable},
		{"same type twice", "Lucia", []string{"residenza", "residenza"}, "private", 0, anpr.ErrNotCertifiable},
		{"no type", "Lucia", nil, "private", 0, anpr.ErrNotCertifiable},
		{"for a public office", "Lucia", []string{"residenza"}, "public", 0, anpr.ErrNotCertifiable},
		{"unknown exemption", "Lucia", []string{"residenza"}, "private", 11, anpr.ErrNotCertifiable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Certificate(t.Context(), citizen(t, tt.who).FiscalCode, wire.CertificateRequest{
				Certificates: tt.slugs, Recipient: tt.to, Exemption: tt.free,
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestIssuedIsWhatWasSent(t *testing.T) {
	s, c := start(t)
	for i := range 2 {
		pdf, err := c.Certificate(t.Context(), citizen(t, "Lucia").FiscalCode, wire.CertificateRequest{
			Certificates: []string{"residenza"}, Recipient: "private",
		})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(pdf)
		is := s.Issued()
		if len(is) != i+1 || is[i].SHA256 != hex.EncodeToString(sum[:]) || !is[i].At.Equal(at()) {
			t.Errorf("issued %v, received %x", is, sum)
		}
	}
}

var byteRange = regexp.MustCompile(`/ByteRange \[0 (\d+) (\d+) (\d+)\]`)

// signed splits a sealed PDF into what the signature covers and the signature.
func signed(t *testing.T, pdf []byte) (content, cms []byte) {
	t.Helper()
	m := byteRange.FindSubmatch(pdf)
	if m == nil {
		t.Fatal("no ByteRange")
	}
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(strings.TrimLeft(string(m[i+1]), "0")); err != nil {
			t.Fatal(err)
		}
	}
	if n[1]+n[2] != len(pdf) || pdf[n[0]] != '<' || pdf[n[1]-1] != '>' {
		t.Fatalf("ByteRange %v does not cover the %d bytes of the file around its contents", n, len(pdf))
	}
	cms, err := hex.DecodeString(string(pdf[n[0]+1 : n[1]-1]))
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(pdf[:n[0]]), pdf[n[1]:]...), cms
}

func TestSealHolds(t *testing.T) {
	s, c := start(t)
	pdf, err := c.Certificate(t.Context(), citizen(t, "Marco").FiscalCode, wire.CertificateRequest{
		Certificates: []string{"stato_famiglia_parentela", "residenza"}, Recipient: "private",
	})
	if err != nil {
		t.Fatal(err)
	}
	content, cms := signed(t, pdf)
	p7, err := pkcs7.Parse(cms)
	if err != nil {
		t.Fatal(err)
	}
	if !p7.GetOnlySigner().Equal(s.Seal()) {
		t.Error("signed by somebody else")
	}
	p7.Content = content
	if err := p7.Verify(); err != nil {
		t.Errorf("verify: %v", err)
	}
	content[len(content)/3] ^= 1
	p7.Content = content
	if err := p7.Verify(); err == nil {
		t.Error("one changed bit does not break the seal")
	}
	for _, tool := range [][]string{{"pdfsig", "-nocert"}, {"qpdf", "--check"}} {
		path, err := exec.LookPath(tool[0])
		if err != nil {
			t.Logf("%s is not installed: its opinion is not asked for", tool[0])
			continue
		}
		file := filepath.Join(t.TempDir(), "c.pdf")
		if err := os.WriteFile(file, pdf, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), path, append(tool[1:], file)...).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("INVALID")) ||
			tool[0] == "pdfsig" && (!bytes.Contains(out, []byte("Signature is Valid")) || !bytes.Contains(out, []byte("Total document signed"))) {
			t.Errorf("%s: %v\n%s", tool[0], err, out)
		}
	}
}

func TestMisbehaves(t *testing.T) {
	s, c := start(t)
	ask := func(ctx context.Context) ([]byte, error) {
		return c.Certificate(ctx, citizen(t, "Lucia").FiscalCode, wire.CertificateRequest{Certificates: []string{"residenza"}, Recipient: "private"})
	}
	for _, tt := range []struct {
		name string
		knob func(bool)
	}{
		{"down", s.Down}, {"garbage", s.Garbage}, {"500", s.Status500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.knob(true)
			defer tt.knob(false)
			if _, err := ask(t.Context()); !errors.Is(err, anpr.ErrDown) {
				t.Errorf("certificate: got %v, want %v", err, anpr.ErrDown)
			}
			if _, err := c.Family(t.Context(), citizen(t, "Lucia").FiscalCode); !errors.Is(err, anpr.ErrDown) {
				t.Errorf("family: got %v, want %v", err, anpr.ErrDown)
			}
			if up, _ := c.Status(); up {
				t.Error("the client thinks it is up")
			}
		})
	}
	t.Run("hangs until the caller gives up", func(t *testing.T) {
		s.Hang(time.Minute)
		defer s.Hang(0)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
	whole, err := ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if up, _ := c.Status(); !up {
		t.Error("the client thinks it is down")
	}
	t.Run("half a certificate", func(t *testing.T) {
		s.Truncate(true)
		defer s.Truncate(false)
		half, err := ask(t.Context())
		if err != nil || len(half) > len(whole)*2/3 {
			t.Errorf("got %d bytes and %v, the whole has %d", len(half), err, len(whole))
		}
	})
	t.Run("on letter paper", func(t *testing.T) {
		s.Letter(true)
		defer s.Letter(false)
		pdf, err := ask(t.Context())
		if err != nil || !bytes.Contains(pdf, []byte("612.00 792.00")) {
			t.Errorf("not on letter paper (%v)", err)
		}
	})
}

func TestControl(t *testing.T) {
	s, c := start(t)
	h := s.Control()
	post := func(path string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, r)
		return w.status
	}
	if got := post("/down?on=true"); got != http.StatusNoContent {
		t.Errorf("down: %d", got)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, anpr.ErrDown) {
		t.Errorf("down: got %v", err)
	}
	if got := post("/down?on=false"); got != http.StatusNoContent {
		t.Errorf("up: %d", got)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("up: got %v", err)
	}
	for _, path := range []string{"/down?on=maybe", "/hang?for=-1s", "/hang"} {
		if got := post(path); got != http.StatusBadRequest {
			t.Errorf("%s: %d", path, got)
		}
	}
}

// recorder is a response that keeps its status.
type recorder struct {
	header http.Header
	status int
	io.Writer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
