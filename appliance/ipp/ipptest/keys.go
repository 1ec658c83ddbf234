package ipptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// key is one of a printer's TLS keys, with the certificate for it.
type key struct {
	cert tls.Certificate
	pin  string // SHA-256 of its SubjectPublicKeyInfo, hex
}

// makeKeys makes what a printer has after its first start: one key or, as some print servers have it, two.
func makeKeys(now time.Time, two bool) ([]key, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("printer key: %w", err)
	}
	signers := []crypto.Signer{ec}
	if two {
		old, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("printer key: %w", err)
		}
		signers = append(signers, old)
	}
	var keys []key
	for _, s := range signers {
		k, err := selfSigned(s, now)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// selfSigned makes a certificate as printers have them: for a name nobody calls them by.
func selfSigned(signer crypto.Signer, now time.Time) (key, error) {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "NPI-0815"}, DNSNames: []string{"NPI-0815.local"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		return key{}, fmt.Errorf("printer certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return key{}, fmt.Errorf("printer key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return key{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}, pin: hex.EncodeToString(sum[:])}, nil
}

// certificate shows the printer's keys in turn, one a connection.
func (p *Printer) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keys[p.shown%len(p.keys)]
	p.shown++
	return &k.cert, nil
}

// Pin is the SHA-256 of its public key in hex, the first of two; "" without TLS.
func (p *Printer) Pin() string {
	if pins := p.Pins(); len(pins) > 0 {
		return pins[0]
	}
	return ""
}

// Pins are the SHA-256 of all its public keys in hex, the one made first before; none without TLS.
func (p *Printer) Pins() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pins []string
	for _, k := range p.keys {
		pins = append(pins, k.pin)
	}
	return pins
}

// NewKey gives a printer with TLS new keys and cuts its connections, as a firmware update does. Jobs stay.
func (p *Printer) NewKey() error {
	if !p.cfg.TLS {
		return nil
	}
	keys, err := makeKeys(p.cfg.Now(), p.cfg.TwoKeys)
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	p.hangUp()
	p.set(func() { p.keys = keys })
	return p.listen()
}
