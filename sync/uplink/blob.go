package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/wire"
)

// blobLimit is how long a file may take as a whole. What has come is kept, so the next call goes on where this one ended.
const blobLimit = time.Hour

// Blob fetches the file with this SHA-256 (64 lower-case hexadecimal digits) from byte from on and writes it to w. It
// fails when nothing comes for Options.Timeout, or when the file would be longer than desired.MaxBlob; what was written
// until then are the file's bytes as far as the hub can be believed: the caller checks the whole. An error of w is
// returned as it is. When there is nothing from byte from on, nothing is written.
func (c *Client) Blob(ctx context.Context, sha256 string, from int64, w io.Writer) error {
	if len(sha256) != 64 || strings.Trim(sha256, "0123456789abcdef") != "" || from < 0 || from > desired.MaxBlob {
		return fmt.Errorf("blob: no file has the SHA-256 %q and a byte %d", sha256, from)
	}
	if err := c.blob(ctx, sha256, from, w); err != nil {
		return fmt.Errorf("blob %s from byte %d: %w", sha256[:12], from, err)
	}
	return nil
}

func (c *Client) blob(ctx context.Context, sha256 string, from int64, w io.Writer) error {
	ctx, end := context.WithTimeout(ctx, blobLimit)
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(c.o.Timeout, func() { cancel(context.DeadlineExceeded) })
	defer stalled.Stop()
	tag := `"` + sha256 + `"`
	header := http.Header{}
	if from > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		header.Set("If-Range", tag)
	}
	resp, err := c.send(ctx, call{method: http.MethodGet, path: wire.PathBlobs + sha256, header: header})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	skip := int64(0)
	switch {
	case resp.StatusCode == http.StatusPartialContent && from > 0:
		if first, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || first != from {
			return fmt.Errorf("%w: hub sends another part", ErrOffline)
		}
	case resp.StatusCode == http.StatusOK:
		skip = from // whoever answered does not know ranges
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Content-Range") == "bytes */"+strconv.FormatInt(from, 10):
		return nil
	default:
		a, err := c.read(resp, wire.MaxJSON)
		if err != nil {
			return err
		}
		if err = a.problem(); err == nil {
			err = &StatusError{Status: a.status}
		}
		return err
	}
	if resp.Header.Get("ETag") != tag {
		return fmt.Errorf("%w: what comes is another file", ErrOffline)
	}
	body := &moving{r: io.LimitReader(resp.Body, desired.MaxBlob+1-from+skip), timer: stalled, pause: c.o.Timeout}
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return fmt.Errorf("%w: read answer: %w", ErrOffline, err)
	}
	n, err := io.Copy(w, body)
	switch {
	case ctx.Err() != nil: // the hub may have seen it before the body had: then the body ends as if it was whole
		return fmt.Errorf("%w: read answer: %w", ErrOffline, context.Cause(ctx))
	case body.err != nil:
		return fmt.Errorf("%w: read answer: %w", ErrOffline, body.err)
	case err != nil:
		return err
	case from+n > desired.MaxBlob:
		return fmt.Errorf("%w: file has more than %d bytes", ErrOffline, desired.MaxBlob)
	}
	return nil
}

// rangeStart returns the first byte that a Content-Range field tells of (RFC 9110 §14.4).
func rangeStart(field string) (int64, bool) {
	field, ok := strings.CutPrefix(field, "bytes ")
	first, _, dash := strings.Cut(field, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && dash && err == nil
}

// moving puts off the end of a call for as long as something comes.
type moving struct {
	r     io.Reader
	timer *time.Timer
	pause time.Duration
	err   error // of r
}

func (m *moving) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	if n > 0 {
		m.timer.Reset(m.pause)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}
