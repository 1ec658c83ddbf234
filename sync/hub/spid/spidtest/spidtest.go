// Package spidtest is an identity provider for tests and for the demo: it speaks SPID's SAML over real HTTP, knows a
// few invented citizens, asks nobody for a password, and can be told to answer wrongly.
//
// It refuses to listen anywhere but on loopback, and says on each page what it is. It shares no code with the service
// provider it is there to test.
package spidtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxSessions = 1000
	sessionFor  = 15 * time.Minute
	maxForm     = 64 << 10
)

// Config says whom an IdP knows.
type Config struct {
	Addr     string // to listen on, a loopback address; port 0 takes a free one
	Name     string // "" is "Identity provider di prova"
	Citizens []Citizen
	// SPMetadata is the address of the service provider's metadata, or empty when Trust will tell it. It is read when the
	// first request comes, so the service provider may start later.
	SPMetadata string
	Now        func() time.Time
}

// Citizen is an invented person.
type Citizen struct {
	FiscalCode string // with an unassigned Belfiore letter (Y), so that it is nobody's
	Name       string
	FamilyName string
}

// IdP is an identity provider. Its methods may be called while it serves.
type IdP struct {
	cfg   Config
	ln    net.Listener
	url   string
	good  signer
	other func() (signer, error) // a key that is in nobody's metadata, made when a fault needs it

	mu       sync.Mutex
	sp       *serviceProvider
	spURL    string
	fault    string
	down     bool
	sessions map[string]*session
}

// signer is a key and its certificate.
type signer struct {
	key  *rsa.PrivateKey
	cert []byte // DER
}

// session is one AuthnRequest that somebody is looking at.
type session struct {
	req     authnRequest
	relay   string
	citizen *Citizen
	born    time.Time
}

// New binds the address; Run serves it. It refuses an address that other machines can reach.
func New(cfg Config) (*IdP, error) {
	if cfg.Now == nil {
		return nil, errors.New("spidtest: no clock")
	}
	if cfg.Name == "" {
		cfg.Name = "Identity provider di prova"
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("spidtest: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("spidtest: %s is not a loopback address: a test identity provider serves this machine only", cfg.Addr)
	}
	p := &IdP{cfg: cfg, spURL: cfg.SPMetadata, sessions: make(map[string]*session)}
	p.other = sync.OnceValues(func() (signer, error) { return newSigner(cfg) })
	if p.good, err = newSigner(cfg); err != nil {
		return nil, fmt.Errorf("spidtest: %w", err)
	}
	if p.ln, err = new(net.ListenConfig).Listen(context.Background(), "tcp", cfg.Addr); err != nil {
		return nil, fmt.Errorf("spidtest: %w", err)
	}
	p.url = "http://" + p.ln.Addr().String()
	return p, nil
}

func newSigner(cfg Config) (signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return signer{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(cfg.Now().UnixNano()), Subject: pkix.Name{CommonName: cfg.Name},
		NotBefore: cfg.Now().Add(-48 * time.Hour), NotAfter: cfg.Now().Add(365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	return signer{key, der}, err
}

// URL is where the IdP is, without a slash at the end; it is its entityID too.
func (p *IdP) URL() string { return p.url }

// MetadataURL is what a service provider needs to know it.
func (p *IdP) MetadataURL() string { return p.url + "/metadata" }

// Trust tells the IdP where its service provider's metadata are.
func (p *IdP) Trust(metadataURL string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spURL, p.sp = metadataURL, nil
}

// Fault makes all Responses from now on wrong in one way, by its name in Faults; "" makes them right again.
func (p *IdP) Fault(name string) error {
	if name != "" {
		if _, ok := findFault(name); !ok {
			return fmt.Errorf("spidtest: no fault %q", name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = name
	return nil
}

// Down makes the IdP answer 503 to everything, or stop doing so.
func (p *IdP) Down(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Close frees the address of an IdP that will not Run.
func (p *IdP) Close() error { return p.ln.Close() }

// Run serves until ctx ends.
func (p *IdP) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler: p.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// Whoever is still being answered has a second; the context of the caller is over already.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(p.ln)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("spidtest: %w", err)
}

func (p *IdP) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.home)
	mux.HandleFunc("GET /style.css", p.style)
	mux.HandleFunc("GET /metadata", p.metadata)
	mux.HandleFunc("GET /sso", p.sso)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /consent", p.consent)
	mux.HandleFunc("POST /error", p.refuse)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		mux.ServeHTTP(w, r)
	})
}

// begin remembers a request and returns the name under which the pages speak of it.
func (p *IdP) begin(req authnRequest, relay string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	for id, s := range p.sessions {
		if now.Sub(s.born) > sessionFor || len(p.sessions) >= maxSessions {
			delete(p.sessions, id)
		}
	}
	id := randomHex(16)
	p.sessions[id] = &session{req: req, relay: relay, born: now}
	return id
}

// with runs f on a session, and forgets it afterwards when last is set. It reports whether there is one.
func (p *IdP) with(id string, last bool, f func(*session)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[id]
	if s == nil {
		return false
	}
	f(s)
	if last {
		delete(p.sessions, id)
	}
	return true
}

func (p *IdP) citizen(code string) *Citizen {
	for i := range p.cfg.Citizens {
		if p.cfg.Citizens[i].FiscalCode == code {
			return &p.cfg.Citizens[i]
		}
	}
	return nil
}

// serviceProvider returns what the service provider's metadata say, and reads them if need be.
func (p *IdP) serviceProvider(ctx context.Context) (*serviceProvider, error) {
	p.mu.Lock()
	sp, from := p.sp, p.spURL
	p.mu.Unlock()
	if sp != nil {
		return sp, nil
	}
	if from == "" {
		return nil, errors.New("no service provider is known yet")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: status %d, %w", from, res.StatusCode, err)
	}
	if sp, err = parseSP(bytes.TrimSpace(raw)); err != nil {
		return nil, fmt.Errorf("metadata of the service provider: %w", err)
	}
	p.mu.Lock()
	p.sp = sp
	p.mu.Unlock()
	return sp, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
