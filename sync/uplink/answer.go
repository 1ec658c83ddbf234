package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sportello.example/sync/wire"
)

// ProblemError is the hub's word that it cannot do what was asked, and why.
type ProblemError struct {
	Code string        // one of wire.Problem…
	Wait time.Duration // how long the hub wants to be left alone; 0 when it does not say
}

// Error implements error.
func (e *ProblemError) Error() string { return "hub answers: " + e.Code }

// RetryAfter returns how long the hub wants to be left alone, at most an hour; 0 when it does not say.
func (e *ProblemError) RetryAfter() time.Duration { return e.Wait }

// StatusError is an answer that says nothing but its status. It is ErrOffline to errors.Is.
type StatusError struct {
	Status int
	Wait   time.Duration // as in ProblemError
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%v: hub answers with status %d", ErrOffline, e.Status)
}

// Unwrap says that no hub in working order has answered.
func (e *StatusError) Unwrap() error { return ErrOffline }

// RetryAfter returns how long the hub wants to be left alone, at most an hour; 0 when it does not say.
func (e *StatusError) RetryAfter() time.Duration { return e.Wait }

// call is a request with a hard end.
type call struct {
	timeout      time.Duration
	method, path string
	body         []byte
	header       http.Header
	limit        int64 // bytes of the answer, unless it is a document; 0: wire.MaxJSON
}

var asJSON = http.Header{"Content-Type": {"application/json"}}

// answer is a whole answer, whatever its status.
type answer struct {
	status int
	kind   string // media type without parameters
	digest string // Content-Digest
	etag   string
	body   []byte
	wait   time.Duration // Retry-After
}

// json makes a call whose answer is JSON and decodes it into out.
func (c *Client) json(ctx context.Context, name string, timeout time.Duration, method, path string, in, out any) error {
	q := call{timeout: timeout, method: method, path: path}
	if in != nil {
		var err error
		if q.body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		q.header = asJSON
	}
	a, err := c.do(ctx, q)
	if err == nil {
		err = a.decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// do makes a call and reads the answer as a whole.
func (c *Client) do(ctx context.Context, q call) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	resp, err := c.send(ctx, q)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	return c.read(resp, q.limit)
}

// send makes a call and returns the answer to be read.
func (c *Client) send(ctx context.Context, q call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, q.header)
	req.Header.Set("User-Agent", "") // none: it would go along with every call, and the hub knows who calls
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOffline, cause(err))
	}
	return resp, nil
}

// read reads an answer as a whole, within limits.
func (c *Client) read(resp *http.Response, limit int64) (answer, error) {
	a := answer{
		status: resp.StatusCode, digest: resp.Header.Get("Content-Digest"), etag: resp.Header.Get("ETag"),
	}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		// The hub's own clock: the box's may be wrong.
		now, err := http.ParseTime(resp.Header.Get("Date"))
		if err != nil {
			now = c.o.Now()
		}
		a.wait = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	if limit == 0 {
		limit = wire.MaxJSON
	}
	var err error
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
	return a, nil
}

// decode decodes a success in JSON into out.
func (a answer) decode(out any) error {
	if err := a.problem(); err != nil {
		return err
	}
	if a.kind != "application/json" {
		return fmt.Errorf("%w: hub answers with %q", ErrOffline, a.kind)
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return fmt.Errorf("%w: hub answers nonsense", ErrOffline) // the cause might quote the answer
	}
	return nil
}

// problem returns the error that an answer is, nil for a success.
func (a answer) problem() error {
	if a.status == http.StatusOK {
		return nil
	}
	var p wire.Problem
	if a.kind == "application/json" && json.Unmarshal(a.body, &p) == nil {
		switch p.Code {
		case wire.ProblemRegistryDown:
			return ErrRegistryDown
		case wire.ProblemNotRegistered, wire.ProblemNotCertifiable, wire.ProblemLoginUnknown,
			wire.ProblemNoSuchRequest, wire.ProblemTooMany, wire.ProblemMalformed:
			if a.status < 500 {
				return &ProblemError{Code: p.Code, Wait: a.wait}
			}
		}
	}
	return &StatusError{Status: a.status, Wait: a.wait}
}

// maxRetryAfter is the longest that a hub, or what stands before it, can make a box wait.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After field (RFC 9110 §10.2.3): seconds, or a time. It returns 0 when there is none to obey.
func retryAfter(field string, now time.Time) time.Duration {
	field = strings.TrimSpace(field)
	if field == "" {
		return 0
	}
	if strings.Trim(field, "0123456789") == "" {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil || n > uint64(maxRetryAfter/time.Second) { // the only error left is that it is too large
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second //nolint:gosec // at most an hour
	}
	t, err := http.ParseTime(field)
	if err != nil {
		return 0
	}
	return min(max(0, t.Sub(now)), maxRetryAfter)
}

// cause takes the address off an error of http.Client: paths hold nonces, which do not belong into a log.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
