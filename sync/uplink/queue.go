package uplink

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// pingLimit is how long a ping may take: on a slow line three round trips, on one that swallows packets for ever.
const pingLimit = 5 * time.Second

// Ping asks whether the line is up, and says nothing of the box.
func (c *Client) Ping(ctx context.Context) (wire.Ping, error) { return c.ping(ctx, url.Values{}) }

func (c *Client) ping(ctx context.Context, q url.Values) (p wire.Ping, err error) {
	q.Set("time", strconv.FormatInt(c.o.Now().Unix(), 10))
	err = c.json(ctx, "ping", min(pingLimit, c.o.Timeout), http.MethodGet, wire.PathPing+"?"+q.Encode(), nil, &p)
	return fromHub(p, err)
}

// Report tells the hub how the box is, and so asks whether the line is up. A hub of the first release is told what it
// can understand. What is no news is not said again for some minutes. Without Options.Report, or when that fails, Report
// is Ping: a queue that cannot be read is no reason not to ask.
func (c *Client) Report(ctx context.Context) (p wire.Ping, err error) {
	if c.o.Report == nil {
		return c.Ping(ctx)
	}
	report, err := c.o.Report(ctx)
	if err != nil {
		return c.Ping(ctx)
	}
	pending := url.Values{"pending": {strconv.Itoa(report.Queued())}}
	news := digestOf(report)
	if c.said.is(news, c.o.Now()) {
		return c.ping(ctx, pending)
	}
	c.said.set([32]byte{}, time.Time{})
	err = c.json(ctx, "report", min(pingLimit, c.o.Timeout), http.MethodPost, wire.PathReport, report, &p)
	if unknown(err) {
		return c.ping(ctx, pending)
	}
	if p, err = fromHub(p, err); err == nil {
		c.said.set(news, c.o.Now())
	}
	return p, err
}

// sayAgain is for how long a report that says nothing new is not made again: a box that is idle asks only whether the
// line is up, which costs a third.
const sayAgain = 15 * time.Minute

// said is the last report that the hub has.
type said struct {
	mu   sync.Mutex
	news [32]byte
	at   time.Time
}

func (s *said) is(news [32]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.at)
	return s.news == news && age >= 0 && age < sayAgain
}

func (s *said) set(news [32]byte, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news, s.at = news, at
}

// digestOf is the SHA-256 of what is news in a report: not the time, and not how many bytes are free at this moment.
func digestOf(r wire.Report) [32]byte {
	r.Time, r.Disk.Used, r.Disk.Free = time.Time{}, 0, 0
	b, err := json.Marshal(r)
	if err != nil { // a date after the year 9999
		return sha256.Sum256(fmt.Appendf(nil, "%v", r))
	}
	return sha256.Sum256(b)
}

// fromHub checks that an answer is a hub's.
func fromHub(p wire.Ping, err error) (wire.Ping, error) {
	if err != nil {
		return wire.Ping{}, err
	}
	if p.Version < 1 {
		return wire.Ping{}, fmt.Errorf("ping: %w: answer is not from a hub", ErrOffline)
	}
	return p, nil
}

// unknown reports whether the hub does not know the address that was asked for.
func unknown(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && (s.Status == http.StatusNotFound || s.Status == http.StatusMethodNotAllowed)
}

// Deliver hands over a batch and returns the hub's reply, in which nothing counts but what is signed. The error is
// envelope.ErrMalformed when the hub, or a proxy before it, will not take a batch like this one, and ErrOldHub. When
// the hub wants to be left alone, the error has a RetryAfter.
func (c *Client) Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error) {
	plain, err := b.Append(nil)
	if err != nil {
		return wire.Reply{}, fmt.Errorf("deliver: %w", err)
	}
	body, err := wire.Zip(plain)
	if err != nil {
		return wire.Reply{}, fmt.Errorf("deliver: %w", err)
	}
	a, err := c.do(ctx, call{
		timeout: c.o.Timeout, method: http.MethodPost, path: wire.PathEvents2, body: body,
		header: http.Header{"Content-Type": {wire.TypeBatch}, "Content-Encoding": {wire.Encoding}},
	})
	var r wire.Reply
	if err == nil {
		err = a.decode(&r)
	}
	var p *ProblemError
	switch {
	case err == nil:
	case unknown(err):
		err = fmt.Errorf("%w: %w", ErrOldHub, err)
	case errors.As(err, &p) && p.Code == wire.ProblemMalformed,
		a.status == http.StatusBadRequest, a.status == http.StatusRequestEntityTooLarge, a.status == http.StatusUnsupportedMediaType:
		err = fmt.Errorf("%w: %w", envelope.ErrMalformed, err)
	}
	if err != nil {
		return wire.Reply{}, fmt.Errorf("deliver: %w", err)
	}
	if len(b.Runs) > 0 && len(r.Acks) == 0 {
		return wire.Reply{}, fmt.Errorf("deliver: %w: answer is not from a hub", ErrOffline)
	}
	return r, nil
}

// State asks for the desired state of the box, and whether it is another one than the one that etag names; "" names none.
// With a wait the hub answers when there is something new, or when so long has passed (RFC 7240 §4.3): State blocks as
// long, and for less where the line does not carry long calls. When nothing has changed it returns the etag given, and
// no document. The document is not checked.
func (c *Client) State(ctx context.Context, etag string, wait time.Duration) (s desired.Signed, newTag string, changed bool, err error) {
	var a answer
	err = c.poll(ctx, wait, func(wait time.Duration) error {
		header := http.Header{}
		if etag != "" {
			header.Set("If-None-Match", etag)
		}
		if wait > 0 {
			header.Set("Prefer", "wait="+seconds(wait))
		}
		var err error
		a, err = c.do(ctx, call{timeout: c.pollLimit(wait), method: http.MethodGet, path: wire.PathState, header: header, limit: maxSigned})
		if err != nil || a.status == http.StatusNotModified && etag != "" {
			return err
		}
		return a.decode(&s)
	})
	switch {
	case unknown(err):
		return desired.Signed{}, "", false, fmt.Errorf("desired state: %w: %w", ErrOldHub, err)
	case err != nil:
		return desired.Signed{}, "", false, fmt.Errorf("desired state: %w", err)
	case a.status == http.StatusNotModified:
		return desired.Signed{}, etag, false, nil
	case len(s.Body) == 0 || len(s.Sig) == 0 || a.etag == "" || len(a.etag) > maxTag:
		return desired.Signed{}, "", false, fmt.Errorf("desired state: %w: answer is not from a hub", ErrOffline)
	}
	return s, a.etag, true, nil
}

const (
	maxSigned = desired.MaxDocument/3*4 + 1024 // bytes of a desired.Signed: in base 64 it is a third longer
	maxTag    = 200                            // bytes of an ETag
)
