// Package printing gets a document onto paper once: it knows which printers the branch has adopted and how they are,
// prints on one of them, follows the job to the last sheet, and says honestly when nobody can know what came out.
//
// It speaks IPP through package ipp and follows announced addresses through package dnssd. A printer is known by its
// printer-uuid and its keys; what answers at its address with others is not used, and staff are told. Nothing is ever
// printed a second time unless the printer has said that of the first time no sheet came out; a print whose end is not
// known is Uncertain, and a person decides. As long as a sheet of a visit that is over may still come out of a printer,
// nothing else goes there.
package printing

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"sportello.example/appliance/dnssd"
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
	// Doubt is told the UUID of a printer that has ceased to answer, once each time: it may be announced elsewhere by now.
	// It must not block; nil: nobody is told.
	Doubt func(uuid string)
	// Dial makes connections to printers instead of the network, for simulated ones; nil: the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Day  func() time.Time // midnight before now, in the branch's time zone; nil: of Now's location
	// TestPage makes a page for the printer of that name that says nothing of anybody; nil: there is none.
	TestPage func(printer string) ([]byte, error)
	User     string        // requesting-user-name: the box, never a person; "" means "sportello"
	Idle     time.Duration // between looks at a printer that is well, while nobody is at a kiosk; 0 means 30 s
	// Session is between looks at a printer that is well, while somebody is; 0 means 5 s, which has a power cut noticed
	// within 10 s.
	Session time.Duration
	Active  time.Duration // between looks at a printer with trouble; 0 means 1.5 s
	Poll    time.Duration // between looks at a job; 0 means 250 ms
	Gone    time.Duration // how long a printer may be away before a job on it is given up; 0 means 60 s
	Busy    time.Duration // how long somebody else's job is waited for; 0 means 3 min
	Grace   time.Duration // how long a cancelled job may take to end; 0 means 5 s
	Log     *slog.Logger
	Now     func() time.Time
}

// Spooler prints on the branch's printers. It is the box's kiosk.Printer and its staff.Spool.
type Spooler struct {
	cfg      Config
	changed  chan struct{} // wakes Run: there are other printers
	adopting sync.Mutex    // held while printers come and go

	mu       sync.Mutex
	adopted  []staff.Adopted
	devices  []*device // in order of preference; retired ones behind, until they have finished
	receipts []*receipt
	services []dnssd.Service
	status   kiosk.PrinterStatus
	watchers []func(kiosk.PrinterStatus)
	reprints map[string]reprint // that staff decided, by the ID of the first print
	sheets   sheets

	loading sync.Mutex
	loaded  bool // the journal's open rows have been read

	deciding sync.Mutex // held while rows are changed that wait for a decision

	alarming sync.Mutex // held while Alarm and Cleared are called, so that they are told in order
	raised   map[alarmKey]staff.Alarm
	rung     map[alarmKey]ring

	telling sync.Mutex // held while watchers are called, so that they see changes in order
}

var (
	_ kiosk.Printer = (*Spooler)(nil)
	_ staff.Spool   = (*Spooler)(nil)
)

// New checks cfg. It does not look at any printer: Run does.
func New(cfg Config) (*Spooler, error) {
	cfg.User = cmp.Or(cfg.User, "sportello")
	cfg.Idle = cmp.Or(cfg.Idle, 30*time.Second)
	cfg.Session = cmp.Or(cfg.Session, 5*time.Second)
	cfg.Active = cmp.Or(cfg.Active, 1500*time.Millisecond)
	cfg.Poll = cmp.Or(cfg.Poll, 250*time.Millisecond)
	cfg.Gone = cmp.Or(cfg.Gone, time.Minute)
	cfg.Busy = cmp.Or(cfg.Busy, 3*time.Minute)
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	if cfg.Journal == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("printing: a journal, a log and a clock are needed")
	}
	if cfg.Day == nil {
		cfg.Day = func() time.Time {
			now := cfg.Now()
			return time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
		}
	}
	s := &Spooler{
		cfg: cfg, changed: make(chan struct{}, 1), reprints: map[string]reprint{},
		raised: map[alarmKey]staff.Alarm{}, rung: map[alarmKey]ring{},
	}
	s.status = s.overall()
	if err := s.Adopt(cfg.Adopted); err != nil {
		return nil, err
	}
	return s, nil
}

// Run looks at the printers until ctx ends, and first settles what a power cut interrupted: jobs that had no document
// yet are cancelled, so that they block nobody, and rows are closed as the printer tells. Nothing is printed again.
// It returns nil.
func (s *Spooler) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for ctx.Err() == nil {
		s.load(ctx)
		for _, d := range s.all() {
			if !d.looked {
				d.looked = true
				running.Go(func() { s.look(ctx, d) })
			}
		}
		s.mu.Lock()
		receipts := s.receipts
		s.mu.Unlock()
		for _, r := range receipts {
			if !r.looked {
				r.looked = true
				running.Go(func() { s.lookAtReceipt(ctx, r) })
			}
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
		}
	}
	running.Wait()
	return nil
}

// all returns the printers, those too that are retired and have not finished.
func (s *Spooler) all() []*device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.devices)
}

// active returns the printers that documents may go to, in order of preference.
func (s *Spooler) active() []*device {
	return slices.DeleteFunc(s.all(), func(d *device) bool { return !d.active() })
}

// device returns a printer by its UUID, also a retired one that has not finished; nil without one.
func (s *Spooler) device(uuid string) *device {
	for _, d := range s.all() {
		if d.uuid == normal(uuid) {
			return d
		}
	}
	return nil
}

// Found says what DNS-SD knows. Announcements of printers that are not adopted are ignored; that one is not announced
// any more has it asked whether it is there.
func (s *Spooler) Found(services []dnssd.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = services
	s.found()
}

// found tells every printer what is announced. The caller holds mu.
func (s *Spooler) found() {
	for _, d := range s.devices {
		if d.found(s.services) {
			d.wake()
		}
	}
}

func (s *Spooler) heard() []dnssd.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services
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
	for _, d := range s.active() {
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

// best is the printer that would print next; nil without any. What a person has to clear up first comes last.
func (s *Spooler) best() *device {
	var best *device
	rank := 0
	for _, d := range s.active() {
		now := d.status()
		r := slices.Index(usefulness, now.State)
		switch now.Trouble {
		case kiosk.TroubleIdentity, kiosk.TroubleAuth, kiosk.TroubleFormat:
			r += len(usefulness)
		case kiosk.TroubleBlocked:
			r += 2 * len(usefulness)
		}
		if best == nil || r < rank {
			best, rank = d, r
		}
	}
	return best
}

// pick chooses the printer for a job: the one that the citizen chose, else the best. Its error is a *kiosk.PrintError.
func (s *Spooler) pick(uuid string) (*device, error) {
	d := s.best()
	if uuid != "" {
		d = s.device(uuid)
	}
	switch {
	case d == nil || !d.active():
		return nil, fail(kiosk.TroubleNoPrinter, kiosk.NothingPrinted, errors.New("no such printer is adopted"))
	case d.blockedBy() != "":
		return nil, fail(kiosk.TroubleBlocked, kiosk.NothingPrinted, errBlocked)
	}
	return d, nil
}

func (s *Spooler) overall() kiosk.PrinterStatus {
	if d := s.best(); d != nil {
		return d.status()
	}
	none := kiosk.PrinterStatus{State: kiosk.PrinterNone, Trouble: kiosk.TroubleNoPrinter, Since: s.cfg.Now()}
	if was := s.Status(); was.State == none.State && was.Trouble == none.Trouble {
		return was
	}
	return none
}
