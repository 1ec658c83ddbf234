package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/provisioning/identity"
)

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// authority makes certificates as a hub does, and wrong ones.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.cert = sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key.Public(), a.key)
	return a
}

func sign(t *testing.T, c, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(1)
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a *authority) leaf(t *testing.T, pub any, from time.Time, eku x509.ExtKeyUsage, name string) []byte {
	t.Helper()
	return sign(t, &x509.Certificate{
		NotBefore: from, NotAfter: from.AddDate(0, 0, 90), ExtKeyUsage: []x509.ExtKeyUsage{eku}, DNSNames: []string{name},
	}, a.cert, pub, a.key).Raw
}

func (a *authority) enrolment(t *testing.T, id *identity.Identity) identity.Enrolment {
	t.Helper()
	der, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Enrolment{
		Box: 7, Branch: "Biblioteca Harar", Kiosks: 2, PublicURL: "https://sportello.example", LoginEpoch: 1,
		KeyQR: []byte(strings.Repeat("q", 32)), KeyCode: []byte(strings.Repeat("c", 32)),
		HubTokenKey: make([]byte, 32), HubSealKey: make([]byte, 32), CA: a.cert.Raw,
		Certificate: a.leaf(t, csr.PublicKey, start, x509.ExtKeyUsageClientAuth, "box"),
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "id")
	if _, err := identity.Load(dir); !errors.Is(err, identity.ErrNone) {
		t.Errorf("nothing there: got %v", err)
	}
	id, err := identity.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Create(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: got %v", err)
	}
	if id, err = identity.Load(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := id.Enrolment(); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("got %v", err)
	}
	if _, err := id.TLSConfig(time.Now); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("got %v", err)
	}
	if _, _, err := id.Expires(); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("got %v", err)
	}
	a := newAuthority(t)
	want := a.enrolment(t, id)
	if err := id.Save(want); err != nil {
		t.Fatal(err)
	}
	again, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Enrolment()
	if err != nil || got.Box != 7 || got.Branch != want.Branch || string(got.KeyQR) != string(want.KeyQR) || !again.TokenKey().Equal(id.TokenKey()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if end, renew, err := again.Expires(); err != nil || !end.Equal(start.AddDate(0, 0, 90)) || !renew.Equal(start.AddDate(0, 0, 60)) {
		t.Errorf("ends %v, renew %v, %v", end, renew, err)
	}
	t.Run("only the owner reads them", func(t *testing.T) {
		for name, mode := range map[string]fs.FileMode{"": 0o700, "tls-key.pem": 0o600, "token-key.pem": 0o600, "enrolment.json": 0o600} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%q: %v, %v", name, st, err)
			}
		}
	})
	t.Run("secrets do not print", func(t *testing.T) {
		if s := fmt.Sprintf("%v %+v %#v %s", want, want, want, want); strings.Contains(s, "qqqq") || strings.Contains(s, "ccc") || strings.Contains(s, "113, 113") {
			t.Error(s)
		}
	})
	t.Run("an enrolment that does not fit is refused and the old one stays", func(t *testing.T) {
		other, err := identity.Create(filepath.Join(t.TempDir(), "other"))
		if err != nil {
			t.Fatal(err)
		}
		for name, spoil := range map[string]func(*identity.Enrolment){
			"certificate of another key": func(e *identity.Enrolment) { e.Certificate = a.enrolment(t, other).Certificate },
			"another CA":                 func(e *identity.Enrolment) { e.CA = newAuthority(t).cert.Raw },
			"garbage":                    func(e *identity.Enrolment) { e.Certificate = []byte("x") },
			"no CA":                      func(e *identity.Enrolment) { e.CA = nil },
			"no number":                  func(e *identity.Enrolment) { e.Box = 0 },
			"short key":                  func(e *identity.Enrolment) { e.KeyCode = e.KeyCode[:31] },
			"no sealing key":             func(e *identity.Enrolment) { e.HubSealKey = nil },
		} {
			e := want
			spoil(&e)
			if err := id.Save(e); err == nil {
				t.Errorf("%s: saved", name)
			}
		}
		if again, err := identity.Load(dir); err != nil {
			t.Error(err)
		} else if _, err := again.Enrolment(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"enrolment.json", "token-key.pem", "tls-key.pem"} {
		for what, text := range map[string]string{"empty": "", "garbage": "garbage", "large": strings.Repeat("x", 1<<20)} {
			t.Run(name+" is "+what, func(t *testing.T) {
				path := filepath.Join(dir, name)
				old, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = os.WriteFile(path, old, 0o600) }()
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := identity.Load(dir); err == nil || errors.Is(err, identity.ErrNone) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// handshake connects a box to a hub with the given certificate.
func handshake(t *testing.T, id *identity.Identity, now time.Time, hub tls.Certificate) error {
	t.Helper()
	conf, err := id.TLSConfig(func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{hub}, ClientAuth: tls.RequireAnyClientCert})
		_, _ = io.WriteString(s, "ok")
		_ = s.Close()
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), conf)
	if err == nil {
		var b [2]byte
		_, err = io.ReadFull(c, b[:])
		_ = c.Close()
	}
	<-served
	return err
}

func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	id, err := identity.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Save(a.enrolment(t, id)); err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	hub := func(a *authority, from time.Time, eku x509.ExtKeyUsage, name string) tls.Certificate {
		return tls.Certificate{Certificate: [][]byte{a.leaf(t, k.Public(), from, eku, name)}, PrivateKey: k}
	}
	server := x509.ExtKeyUsageServerAuth
	for _, tt := range []struct {
		name string
		now  time.Time
		hub  tls.Certificate
		ok   bool
	}{
		{"its hub", start, hub(a, start, server, identity.HubName), true},
		{"clock at 1970", time.Unix(0, 0), hub(a, start, server, identity.HubName), true},
		{"clock at 1970, hub renewed since", time.Unix(0, 0), hub(a, start.AddDate(0, 0, 200), server, identity.HubName), true},
		{"certificate of the hub has ended", start.AddDate(0, 0, 100), hub(a, start, server, identity.HubName), false},
		{"and the clock at 1970 does not hide it", time.Unix(0, 0), hub(a, start.AddDate(-1, 0, 0), server, identity.HubName), false},
		{"another CA", start, hub(other, start, server, identity.HubName), false},
		{"another name", start, hub(a, start, server, "evil.sportello.internal"), false},
		{"a box that poses as hub", start, hub(a, start, x509.ExtKeyUsageClientAuth, identity.HubName), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := handshake(t, id, tt.now, tt.hub); (err == nil) != tt.ok {
				t.Errorf("got %v, want success %v", err, tt.ok)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	dir := f.TempDir()
	if _, err := identity.Create(dir); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"box":1,"certificate":"AAAA","ca":"AAAA"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "enrolment.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := identity.Load(dir); err == nil {
			if _, err := id.Enrolment(); err == nil {
				t.Errorf("%q is an enrolment", b)
			}
		}
	})
}
