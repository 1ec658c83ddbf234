package spid

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	keyFile  = "spid-key.pem"
	certFile = "spid-cert.pem"
	certLife = 3 * 365 * 24 * time.Hour
)

// Object identifiers of the certificate profile for SPID service providers (AgID, Avviso 29).
var (
	oidOrganizationID = asn1.ObjectIdentifier{2, 5, 4, 97}
	oidURI            = asn1.ObjectIdentifier{2, 5, 4, 83}
	oidConstraints    = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidPolicies       = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidPolicyAgID     = asn1.ObjectIdentifier{1, 3, 76, 16, 6}
	oidPolicySPPublic = asn1.ObjectIdentifier{1, 3, 76, 16, 4, 2, 1}
)

// loadKey returns the key and the certificate kept in the directory, and makes what is not there. A certificate for
// another entityID is replaced, over the same key.
func loadKey(cfg Config) (*rsa.PrivateKey, *x509.Certificate, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("directory for the key: %w", err)
	}
	key, err := readKey(filepath.Join(cfg.Dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err = newKey(filepath.Join(cfg.Dir, keyFile))
	}
	if errors.Is(err, fs.ErrExist) { // another hub on the same folder was faster
		key, err = readKey(filepath.Join(cfg.Dir, keyFile))
	}
	if err != nil {
		return nil, nil, err
	}
	cert, err := loadCert(cfg, key, os.Link)
	if errors.Is(err, fs.ErrExist) {
		cert, err = loadCert(cfg, key, os.Rename)
	}
	return key, cert, err
}

// loadCert returns the certificate of key, and makes it when it is not there or another entity's. One that is made comes
// to its place by move.
func loadCert(cfg Config, key *rsa.PrivateKey, move func(from, to string) error) (*x509.Certificate, error) {
	path := filepath.Join(cfg.Dir, certFile)
	raw, err := os.ReadFile(path)
	if err == nil {
		cert, perr := parseCert(raw)
		switch {
		case perr != nil:
			return nil, fmt.Errorf("%s: %w", path, perr)
		case key.PublicKey.Equal(cert.PublicKey) && subjectURI(cert) == cfg.EntityID:
			return cert, nil
		}
		move = os.Rename
		cfg.Log.Warn("spid certificate was for another entity, replaced", "entity_id", cfg.EntityID)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	der, err := newCert(cfg, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644, move); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readKey(path string) (*rsa.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: SPID wants an RSA key, not %T", path, k)
	}
	return key, nil
}

func newKey(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600, os.Link)
}

func newCert(cfg Config, key *rsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	policies, err := asn1.Marshal([][]asn1.ObjectIdentifier{{oidPolicyAgID}, {oidPolicySPPublic}})
	if err != nil {
		return nil, err
	}
	org := cfg.Organization
	now := cfg.Now().UTC()
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:       serial,
		SignatureAlgorithm: x509.SHA256WithRSA,
		Subject: pkix.Name{
			Country: []string{"IT"}, Locality: []string{org.Locality}, Organization: []string{org.Name}, CommonName: org.DisplayName,
			ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: oidOrganizationID, Value: "PA:IT-" + org.IPACode},
				{Type: oidURI, Value: cfg.EntityID},
			},
		},
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(certLife),
		KeyUsage:  x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ExtraExtensions: []pkix.Extension{
			// The template's own field would mark the constraints critical, which the profile forbids.
			{Id: oidConstraints, Value: []byte{0x30, 0x00}},
			{Id: oidPolicies, Value: policies},
		},
	}, &x509.Certificate{Subject: pkix.Name{
		Country: []string{"IT"}, Locality: []string{org.Locality}, Organization: []string{org.Name}, CommonName: org.DisplayName,
		ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: oidOrganizationID, Value: "PA:IT-" + org.IPACode},
			{Type: oidURI, Value: cfg.EntityID},
		},
	}}, &key.PublicKey, key)
}

func parseCert(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func subjectURI(c *x509.Certificate) string {
	for _, a := range c.Subject.Names {
		if a.Type.Equal(oidURI) {
			s, _ := a.Value.(string)
			return s
		}
	}
	return ""
}

// writeFile writes beside, syncs and moves: a pulled plug leaves the old file or the new one. With os.Link it fails with
// fs.ErrExist when there is a file: of several hubs at once, one wins.
func writeFile(path string, data []byte, mode fs.FileMode, move func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // there is nothing left after a rename
	_, err = f.ReadFrom(bytes.NewReader(data))
	for _, step := range []func() error{func() error { return f.Chmod(mode) }, f.Sync, f.Close} {
		if e := step(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = move(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
