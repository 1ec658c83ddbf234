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
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sportello.example/sync/hub/moment"
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
	Moments      moment.Store // where requests wait for their responses; nil: in memory of the Provider's own
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
	if cfg.Moments == nil {
		cfg.Moments = moment.New(cfg.Now)
	}
	cfg.Organization.fill()
	p := &Provider{cfg: cfg, acs: cfg.PublicURL.JoinPath(PathACS).String()}
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

// pending are the requests that wait, one for each flow, by what slot makes of it.
var pending = moment.Space{Name: "spid", Total: maxPending}

// waiting is a request that waits.
type waiting struct {
	Relay   string  `json:"relay"` // RelayState that it travels with
	Request Request `json:"request"`
}

// slot is the beginning of a flow's RelayStates: it says where its request waits, and not which flow it is.
func slot(flow string) string {
	h := sha256.Sum256([]byte("spid/" + flow))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

// slotSize is the length of what slot returns.
const slotSize = 16

// Begin makes an AuthnRequest for an IdP and returns the address to send the browser to (with status 302). flow names
// the browser's login and comes back from Take; a flow has one request at a time, and a new one replaces the last. The
// login must reach at least level 2. The errors are ErrUnknownIdP, ErrBusy and that of Moments.
func (p *Provider) Begin(ctx context.Context, idp, flow string) (redirect string, err error) {
	dest, ok := p.idp(idp)
	if !ok {
		return "", ErrUnknownIdP
	}
	now := p.cfg.Now().UTC()
	w := waiting{Relay: slot(flow) + token(24), Request: Request{ID: "_" + token(20), IdP: idp, Flow: flow, Level: 2, Issued: now}}
	if redirect, err = p.redirect(w.Request, dest.SSO, w.Relay); err != nil {
		return "", fmt.Errorf("request to %s: %w", idp, err)
	}
	value, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("request to %s: %w", idp, err)
	}
	err = p.cfg.Moments.Change(ctx, pending, slot(flow), func(e *moment.Entry, _ bool) error {
		e.Value, e.Until = value, now.Add(pendingFor)
		return nil
	})
	if errors.Is(err, moment.ErrFull) {
		return "", ErrBusy
	}
	if err != nil {
		return "", err
	}
	return redirect, nil
}

// Forget forgets the request of a flow that is over, if there is one. The error is that of Moments.
func (p *Provider) Forget(ctx context.Context, flow string) error {
	return p.cfg.Moments.Change(ctx, pending, slot(flow), func(e *moment.Entry, _ bool) error {
		*e = moment.Entry{}
		return nil
	})
}

// Take returns the request that a RelayState stands for and forgets it: whatever comes of the Response, there is no
// second one. It returns ErrNoRequest for one that is not known, was taken, or is older than 15 minutes, and the error of
// Moments. The caller compares Request.Flow with the browser's before it goes on to Verify.
func (p *Provider) Take(ctx context.Context, relayState string) (Request, error) {
	if len(relayState) > maxRelay || len(relayState) < slotSize {
		return Request{}, ErrNoRequest
	}
	var w waiting
	err := p.cfg.Moments.Change(ctx, pending, relayState[:slotSize], func(e *moment.Entry, there bool) error {
		w = waiting{}
		if !there {
			return ErrNoRequest
		}
		if err := json.Unmarshal(e.Value, &w); err != nil {
			return fmt.Errorf("stored request: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(w.Relay), []byte(relayState)) != 1 {
			return ErrNoRequest
		}
		*e = moment.Entry{}
		return nil
	})
	if err != nil {
		return Request{}, err
	}
	return w.Request, nil
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
			if err := p.cfg.Moments.Sweep(ctx); err != nil && ctx.Err() == nil {
				p.cfg.Log.WarnContext(ctx, "requests that nobody answered not forgotten", "err", err, "retry_in", time.Minute)
			}
			p.refresh(ctx)
		}
	}
}

// token returns n random bytes as text without any of the characters that would have to be escaped.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program rather than return an error
	return base64.RawURLEncoding.EncodeToString(b)
}
