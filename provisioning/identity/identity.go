// Package identity keeps on disk who a box is: its private keys, and what the municipality's hub gave it when it let it
// in (certificate, place, shared keys). From these it makes the box's side of mutual TLS.
//
// Keys are made on the box and never leave it. Everything from the hub is one file that is replaced whole, so that a
// power cut leaves the old enrolment or the new one.
package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sportello.example/provisioning/durable"
)

var (
	// ErrNone means that the directory holds no identity yet.
	ErrNone = errors.New("no identity")
	// ErrNotEnrolled means that the box has keys, but no hub has let it in yet.
	ErrNotEnrolled = errors.New("box is not enrolled")
)

// The files of an identity.
const (
	keyFile      = "tls-key.pem"
	tokenKeyFile = "token-key.pem"
	recordFile   = "enrolment.json"
)

// maxFile bounds what is read of any of the files, in bytes.
const maxFile = 64 << 10

// Enrolment is what a hub gives a box when it lets it in, and again at each renewal. It holds secrets.
type Enrolment struct {
	Box         uint32 `json:"box"`           // number of the box at this hub, from 1
	Branch      string `json:"branch"`        // name of the branch as people know it
	Kiosks      int    `json:"kiosks"`        // how many kiosks the branch has
	PublicURL   string `json:"public_url"`    // where citizens' phones reach the hub
	Certificate []byte `json:"certificate"`   // of the box, DER
	CA          []byte `json:"ca"`            // of the hub, DER; the only one the box trusts
	LoginEpoch  uint16 `json:"login_epoch"`   // generation of the two keys below
	KeyQR       []byte `json:"key_qr"`        // 32 bytes, authenticates the QR of a login
	KeyCode     []byte `json:"key_code"`      // 32 bytes, checks the code a citizen types
	HubTokenKey []byte `json:"hub_token_key"` // Ed25519, signs identity tokens
	HubSealKey  []byte `json:"hub_seal_key"`  // X25519, see package seal
}

// String keeps the secrets out of logs.
func (e Enrolment) String() string { return fmt.Sprintf("box %d", e.Box) }

// GoString keeps the secrets out of logs.
func (e Enrolment) GoString() string { return e.String() }

// Identity is who a box is. Its methods may be called at the same time.
type Identity struct {
	dir      string
	key      *ecdsa.PrivateKey
	tokenKey *ecdh.PrivateKey

	mu      sync.Mutex
	current *state // nil until enrolled
}

// state is an enrolment with its certificates parsed.
type state struct {
	record   Enrolment
	leaf, ca *x509.Certificate
}

// Create makes the keys of a new box in dir, which it makes too (mode 0700). It fails with an error that is fs.ErrExist
// when dir holds an identity: keys are never overwritten.
func Create(dir string) (*Identity, error) {
	if err := durable.Dir(dir); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	tokenKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	// The TLS key comes last: it makes the identity exist. A token key without it is the remains of a power cut.
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil {
		return nil, fmt.Errorf("create identity in %s: %w", dir, fs.ErrExist)
	}
	if err := writeKey(durable.Write, filepath.Join(dir, tokenKeyFile), tokenKey); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	if err := writeKey(durable.Create, filepath.Join(dir, keyFile), key); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	return &Identity{dir: dir, key: key, tokenKey: tokenKey}, nil
}

// Load reads the identity in dir. It fails with ErrNone when there is none; Create makes one.
func Load(dir string) (*Identity, error) {
	id := &Identity{dir: dir}
	var ok bool
	k, err := readKey(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load identity from %s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.key, ok = k.(*ecdsa.PrivateKey); !ok || id.key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("load identity: %s is not a P-256 key", keyFile)
	}
	if k, err = readKey(filepath.Join(dir, tokenKeyFile)); err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.tokenKey, ok = k.(*ecdh.PrivateKey); !ok {
		return nil, fmt.Errorf("load identity: %s is not an X25519 key", tokenKeyFile)
	}
	b, err := readFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	var e Enrolment
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", recordFile, err)
	}
	if id.current, err = id.check(e); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", recordFile, err)
	}
	return id, nil
}

// Save stores what a hub gave this box, in place of what it gave before. It is on the disk when Save returns, and used
// for connections from then on. What does not fit this box's keys is refused.
func (id *Identity) Save(e Enrolment) error {
	st, err := id.check(e)
	if err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	b, err := json.MarshalIndent(e, "", "\t")
	if err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := durable.Write(filepath.Join(id.dir, recordFile), b); err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	id.current = st
	return nil
}

// check parses an enrolment and refuses what this box could not use.
func (id *Identity) check(e Enrolment) (*state, error) {
	leaf, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of the box: %w", err)
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !id.key.PublicKey.Equal(pub) {
		return nil, errors.New("certificate is for another key")
	}
	ca, err := x509.ParseCertificate(e.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate of the hub's CA: %w", err)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("certificate is not from the hub's CA: %w", err)
	}
	if e.Box == 0 {
		return nil, errors.New("no box number")
	}
	for _, k := range []struct {
		name string
		key  []byte
		size int
	}{
		{"key_qr", e.KeyQR, 32},
		{"key_code", e.KeyCode, 32},
		{"hub_token_key", e.HubTokenKey, ed25519.PublicKeySize},
		{"hub_seal_key", e.HubSealKey, 32},
	} {
		if len(k.key) != k.size {
			return nil, fmt.Errorf("%s has %d bytes, want %d", k.name, len(k.key), k.size)
		}
	}
	return &state{record: e, leaf: leaf, ca: ca}, nil
}

// Enrolment returns what the hub gave this box, or ErrNotEnrolled.
func (id *Identity) Enrolment() (Enrolment, error) {
	st, err := id.state()
	if err != nil {
		return Enrolment{}, err
	}
	return st.record, nil
}

// Expires returns when the box's certificate ends, and when it should be renewed: after two thirds of its life.
func (id *Identity) Expires() (end, renew time.Time, err error) {
	st, err := id.state()
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	life := st.leaf.NotAfter.Sub(st.leaf.NotBefore)
	return st.leaf.NotAfter, st.leaf.NotBefore.Add(life / 3 * 2), nil
}

// Begins returns when the box's certificate began: that time has surely passed. It fails with ErrNotEnrolled.
func (id *Identity) Begins() (time.Time, error) {
	st, err := id.state()
	if err != nil {
		return time.Time{}, err
	}
	return st.leaf.NotBefore, nil
}

// CSR returns a certificate request (PKCS #10, DER) for the box's TLS key. It names nobody: the hub knows who asks.
func (id *Identity) CSR() ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.key)
}

// Sign signs a SHA-256 with the key of the box's certificate (ECDSA, ASN.1) and returns that certificate (DER) too. What
// was hashed must begin with what it is, as TLS does it, so that no signature serves for something else. It fails with
// ErrNotEnrolled.
func (id *Identity) Sign(sum [32]byte) (sig, certificate []byte, err error) {
	st, err := id.state()
	if err != nil {
		return nil, nil, err
	}
	if sig, err = ecdsa.SignASN1(rand.Reader, id.key, sum[:]); err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	return sig, st.record.Certificate, nil
}

// TokenKey opens the identity tokens that the hub seals to this box.
func (id *Identity) TokenKey() *ecdh.PrivateKey { return id.tokenKey }

func (id *Identity) state() (*state, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.current == nil {
		return nil, ErrNotEnrolled
	}
	return id.current, nil
}

func writeKey(write func(string, []byte) error, path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func readKey(path string) (crypto.PrivateKey, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s is not a private key in PEM", path)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes", path, st.Size())
	}
	return os.ReadFile(path)
}
