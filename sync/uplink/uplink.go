// Package uplink is the box's client of the hub: JSON and PDF over mutual TLS, every call with a hard end.
//
// What comes back is outside input: it is read through a limit, checked for its type, and whatever is not what the hub
// would say (a captive portal's page, a proxy's error, half a document) counts as the line being down.
package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sportello.example/provisioning/identity"
	"sportello.example/sync/wire"
)

var (
	// ErrOffline means that the hub could not be reached, or that what answered was not a hub in working order.
	ErrOffline = errors.New("hub unreachable")
	// ErrRegistryDown means that the hub works, but the national registry behind it does not answer.
	ErrRegistryDown = errors.New("registry does not answer")
	// ErrDigest means that a document is not the one the hub announced.
	ErrDigest = errors.New("document differs from what the hub announced")
	// ErrOldHub means that the hub does not know what was asked for: its program is older than the box's.
	ErrOldHub = errors.New("the hub's program is older than the box's: update the hub")
)

// Options are the settings of a Client. The zero value is usable but for Now.
type Options struct {
	Now     func() time.Time // needed
	Connect time.Duration    // longest time for a connection and its handshake; 0 means 3 s each
	Timeout time.Duration    // longest time for a call as a whole, in Login and State on top of their wait; 0 means 15 s

	// Report, if set, says how the box and its queue are; Client.Report tells the hub.
	Report func(context.Context) (wire.Report, error)
}

// idleConn is for how long a connection is kept that nobody uses: longer than an idle box waits between two calls,
// because a handshake with certificates on both sides costs more than all it says in ten minutes.
const idleConn = 3 * time.Minute

// Client talks to one hub as one box. Its methods may be called at the same time. Unless said otherwise they fail with
// ErrOffline, or with a *ProblemError.
type Client struct {
	base string
	http *http.Client
	o    Options
	cuts atomic.Int64 // longest poll that something between here and the hub lets live, in nanoseconds; 0: not known
	said said
}

// New returns a client for the hub's box interface at baseURL, "https://hub.example:8443". It makes no connection. It
// fails with identity.ErrNotEnrolled.
func New(baseURL string, id *identity.Identity, o Options) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("uplink: %q is not an https address", baseURL)
	}
	conf, err := id.TLSConfig(o.Now)
	if err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	if o.Connect <= 0 {
		o.Connect = 3 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	// HTTP/1.1: there, a call that times out takes its dead connection with it. An HTTP/2 connection is shared, and
	// after the line was cut every call would wait for the same corpse.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &Client{
		base: strings.TrimSuffix(u.String(), "/"),
		o:    o,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: o.Connect}).DialContext,
				TLSHandshakeTimeout: o.Connect,
				TLSClientConfig:     conf,
				Protocols:           protocols,
				MaxIdleConnsPerHost: 4,
				IdleConnTimeout:     idleConn,
				DisableCompression:  true, // the hub's answers are short; what is long is compressed already
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Login asks how far the phone has got with the challenge that has this nonce (20 hexadecimal digits). It blocks until
// something has happened or wait has passed, whichever comes first; then the state is wire.LoginWaiting.
func (c *Client) Login(ctx context.Context, nonceHex string, wait time.Duration) (l wire.Login, err error) {
	err = c.poll(ctx, wait, func(wait time.Duration) error {
		path := wire.PathLogins + url.PathEscape(nonceHex) + "?wait=" + seconds(wait)
		return c.json(ctx, "login", c.pollLimit(wait), http.MethodGet, path, nil, &l)
	})
	if err != nil {
		return wire.Login{}, err
	}
	switch l.State {
	case wire.LoginWaiting, wire.LoginDone, wire.LoginCancelled, wire.LoginRefused:
		return l, nil
	}
	return wire.Login{}, fmt.Errorf("login: %w: hub answers with state %q", ErrOffline, l.State)
}

// Family lists whom the person that logged in may ask a certificate for. It fails with ErrRegistryDown too.
func (c *Client) Family(ctx context.Context, nonceHex string) (f wire.Family, err error) {
	if err := c.json(ctx, "family", c.o.Timeout, http.MethodGet, wire.PathFamily+url.PathEscape(nonceHex), nil, &f); err != nil {
		return wire.Family{}, err
	}
	return f, nil
}

// Collect fetches what a citizen left under a pick-up code.
func (c *Client) Collect(ctx context.Context, code string) (r wire.Request, err error) {
	if err := c.json(ctx, "collect", c.o.Timeout, http.MethodPost, wire.PathCollect, wire.Collect{Code: code}, &r); err != nil {
		return wire.Request{}, err
	}
	return r, nil
}

// Certificate fetches a document. The bytes are those the hub announced by their SHA-256 (RFC 9530), or it fails with
// ErrDigest. It fails with ErrRegistryDown too.
func (c *Client) Certificate(ctx context.Context, q wire.CertificateRequest) (pdf []byte, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	a, err := c.do(ctx, call{timeout: c.o.Timeout, method: http.MethodPost, path: wire.PathCertificates, body: body, header: asJSON})
	if err == nil {
		err = a.problem()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if a.kind != "application/pdf" {
		return nil, fmt.Errorf("certificate: %w: hub answers with %q", ErrOffline, a.kind)
	}
	if !digestMatches(a.digest, a.body) {
		return nil, fmt.Errorf("certificate: %d bytes: %w", len(a.body), ErrDigest)
	}
	return a.body, nil
}
