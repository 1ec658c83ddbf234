// Package printing gets a document onto paper once: it knows which printers the branch has approved and how they are,
// prints on one of them, follows the job to the last sheet, and says honestly when nobody can know what came out.
//
// It speaks IPP through package ipp and follows announced addresses through package dnssd. A printer is approved by its
// printer-uuid; what answers at its address with another one is not used. Nothing is ever printed a second time unless
// the printer has said that of the first time no sheet came out; a print whose end is not known is Uncertain, and a
// person decides.
package printing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// Rasteriser makes pictures of documents for printers that do not take PDF, or not well. Package raster implements it.
type Rasteriser interface {
	Print(ctx context.Context, pdf []byte, o raster.PrintOptions) ([]byte, error)
}

// Config says what to print on. Zero durations have sensible meanings.
type Config struct {
	Adopted  []staff.Adopted // in order of preference; Adopt replaces them later
	Journal  Journal
	Raster   Rasteriser        // nil: PDF only
	Attended func() bool       // whether somebody is at a kiosk: printers are then asked every Session; nil: always
	Alarm    func(staff.Alarm) // must not block; nil: nobody is told
	Cleared  func(staff.AlarmKind, string)
	Moved    func(uuid, uri string) // an adopted printer answered at another address: to be remembered; nil: nobody is told
	// Dial makes connections to printers instead of the network, for simulated ones; nil: the network.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Day    func() time.Time // midnight before now, in the branch's time zone; nil: of Now's location
	User   string           // requesting-user-name: the box, never a person; "" means "sportello"
	Idle   time.Duration    // between looks at a printer that is well; 0 means 2.5 s
	Active time.Duration    // between looks at a printer with trouble; 0 means 1.5 s
	Poll   time.Duration    // between looks at a job; 0 means 250 ms
	Gone   time.Duration    // how long a printer may be away before a job on it is given up; 0 means 60 s
	Busy   time.Duration    // how long somebody else's job is waited for; 0 means 3 min
	Grace  time.Duration    // how long a cancelled job may take to end; 0 means 5 s
	Log    *slog.Logger
	Now    func() time.Time
}

// probeTimeout is how long a printer may take to say how it is.
const probeTimeout = 2 * time.Second

// Spooler prints on the branch's printers. It is the box's kiosk.Printer.
type Spooler struct {
	cfg     Config
	devices []*device

	mu       sync.Mutex
	status   kiosk.PrinterStatus
	watchers []func(kiosk.PrinterStatus)

	loading sync.Mutex
	loaded  bool // the journal's open rows have been read

	telling sync.Mutex // held while watchers are called, so that they see changes in order
}

var _ kiosk.Printer = (*Spooler)(nil)

// New checks cfg. It does not look at any printer: Run does.
func New(cfg Config) (*Spooler, error) {
	cfg.User = cmp.Or(cfg.User, "sportello")
	cfg.Idle = cmp.Or(cfg.Idle, 2500*time.Millisecond)
	cfg.Active = cmp.Or(cfg.Active, 1500*time.Millisecond)
	cfg.Poll = cmp.Or(cfg.Poll, 250*time.Millisecond)
	cfg.Gone = cmp.Or(cfg.Gone, time.Minute)
	cfg.Busy = cmp.Or(cfg.Busy, 3*time.Minute)
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	if cfg.Journal == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("printing: a journal, a log and a clock are needed")
	}
	s := &Spooler{cfg: cfg}
	for _, a := range cfg.Adopted {
		d, err := newDevice(a, cfg)
		if err != nil {
			return nil, fmt.Errorf("printing: %w", err)
		}
		if slices.ContainsFunc(s.devices, func(o *device) bool { return o.uuid == d.uuid }) {
			return nil, fmt.Errorf("printing: printer %s is approved twice", d.uuid)
		}
		s.devices = append(s.devices, d)
	}
	s.status = s.overall()
	return s, nil
}

