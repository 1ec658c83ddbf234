package ipptest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/OpenPrinting/goipp"
)

// Reply is how a printer answers.
type Reply int

// The answers. All but Honest are wrong, and the request has been carried out before.
const (
	Honest    Reply = iota
	Nested          // 44 MB of collections in collections
	Endless         // an answer that begins well and never ends
	WrongID         // the answer to another request: its request-id is one too many
	Garbage         // HTTP that says application/ipp and is not
	NotHTTP         // not even HTTP
	BadChunks       // chunks whose lengths are no numbers
	Short           // less than its Content-Length says
	Stalled         // the head of an answer, and then nothing until the client goes
	HTML            // a page for people, as of a proxy
)

// maxNested is how long the answer Nested is.
const maxNested = 44 << 20

// Reply sets how requests for an operation ("Create-Job") are answered from now on; "" means those for every operation
// that has no answer of its own.
func (p *Printer) Reply(op string, r Reply) { p.set(func() { p.replies[op] = r }) }

// Redirect answers every request with a redirection (307) to a URL and carries none out; "" takes it back.
func (p *Printer) Redirect(url string) { p.set(func() { p.redirect = url }) }

// Password makes the printer ask for a user and a password (HTTP Basic) where a job is to be made, as ippeveprinter
// does; an empty user takes it back.
func (p *Printer) Password(user, password string) {
	p.set(func() { p.user, p.password = user, password })
}

// AnswerRate lets answers come at n bytes a second; 0 means at once.
func (p *Printer) AnswerRate(n int) { p.set(func() { p.answerRate = n }) }

// ReadRate lets documents be read at n bytes a second; 0 means as they come.
func (p *Printer) ReadRate(n int) { p.set(func() { p.readRate = n }) }

// replyTo is how an operation is answered.
func (p *Printer) replyTo(op string) Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.replies[op]; ok {
		return r
	}
	return p.replies[""]
}

// mislead answers wrongly. raw is what the right answer would have been.
func (p *Printer) mislead(w http.ResponseWriter, r Reply, raw []byte) {
	switch r {
	case WrongID:
		binary.BigEndian.PutUint32(raw[4:], binary.BigEndian.Uint32(raw[4:])+1)
		w.Header().Set("Content-Type", goipp.ContentType)
		p.dribble(w, raw)
	case Garbage:
		w.Header().Set("Content-Type", goipp.ContentType)
		_, _ = w.Write(bytes.Repeat([]byte{0xff, 0x00, 0x34}, 400))
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>Accedere alla rete</title>")
	case Nested, Endless:
		w.Header().Set("Content-Type", goipp.ContentType)
		p.flood(w, raw[:8], r == Endless)
	case Stalled:
		w.Header().Set("Content-Type", goipp.ContentType)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		p.untilGone(w)
	case NotHTTP, BadChunks, Short:
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		const head = "HTTP/1.1 200 OK\r\nContent-Type: " + goipp.ContentType + "\r\n"
		switch r {
		case NotHTTP:
			_, _ = out.WriteString(strings.Repeat("@PJL INFO STATUS\r\n\f", 100))
		case BadChunks:
			_, _ = out.WriteString(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + string(raw))
		case Short:
			_, _ = out.WriteString(head + "Content-Length: 100000\r\n\r\n" + string(raw))
		}
		_ = out.Flush()
	}
}

// flood writes collections in collections, or attributes without end, until the client has had enough.
func (p *Printer) flood(w io.Writer, head []byte, endless bool) {
	var b bytes.Buffer
	b.Write(head)
	b.WriteByte(byte(goipp.TagPrinterGroup))
	b.Write([]byte{byte(goipp.TagBeginCollection), 0, 1, 'a', 0, 0})
	// A member named a, and its value: the beginning of a collection (RFC 8010 §3.1.6).
	more := []byte{byte(goipp.TagMemberName), 0, 0, 0, 1, 'a', byte(goipp.TagBeginCollection), 0, 0, 0, 0}
	if endless {
		b.Truncate(len(head) + 1)
		more = []byte{byte(goipp.TagInteger), 0, 1, 'a', 0, 4, 0, 0, 0, 1}
	}
	block := bytes.Repeat(more, 4096)
	for sent := 0; endless || sent < maxNested; sent += len(block) {
		p.mu.Lock()
		closed := p.closed
		p.mu.Unlock()
		if closed {
			return
		}
		b.Write(block)
		if _, err := w.Write(b.Bytes()); err != nil {
			return
		}
		b.Reset()
	}
}

// untilGone waits until the client has hung up or the printer is closed.
func (p *Printer) untilGone(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	select {
	case <-gone:
	case <-p.done:
	}
	_ = conn.Close()
	<-gone
}

// dribble writes b at the printer's pace.
func (p *Printer) dribble(w http.ResponseWriter, b []byte) {
	p.mu.Lock()
	rate := p.answerRate
	p.mu.Unlock()
	if rate <= 0 {
		_, _ = w.Write(b)
		return
	}
	for len(b) > 0 {
		n, wait := pace(rate)
		n = min(n, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		b = b[n:]
		if !p.sleep(wait) {
			return
		}
	}
}

// pace says how many bytes to pass and how long to wait then.
func pace(rate int) (int, time.Duration) {
	n := max(1, rate/20)
	return n, time.Duration(n) * time.Second / time.Duration(rate)
}

// sleep waits d; it is false when the printer was closed before.
func (p *Printer) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.done:
		return false
	}
}

// paced reads at the printer's pace.
type paced struct {
	p *Printer
	r io.Reader
}

func (r paced) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	rate := r.p.readRate
	r.p.mu.Unlock()
	if rate <= 0 {
		return r.r.Read(b)
	}
	n, wait := pace(rate)
	if !r.p.sleep(wait) {
		return 0, errCut
	}
	return r.r.Read(b[:min(n, len(b))])
}

// hangUp cuts the connection with a reset, as a pulled cable or a crashed printer would.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
}

var _ interface{ SetLinger(sec int) error } = (*net.TCPConn)(nil)
