package ipptest

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/OpenPrinting/goipp"
)

const (
	maxHead     = 1 << 20
	maxDocument = 64 << 20
)

var errCut = errors.New("connection cut")

// serve answers one request.
func (p *Printer) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != path || r.Header.Get("Content-Type") != goipp.ContentType {
		http.Error(w, "this is a printer: POST "+goipp.ContentType+" to "+path, http.StatusBadRequest)
		return
	}
	if !p.enter() {
		return
	}
	defer p.serving.Done()
	if !p.thaw(r) || p.turnAway(w, r) {
		return
	}
	// One reader for both: what is buffered behind the message is the beginning of the document.
	body := bufio.NewReader(r.Body)
	var m goipp.Message
	if err := m.Decode(&limited{body, maxHead}); err != nil {
		http.Error(w, "not an IPP message", http.StatusBadRequest)
		return
	}
	op := goipp.Op(m.Code)
	name := opName(op)
	if !p.admits(op, r) {
		_, _ = io.Copy(io.Discard, io.LimitReader(body, maxDocument))
		w.Header().Set("WWW-Authenticate", `Basic realm="ipptest"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	answer, err := p.operation(op, name, &m, body)
	p.mu.Lock()
	lost := p.lose[name]
	delete(p.lose, name)
	p.mu.Unlock()
	if lost || err != nil {
		p.outrun()
		hangUp(w)
		return
	}
	raw, err := answer.EncodeBytes()
	if err != nil {
		p.cfg.Log.Error("answer not encoded", "printer", p.cfg.Name, "op", name, "err", err)
		hangUp(w)
		return
	}
	// What is left of a refused document is read, else the client sees a reset instead of the answer.
	_, _ = io.Copy(io.Discard, io.LimitReader(body, maxDocument))
	if how := p.replyTo(name); how != Honest {
		p.mislead(w, how, raw)
		return
	}
	w.Header().Set("Content-Type", goipp.ContentType)
	p.dribble(w, raw)
}

// enter counts a request as running. It is false when the printer is closed.
func (p *Printer) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.serving.Add(1)
	}
	return !p.closed
}

// turnAway redirects a request if that is what the printer does.
func (p *Printer) turnAway(w http.ResponseWriter, r *http.Request) bool {
	p.mu.Lock()
	to := p.redirect
	p.mu.Unlock()
	if to == "" {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDocument))
	http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	return true
}

// admits reports whether the operation needs no password or came with the right one.
func (p *Printer) admits(op goipp.Op, r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.user == "" || op == goipp.OpGetPrinterAttributes || op == goipp.OpGetJobs || op == goipp.OpGetJobAttributes {
		return true
	}
	user, password, ok := r.BasicAuth()
	return ok && user == p.user && password == p.password
}

// thaw waits while the printer is frozen. It is false when the client or the printer has gone meanwhile.
func (p *Printer) thaw(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			p.mu.Lock()
			return false
		}
		p.mu.Lock()
	}
	return !p.closed
}

// outrun waits, for a second at most, until a printer that takes no time for a page has printed all it was given: it is to
// be faster than whoever notices that the connection is gone, also on a busy machine.
func (p *Printer) outrun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for p.pageTime < time.Millisecond && !p.closed && slices.ContainsFunc(p.jobs, func(j *job) bool { return j.arrived && !j.ended() }) {
		if p.wait(timer.C) {
			return
		}
	}
}

type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if len(p) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
