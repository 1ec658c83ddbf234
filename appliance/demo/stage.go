package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"text/template"
	"time"

	"sportello.example/appliance/box"
	"sportello.example/sync/hub/server"
	"sportello.example/sync/hub/spid"
)

// A stage is everything that plays: the processes, what stands between them, and what there is to see.
type stage struct {
	opt  options
	dir  string
	self string // this program
	log  *slog.Logger

	launcher *launcher
	line     *line
	tap      *tap
	tray     *tray

	idp, registry, printer, hub, box *part

	kioskLn, consoleLn net.Listener
	addr               addresses
	printerUUID        string
	staffCode          string // opens the box's staff pages
	lastHub            string // address of the hub when this folder was last played in, "" in a new one

	printerKnobs *printerControl
	registryKnob *registryControl
	idpPage      control
	boxPage      control
	hubPage      control

	turning sync.Mutex // one switch at a time

	mu         sync.Mutex // guards the fields that follow
	seen       state      // what was last heard of box, hub and printer
	clock      clockState
	registryOn bool
	notice     noticeState
	noticeID   string // of the notice at the hub, "" when there is none
	carried    int    // events on the last stick
}

// addresses are where the parts listen: host and port.
type addresses struct {
	kiosk, hub, console       string // for people
	box, hubBox               string // behind the tap, behind the line
	idp                       string
	registry, registryControl string
	printer, printerControl   string
}

// A reservation holds free ports until all of them are chosen, so that none is chosen twice.
type reservation struct{ held []net.Listener }

// take returns addr with a port that is free; an address with a port other than 0 must be free itself.
func (r *reservation) take(addr string) (string, error) {
	ln, err := listen(addr)
	if err != nil {
		return "", fmt.Errorf("address %s: %w", addr, err)
	}
	r.held = append(r.held, ln)
	return ln.Addr().String(), nil
}

func (r *reservation) release() {
	for _, ln := range r.held {
		_ = ln.Close()
	}
	r.held = nil
}

// newStage opens the addresses and makes the folders. Nothing plays before Start.
func newStage(opt options, dir string, log *slog.Logger) (*stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := &stage{opt: opt, dir: dir, self: self, log: log, clock: clockRight, registryOn: true, notice: noticeNone}
	s.printerUUID = printerUUID(filepath.Join(dir, "box.toml"))
	if c, err := server.LoadConfig(filepath.Join(dir, "hub.toml")); err == nil {
		s.lastHub = c.PublicAddress
	}
	for _, sub := range []string{"box", "hub", "log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", dir, err)
		}
	}
	if err := s.addresses(); err != nil {
		s.closeListeners()
		return nil, err
	}
	if s.line, err = newLine(s.addr.hubBox); err != nil {
		s.closeListeners()
		return nil, err
	}
	s.tap = newTap(&url.URL{Scheme: "http", Host: s.addr.box}, now, log)
	s.printerKnobs = &printerControl{newControl("http://" + s.addr.printerControl)}
	s.registryKnob = &registryControl{newControl("http://" + s.addr.registryControl)}
	s.idpPage = newControl("http://" + s.addr.idp)
	s.boxPage = newControl("http://" + s.addr.box)
	s.hubPage = newControl("http://" + s.addr.hub)
	s.tray = newTray(s.printerKnobs, filepath.Join(dir, "tray"), self, log)
	s.launcher = newLauncher()
	s.parts()
	return s, nil
}

