package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/identity"
)

// clock is a clock that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newCA(t *testing.T) (*ca.CA, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	a, err := ca.Create(filepath.Join(t.TempDir(), "ca"), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issue(t *testing.T, a *ca.CA, box uint32, branch string) *x509.Certificate {
	t.Helper()
	der, err := a.Issue(newKey(t).Public(), box, branch)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLife(t *testing.T) {
	a, clock := newCA(t)
	start := clock.t
	cert := issue(t, a, 7, "Biblioteca Harar")
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  error
	}{
		{"at once", 0, nil},
		{"on a hub whose clock is half an hour behind", -30 * time.Minute, nil},
		{"on its last day", ca.Life - time.Hour, nil},
		{"a day too late", ca.Life + 24*time.Hour, ca.ErrExpired},
		{"at the end of the grace", ca.Life + ca.Grace - time.Hour, ca.ErrExpired},
		{"after the grace", ca.Life + ca.Grace + time.Hour, ca.ErrGraceOver},
		{"before it was made", -48 * time.Hour, ca.ErrForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock.t = start.Add(tt.after)
			s, err := a.Verify(cert)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if want := (ca.Subject{Box: 7, Branch: "Biblioteca Harar", KeyID: ca.KeyID(cert)}); !errors.Is(tt.want, ca.ErrForeign) && s != want {
				t.Errorf("got %+v, want %+v", s, want)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	a, clock := newCA(t)
	other, _ := newCA(t)
	server, err := a.TLSConfig().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{Subject: a.Certificate().Subject, NotBefore: clock.t.Add(-time.Hour), NotAfter: clock.t.Add(time.Hour), SerialNumber: a.Certificate().SerialNumber}
	k := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, self, self, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cert *x509.Certificate
	}{
		{"of another hub", issue(t, other, 7, "x")},
		{"signed by itself", forged},
		{"the hub's own", server.Leaf},
		{"the CA", a.Certificate()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := a.Verify(tt.cert); !errors.Is(err, ca.ErrForeign) {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
	t.Run("keys that are not P-256 get no certificate", func(t *testing.T) {
		rk, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, pub := range []any{rk.Public(), p384.Public(), nil} {
			if _, err := a.Issue(pub, 1, "x"); err == nil {
				t.Errorf("%T got one", pub)
			}
		}
	})
}

func TestConstraint(t *testing.T) {
	a, clock := newCA(t)
	server, err := a.TLSConfig().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	for name, ok := range map[string]bool{identity.HubName: true, "www.comune.milano.it": false, "evil.sportello.internal": false} {
		_, err := server.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: clock.t})
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := a.Certificate(); len(got.PermittedDNSDomains) != 1 || !got.PermittedDNSDomainsCritical || !got.MaxPathLenZero {
		t.Errorf("CA may sign for %v (critical %v)", got.PermittedDNSDomains, got.PermittedDNSDomainsCritical)
	}
}

func TestServerCertificateIsRenewed(t *testing.T) {
	a, clock := newCA(t)
	get := func() *tls.Certificate {
		c, err := a.TLSConfig().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get()
	clock.t = clock.t.Add(ca.Life / 2)
	if get() != first {
		t.Error("renewed after half of its life")
	}
	clock.t = clock.t.Add(ca.Life / 4)
	if second := get(); second == first || clock.t.After(second.Leaf.NotAfter) {
		t.Error("not renewed after three quarters of its life")
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := ca.Load(dir, time.Now); !errors.Is(err, ca.ErrNone) {
		t.Errorf("nothing there: got %v", err)
	}
	a, err := ca.LoadOrCreate(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Create(dir, time.Now); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: got %v", err)
	}
	t.Run("it is the same after a restart, and boxes can be given a copy", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, ca.File)); err != nil {
			t.Fatal(err)
		}
		b, err := ca.LoadOrCreate(dir, time.Now)
		if err != nil || b.Fingerprint() != a.Fingerprint() || !strings.HasPrefix(a.Fingerprint(), "sha256:") {
			t.Fatalf("%v, %v", b, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, ca.File)); err != nil || !bytes.Equal(text, a.PEM()) {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("only its owner reads the key", func(t *testing.T) {
		if st, err := os.Stat(filepath.Join(dir, "hub-ca-key.pem")); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
	})
	for _, tt := range []struct{ name, text string }{
		{"empty", ""}, {"garbage", "garbage"}, {"only a certificate", string(a.PEM())},
	} {
		t.Run("a key file that is "+tt.name+" is refused", func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "hub-ca-key.pem"), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ca.LoadOrCreate(dir, time.Now); err == nil {
				t.Error("loaded")
			}
		})
	}
}
