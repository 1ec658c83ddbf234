// Package ipp asks a printer how it is and gives it documents to print.
//
// It is a client of the Internet Printing Protocol: encoding RFC 8010, operations RFC 8011, ipps RFC 7472, over HTTP/1.1
// to one printer directly, never through a proxy and never to where a redirect points. What a document is and whether
// it may be sent twice is not decided here: nothing but a question is ever repeated by itself.
package ipp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// PDF is the document format most printers take.
const PDF = "application/pdf"

const (
	defaultPort    = "631" // RFC 8011 §4.1.1
	defaultTimeout = 5 * time.Second
	dialTimeout    = 2 * time.Second
	sendTimeout    = 15 * time.Minute // slow printers read at the speed they print, and wait for paper meanwhile
	userAgent      = "sportello"
)

// Errors of every operation besides *StatusError. They are wrapped: use errors.Is. After ErrKey and ErrIdentity nothing
// of a document has left.
var (
	// ErrUnreachable means that no whole answer came back: the request may have been carried out or not.
	ErrUnreachable = errors.New("printer does not answer")
	// ErrKey means that the printer's TLS key is none of the pinned ones. Nothing was said to it.
	ErrKey = errors.New("printer has another key than the known ones")
	// ErrAnswer means that what came back is not an IPP answer to the request.
	ErrAnswer = errors.New("not an IPP answer")
	// ErrAuth means that the printer asks for a user and a password (HTTP 401).
	ErrAuth = errors.New("printer asks for a password")
	// ErrIdentity means that another printer than Config.UUID answered.
	ErrIdentity = errors.New("another printer answers")
)

// TransportError is a request without a whole answer. It is ErrUnreachable.
type TransportError struct {
	Op   string // "Send-Document"
	Sent int    // bytes of the document that may have left, at most; 0 means that none did
	Err  error
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("%s: %v (%d bytes of the document sent): %v", e.Op, ErrUnreachable, e.Sent, e.Err)
}

// Unwrap gives the cause; context errors are found through it.
func (e *TransportError) Unwrap() error { return e.Err }

// Is makes every TransportError an ErrUnreachable.
func (e *TransportError) Is(target error) bool { return target == ErrUnreachable }

// Config says which printer to talk to.
type Config struct {
	URI     string        // ipp://host[:631]/path or ipps://host[:631]/path
	Pins    []string      // hex SHA-256 of the SubjectPublicKeyInfo of keys to accept; none means any, and only ipps can have some
	User    string        // requesting-user-name: shown on the printer's panel and kept in its log, so never a person's
	Timeout time.Duration // of every operation but Send-Document; 0 means 5 s
	UUID    string        // printer-uuid that must answer before a document is sent; "" means any
	// Interface is the name of the network interface that connections must leave by; "" means any.
	Interface string
	// Dial makes connections instead of the network, for simulated ones; nil means the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client talks to one printer. It may be used by several goroutines.
type Client struct {
	cfg     Config
	url     *url.URL // http or https
	address string   // host:port
	tls     *tls.Config
	keep    *http.Transport // for questions, which are asked often
	version atomic.Uint32
	id      atomic.Uint32

	sparing sync.Mutex
	spare   *link         // for the next step of a job
	coming  chan struct{} // closed when a spare connection that is being made is there, or not
}

// New checks cfg and returns a client; it does not connect.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URI)
	if err != nil || len(cfg.URI) > 1023 {
		return nil, fmt.Errorf("printer URI %.80q: not a URI of at most 1023 bytes", cfg.URI)
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "ipp" && u.Scheme != "ipps" {
		return nil, fmt.Errorf("printer URI %q: want ipp://host/path or ipps://host/path", cfg.URI)
	}
	if len(cfg.Pins) > 0 && u.Scheme != "ipps" {
		return nil, fmt.Errorf("printer URI %q: a key can only be checked with ipps", cfg.URI)
	}
	for _, p := range cfg.Pins {
		if b, err := hex.DecodeString(p); err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("printer URI %q: pin %q is not a SHA-256 in hex", cfg.URI, p)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	cfg.UUID = uuid(cfg.UUID)
	h := &url.URL{Scheme: "http", Host: u.Host, Path: cmp.Or(u.Path, "/"), RawQuery: u.RawQuery}
	if u.Scheme == "ipps" {
		h.Scheme = "https"
	}
	c := &Client{cfg: cfg, url: h, address: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPort))}
	if u.Port() == "" {
		h.Host = c.address
	}
	c.tls = tlsConfig(cfg.Pins, u.Hostname())
	c.keep = &http.Transport{
		Proxy:                  nil, // the printer is on our own network, whatever the environment says
		DialContext:            c.dial,
		TLSClientConfig:        c.tls,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        10 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
	}
	c.version.Store(0x0200)
	return c, nil
}