func (s *stage) addresses() error {
	var err error
	if s.kioskLn, err = listen(s.opt.kiosk); err != nil {
		return fmt.Errorf("kiosk: %w", err)
	}
	if s.consoleLn, err = listen(s.opt.console); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	s.addr.kiosk, s.addr.console = s.kioskLn.Addr().String(), s.consoleLn.Addr().String()
	hub, err := s.hubAddress()
	if err != nil {
		return err
	}
	printer := "127.0.0.1:0"
	if s.opt.lan {
		printer = "0.0.0.0:0" // it announces every address that this machine has
	}
	r := &reservation{}
	defer r.release()
	for _, a := range []struct {
		into *string
		want string
	}{
		{&s.addr.hub, hub},
		{&s.addr.idp, "127.0.0.1:0"},
		{&s.addr.box, "127.0.0.1:0"},
		{&s.addr.hubBox, "127.0.0.1:0"},
		{&s.addr.registry, "127.0.0.1:0"},
		{&s.addr.registryControl, "127.0.0.1:0"},
		{&s.addr.printer, printer},
		{&s.addr.printerControl, "127.0.0.1:0"},
	} {
		if *a.into, err = r.take(a.want); err != nil {
			return err
		}
	}
	return nil
}

// hubAddress is where the hub shall listen. In a folder that was played in before it must be where it was then, because
// the box was told that address when it enrolled; port 0 means that one.
func (s *stage) hubAddress() (string, error) {
	host, port, err := net.SplitHostPort(s.opt.hub)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: -hub: %w", errUsage, err)
	case s.lastHub == "", s.lastHub == s.opt.hub:
		return s.opt.hub, nil
	case port == "0" && hostOf(s.lastHub) == host:
		return s.lastHub, nil
	default:
		return "", fmt.Errorf("%w: the box in %s knows the hub as %s: say -hub %s, or choose another -dir", errUsage, s.dir, s.lastHub, s.lastHub)
	}
}

