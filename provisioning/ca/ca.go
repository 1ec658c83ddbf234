// Package ca is the municipality's private certificate authority: it makes the certificates by which boxes and hub know
// each other, and no others.
//
// The authority is constrained to the name space sportello.internal, so that whoever steals its key cannot pose as a
// web site. A certificate says which box somebody is; whether that box is still welcome is for the hub's records to say.
package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sportello.example/provisioning/durable"
	"sportello.example/provisioning/identity"
)

const (
	// Life is how long a certificate lasts.
	Life = 90 * 24 * time.Hour
	// Grace is for how long after its end a certificate can still be renewed: a box may lie in a cupboard for a year.
	Grace = 540 * 24 * time.Hour
	// File is the name of the CA's certificate in its directory. It is no secret: boxes are given a copy.
	File = "hub-ca.pem"

	keyFile    = "hub-ca-key.pem"
	life       = 20 * 365 * 24 * time.Hour // of the CA itself
	backdate   = time.Hour                 // certificates begin before now, for clocks that are a little behind
	boxPath    = "/box/"
	nameSpace  = "sportello.internal"
	maxPEM     = 16 << 10
	serialBits = 127
)

var (
	// ErrNone means that the directory holds no CA yet.
	ErrNone = errors.New("no certificate authority")
	// ErrForeign means that a certificate is not one of this CA's box certificates.
	ErrForeign = errors.New("not a box certificate of this hub")
	// ErrExpired means that a box certificate has ended, but can still be renewed.
	ErrExpired = errors.New("box certificate has ended")
	// ErrGraceOver means that a box certificate ended so long ago that only a new enrolment helps.
	ErrGraceOver = errors.New("box certificate ended too long ago")
)

// CA makes and checks certificates. Its methods may be called at the same time.
type CA struct {
	now  func() time.Time
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu     sync.Mutex
	server *tls.Certificate

	knownMu sync.Mutex
	known   map[[sha256.Size]byte]bool // certificates that carry the CA's good signature, by their hash; see signed
}

// Subject is whom a box certificate was made for.
type Subject struct {
	Box    uint32
	Branch string
	KeyID  string // see KeyID
}

// Create makes a CA in dir, which it makes too (mode 0700). It fails with an error that is fs.ErrExist when there is one.
func Create(dir string, now func() time.Time) (*CA, error) {
	if err := durable.Dir(dir); err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "Sportello hub CA"},
		NotBefore:                   now().Add(-backdate),
		NotAfter:                    now().Add(life),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{nameSpace},
		PermittedURIDomains:         []string{nameSpace, "." + nameSpace},
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	// Key and certificate are one file, which makes the CA exist; the certificate alone is there to be copied.
	both := append(block("PRIVATE KEY", der), block("CERTIFICATE", cert)...)
	if err := durable.Create(filepath.Join(dir, keyFile), both); err != nil {
		return nil, fmt.Errorf("create CA: %w", err)
	}
	return Load(dir, now)
}

