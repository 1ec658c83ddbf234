// Package uplink is the box's client of the hub: JSON and PDF over mutual TLS, every call with a hard end.
//
// What comes back is outside input: it is read through a limit, checked for its type, and whatever is not what the hub
// would say (a captive portal's page, a proxy's error, half a document) counts as the line being down.
package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
)

// ProblemError is the hub's word that it cannot do what was asked, and why.
type ProblemError struct {
	Code string // one of wire.Problem…
}

// Error implements error.
func (e *ProblemError) Error() string { return "hub answers: " + e.Code }

// Options are the settings of a Client. The zero value is usable but for Now.
type Options struct {
	Now     func() time.Time // needed
	Connect time.Duration    // longest time for a connection and its handshake; 0 means 3 s each
	Timeout time.Duration    // longest time for a call as a whole, in Login on top of its wait; 0 means 15 s

	// Pending, if set, says how many events wait in the box's queue; the hub is told with each Ping.
	Pending func(context.Context) (int, error)
}

// loginGrace is how much longer than asked the hub may take to answer a long poll.
const loginGrace = 5 * time.Second

// Client talks to one hub as one box. Its methods may be called at the same time. Unless said otherwise they fail with
// ErrOffline, or with a *ProblemError.
type Client struct {
	base string
	http *http.Client
	o    Options
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
				IdleConnTimeout:     time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// pingLimit is how long a ping may take: on a slow line three round trips, on one that swallows packets for ever.
const pingLimit = 5 * time.Second

// Ping asks whether the line is up.
func (c *Client) Ping(ctx context.Context) (p wire.Ping, err error) {
	q := url.Values{"time": {strconv.FormatInt(c.o.Now().Unix(), 10)}}
	if c.o.Pending != nil {
		// A queue that cannot be read is no reason not to ask: the hub then keeps what it knew.
		if n, err := c.o.Pending(ctx); err == nil {
			q.Set("pending", strconv.Itoa(n))
		}
	}
	if err := c.json(ctx, "ping", min(pingLimit, c.o.Timeout), http.MethodGet, wire.PathPing+"?"+q.Encode(), nil, &p); err != nil {
		return wire.Ping{}, err
	}
	if p.Version < 1 {
		return wire.Ping{}, fmt.Errorf("ping: %w: answer is not from a hub", ErrOffline)
	}
	return p, nil
}

// Deliver hands over a batch and returns what the hub has stored, which the caller must compare with what it sent: it is
// less when there is a gap.
func (c *Client) Deliver(ctx context.Context, b wire.Batch) (a wire.Ack, err error) {
	if err := c.json(ctx, "deliver", c.o.Timeout, http.MethodPost, wire.PathEvents, b, &a); err != nil {
		return wire.Ack{}, err
	}
	return a, nil
}

// Login asks how far the phone has got with the challenge that has this nonce (20 hexadecimal digits). It blocks until
// something has happened or wait has passed, whichever comes first; then the state is wire.LoginWaiting.
func (c *Client) Login(ctx context.Context, nonceHex string, wait time.Duration) (l wire.Login, err error) {
	wait = wait.Truncate(time.Second)
	path := wire.PathLogins + url.PathEscape(nonceHex) + "?wait=" + strconv.Itoa(int(wait/time.Second))
	if err := c.json(ctx, "login", wait+min(loginGrace, c.o.Timeout), http.MethodGet, path, nil, &l); err != nil {
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
	a, err := c.do(ctx, c.o.Timeout, http.MethodPost, wire.PathCertificates, body)
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

// json makes a call whose answer is JSON and decodes it into out.
func (c *Client) json(ctx context.Context, name string, timeout time.Duration, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	a, err := c.do(ctx, timeout, method, path, body)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if a.kind != "application/json" {
		return fmt.Errorf("%s: %w: hub answers with %q", name, ErrOffline, a.kind)
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return fmt.Errorf("%s: %w: hub answers nonsense", name, ErrOffline) // the cause might quote the answer
	}
	return nil
}

// answer is a whole answer with status 200, or 409 to a batch.
type answer struct {
	kind   string // media type without parameters
	digest string // Content-Digest
	body   []byte
}

func (c *Client) do(ctx context.Context, timeout time.Duration, method, path string, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrOffline, cause(err))
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{digest: resp.Header.Get("Content-Digest")}
	limit := int64(wire.MaxJSON)
	if a.kind, _, err = mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil {
		a.kind = ""
	}
	if a.kind == "application/pdf" {
		limit = wire.MaxDocument
	}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
		return answer{}, fmt.Errorf("%w: read answer: %w", ErrOffline, err)
	}
	if int64(len(a.body)) > limit {
		return answer{}, fmt.Errorf("%w: answer has more than %d bytes", ErrOffline, limit)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusConflict && path == wire.PathEvents {
		return a, nil
	}
	return answer{}, problem(resp.StatusCode, a)
}

// problem turns an answer that is not a success into an error.
func problem(status int, a answer) error {
	var p wire.Problem
	if a.kind == "application/json" && json.Unmarshal(a.body, &p) == nil {
		switch p.Code {
		case wire.ProblemRegistryDown:
			return ErrRegistryDown
		case wire.ProblemNotRegistered, wire.ProblemNotCertifiable, wire.ProblemLoginUnknown,
			wire.ProblemNoSuchRequest, wire.ProblemTooMany, wire.ProblemMalformed:
			if status < 500 {
				return &ProblemError{Code: p.Code}
			}
		}
	}
	return fmt.Errorf("%w: hub answers with status %d", ErrOffline, status)
}

// cause takes the address off an error of http.Client: paths hold nonces, which do not belong into a log.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
