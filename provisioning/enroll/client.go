package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"sportello.example/provisioning/identity"
)

// Client is the box's half.
type Client struct {
	Hub     string           // address of the hub's box interface: "https://hub.example:8443"
	Now     func() time.Time //
	Timeout time.Duration    // of one exchange; 0 means 15 s
	Log     *slog.Logger     // for KeepRenewed; nil: nothing is logged
}

// Enrol lets the box into the hub with a one-time token and saves what the hub gives it. It trusts only a hub whose CA
// is the pinned one. After an error it may be called again with the same token, also after a restart: a hub takes a
// token twice from the same keys. Errors that waiting does not heal: ErrToken, ErrRevoked; ErrTooMany heals in minutes.
func (c *Client) Enrol(ctx context.Context, id *identity.Identity, token string, pin Pin) error {
	csr, err := id.CSR()
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	body, err := json.Marshal(Request{Token: token, CSR: csr, TokenKey: id.TokenKey().PublicKey().Bytes()})
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	e, err := c.post(ctx, PathEnrol, body, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         identity.HubName,
		InsecureSkipVerify: true, // VerifyConnection does it: the CA is known by its fingerprint only
		VerifyConnection:   func(cs tls.ConnectionState) error { return pin.verify(cs, c.Now()) },
	})
	if err != nil {
		return fmt.Errorf("enrol at %s: %w", c.Hub, err)
	}
	if sha256.Sum256(e.CA) != pin.sum {
		return fmt.Errorf("enrol at %s: the hub names another CA than the one it uses", c.Hub)
	}
	return id.Save(e)
}

// verify checks that the hub's certificate comes from the pinned CA.
func (p Pin) verify(cs tls.ConnectionState, now time.Time) error {
	for _, c := range cs.PeerCertificates {
		if c.IsCA && sha256.Sum256(c.Raw) == p.sum {
			return identity.VerifyHub(cs, c, now)
		}
	}
	return errors.New("this is not the hub that the token belongs to: its CA is another one")
}

// Renew gets a new certificate for the same keys, and what else has changed at the hub. It fails with ErrRevoked,
// ErrGraceOver, or because the hub cannot be reached.
func (c *Client) Renew(ctx context.Context, id *identity.Identity) error {
	conf, err := id.TLSConfig(c.Now)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	before, err := id.Enrolment()
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	e, err := c.post(ctx, PathRenew, nil, conf)
	if err != nil {
		return fmt.Errorf("renew certificate at %s: %w", c.Hub, err)
	}
	if !bytes.Equal(e.CA, before.CA) || e.Box != before.Box {
		return fmt.Errorf("renew certificate at %s: the hub answers for another box or CA", c.Hub)
	}
	return id.Save(e)
}

// KeepRenewed renews the certificate whenever two thirds of its life are over, until ctx ends. It looks every interval
// and tries again at the next one when the hub cannot be reached. It returns nil when ctx ends.
func (c *Client) KeepRenewed(ctx context.Context, id *identity.Identity, every time.Duration) error {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for {
		_, renew, err := id.Expires()
		if err == nil && c.Now().After(renew) {
			if err = c.Renew(ctx, id); err == nil {
				log.InfoContext(ctx, "certificate renewed")
			}
		}
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "certificate not renewed", "err", err, "retry_in", every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

func (c *Client) post(ctx context.Context, path string, body []byte, conf *tls.Config) (e identity.Enrolment, err error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Hub, "/")+path, bytes.NewReader(body))
	if err != nil {
		return e, err
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DialContext:       (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSClientConfig:   conf,
		DisableKeepAlives: true, // one question, one connection
	}
	hc := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := hc.Do(req)
	if err != nil {
		return e, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return e, err
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || len(b) > maxAnswer {
		return e, fmt.Errorf("hub answers %s with %d bytes of %q", resp.Status, len(b), resp.Header.Get("Content-Type"))
	}
	if resp.StatusCode != http.StatusOK {
		var f Refusal
		if err := json.Unmarshal(b, &f); err == nil {
			for _, known := range refusals {
				if f.Code == known.code && resp.StatusCode == known.status {
					return e, known.err
				}
			}
		}
		return e, fmt.Errorf("hub answers %s", resp.Status)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("hub answers nonsense: %w", err)
	}
	return e, nil
}