// Load reads the CA in dir. It fails with ErrNone when there is none.
func Load(dir string, now func() time.Time) (*CA, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load CA from %s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	c := &CA{now: now}
	first, rest := pem.Decode(b)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil || len(b) > maxPEM {
		return nil, fmt.Errorf("load CA: %s does not hold a key and a certificate", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(first.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load CA: %s: %w", path, err)
	}
	if c.cert, err = x509.ParseCertificate(second.Bytes); err != nil {
		return nil, fmt.Errorf("load CA: %s: %w", path, err)
	}
	var ok bool
	if c.key, ok = k.(*ecdsa.PrivateKey); !ok || !c.key.PublicKey.Equal(c.cert.PublicKey) {
		return nil, fmt.Errorf("load CA: %s: key and certificate do not belong together", path)
	}
	public := filepath.Join(dir, File)
	if have, err := os.ReadFile(public); err != nil || !bytes.Equal(have, c.PEM()) {
		if err := durable.Write(public, c.PEM()); err != nil {
			return nil, fmt.Errorf("load CA: %w", err)
		}
	}
	return c, nil
}

// LoadOrCreate loads the CA in dir, or makes one when there is none.
func LoadOrCreate(dir string, now func() time.Time) (*CA, error) {
	c, err := Load(dir, now)
	if errors.Is(err, ErrNone) {
		c, err = Create(dir, now)
	}
	if errors.Is(err, fs.ErrExist) { // another process was faster
		c, err = Load(dir, now)
	}
	return c, err
}

// Certificate returns the CA's own certificate.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// PEM returns the CA's own certificate as it is given to boxes.
func (c *CA) PEM() []byte { return block("CERTIFICATE", c.cert.Raw) }

// Fingerprint returns "sha256:" and the digest of the CA's certificate in hexadecimal, for people to carry.
func (c *CA) Fingerprint() string {
	sum := sha256.Sum256(c.cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Issue makes a certificate (DER) for a box's public key, which must be P-256.
func (c *CA) Issue(pub crypto.PublicKey, box uint32, branch string) ([]byte, error) {
	return c.issue(pub, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "box " + strconv.FormatUint(uint64(box), 10), OrganizationalUnit: []string{branch}},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: identity.HubName, Path: boxPath + strconv.FormatUint(uint64(box), 10)}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (c *CA) issue(pub crypto.PublicKey, t *x509.Certificate) (der []byte, err error) {
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("issue certificate: %T is not a P-256 key", pub)
	}
	if t.SerialNumber, err = serial(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	t.NotBefore, t.NotAfter = c.now().Add(-backdate), c.now().Add(Life)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if der, err = x509.CreateCertificate(rand.Reader, t, c.cert, pub, c.key); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return der, nil
}

// Verify says whom a certificate that a client showed was made for. It fails with ErrForeign, ErrExpired or
// ErrGraceOver; with ErrExpired the Subject is valid, so that the box can renew.
func (c *CA) Verify(cert *x509.Certificate) (Subject, error) {
	at, late := c.now(), error(nil)
	if at.After(cert.NotAfter) {
		late = ErrExpired
		if at.Sub(cert.NotAfter) > Grace {
			late = ErrGraceOver
		}
		at = cert.NotAfter // the signature must be good all the same
	}
	if err := c.signed(cert, at); err != nil {
		return Subject{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if len(cert.URIs) != 1 {
		return Subject{}, fmt.Errorf("%w: it names %d", ErrForeign, len(cert.URIs))
	}
	number, ok := strings.CutPrefix(cert.URIs[0].Path, boxPath)
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || n == 0 {
		return Subject{}, fmt.Errorf("%w: %s", ErrForeign, cert.URIs[0])
	}
	s := Subject{Box: uint32(n), KeyID: KeyID(cert)}
	if ou := cert.Subject.OrganizationalUnit; len(ou) == 1 {
		s.Branch = ou[0]
	}
	return s, late
}

// maxKnown bounds what signed remembers: some boxes more than one hub serves.
const maxKnown = 1 << 15

// signed checks that the CA has made a certificate for a client. A box shows the same one with every request, and a
// signature that was good stays good, so it is only checked once; the time always is.
func (c *CA) signed(cert *x509.Certificate, at time.Time) error {
	sum := sha256.Sum256(cert.Raw)
	c.knownMu.Lock()
	known := c.known[sum]
	c.knownMu.Unlock()
	if known && !at.Before(cert.NotBefore) && !at.After(cert.NotAfter) {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.cert)
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return err
	}
	c.knownMu.Lock()
	defer c.knownMu.Unlock()
	if c.known == nil || len(c.known) >= maxKnown {
		c.known = map[[sha256.Size]byte]bool{}
	}
	c.known[sum] = true
	return nil
}

// TLSConfig returns the hub's side of mutual TLS. The hub's certificate is made when it is first needed and again when
// two thirds of its life are over. Clients are asked for a certificate and must prove that they have its key, but it is
// for the handlers to check it with Verify: the TLS library would shut out a box that comes to renew.
func (c *CA) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert,
		Time:       c.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.serverCert()
		},
	}
}

func (c *CA) serverCert() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.server; s != nil && c.now().Before(s.Leaf.NotAfter.Add(-Life/3)) && c.now().After(s.Leaf.NotBefore) {
		return s, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := c.issue(key.Public(), &x509.Certificate{
		Subject:     pkix.Name{CommonName: identity.HubName},
		DNSNames:    []string{identity.HubName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The CA's certificate goes along for boxes that were given only its fingerprint.
	c.server = &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return c.server, nil
}

// KeyID names the public key of a certificate: SHA-256 of its SubjectPublicKeyInfo in hexadecimal.
func KeyID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
