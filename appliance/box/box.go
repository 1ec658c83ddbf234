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
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/clock"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/raster"
	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
	"sportello.example/kiosk/web"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
	"sportello.example/sync/outbox"
	"sportello.example/sync/stick"
	"sportello.example/sync/uplink"
)

// The one place that says who plays which part.
var (
	_ kiosk.Journal       = (*queue)(nil)
	_ kiosk.Hub           = (*municipality)(nil)
	_ kiosk.Logins        = (*municipality)(nil)
	_ kiosk.Printer       = (*printing.Spooler)(nil)
	_ kiosk.Viewer        = (*viewer)(nil)
	_ kiosk.Papers        = paper.Sheets{}
	_ staff.Spool         = (*printing.Spooler)(nil)
	_ staff.Adoptions     = (*adoption.Service)(nil)
	_ staff.Door          = (*door)(nil)
	_ outbox.Queue        = (*queue)(nil)
	_ outbox.Hub          = (*municipality)(nil)
	_ stick.Queue         = (*queue)(nil)
	_ stick.Signer        = (*identity.Identity)(nil)
	_ desired.Source      = (*source)(nil)
	_ printing.Journal    = (*queue)(nil)
	_ printing.Rasteriser = (*raster.Rasteriser)(nil)
	_ adoption.Store      = (*queue)(nil)
	_ adoption.Printer    = (*printing.Spooler)(nil)
)

// Box is one branch's appliance.
type Box struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	board *health.Board
	clock *clock.Clock
	queue *queue
	hub   *municipality
	relay *outbox.Relay
	desk  *kiosk.Desk
	draw  *raster.Rasteriser
	texts *locale.Catalogue

	printers printers
	callsign *callsign
	control  atomic.Pointer[string] // what the box's own commands must show
	crowded  atomic.Bool            // somebody was at a kiosk when it was last looked
	noRoom   atomic.Bool            // something could not be stored for want of room
	refused  atomic.Int64           // so many events, since there was room
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
	removeImports(cfg.Data)
	b, err := assemble(ctx, cfg, local, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := b.queue.Close(); err != nil {
			log.Error("database not closed", "err", err)
		}
	}()
	return b.run(ctx)
}

func assemble(ctx context.Context, cfg Config, now func() time.Time, log *slog.Logger) (*Box, error) {
	b := &Box{cfg: cfg, now: now}
	log = slog.New(&quiet{log.Handler(), &b.noRoom})
	b.log = log
	b.board = health.New(now)
	b.board.Set(health.Disk, health.Up, "")
	b.board.Set(health.Hub, health.Down, "")
	b.clock = newClock(cfg, now, b.board)
	q, err := openQueue(ctx, cfg, now, b.clock, log)
	if err != nil {
		return nil, err
	}
	b.queue = q
	b.hub = &municipality{now: b.clock.HubTime}
	b.relay = outbox.New(q, b.hub, outbox.Options{
		Log: log, Box: q.box, Keys: q.keys, Gather: time.Duration(cfg.Intervals.Gather),
	})
	q.kick = b.relay.Kick
	b.draw = &raster.Rasteriser{CacheDir: filepath.Join(cfg.Data, "cache", "pdf")}
	if err := os.MkdirAll(b.draw.CacheDir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("cache: %w", err), q.Close())
	}
	if err := b.wire(ctx); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return b, nil
}

// newClock returns the clock of a box that starts now.
func newClock(cfg Config, now func() time.Time, board *health.Board) *clock.Clock {
	c := clock.New(clock.Config{Now: now, Machine: time.Now, Floor: release.Current().Time, Board: board})
	c.Passed(readTime(cfg.Data))
	c.Look()
	return c
}

