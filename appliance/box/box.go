// Package box puts a box together and runs it: the only package that knows every other one of a branch's appliance.
package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/raster"
	"sportello.example/appliance/sqlite"
	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/web"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
	"sportello.example/sync/outbox"
)

// The one place that says who plays which part.
var (
	_ kiosk.Journal    = (*sqlite.Store)(nil)
	_ kiosk.Hub        = (*municipality)(nil)
	_ kiosk.Logins     = (*municipality)(nil)
	_ kiosk.Sealer     = (*municipality)(nil)
	_ kiosk.Printer    = (*printing.Spooler)(nil)
	_ kiosk.Viewer     = (*viewer)(nil)
	_ kiosk.Papers     = paper.Sheets{}
	_ outbox.Queue     = (*sqlite.Store)(nil)
	_ outbox.Hub       = (*municipality)(nil)
	_ printing.Journal = (*sqlite.Store)(nil)
)

// Box is one branch's appliance.
type Box struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	board *health.Board
	clock *clock
	store *sqlite.Store
	hub   *municipality
	relay *outbox.Relay
	desk  *kiosk.Desk
	spool *printing.Spooler
	draw  *raster.Rasteriser
	texts *locale.Catalogue
}

// Run runs a box until ctx ends; then it ends every session (a job at the printer is finished or cancelled there, and
// journalled either way), stops what it began and returns nil. now is the machine's clock, with its monotonic reading.
func Run(ctx context.Context, cfg Config, now func() time.Time, log *slog.Logger) error {
	if err := cfg.defaults(); err != nil {
		return err
	}
	place, err := time.LoadLocation(cfg.TimeZone)
	if err != nil {
		return &program.UsageError{Err: fmt.Errorf("time_zone: %w", err), Hint: "names look like Europe/Rome"}
	}
	local := func() time.Time { return now().In(place) }
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return &program.UsageError{Err: fmt.Errorf("data folder: %w", err), Hint: "name a folder that this user can write to with --data"}
	}
	unlock, err := lock(cfg.Data)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := assemble(ctx, cfg, local, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := b.store.Close(); err != nil {
			log.Error("database not closed", "err", err)
		}
	}()
	return b.run(ctx)
}

func assemble(ctx context.Context, cfg Config, now func() time.Time, log *slog.Logger) (*Box, error) {
	b := &Box{cfg: cfg, log: log, now: now}
	b.board = health.New(now)
	b.board.Set(health.Disk, health.Up, "")
	b.board.Set(health.Hub, health.Down, "")
	b.clock = &clock{now: now, board: b.board}
	store, setAside, err := sqlite.Open(ctx, sqlite.Config{
		Path: filepath.Join(cfg.Data, "box.db"), Now: now, ClockOK: b.clock.ok, MaxPages: cfg.MaxPages,
	})
	if err != nil {
		return nil, err
	}
	b.store = store
	if setAside != "" {
		log.Error("the database was corrupt: it was set aside and a new one begun; events that the hub did not have are in it",
			"set_aside", setAside)
	}
	b.hub = &municipality{now: b.clock.hubTime}
	b.relay = outbox.New(store, b.hub, outbox.Options{Log: log})
	b.draw = &raster.Rasteriser{CacheDir: filepath.Join(cfg.Data, "cache", "pdf")}
	if err := os.MkdirAll(b.draw.CacheDir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("cache: %w", err), store.Close())
	}
	if err := b.wire(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return b, nil
}

func (b *Box) wire() error {
	cfg := b.cfg
	approved := make([]printing.Approved, 0, len(cfg.Printers))
	for _, p := range cfg.Printers {
		approved = append(approved, printing.Approved{UUID: p.UUID, URI: p.URI, Pins: p.Pins})
	}
	spool, err := printing.New(printing.Config{
		Approved: approved, Journal: b.store, Log: b.log, Now: b.now, Idle: time.Duration(cfg.Intervals.Probe),
	})
	if err != nil {
		return &program.UsageError{Err: err, Hint: "correct the [[printer]] entries of the configuration file"}
	}
	b.spool = spool
	spool.Watch(func(st kiosk.PrinterStatus) { b.board.Set(health.Printer, printerLight(st), string(st.Trouble)) })
	catalogue, err := kiosk.LoadCatalogue()
	if err != nil {
		return err
	}
	if b.texts, err = locale.Load(); err != nil {
		return err
	}
	b.desk = kiosk.NewDesk(kiosk.Config{
		Place: b.place, Catalogue: catalogue, Journal: b.store, Hub: b.hub, Logins: b.hub, Printer: spool,
		Viewer: &viewer{b.draw}, Papers: paper.Sheets{}, Sealer: b.hub,
		LineUp: b.lineUp, Disk: b.disk, Kick: b.relay.Kick, Drain: b.drain, Now: b.now, Log: b.log,
		Idle: time.Duration(cfg.Intervals.Idle), Languages: b.texts.Has,
	})
	return nil
}

// place says which branch this is and how many kiosks it has: what the hub said, until then the configuration.
func (b *Box) place() (branch string, kiosks int) {
	if in := b.hub.in.Load(); in != nil {
		return in.enrolment.Branch, in.enrolment.Kiosks
	}
	return b.cfg.Branch, b.cfg.Kiosks
}

// drainLimit is how long somebody who wants to collect a request waits for the box's own queue.
const drainLimit = 8 * time.Second

// drain waits until the hub has every event that is queued now, or until it has taken too long.
func (b *Box) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	start := b.now()
	for ctx.Err() == nil {
		n, oldest, err := b.store.Queued(ctx)
		if err != nil || n == 0 || oldest.After(start) {
			return
		}
		b.relay.LineUp()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *Box) lineUp() bool {
	s := b.board.Status(health.Hub).State
	return s == health.Up || s == health.Slow
}