// Run looks at the printers until ctx ends, and first settles what a power cut interrupted: jobs that had no document
// yet are cancelled, so that they block nobody, and rows are closed as the printer tells. Nothing is printed again.
// It returns nil.
func (s *Spooler) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, d := range s.devices {
		running.Go(func() { s.look(ctx, d) })
	}
	if len(s.devices) == 0 {
		s.load(ctx)
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

// look watches one printer.
func (s *Spooler) look(ctx context.Context, d *device) {
	for ctx.Err() == nil {
		s.load(ctx)
		if _, _, err := s.ask(ctx, d); err == nil && d.hasOpen() && d.tryLock() {
			s.settle(ctx, d)
			d.unlock()
		}
		pause := s.cfg.Idle
		if d.status().Trouble != kiosk.TroubleNone {
			pause = min(s.cfg.Active, pause)
		}
		select {
		case <-d.hurry:
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// ask asks d how it is, remembers it, and tells the watchers.
func (s *Spooler) ask(ctx context.Context, d *device) (*ipp.Client, ipp.Printer, error) {
	c, p, err := d.askCurrent(ctx)
	for last := false; ; last = true {
		if err != nil && ctx.Err() != nil {
			return nil, p, err // nobody waited long enough to blame the printer
		}
		if d.judge(p, err) {
			s.tell()
		}
		if err == nil || last {
			return c, p, err
		}
		c, p, err = d.askElsewhere(ctx, err)
	}
}

// Found says what DNS-SD knows. Announcements of printers that are not approved are ignored.
func (s *Spooler) Found(services []dnssd.Service) {
	for _, d := range s.devices {
		if d.found(services) {
			d.wake()
		}
	}
}

// Status says how the branch's printer is: of several, the one that would print next.
func (s *Spooler) Status() kiosk.PrinterStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Printers says how every adopted printer is that documents may go to, in order of preference.
func (s *Spooler) Printers() []kiosk.PrinterStatus {
	var all []kiosk.PrinterStatus
	for _, d := range s.devices {
		all = append(all, d.status())
	}
	return all
}

// Watch calls f at every change of Status from now on, one call at a time. f must not call Watch or Print.
func (s *Spooler) Watch(f func(kiosk.PrinterStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, f)
}

// tell works Status out anew.
func (s *Spooler) tell() {
	s.telling.Lock()
	defer s.telling.Unlock()
	now := s.overall()
	s.mu.Lock()
	changed := now != s.status
	s.status = now
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	if changed {
		s.cfg.Log.Info("printer status", "printer", now.Name, "state", now.State, "trouble", now.Trouble)
		for _, f := range watchers {
			f(now)
		}
	}
}

// usefulness orders states by how soon they give paper.
var usefulness = []kiosk.PrinterState{kiosk.PrinterReady, kiosk.PrinterBusy, kiosk.PrinterAttention, kiosk.PrinterOffline}

// best is the printer that would print next; nil without any.
func (s *Spooler) best() *device {
	var best *device
	rank := len(usefulness)
	for _, d := range s.devices {
		if r := slices.Index(usefulness, d.status().State); r >= 0 && r < rank {
			best, rank = d, r
		}
	}
	return best
}

func (s *Spooler) overall() kiosk.PrinterStatus {
	if d := s.best(); d != nil {
		return d.status()
	}
	return kiosk.PrinterStatus{State: kiosk.PrinterNone, Trouble: kiosk.TroubleNoPrinter, Since: s.cfg.Now()}
}

// load reads the journal's open rows once. Those of printers that are not approved any more are closed as they are.
func (s *Spooler) load(ctx context.Context) {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.loaded {
		return
	}
	rows, err := s.cfg.Journal.OpenPrints(ctx)
	if err != nil {
		s.cfg.Log.Error("open prints not read", "err", err)
		return
	}
	s.loaded = true
	for _, row := range rows {
		i := slices.IndexFunc(s.devices, func(d *device) bool { return d.uuid == normal(row.PrinterUUID) })
		if i >= 0 {
			s.devices[i].remember(row)
			continue
		}
		row.State = lost(row.State)
		s.closeRow(row, "its printer is not approved any more")
	}
}
