// Package anprtest is a stand-in for the municipality's certificate service, with invented citizens.
//
// It speaks the protocol of package anpr over a real socket, issues A4 PDFs that look like the registry's and say
// FACSIMILE across the page, seals them with a test seal, refuses what the registry refuses, and can be told to misbehave
// while it runs. It is for tests and the demo.
package anprtest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is how a Server is made. The zero value works.
type Config struct {
	Addr string           // where to listen; "": a free port on loopback
	Now  func() time.Time // dates of certificates; nil: the wall clock
	Log  *slog.Logger     // told of requests, never of whom; nil: nobody
}

// Issued is a document that was sent.
type Issued struct {
	SHA256 string    `json:"sha256"` // hexadecimal, of the bytes as they were sent
	At     time.Time `json:"at"`
}

// Server is the certificate service. Its methods may be called while it runs.
type Server struct {
	now      func() time.Time
	log      *slog.Logger
	listener net.Listener
	types    catalogue
	seal     seal
	citizens map[string]Citizen // by fiscal code
	stop     chan struct{}      // closed when Run ends, so that what hangs lets go

	mu     sync.Mutex // guards what follows
	moods  moods
	issued []Issued
	serial int
}

// moods is how the service is told to behave.
type moods struct {
	down, garbage, truncate, status500, letter bool
	hang                                       time.Duration
}

// New begins to listen; Run answers. The address can be asked for in between.
func New(cfg Config) (*Server, error) {
	s := &Server{now: cfg.Now, log: cfg.Log, citizens: map[string]Citizen{}, stop: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now //nolint:forbidigo // a simulator stands for a machine with a clock of its own
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.types, err = readCatalogue(); err != nil {
		return nil, err
	}
	if s.seal, err = newSeal(s.now()); err != nil {
		return nil, err
	}
	for _, c := range Citizens() {
		s.citizens[c.FiscalCode] = c
	}
	addr := cfg.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	if s.listener, err = lc.Listen(context.Background(), "tcp", addr); err != nil {
		return nil, fmt.Errorf("anprtest: %w", err)
	}
	return s, nil
}

// URL is the base address of the service, for anpr.Client.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Seal is the certificate of the test seal.
func (s *Server) Seal() *x509.Certificate { return s.seal.cert }

// Run answers requests until ctx ends, and returns when none is under way. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		close(s.stop)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(s.listener)
	if ctx.Err() == nil { // the listener broke
		return fmt.Errorf("anprtest: %w", err)
	}
	<-done
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("anprtest: %w", err)
	}
	return nil
}

func (s *Server) set(f func(*moods)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.moods)
}

func (s *Server) mood() moods {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moods
}

// Down makes the service cut every connection without an answer.
func (s *Server) Down(on bool) { s.set(func(m *moods) { m.down = on }) }

// Hang makes the service wait d before each answer; 0 ends it.
func (s *Server) Hang(d time.Duration) { s.set(func(m *moods) { m.hang = d }) }

// Garbage makes the service answer with something that is neither JSON nor PDF, under the right type.
func (s *Server) Garbage(on bool) { s.set(func(m *moods) { m.garbage = on }) }

// Truncate makes the service send the first half of a certificate as if it were the whole.
func (s *Server) Truncate(on bool) { s.set(func(m *moods) { m.truncate = on }) }

// Status500 makes the service answer 500.
func (s *Server) Status500(on bool) { s.set(func(m *moods) { m.status500 = on }) }

// Letter makes the service issue certificates on US Letter.
func (s *Server) Letter(on bool) { s.set(func(m *moods) { m.letter = on }) }

// Issued returns what was sent so far, oldest first.
func (s *Server) Issued() []Issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Issued{}, s.issued...)
}

// number returns the next certificate's number.
func (s *Server) number(at time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return fmt.Sprintf("FAC-%d-%06d", at.Year(), s.serial)
}

func (s *Server) remember(pdf []byte, at time.Time) {
	sum := sha256.Sum256(pdf)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = append(s.issued, Issued{hex.EncodeToString(sum[:]), at.UTC()})
}