func (s *stage) closeListeners() {
	for _, ln := range []net.Listener{s.kioskLn, s.consoleLn} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

// printerUUID returns the printer-uuid that the demo approves in the box's configuration: the one that is in it, or a new
// one. It is random, so that two demos on one machine do not print on each other's printer.
func printerUUID(boxConfig string) string {
	if c, err := box.LoadConfig(boxConfig); err == nil && len(c.Printers) > 0 {
		return c.Printers[0].UUID
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// parts says as what each process is started.
func (s *stage) parts() {
	env := append(os.Environ(), "TMPDIR="+filepath.Join(s.dir, "tmp"), clockFile+"="+filepath.Join(s.dir, "clock"))
	var echo io.Writer
	if s.opt.verbose {
		echo = s.opt.stderr
	}
	as := func(name string, args ...string) *part {
		return &part{
			name: name, launcher: s.launcher, program: s.self, args: append([]string{name}, args...), env: env,
			logDir: filepath.Join(s.dir, "log"), echo: echo, now: now,
		}
	}
	s.box = as("box", "serve", "--config", filepath.Join(s.dir, "box.toml"))
	s.hub = as("hub", "serve", "--config", filepath.Join(s.dir, "hub.toml"))
	s.idp = as("idp", "--addr", s.addr.idp, "--sp", "http://"+s.addr.hub+spid.PathMetadata)
	s.registry = as("registry", "--addr", s.addr.registry, "--control", s.addr.registryControl)
	printer := []string{"--addr", s.addr.printer, "--control", s.addr.printerControl, "--uuid", s.printerUUID}
	for _, name := range s.interfaces() {
		printer = append(printer, "--interface", name)
	}
	s.printer = as("printer", printer...)
}

// interfaces are those that mDNS may use: the loopback, or with -lan all that can multicast.
func (s *stage) interfaces() []string {
	if s.opt.lan {
		return nil
	}
	names, err := loopbacks()
	if err != nil {
		return []string{"lo"}
	}
	return names
}

// all returns the parts in the order in which they start; they stop in the opposite one.
func (s *stage) all() []*part { return []*part{s.idp, s.registry, s.printer, s.hub, s.box} }

// patience is how long a part may take to be ready on a slow machine.
const patience = 60 * time.Second

// Start starts every part and returns when the kiosk shows its first page.
func (s *stage) Start(ctx context.Context) error {
	for _, p := range []struct {
		part *part
		ok   func(context.Context) bool
	}{
		{s.idp, func(ctx context.Context) bool { return s.idpPage.up(ctx, "/metadata") }},
		{s.registry, func(ctx context.Context) bool { return s.registryKnob.up(ctx, "/issued") }},
		{s.printer, func(ctx context.Context) bool { return s.printerKnobs.up(ctx, "/") }},
	} {
		if err := p.part.Start(); err != nil {
			return err
		}
		if err := p.part.Ready(ctx, patience, p.ok); err != nil {
			return err
		}
	}
	if err := s.startHub(ctx); err != nil {
		return err
	}
	if err := s.enrol(ctx); err != nil {
		return err
	}
	var err error
	if s.staffCode, err = s.say(ctx, "box", "staff", "code", "--config", filepath.Join(s.dir, "box.toml")); err != nil {
		return err
	}
	return s.startBox(ctx)
}

func (s *stage) startHub(ctx context.Context) error {
	if err := s.writeHubConfig(ctx); err != nil {
		return err
	}
	if err := s.hub.Start(); err != nil {
		return err
	}
	return s.hub.Ready(ctx, patience, func(ctx context.Context) bool { return s.hubPage.up(ctx, "/healthz") })
}

func (s *stage) startBox(ctx context.Context) error {
	if err := s.box.Start(); err != nil {
		return err
	}
	return s.box.Ready(ctx, patience, func(ctx context.Context) bool { return s.boxPage.up(ctx, "/healthz") })
}

// Settled waits until the box has its hub and its printer.
func (s *stage) Settled(ctx context.Context) error {
	return s.box.Ready(ctx, patience, func(ctx context.Context) bool {
		var st box.Status
		_, err := s.boxPage.get(ctx, "/status", &st)
		return err == nil && st.Enrolled && st.Lights["hub"].State == "up" && st.Printer.State == "ready"
	})
}

// Stop ends everything: what the parts have in hand is finished first.
func (s *stage) Stop() error {
	parts := s.all()
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].Stop()
	}
	err := s.line.Close()
	s.closeListeners()
	s.launcher.Close()
	return err
}

// hubHost is the host and port that a QR must lead to.
func (s *stage) hubHost() string { return s.addr.hub }

// play is the demo: it starts the stage, serves kiosk and console, and waits for ctx or plays -check.
func play(ctx context.Context, o options) (err error) {
	dir, remove, err := folder(o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(o.stderr, &slog.HandlerOptions{Level: level}))
	s, err := newStage(o, dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	con, err := newConsole(s, log)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(o.stdout, "Sportello: starting box, hub, SPID identity provider, ANPR and printer …"); err != nil {
		return fmt.Errorf("nobody reads what the demo says: %w", err)
	}
	if err := s.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it had begun
		}
		return err
	}
	return together(ctx,
		func(ctx context.Context) error { return serveOn(ctx, s.kioskLn, s.tap) },
		func(ctx context.Context) error { return serveOn(ctx, s.consoleLn, con.Handler()) },
		s.watch,
		func(ctx context.Context) error {
			if o.check {
				return check(ctx, s)
			}
			if err := s.welcome(o.stdout); err != nil {
				return err
			}
			<-ctx.Done()
			_, _ = fmt.Fprintln(o.stdout, "stopping …")
			return nil
		})
}

// folder returns the folder to play in, and what to do with it in the end.
func folder(dir string) (string, func() error, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", nil, fmt.Errorf("folder: %w", err)
		}
		return abs, func() error { return nil }, os.MkdirAll(abs, 0o700)
	}
	tmp, err := os.MkdirTemp("", "sportello-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("folder: %w", err)
	}
	return tmp, func() error { return os.RemoveAll(tmp) }, nil
}

// welcome says where everything is and what to try.
func (s *stage) welcome(w io.Writer) error {
	t, err := template.ParseFS(files, "templates/welcome.txt")
	if err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	data := struct{ Kiosk, Hub, Console, StaffCode, Dir string }{
		"http://" + s.addr.kiosk, "http://" + s.addr.hub, "http://" + s.addr.console, s.staffCode, s.opt.dir,
	}
	if err := t.Execute(w, data); err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	return nil
}
