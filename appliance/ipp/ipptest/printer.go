// Package ipptest is a printer that has no paper: it speaks the real protocol over real sockets, keeps what would have
// come out, and can be told at any time to run out of paper, jam, lose answers or vanish, as real printers do.
//
// It is a printer of the Internet Printing Protocol (RFC 8010, RFC 8011) that behaves like CUPS's ippeveprinter where
// that is known to hurt (a document cut off is printed as far as it came, a job without a document blocks everybody)
// and like office printers where they differ (a printer that needs a hand is stopped and says so with "-error").
package ipptest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"sportello.example/appliance/dnssd"
)

const path = "/ipp/print"

// Config is how a printer is when it is switched on.
type Config struct {
	Name     string        // printer-info and its DNS-SD name
	UUID     string        // printer-uuid, without "urn:uuid:"; "" means a random one
	Addr     string        // where to listen; "" means a free port of 127.0.0.1
	TLS      bool          // ipps with a key of its own, instead of ipp
	PageTime time.Duration // of a sheet; 0 means 20 ms
	Log      *slog.Logger  // nil means silence
	Now      func() time.Time
}

// Sheet is a sheet of paper that came out.
type Sheet struct {
	Job     int       `json:"job"`
	JobName string    `json:"job_name"`
	Page    int       `json:"page"`  // of the document, from 1
	Media   string    `json:"media"` // what it was printed on
	At      time.Time `json:"at"`
	PDF     []byte    `json:"-"` // the whole document as it arrived
}

// Printer is a simulated printer. Its methods may be called at any time from any goroutine.
type Printer struct {
	cfg  Config
	cert tls.Certificate
	pin  string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever anything below changes
	addr    string        // where it listens, once it has
	server  *http.Server  // nil while it is gone
	closed  bool
	serving sync.WaitGroup

	uuid       string
	booted     time.Time
	paper      int
	jam, cover bool
	busy       bool
	frozen     bool
	formats    []string
	ready      []string
	pageTime   time.Duration
	cutAfter   int // -1: never
	abortOnCut bool
	sticky     bool
	streaming  bool
	noMedia    bool
	old        bool
	amnesia    bool
	lose       map[string]bool
	refuse     map[string]int

	nextJob  int
	jobs     []*job
	sheets   []Sheet
	onSheet  []func(Sheet)
	onState  []func(job int, state string)
	requests map[string]int
}

// New returns a printer that is switched off: call Start or Run.
func New(cfg Config) *Printer {
	cfg.Name = cmp.Or(cfg.Name, "Stampante di prova")
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Printer{
		cfg:      cfg,
		changed:  make(chan struct{}),
		addr:     cfg.Addr,
		uuid:     cmp.Or(cfg.UUID, newUUID()),
		booted:   cfg.Now(),
		paper:    250,
		formats:  []string{"application/pdf"},
		ready:    []string{"iso_a4_210x297mm"},
		pageTime: cmp.Or(cfg.PageTime, 20*time.Millisecond),
		cutAfter: -1,
		lose:     map[string]bool{},
		refuse:   map[string]int{},
		nextJob:  1,
		requests: map[string]int{},
	}
}

// Start switches the printer on. It must be closed.
func (p *Printer) Start() error {
	if p.cfg.TLS {
		var err error
		if p.cert, p.pin, err = selfSigned(p.cfg.Now()); err != nil {
			return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
		}
	}
	if err := p.listen(); err != nil {
		return err
	}
	p.serving.Go(p.engine)
	return nil
}

// Run switches the printer on and off again when ctx ends.
func (p *Printer) Run(ctx context.Context) error {
	if err := p.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	p.Close()
	return nil
}

// Close switches the printer off and waits until nothing of it runs. What it printed can still be asked for.
func (p *Printer) Close() {
	p.mu.Lock()
	p.closed = true
	p.hangUp()
	p.notify()
	p.mu.Unlock()
	p.serving.Wait()
}

// listen opens the port, the same as before if there was one.
func (p *Printer) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	p.addr = l.Addr().String()
	if p.cfg.TLS {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS12})
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	p.server = srv
	p.serving.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.cfg.Log.Error("printer does not serve", "printer", p.cfg.Name, "err", err)
		}
	})
	return nil
}

// hangUp closes the port and every connection. The caller holds mu.
func (p *Printer) hangUp() {
	if p.server != nil {
		_ = p.server.Close()
		p.server = nil
	}
}

// notify wakes everybody who waits for a change. The caller holds mu.
func (p *Printer) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// set changes something and wakes everybody who waits for it.
func (p *Printer) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.notify()
}

// Addr is the host and port it listens on.
func (p *Printer) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// URI is the printer's, ipp or ipps.
func (p *Printer) URI() string {
	scheme := "ipp://"
	if p.cfg.TLS {
		scheme = "ipps://"
	}
	return scheme + p.Addr() + path
}

// UUID is printer-uuid without "urn:uuid:".
func (p *Printer) UUID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uuid
}

// Pin is the SHA-256 of its public key in hex; "" without TLS.
func (p *Printer) Pin() string { return p.pin }

// Announce makes the printer findable by DNS-SD on the named interfaces until ctx ends; none means all that can
// multicast, without the loopback.
func (p *Printer) Announce(ctx context.Context, interfaces []string) error {
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	typ, tlsVersion := "_ipp._tcp", ""
	if p.cfg.TLS {
		typ, tlsVersion = "_ipps._tcp", "1.3"
	}
	return dnssd.Announce(ctx, dnssd.Announcement{
		Instance: p.cfg.Name, Type: typ, Host: "stampante-" + p.UUID()[:8], Port: n, Interfaces: interfaces, Log: p.cfg.Log,
		TXT: map[string]string{
			"txtvers": "1", "qtotal": "1", "rp": path[1:], "ty": "Sportello virtual printer", "note": "",
			"pdl": "application/pdf", "UUID": p.UUID(), "TLS": tlsVersion, "Color": "F", "Duplex": "F",
		},
	})
}

// Sheets returns every sheet that came out, oldest first.
func (p *Printer) Sheets() []Sheet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sheets)
}

// Documents returns, oldest first, each document of which at least one sheet came out, byte for byte as it arrived.
func (p *Printer) Documents() [][]byte {
	var docs [][]byte
	for _, s := range p.Sheets() {
		if s.Page == 1 {
			docs = append(docs, s.PDF)
		}
	}
	return docs
}

// Requests counts the requests for an operation, "Create-Job", since the start.
func (p *Printer) Requests(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[op]
}

// OnSheet calls f for every sheet that comes out from now on. f must not block for long: the printer waits for it.
func (p *Printer) OnSheet(f func(Sheet)) { p.set(func() { p.onSheet = append(p.onSheet, f) }) }

// OnState calls f at every change of a job's state ("processing"). f must neither block nor call the printer.
func (p *Printer) OnState(f func(job int, state string)) {
	p.set(func() { p.onState = append(p.onState, f) })
}
