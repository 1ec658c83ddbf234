package desired

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sportello.example/sync/wire"
)

// HTTP is a Source: the hub's box interface (wire.PathState, wire.PathBlobs).
type HTTP struct {
	Client *http.Client  // with the box's certificate
	Base   string        // address of the hub, without a slash at the end
	Grace  time.Duration // how much longer than asked an answer may take; 0: 15 s
}

// errAnswer means that what answered is not a hub in working order.
var errAnswer = errors.New("hub does not answer as a hub does")

func (h *HTTP) grace() time.Duration {
	if h.Grace > 0 {
		return h.Grace
	}
	return 15 * time.Second
}

// State implements Source with If-None-Match (RFC 9110 §13.1.2) and Prefer: wait (RFC 7240 §4.3).
func (h *HTTP) State(ctx context.Context, etag string, wait time.Duration) (s Signed, newTag string, changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+h.grace())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Base+wire.PathState, nil)
	if err != nil {
		return Signed{}, "", false, fmt.Errorf("ask for the desired state: %w", err)
	}
	req.Header["User-Agent"] = []string{""} // sent 1,500 times a day for nobody
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if seconds := int(wait / time.Second); seconds > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(seconds))
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return Signed{}, "", false, fmt.Errorf("ask for the desired state: %w", cause(err))
	}
	defer func() { _ = resp.Body.Close() }()
	tag := resp.Header.Get("ETag")
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return Signed{}, "", false, nil
	case resp.StatusCode != http.StatusOK || !isJSON(resp) || !validTag(tag):
		return Signed{}, "", false, fmt.Errorf("ask for the desired state: %w: status %d", errAnswer, resp.StatusCode)
	}
	// In base 64 a document is a third longer.
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxSigned+1))
	if err != nil {
		return Signed{}, "", false, fmt.Errorf("read the desired state: %w", err)
	}
	if s, err = decodeSigned(b); err != nil {
		return Signed{}, "", false, fmt.Errorf("read the desired state: %w: %w", errAnswer, err)
	}
	return s, tag, true, nil
}

// maxSigned bounds a Signed in JSON, in bytes: base 64 is a third longer, and there are a signature and names.
const maxSigned = MaxDocument/3*4 + 1024

func decodeSigned(b []byte) (Signed, error) {
	if len(b) > maxSigned {
		return Signed{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxSigned)
	}
	var s Signed
	if err := json.Unmarshal(b, &s); err != nil {
		return Signed{}, ErrMalformed // the cause might quote the answer
	}
	return s, nil
}

// validTag says whether a strong or weak entity-tag (RFC 9110 §8.8.3) can be kept and sent back.
func validTag(s string) bool {
	opaque, ok := strings.CutPrefix(strings.TrimPrefix(s, "W/"), `"`)
	opaque, closed := strings.CutSuffix(opaque, `"`)
	return ok && closed && len(s) <= 200 && !strings.ContainsFunc(opaque, func(r rune) bool { return r <= ' ' || r == '"' || r > '~' })
}

func isJSON(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// stalled is how long a blob may bring nothing before the line counts as down.
const stalled = 30 * time.Second

// Blob implements Source with Range and If-Range (RFC 9110 §14.2, §13.1.5).
func (h *HTTP) Blob(ctx context.Context, sha256 string, from int64, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(stalled, cancel)
	defer watchdog.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Base+wire.PathBlobs+url.PathEscape(sha256), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // a range of what is compressed is of no use
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		req.Header.Set("If-Range", `"`+sha256+`"`)
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return fmt.Errorf("fetch file: %w", cause(err))
	}
	defer func() { _ = resp.Body.Close() }()
	body := &alive{resp.Body, watchdog}
	if etag := resp.Header.Get("ETag"); resp.StatusCode < http.StatusMultipleChoices && etag != `"`+sha256+`"` {
		return fmt.Errorf("fetch file: %w: another file, or a page of somebody else", errAnswer)
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-") {
			return fmt.Errorf("fetch file: %w: another range", errAnswer)
		}
	case http.StatusOK: // all of it: somebody on the way does not know ranges
		if _, err := io.CopyN(io.Discard, body, from); err != nil {
			return fmt.Errorf("fetch file: %w", err)
		}
	default:
		return fmt.Errorf("fetch file: %w: status %d", errAnswer, resp.StatusCode)
	}
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("fetch file: %w", err)
	}
	return nil
}

// alive puts the watchdog off with everything that is read.
type alive struct {
	r        io.Reader
	watchdog *time.Timer
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		a.watchdog.Reset(stalled)
	}
	return n, err
}

// cause takes the address off an error of http.Client: it says which hub, which everybody knows.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
