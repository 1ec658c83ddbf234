// Package server puts a hub together and runs it. It is the only package that knows all the others of a hub, and it
// holds the program's commands, so that other programs can be a hub too.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/admit"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/hub/web"
)

// Addresses are where a hub listens.
type Addresses struct {
	PublicURL string // what phones and the municipality call it
	Public    string // host and port
	Box       string // host and port
}

const (
	stopGrace    = 3 * time.Second  // for requests in flight when the hub stops; boxes ask again
	registryPing = 10 * time.Second // how often the registry is asked whether it is there
)

// Run runs a hub until ctx ends, and returns nil then. It calls ready, if that is not nil, when it listens. Errors are
// of the configuration (*program.UsageError) or say why the hub cannot start or go on.
func Run(ctx context.Context, c Config, log *slog.Logger, ready func(Addresses)) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	s.logger = log
	r, err := s.openRecords(ctx, time.Now)
	if err != nil {
		return err
	}
	err = run(ctx, s, r, log, ready)
	return errors.Join(err, r.Close())
}

func run(ctx context.Context, s settings, r *records, log *slog.Logger, ready func(Addresses)) error {
	k, err := loadKeys(filepath.Join(s.Data, "keys"))
	if err == nil {
		err = r.checkKeys(ctx, k)
	}
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	public, err := lc.Listen(ctx, "tcp", s.PublicAddress)
	if err != nil {
		return &program.HintError{Err: fmt.Errorf("public_address: %w", err), Hint: "choose another address with --public-address, or stop what uses this one"}
	}
	defer func() { _ = public.Close() }()
	boxes, err := lc.Listen(ctx, "tcp", s.BoxAddress)
	if err != nil {
		return &program.HintError{Err: fmt.Errorf("box_address: %w", err), Hint: "choose another address with --box-address, or stop what uses this one"}
	}
	defer func() { _ = boxes.Close() }()
	publicTLS, err := s.publicTLS()
	if err != nil {
		return err
	}
	publicURL := s.publicURL(public.Addr())

	moments, shared, err := r.moments(k, time.Now)
	if err != nil {
		return err
	}
	desk, err := login.New(login.Config{Master: k.master, Key: k.token, Boxes: r, Moments: moments, Now: time.Now, Log: log})
	if err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	sp, err := spid.New(ctx, spid.Config{
		PublicURL: publicURL, EntityID: s.SPID.EntityID, Dir: filepath.Join(s.Data, "spid"), Sources: s.SPID.IdPMetadata,
		Organization: spid.Organization(s.SPID.Organization), Moments: moments, Now: time.Now, Log: log,
	})
	if err != nil {
		return &program.HintError{Err: fmt.Errorf("spid: %w", err), Hint: "look at the section [spid] of the configuration"}
	}
	if err := registerKeys(ctx, r.store, k.seal.Public(), time.Now()); err != nil {
		return err
	}
	docs := content.New(content.Config{Store: r.store, Key: k.token, Now: time.Now, Log: log})
	in := &ingest.Ingest{Store: r.store, Rings: k.seal.Ring, Key: k.token, Now: time.Now, Log: log, Writers: r.writers()}
	registry := s.registry()
	ws, err := web.New(web.Config{
		Log: log, Now: time.Now, PublicURL: publicURL, Municipality: s.Municipality, Place: s.place,
		Enroll: &admit.Desk{
			Boxes: r.fleet, CA: r.ca, Log: log, Complete: r.complete(k, publicURL),
			Wrong: &throttle.Failures{Now: time.Now, Max: 10, Window: 15 * time.Minute},
		},
		Fleet:   r.fleet,
		Ingest:  in,
		Content: docs,
		Reports: &stats.Reports{Counter: r.store, Boxes: r.fleet, Now: time.Now, Place: s.place},
		Requests: &pickup.Desk{
			Store: r.store, Now: time.Now,
			Wrong: &throttle.Failures{Now: time.Now, Max: 10, Window: 10 * time.Minute},
		},
		Logins:   desk,
		Registry: registry,
		Phones:   web.Phones{Login: desk, SPID: sp, Moments: moments},
	})
	if err != nil {
		return err
	}

	tasks := []func(context.Context) error{
		func(ctx context.Context) error { return judgeAgain(ctx, in, log) },
		desk.Run,
		docs.Run,
		sp.Run,
		func(ctx context.Context) error { return serve(ctx, boxes, r.ca.TLSConfig(), ws.BoxHandler(), log) },
		func(ctx context.Context) error { return serve(ctx, public, publicTLS, ws.PublicHandler(), log) },
	}
	tasks = append(tasks, shared...)
	if c, ok := registry.(*anpr.Client); ok {
		tasks = append(tasks, func(ctx context.Context) error { return keepAsking(ctx, c, log) })
	}
	a := Addresses{PublicURL: publicURL.String(), Public: public.Addr().String(), Box: boxes.Addr().String()}
	log.InfoContext(ctx, "hub is running", "public_url", a.PublicURL, "public_address", a.Public, "box_address", a.Box, "data", s.Data)
	if ready != nil {
		ready(a)
	}
	err = together(ctx, tasks)
	log.InfoContext(ctx, "hub has stopped")
	return err
}