func (b *Box) disk(full bool) {
	if full {
		b.board.Set(health.Disk, health.Down, "full")
	} else {
		b.board.Set(health.Disk, health.Up, "")
	}
}

func printerLight(st kiosk.PrinterStatus) health.State {
	switch st.State {
	case kiosk.PrinterReady, kiosk.PrinterBusy:
		return health.Up
	default:
		return health.Down
	}
}

func (b *Box) run(ctx context.Context) error {
	pages, err := web.New(web.Config{
		Desk: b.desk, Board: b.board, Printer: b.spool, Texts: b.texts, Hosts: b.cfg.Hosts, Now: b.now, Log: b.log,
	})
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", b.cfg.Listen)
	if err != nil {
		return listenError(b.cfg.Listen, err)
	}
	srv := &http.Server{
		Handler:           b.handler(pages.Handler()),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("kiosk pages: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		pages.Close() // ends the event streams, which Shutdown would wait for
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return srv.Shutdown(stop)
	})
	port := 0
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		port = tcp.Port
	}
	b.background(ctx, g, port)
	if err := b.store.Record(ctx, kiosk.SessionRow{}, event.Event{Kind: event.BoxStarted}); err != nil {
		b.disk(errors.Is(err, kiosk.ErrDiskFull))
		b.log.Error("event not stored", "kind", event.BoxStarted, "err", err)
	}
	if err := writeAddress(b.cfg.Data, ln.Addr().String()); err != nil {
		b.log.Error("address file not written", "err", err)
	}
	defer removeAddress(b.cfg.Data)
	b.log.Info("serving", "address", "http://"+ln.Addr().String(), "release", release.Current().String(), "data", b.cfg.Data)
	err = g.Wait()
	b.log.Info("stopped")
	return err
}

// listenError tells an address that is none from one that cannot be had.
func listenError(addr string, err error) error {
	if _, _, bad := net.SplitHostPort(addr); bad != nil {
		return &program.UsageError{Err: fmt.Errorf("listen: %w", bad), Hint: "addresses look like 127.0.0.1:8080, or :8080 for all interfaces"}
	}
	hint := "choose another address with --listen"
	if errors.Is(err, syscall.EADDRINUSE) {
		hint = "another program uses the address: stop it, or choose another one with --listen"
	}
	return &program.HintError{Err: fmt.Errorf("kiosk pages: %w", err), Hint: hint}
}

// background starts everything that is not the pages.
func (b *Box) background(ctx context.Context, g *errgroup.Group, port int) {
	found := dnssd.Browser{
		Types: []string{"_ipp._tcp", "_ipps._tcp"}, Interfaces: b.cfg.Discovery.Interfaces, Log: b.log, Now: b.now,
	}
	g.Go(func() error { return found.Run(ctx, b.spool.Found) })
	g.Go(func() error { return b.spool.Run(ctx) })
	g.Go(func() error { return b.desk.Run(ctx) })
	g.Go(func() error { return b.keep(ctx) })
	g.Go(func() error { return b.join(ctx) })
	g.Go(func() error {
		if err := b.draw.Warm(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("PDF engine not warmed: the first preview will be slow", "err", err)
		}
		return nil
	})
	if b.cfg.Discovery.Announce {
		g.Go(func() error { return b.announce(ctx, port) })
	}
}

func (b *Box) announce(ctx context.Context, port int) error {
	err := dnssd.Announce(ctx, dnssd.Announcement{
		Instance: strings.TrimSpace("Sportello " + b.desk.Branch()), Type: "_http._tcp", Port: port,
		TXT: map[string]string{"path": "/"}, Interfaces: b.cfg.Discovery.Interfaces, Log: b.log,
	})
	if err != nil {
		b.log.Error("box not announced", "err", err)
	}
	return nil
}

// keep looks after what nobody else does: the light of the branch's network, and rows that have had their time.
func (b *Box) keep(ctx context.Context) error {
	next := b.now().Add(time.Hour)
	for {
		if networkUp(b.cfg.Discovery.Interfaces) {
			b.board.Set(health.Network, health.Up, "")
		} else {
			b.board.Set(health.Network, health.Down, "no_interface")
		}
		if now := b.now(); now.After(next) {
			next = now.Add(time.Hour)
			if err := b.store.Prune(ctx); err != nil && ctx.Err() == nil {
				b.log.Error("old rows not deleted", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

// networkUp says whether one of the interfaces, of all but the loopback when none is named, is up and has an address.
func networkUp(names []string) bool {
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || (len(names) == 0 && i.Flags&net.FlagLoopback != 0) || (len(names) > 0 && !slices.Contains(names, i.Name)) {
			continue
		}
		if addrs, err := i.Addrs(); err == nil && len(addrs) > 0 {
			return true
		}
	}
	return false
}

// pending is how many events wait for the hub.
func (b *Box) pending(ctx context.Context) (int, error) {
	n, _, err := b.store.Queued(ctx)
	return n, err
}

func (b *Box) onUp(down time.Duration) {
	b.line(event.LineUp, event.Detail{Milliseconds: down.Milliseconds()})
	b.relay.LineUp()
}

func (b *Box) onDown() { b.line(event.LineDown, event.Detail{}) }

func (b *Box) line(kind event.Kind, detail event.Detail) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := b.store.Record(ctx, kiosk.SessionRow{}, event.Event{Kind: kind, Detail: detail})
	b.disk(errors.Is(err, kiosk.ErrDiskFull))
	if err != nil {
		b.log.Error("event not stored", "kind", kind, "err", err)
		return
	}
	b.relay.Kick()
}
