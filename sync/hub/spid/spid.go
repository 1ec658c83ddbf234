// Package spid makes the hub a SPID service provider: citizens prove who they are at the identity provider (IdP) they
// chose, and the hub believes nothing that the IdP did not sign for this one request.
//
// It speaks SAML 2.0 as AgID's technical rules for SPID profile it: signed metadata, a signed AuthnRequest over the
// HTTP-Redirect binding, a Response over HTTP-POST whose Assertion is always signed. Read are only elements parsed
// again from the bytes that the signature covers; keys come from the IdPs' metadata, never from the message.
package spid

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Paths of the hub's SPID endpoints, below its public URL.
const (
	PathMetadata = "/spid/metadata"
	PathACS      = "/spid/acs"
	PathLogout   = "/spid/logout"
)

const (
	maxPending = 20_000 // requests in flight: more is an attack
	pendingFor = 15 * time.Minute
	maxRelay   = 64 // characters of a RelayState
)

// Config says who the service provider is.
type Config struct {
	PublicURL *url.URL // of the hub; endpoints are below it
	EntityID  string   // PublicURL when empty
	Dir       string   // where the key and the certificate are kept; made at first start
	// Sources are where the IdPs' metadata are: paths of files, or http(s) addresses. One source may hold many IdPs.
	// A source or an IdP without TLS is accepted only on loopback, and only when PublicURL is on loopback too: so an
	// IdP for tests cannot be configured in a hub that serves people.
	Sources      []string
	Organization Organization
	Client       *http.Client // nil: one with a time-out of 10 s
	Now          func() time.Time
	Log          *slog.Logger
}

// Organization is the public body that answers for the service provider. Its zero value names an invented one.
type Organization struct {
	Name        string // full legal name
	DisplayName string // what IdPs show when they ask for consent
	URL         string
	IPACode     string // in the index of public administrations
	Email       string // nobody's personal one
	Phone       string // +39…, no spaces
	Locality    string
}

// Provider is the service provider. It may be used by several goroutines.
type Provider struct {
	cfg      Config
	acs      string
	key      *rsa.PrivateKey
	cert     *x509.Certificate
	metadata []byte

	mu      sync.Mutex
	pending map[string]Request // by RelayState
	relay   map[string]string  // RelayState of each flow's one request
	sources []source
}

// Request is an AuthnRequest that waits for its Response.
type Request struct {
	ID     string
	IdP    string // entityID
	Flow   string // as handed to Begin
	Level  uint8  // least level of assurance
	Issued time.Time
}

// The reasons why a request cannot begin or go on.
var (
	ErrUnknownIdP = errors.New("no such identity provider")
	ErrBusy       = errors.New("too many logins at once")
	ErrNoRequest  = errors.New("no request waits for this response")
)

// New prepares the service provider: it reads or makes the key, signs the metadata, and loads the IdPs that can be
// loaded now. A source that cannot be reached is tried again by Run.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	if cfg.PublicURL == nil || cfg.PublicURL.Host == "" {
		return nil, errors.New("spid: no public URL")
	}
	if cfg.PublicURL.Scheme != "https" && !loopback(cfg.PublicURL) {
		return nil, fmt.Errorf("spid: public URL %s: https is needed except on loopback", cfg.PublicURL)
	}
	if cfg.EntityID == "" {
		cfg.EntityID = cfg.PublicURL.String()
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	cfg.Organization.fill()
	p := &Provider{cfg: cfg, acs: cfg.PublicURL.JoinPath(PathACS).String(), pending: make(map[string]Request), relay: make(map[string]string)}
	var err error
	if p.key, p.cert, err = loadKey(cfg); err != nil {
		return nil, fmt.Errorf("spid: %w", err)
	}
	if p.metadata, err = p.signMetadata(); err != nil {
		return nil, fmt.Errorf("spid: sign metadata: %w", err)
	}
	for _, s := range cfg.Sources {
		p.sources = append(p.sources, source{where: s})
	}
	p.refresh(ctx)
	return p, nil
}

func (o *Organization) fill() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Name, "Comune di Esempio")
	def(&o.DisplayName, o.Name)
	def(&o.URL, "https://comune.example")
	def(&o.IPACode, "c_y000")
	def(&o.Email, "sportello@comune.example")
	def(&o.Phone, "+390200000000")
	def(&o.Locality, "Esempio")
}

// loopback reports whether u is plain HTTP's only allowed place: an address of this very machine.
func loopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Metadata returns the signed metadata to publish at PathMetadata, type application/samlmetadata+xml. It is the same,
// byte by byte, for as long as key and configuration are: AgID registers it.
func (p *Provider) Metadata() []byte { return p.metadata }

// Begin makes an AuthnRequest for an IdP and returns the address to send the browser to (with status 302). flow names
// the browser's login and comes back from Take; a flow has one request at a time, and a new one replaces the last. The
// login must reach at least level 2. The errors are ErrUnknownIdP and ErrBusy.
func (p *Provider) Begin(idp, flow string) (redirect string, err error) {
	dest, ok := p.idp(idp)
	if !ok {
		return "", ErrUnknownIdP
	}
	now := p.cfg.Now()
	req := Request{ID: "_" + token(20), IdP: idp, Flow: flow, Level: 2, Issued: now}
	relay := token(24)
	if redirect, err = p.redirect(req, dest.SSO, relay); err != nil {
		return "", fmt.Errorf("request to %s: %w", idp, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(flow)
	if len(p.pending) >= maxPending {
		p.sweep(now)
	}
	if len(p.pending) >= maxPending {
		return "", ErrBusy
	}
	p.pending[relay], p.relay[flow] = req, relay
	return redirect, nil
}

// Forget forgets the request of a flow that is over, if there is one.
func (p *Provider) Forget(flow string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(flow)
}

// forget is Forget. The caller holds mu.
func (p *Provider) forget(flow string) {
	delete(p.pending, p.relay[flow])
	delete(p.relay, flow)
}

// Take returns the request that a RelayState stands for and forgets it: whatever comes of the Response, there is no
// second one. It returns ErrNoRequest for one that is not known, was taken, or is older than 15 minutes. The caller
// compares Request.Flow with the browser's before it goes on to Verify.
func (p *Provider) Take(relayState string) (Request, error) {
	if len(relayState) > maxRelay {
		return Request{}, ErrNoRequest
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	req, ok := p.pending[relayState]
	if !ok {
		return Request{}, ErrNoRequest
	}
	p.forget(req.Flow)
	if p.cfg.Now().Sub(req.Issued) > pendingFor {
		return Request{}, ErrNoRequest
	}
	return req, nil
}

// Run forgets requests that nobody answered and reads the IdPs' metadata again, a source that failed every minute, the
// others daily, until ctx ends.
func (p *Provider) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.mu.Lock()
			p.sweep(p.cfg.Now())
			p.mu.Unlock()
			p.refresh(ctx)
		}
	}
}

// sweep forgets old requests. The caller holds mu.
func (p *Provider) sweep(now time.Time) {
	for _, req := range p.pending {
		if now.Sub(req.Issued) > pendingFor {
			p.forget(req.Flow)
		}
	}
}

// token returns n random bytes as text without any of the characters that would have to be escaped.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program rather than return an error
	return base64.RawURLEncoding.EncodeToString(b)
}