func (b *Box) wire(ctx context.Context) error {
	cfg := b.cfg
	err := b.wirePrinters(ctx, func() bool { return b.desk.Busy() })
	if err != nil {
		return err
	}
	b.printers.spool.Watch(func(st kiosk.PrinterStatus) { b.board.Set(health.Printer, printerLight(st), string(st.Trouble)) })
	if b.callsign, err = newCallsign(cfg.Data, b.branch(), cfg.Discovery.Host); err != nil {
		return err
	}
	catalogue, err := kiosk.LoadCatalogue()
	if err != nil {
		return err
	}
	if b.texts, err = locale.Load(); err != nil {
		return err
	}
	b.desk = kiosk.NewDesk(kiosk.Config{
		Place: b.place, Catalogue: catalogue, Journal: b.queue, Hub: b.hub, Logins: b.hub, Printer: b.printers.spool,
		Viewer: &viewer{b.draw}, Papers: paper.Sheets{},
		LineUp: b.lineUp, Disk: b.disk, Kick: b.kick, Drain: b.drain, Now: b.now, Log: b.log,
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
		n, oldest, err := b.queue.Queued(ctx)
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

// kick says that an event was stored. When it is the first after nobody was at a kiosk, the line and the printers are looked
// at now: what the lights say was seldom asked while nobody looked at them.
func (b *Box) kick() {
	b.relay.Kick()
	if b.desk.Busy() && !b.crowded.Swap(true) {
		b.hub.look()
		b.printers.spool.Wake()
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
		Desk: b.desk, Board: b.board, Printer: b.printers.spool, Texts: b.texts, Hosts: b.cfg.Hosts, Now: b.now, Log: b.log,
		Notices: b.queue.notices, NoticesChanged: b.queue.noticesChanged, Staff: "/staff/",
		Called: func() string { return b.callsign.names().Host + ".local" },
	})
	if err != nil {
		return err
	}
	office, err := staff.New(staff.Config{
		Spool: b.printers.spool, Adoptions: b.printers.adoptions, Alarms: b.printers.alarms, Desk: b.desk,
		Door: newDoor(b.cfg.Data, b.now), Texts: b.texts, Asset: pages.Asset, Icon: pages.Icon, Branch: b.branch,
		Now: b.now, Log: b.log,
	})
	if err != nil {
		return err
	}
	defer office.Close()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", b.cfg.Listen)
	if err != nil {
		return listenError(b.cfg.Listen, err)
	}
	srv := &http.Server{
		Handler:           b.handler(pages.Handler(), pages.Guard(office.Handler())),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(newCrowd(ln)); !errors.Is(err, http.ErrServerClosed) {
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
	b.note(event.BoxStarted, event.Detail{})
	b.showDisk()
	token, remove, err := writeControl(b.cfg.Data, ln.Addr().String())
	if err != nil {
		b.log.Error("the box's own commands will not find it", "err", err)
	} else {
		b.control.Store(&token)
		defer remove()
	}
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
	g.Go(func() error { return b.printers.browser.Run(ctx, b.printers.found) })
	g.Go(func() error { return b.printers.spool.Run(ctx) })
	g.Go(func() error { return b.printers.adoptions.Run(ctx) })
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

// keep looks after what nobody else does: the lights that nobody sets, and rows that have had their time.
func (b *Box) keep(ctx context.Context) error {
	next := b.now().Add(time.Hour)
	for {
		if networkUp(b.cfg.Discovery.Interfaces) {
			b.board.Set(health.Network, health.Up, "")
		} else {
			b.board.Set(health.Network, health.Down, "no_interface")
		}
		b.clock.Look()
		b.lookAtDisk(ctx)
		if !b.desk.Busy() {
			b.crowded.Store(false)
		}
		if now := b.now(); now.After(next) {
			next = now.Add(time.Hour)
			b.hourly(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

func (b *Box) hourly(ctx context.Context) {
	if err := b.queue.Prune(ctx); err != nil && ctx.Err() == nil {
		b.log.Error("old rows not deleted", "err", err)
	}
	if b.clock.Quality() != envelope.Synced {
		return
	}
	if err := writeTime(b.cfg.Data, b.clock.HubTime()); err != nil {
		b.log.Error("time not kept", "err", err)
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

// onPing takes up an answer of the hub. After the first one of this start, who has asked in vain, or before anybody knew
// that there is a line, asks again.
func (b *Box) onPing(p uplink.Pong) {
	first := b.queue.contact.Load() == 0
	b.queue.hubSaid(context.Background(), p.Time, p.Took)
	if first {
		// The light is set when this returns; a follower that asks sooner would not let its request be held.
		b.board.Set(health.Hub, health.Up, "")
		b.lineIsUp()
	}
}

func (b *Box) onUp(down time.Duration) {
	b.note(event.LineUp, event.Detail{Milliseconds: down.Milliseconds()})
	b.lineIsUp()
}

// note stores an event of the box itself. That there is room for one of these says nothing of those that matter more.
func (b *Box) note(kind event.Kind, detail event.Detail) {
	if err := b.queue.note(kind, detail); full(err) {
		b.disk(true)
	}
}

// lineIsUp tells those who wait for the line.
func (b *Box) lineIsUp() {
	if f := b.queue.follower.Load(); f != nil {
		f.LineUp()
	}
	b.relay.LineUp()
}

func (b *Box) onDown() {
	b.note(event.LineDown, event.Detail{})
}
