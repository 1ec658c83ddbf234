package ipptest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
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
	if !p.thaw(r) {
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
	name := op.String()
	if op == goipp.OpGetJobAttributes {
		name = "Get-Job-Attributes" // goipp's name lacks the s
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
	w.Header().Set("Content-Type", goipp.ContentType)
	_, _ = w.Write(raw)
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
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
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

// selfSigned makes a key as printers have them: for a name nobody calls them by.
func selfSigned(now time.Time) (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", fmt.Errorf("printer key: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "NPI-0815"}, DNSNames: []string{"NPI-0815.local"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, "", fmt.Errorf("printer certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return tls.Certificate{}, "", fmt.Errorf("printer key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, hex.EncodeToString(sum[:]), nil
}