// URI is the printer's, as given to New.
func (c *Client) URI() string { return c.cfg.URI }

// Close closes connections that are waiting for the next question.
func (c *Client) Close() {
	c.keep.CloseIdleConnections()
	c.sparing.Lock()
	l := c.spare
	c.spare = nil
	c.sparing.Unlock()
	if l != nil {
		l.close()
	}
}

// Printer asks how the printer is and what it can do (Get-Printer-Attributes, RFC 8011 §4.2.5).
func (c *Client) Printer(ctx context.Context) (Printer, error) {
	m := c.request(opGetPrinterAttributes)
	m.keywords("requested-attributes", printerAttributes...)
	answer, err := c.ask(ctx, m)
	if err != nil {
		return Printer{}, err
	}
	return parsePrinter(answer, c.cfg.URI), nil
}

// Validate asks whether a job with this ticket would be taken (Validate-Job, RFC 8011 §4.2.3). It returns the names of
// attributes that the printer would ignore.
func (c *Client) Validate(ctx context.Context, t Ticket) (ignored []string, err error) {
	m := c.request(opValidateJob)
	m.ticket(t)
	answer, err := c.ask(ctx, m)
	if err != nil {
		return nil, err
	}
	return answer.unsupported(), nil
}

// Create makes a job without a document (Create-Job, RFC 8011 §4.2.4). From then on the printer may refuse everybody
// else's jobs until this one has its document or is cancelled. It also returns the names of attributes of the ticket
// that the printer ignores. The connection is one that was made for it, by it or by Prepare: an older one may have died
// unnoticed, and then nobody would know whether the printer has heard.
func (c *Client) Create(ctx context.Context, t Ticket) (job Job, ignored []string, err error) {
	m := c.request(opCreateJob)
	m.ticket(t)
	answer, err := c.exchange(ctx, m, func(ctx context.Context, head []byte) ([]byte, error) {
		l := c.takeSpare(ctx)
		if l == nil {
			var err error
			if l, err = c.open(ctx, c.address); err != nil {
				return nil, err
			}
		}
		raw, err := l.post(ctx, head, nil, false, nil)
		if l.open {
			c.keepSpare(l) // its document goes on the same
		} else {
			l.close()
		}
		return raw, err
	})
	if err != nil {
		return Job{}, nil, err
	}
	job = parseJob(answer.Job)
	if job.ID <= 0 {
		return Job{}, nil, fmt.Errorf("Create-Job: %w: no job-id", ErrAnswer)
	}
	return job, answer.unsupported(), nil
}

// Job asks how a job is (Get-Job-Attributes, RFC 8011 §4.3.4). Some printers forget jobs as soon as they have ended.
func (c *Client) Job(ctx context.Context, id int) (Job, error) {
	m := c.request(opGetJobAttributes)
	m.integer("job-id", id)
	m.user(c.cfg.User)
	m.keywords("requested-attributes", jobAttributes...)
	answer, err := c.ask(ctx, m)
	if err != nil {
		return Job{}, err
	}
	return parseJob(answer.Job), nil
}

// Which jobs to list.
const (
	Completed    = "completed" // ended, in whatever way
	NotCompleted = "not-completed"
)

// Jobs lists the newest hundred jobs of everybody (Get-Jobs, RFC 8011 §4.2.6).
func (c *Client) Jobs(ctx context.Context, which string) ([]Job, error) {
	m := c.request(opGetJobs)
	m.user(c.cfg.User)
	m.keywords("which-jobs", which)
	m.integer("limit", 100)
	m.keywords("requested-attributes", jobAttributes...)
	answer, err := c.ask(ctx, m)
	if err != nil {
		return nil, err
	}
	return answer.jobs(), nil
}

// Cancel stops a job (Cancel-Job, RFC 8011 §4.3.3). That it returns nil does not mean that no more paper comes out:
// see what state the job gets to. A job that has ended is a *StatusError.
func (c *Client) Cancel(ctx context.Context, id int) error {
	m := c.request(opCancelJob)
	m.integer("job-id", id)
	m.user(c.cfg.User)
	_, err := c.tell(ctx, m)
	return err
}

// Identify has the printer show which one it is: it beeps, blinks or shows something on its panel (Identify-Printer,
// PWG 5100.13 §5.1). Printer.Identify says whether it can.
func (c *Client) Identify(ctx context.Context) error {
	m := c.request(opIdentifyPrinter)
	m.user(c.cfg.User)
	_, err := c.tell(ctx, m)
	return err
}
