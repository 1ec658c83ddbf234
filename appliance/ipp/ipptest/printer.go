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
)

const path = "/ipp/print"

// Config is how a printer is when it is switched on.
type Config struct {
	Name     string        // printer-info and its DNS-SD name
	UUID     string        // printer-uuid, without "urn:uuid:"; "" means a random one
	Addr     string        // where to listen; "" means a free port of 127.0.0.1
	TLS      bool          // ipps with a key of its own, instead of ipp
	TwoKeys  bool          // with TLS: an ECDSA key and an RSA key, shown in turn
	Make     string        // printer-make-and-model
	Serial   string        // in printer-device-id; "" means that it does not say
	PageTime time.Duration // of a sheet; 0 means 20 ms
	Log      *slog.Logger  // nil means silence
	Now      func() time.Time
	// Listen opens its port instead of Addr, at the start and whenever the cable is put back. It may be that of a Net.
	Listen func() (net.Listener, error)
}

// Sheet is a sheet of paper that came out.
type Sheet struct {
	Job     int       `json:"job"`
	JobName string    `json:"job_name"`
	Page    int       `json:"page"`  // of the document, from 1
	Media   string    `json:"media"` // what it was printed on
	At      time.Time `json:"at"`
	Format  string    `json:"format"`
	// Document is the whole document as it arrived, and PDF is the same when it is one.
	Document []byte  `json:"-"`
	PDF      []byte  `json:"-"`
	Picture  Picture `json:"picture,omitzero"` // of a document that is raster
}

// Printer is a simulated printer. Its methods may be called at any time from any goroutine.
type Printer struct {
	cfg  Config
	done chan struct{} // closed when the printer is

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever anything below changes
	addr    string        // where it listens, once it has
	server  *http.Server  // nil while it is gone
	closed  bool
	serving sync.WaitGroup

	keys  []key
	shown int // keys, to clients

	uuid           string
	booted         time.Time
	paper, toner   int
	jam, cover     bool
	jamAfter       int // sheets; 0: never
	busy           bool
	frozen         bool
	asleep         bool
	stopped        bool
	reasons        []string
	message        string
	formats        []string
	raster         Raster
	ready          []string
	pageTime       time.Duration
	cutAfter       int // -1: never
	abortOnCut     bool
	sticky         bool
	streaming      bool
	noMedia        bool
	substitute     string
	old            bool
	amnesia        bool
	holds          bool
	hideState      bool
	counting       Counting
	lose           map[string]bool
	refuse         map[string]int
	without        map[string]bool
	replies        map[string]Reply
	redirect       string
	user, password string
	answerRate     int
	readRate       int

	nextJob  int
	jobs     []*job
	current  *job // of the engine
	ended    int  // of jobs
	count    int  // of its life
	sheets   []Sheet
	onSheet  []func(Sheet)
	onState  []func(job int, state string)
	requests map[string]int
}

// New returns a printer that is switched off: call Start or Run.
func New(cfg Config) *Printer {
	cfg.Name = cmp.Or(cfg.Name, "Stampante di prova")
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	cfg.Make = cmp.Or(cfg.Make, "Sportello virtual printer")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Printer{
		cfg:     cfg,
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		addr:    cfg.Addr,
		uuid:    cmp.Or(cfg.UUID, newUUID()),
		booted:  cfg.Now(),
		paper:   250,
		toner:   80,
		formats: []string{pdf},
		raster: Raster{
			URF: []string{"V1.4", "CP1", "W8", "SRGB24", "PQ3-4-5", "RS300-600"}, Types: []string{"black_1", "sgray_8", "srgb_8"},
			DPI: []int{300, 600}, Back: "normal",
		},
		ready:    []string{"iso_a4_210x297mm"},
		pageTime: cmp.Or(cfg.PageTime, 20*time.Millisecond),
		cutAfter: -1,
		lose:     map[string]bool{},
		refuse:   map[string]int{},
		without:  map[string]bool{},
		replies:  map[string]Reply{},
		nextJob:  1,
		requests: map[string]int{},
	}
}

// Start switches the printer on. It must be closed.
func (p *Printer) Start() error {
	if p.cfg.TLS {
		keys, err := makeKeys(p.cfg.Now(), p.cfg.TwoKeys)
		if err != nil {
			return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
		}
		p.keys = keys
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
	p.set(func() {
		if !p.closed {
			close(p.done)
		}
		p.closed = true
	})
	p.hangUp()
	p.serving.Wait()
}

// listen opens the port, the same as before if there was one.
func (p *Printer) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil || p.closed {
		return nil
	}
	listen := p.cfg.Listen
	if listen == nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", p.addr) }
	}
	l, err := listen()
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	p.addr = l.Addr().String()
	if p.cfg.TLS {
		l = tls.NewListener(l, &tls.Config{GetCertificate: p.certificate, MinVersion: tls.VersionTLS12})
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

// hangUp closes the port and every connection.
func (p *Printer) hangUp() {
	p.mu.Lock()
	srv := p.server
	p.server = nil
	p.mu.Unlock()
	if srv != nil {
		_ = srv.Close() // waits for those who write to a connection, so mu is not held
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

// Sheets returns every sheet that came out, oldest first.
func (p *Printer) Sheets() []Sheet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sheets)
}

// Take returns every sheet that came out since the last Take, oldest first, and empties the tray.
func (p *Printer) Take() []Sheet {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.sheets
	p.sheets = nil
	return taken
}

// Documents returns, oldest first, each document of which at least one sheet came out, byte for byte as it arrived.
func (p *Printer) Documents() [][]byte {
	var docs [][]byte
	for _, s := range p.Sheets() {
		if s.Page == 1 {
			docs = append(docs, s.Document)
		}
	}
	return docs
}

// Job is what it knows of a job.
type Job struct {
	ID     int
	Name   string
	User   string
	State  string // "processing"
	Sheets int    // of it that came out
}

// Jobs returns the jobs it remembers, oldest first: all that have not ended, and the last that have.
func (p *Printer) Jobs() []Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Job
	for _, j := range p.jobs {
		all = append(all, Job{ID: j.id, Name: j.name, User: j.user, State: stateNames[j.state], Sheets: j.impressions})
	}
	return all
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
