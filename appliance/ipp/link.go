package ipp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/OpenPrinting/goipp"
)

const (
	maxHeader = 64 << 10 // of an HTTP answer
	chunk     = 32 << 10 // of a document, per write
	// early is how long after the answer the end of the writing is waited for.
	early = 100 * time.Millisecond
)

// link is one HTTP/1.1 connection to the printer. net/http chooses connections by itself and may make new ones; here who
// is at the other end must stay the same between the question who it is and the document. It is used by one goroutine.
type link struct {
	conn net.Conn
	raw  net.Conn // under the encryption
	in   *stream
	br   *bufio.Reader
	host string
	path string
	open bool // another request may follow
	hard bool // it ends with a reset
}

// stream is what arrives of an answer, not more than so many bytes.
type stream struct {
	conn net.Conn
	left int64
	err  error // that ended it, while left
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	n, err := s.conn.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	s.err = err
	return n, err
}

// open connects to address, and checks the printer's key.
func (c *Client) open(ctx context.Context, address string) (*link, error) {
	conn, err := c.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	raw := conn
	if c.url.Scheme == "https" {
		conn, err = handshake(ctx, conn, c.tls)
		if err != nil {
			return nil, err
		}
	}
	in := &stream{conn: conn}
	l := &link{conn: conn, raw: raw, in: in, br: bufio.NewReader(in), host: c.url.Host, path: c.url.RequestURI(), open: true}
	if host, port, err := net.SplitHostPort(l.host); err == nil { // a zone means something on this machine only (RFC 6874 §4)
		host, _, _ = strings.Cut(host, "%")
		l.host = net.JoinHostPort(host, port)
	}
	return l, nil
}

func (l *link) close() {
	if l.hard {
		_ = l.raw.Close() // TLS would say that this is all
		return
	}
	_ = l.conn.Close()
}

// post sends one request with the document behind its head, if there is one, and returns the IPP message that came back.
// With last the printer is asked to close the connection. sent grows to the bytes of the document that were handed to
// the network. A printer may answer before it has read everything: then the rest is not sent.
func (l *link) post(ctx context.Context, head, document []byte, last bool, sent *atomic.Int64) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
		l.path, l.host, userAgent, goipp.ContentType, goipp.ContentType, len(head)+len(document))
	if last {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	l.open = false
	l.in.left = maxHeader + 2*maxAnswer // chunks have a frame
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if len(document) > 0 {
		l.abrupt(true)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- l.write(append([]byte(b.String()), head...), document, sent) }()
	raw, again, err := l.answer()
	var failed error
	select {
	case failed = <-wrote:
	case <-time.After(early):
		l.close() // it has answered or gone: what is not written yet need not be
		failed = <-wrote
		again = false
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%w (%s)", ctx.Err(), err.Error()) // what is known of the answer counts for nothing
	case err != nil && failed != nil:
		return nil, fmt.Errorf("%w (%w)", err, failed)
	case err != nil:
		return nil, err
	}
	if l.br.Buffered() > 0 {
		return nil, fmt.Errorf("%w: there is more than one", ErrAnswer)
	}
	l.open = again && failed == nil && stop()
	if failed == nil {
		l.abrupt(false)
	}
	return raw, nil
}

// abrupt has the connection end with a reset (TCP RST), whoever ends it: also the kernel, when this program is killed. A
// document that ends as if it were whole is printed as far as it came by many printers, and called completed; after a
// reset it is thrown away.
func (l *link) abrupt(on bool) {
	seconds := -1
	if on {
		seconds = 0
	}
	if c, ok := l.raw.(interface{ SetLinger(sec int) error }); ok && c.SetLinger(seconds) == nil {
		l.hard = on // else it ends as it would have
	}
}

func (l *link) write(head, document []byte, sent *atomic.Int64) error {
	if _, err := l.conn.Write(head); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for len(document) > 0 {
		n := min(chunk, len(document))
		sent.Add(int64(n)) // before: a write that fails may have sent some
		if _, err := l.conn.Write(document[:n]); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		document = document[n:]
	}
	return nil
}

// answer reads one HTTP answer. again is whether the printer keeps the connection.
func (l *link) answer() (raw []byte, again bool, err error) {
	for range 5 { // interim answers (RFC 9110 §15.2) that nobody asked for
		resp, err := http.ReadResponse(l.br, &http.Request{Method: http.MethodPost})
		switch {
		case err != nil && l.in.err != nil: // also when what came until then cannot be understood
			return nil, false, fmt.Errorf("read: %w", l.in.err)
		case err != nil:
			return nil, false, fmt.Errorf("%w: %w", ErrAnswer, err)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			defer func() { _ = resp.Body.Close() }()
			raw, err := read(resp)
			return raw, !resp.Close, err
		}
	}
	return nil, false, fmt.Errorf("%w: it only says that it goes on", ErrAnswer)
}

// read returns the IPP message of an HTTP answer.
func read(resp *http.Response) ([]byte, error) {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, ErrAuth
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: HTTP status %d", ErrAnswer, resp.StatusCode)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != goipp.ContentType {
		return nil, fmt.Errorf("%w: content type %.80q", ErrAnswer, resp.Header.Get("Content-Type"))
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAnswer, maxAnswer)
	}
	return raw, nil
}