// registry returns the client of the configured registry, or one that is always down.
func (s settings) registry() web.Registry {
	if s.ANPRURL == "" {
		return noRegistry{}
	}
	return &anpr.Client{BaseURL: s.ANPRURL, Now: time.Now}
}

// keepAsking asks the registry whether it is there, so that kiosks know before somebody needs it.
func keepAsking(ctx context.Context, c *anpr.Client, log *slog.Logger) error {
	was := true
	for {
		err := c.Ping(ctx)
		is := err == nil
		switch {
		case is == was || ctx.Err() != nil:
		case is:
			log.InfoContext(ctx, "registry answers again")
		default:
			log.WarnContext(ctx, "registry does not answer", "err", err)
		}
		was = is
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(registryPing):
		}
	}
}

// judgeAgain looks again at what an older hub could not understand, and then waits until ctx ends. That it cannot is no
// reason for boxes to wait.
func judgeAgain(ctx context.Context, in *ingest.Ingest, log *slog.Logger) error {
	n, err := in.Rejudge(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		log.ErrorContext(ctx, "stored events not judged again", "err", err)
	case n > 0:
		log.InfoContext(ctx, "stored events are understood now", "events", n)
	}
	<-ctx.Done()
	return nil //nolint:nilerr // it was said
}

// together runs tasks until ctx ends or one of them does, then ends the others, waits for them, and returns the errors.
func together(ctx context.Context, tasks []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(tasks))
	var wg sync.WaitGroup
	for i, task := range tasks {
		wg.Go(func() {
			defer cancel()
			errs[i] = task(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// serve answers HTTP on ln until ctx ends: then requests in flight have a moment to finish.
func serve(ctx context.Context, ln net.Listener, conf *tls.Config, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      90 * time.Second, // longer than the longest poll, which is a minute
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		// What is said here is about clients: half-open connections, scanners, wrong certificates.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if conf != nil {
		conf.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, conf)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // cuts long polls
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", ln.Addr(), err)
}

// publicTLS returns the configuration of the public address, nil for plain HTTP.
func (s settings) publicTLS() (*tls.Config, error) {
	if s.TLSCert == "" {
		return nil, nil //nolint:nilnil // no TLS is a configuration too
	}
	c := &certFile{cert: s.TLSCert, key: s.TLSKey}
	if _, err := c.get(nil); err != nil {
		return nil, &program.UsageError{Err: fmt.Errorf("tls_cert: %w", err), Hint: "both files must be PEM and belong together"}
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// certFile is a certificate on disk that somebody else renews.
type certFile struct {
	cert, key string

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time // modification time of what was loaded
}

func (c *certFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := os.Stat(c.cert)
	if err == nil && (c.loaded == nil || !st.ModTime().Equal(c.at)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.loaded, c.at = &pair, st.ModTime()
		}
	}
	if c.loaded == nil {
		return nil, err
	}
	return c.loaded, nil // better the old one than none, while the new one is being written
}
