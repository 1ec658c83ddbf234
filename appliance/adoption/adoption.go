// Package adoption says to which printers a citizen's documents may go.
//
// Discovery only proposes: anybody on a branch's network can announce a printer. A printer is adopted when a person
// types the code that stands on a page it printed, so that what answers on the network is what stands in the room; from
// then on its TLS keys say that it is the same one.
//
// What the code cannot show is that nobody sits between the box and the printer while it is first adopted and passes the
// page on. From then on nobody can come between: nothing is adopted under the name of a printer that still answers with its
// own keys.
package adoption

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk/staff"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/event"
)

// Store keeps the adopted printers. Package sqlite implements it.
type Store interface {
	// SavePrinter stores a, over one with the same UUID. When it returns nil it is on the disk.
	SavePrinter(ctx context.Context, a staff.Adopted) error
	// Printers returns every printer that was ever adopted, retired ones too, oldest first.
	Printers(ctx context.Context) ([]staff.Adopted, error)
}

// Config is what adoptions need. Store, Printer, Adopt, Log and Now must be there.
type Config struct {
	Store   Store
	Printer Printer                     // prints the adoption page
	Adopt   func([]staff.Adopted) error // told which printers count now; see printing.Spooler.Adopt
	Branch  func() string               // for the page; nil: it names none
	// Loopback says that the box looks for printers on the loopback alone, as a demonstration does: then those that are
	// announced there may listen anywhere, else only where ipp-usb does.
	Loopback bool
	Zone     *time.Location // of the day on the page; nil: of Now
	// Dial makes connections to printers instead of the network, for simulated ones; nil: the network.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Cleared func(staff.AlarmKind, string)  // an alarm has no reason any more; nil: nobody is told
	Alarm   func(staff.Alarm)              // must not block; nil: nobody is told
	Note    func(event.Kind, event.Detail) // PrinterAdopted and PrinterRetired, with the Link as reason; nil: nobody is told
	Log     *slog.Logger
	Now     func() time.Time // with its monotonic reading: how long a code is good does not depend on the wall clock
}

// Printer prints a document on a printer that is not adopted. Package printing implements it.
type Printer interface {
	// Trial prints pdf on the printer described by a, once, and returns when it is out. raster has it sent as a picture.
	// It returns the format it was sent in; its error is a *kiosk.PrintError.
	Trial(ctx context.Context, a staff.Adopted, pdf []byte, raster bool) (format string, err error)
}

// Service is who says where documents may go. Make one with New. Its methods may be called from any goroutine.
type Service struct {
	cfg        Config
	configured []Configured

	change sync.Mutex      // held while what counts changes, so that Adopt is told in order
	told   []staff.Adopted // what Adopt was told last

	mu     sync.Mutex
	stored map[string]staff.Adopted // by UUID
	moved  map[string]string        // UUID to the address it has answered at, not stored yet
	found  []dnssd.Service
	manual []string             // URIs that somebody typed, oldest first
	listed map[string]candidate // by ID: the last that were returned
	trials map[string]*trial    // by ID of the candidate
	pages  throttle.Failures
}

var _ staff.Adoptions = (*Service)(nil)

// pagesAnHour is how many adoption pages are printed at most: whoever plays with the button cannot empty the trays.
const pagesAnHour = 20

// New reads what was adopted, adds what the configuration answers for, and tells Adopt. An error means a configuration
// that cannot be, or what Store or Adopt returned.
func New(ctx context.Context, cfg Config, configured []Configured) (*Service, error) {
	if cfg.Store == nil || cfg.Printer == nil || cfg.Adopt == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("adoption: a store, a printer, somebody to tell, a log and a clock are needed")
	}
	s := &Service{
		cfg: cfg, stored: map[string]staff.Adopted{}, moved: map[string]string{}, listed: map[string]candidate{},
		trials: map[string]*trial{}, pages: throttle.Failures{Now: cfg.Now, Max: pagesAnHour, Window: time.Hour},
	}
	for _, c := range configured {
		c, err := c.normal()
		if err != nil {
			return nil, fmt.Errorf("configured printer %s: %w", cmp.Or(c.UUID, c.URI), err)
		}
		if c.UUID != "" && slices.ContainsFunc(s.configured, func(o Configured) bool { return o.UUID == c.UUID }) {
			return nil, fmt.Errorf("configured printer %s: it is there twice", c.UUID)
		}
		s.configured = append(s.configured, c)
	}
	all, err := cfg.Store.Printers(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		s.stored[a.UUID] = a
	}
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.tell(true); err != nil {
		return nil, err
	}
	return s, nil
}

// look is how often Run looks whether something has changed by itself.
const look = time.Minute

// Run stores the addresses that printers have moved to, and stops using those whose risk acceptance has ended, until ctx
// ends. It returns nil.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.settle(ctx)
		case <-ctx.Done():
			s.settle(context.WithoutCancel(ctx)) // what is not stored yet
			return nil
		}
	}
}

// settleTimeout is how long storing what has changed by itself may take.
const settleTimeout = 10 * time.Second

func (s *Service) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	s.mu.Lock()
	moved := s.moved
	s.moved = map[string]string{}
	s.mu.Unlock()
	s.change.Lock()
	defer s.change.Unlock()
	for uuid, uri := range moved {
		a, ok := s.current(uuid)
		if !ok || a.URI == uri || !fits(a, uri) {
			continue
		}
		a.URI = uri
		if err := s.cfg.Store.SavePrinter(ctx, a); err != nil {
			s.cfg.Log.Error("new address of a printer not stored", "uuid", uuid, "err", err)
			continue
		}
		s.mu.Lock()
		s.stored[uuid] = a
		s.mu.Unlock()
		for i := range s.told { // Adopt has it from where we have it
			if s.told[i].UUID == uuid {
				s.told[i].URI = uri
			}
		}
	}
	if err := s.tell(false); err != nil {
		s.cfg.Log.Error("printers not taken up", "err", err)
	}
}

// Moved says where an adopted printer has answered. It does not block: Run stores it, within a minute.
func (s *Service) Moved(uuid, uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved[normal(uuid)] = uri
}

// Adopted returns the printers that documents may go to: those of the configuration first, then as they were adopted.
func (s *Service) Adopted(context.Context) ([]staff.Adopted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counting(), nil
}

// Retire ends an adoption. Nothing more goes to that printer. ErrGone.
func (s *Service) Retire(ctx context.Context, uuid, by string) error {
	s.change.Lock()
	defer s.change.Unlock()
	a, ok := s.current(normal(uuid))
	if !ok {
		return fmt.Errorf("retire printer %.40q: %w", uuid, staff.ErrGone)
	}
	a.Retired, a.RetiredBy = s.cfg.Now().UTC(), who(by)
	if err := s.keep(ctx, a); err != nil {
		return fmt.Errorf("retire: %w", err)
	}
	s.cfg.Log.Info("printer retired", "uuid", a.UUID, "name", a.Name)
	s.note(event.PrinterRetired, a)
	s.cleared(a.UUID, staff.AlarmKey, staff.AlarmIdentity, staff.AlarmDuplicate, staff.AlarmRisk)
	return nil
}

// SetRaster has documents go to a printer as pictures always, or not. ErrGone.
func (s *Service) SetRaster(ctx context.Context, uuid string, always bool) error {
	s.change.Lock()
	defer s.change.Unlock()
	a, ok := s.current(normal(uuid))
	if !ok {
		return fmt.Errorf("printer %.40q: %w", uuid, staff.ErrGone)
	}
	if a.Raster == always {
		return nil
	}
	a.Raster = always
	if err := s.keep(ctx, a); err != nil {
		return err
	}
	s.cfg.Log.Info("printer gets pictures or not", "uuid", a.UUID, "name", a.Name, "always", always)
	return nil
}

// keep stores a and has it count from now on. The caller holds change.
func (s *Service) keep(ctx context.Context, a staff.Adopted) error {
	if err := s.cfg.Store.SavePrinter(ctx, a); err != nil {
		return err
	}
	s.mu.Lock()
	s.stored[a.UUID] = a
	s.mu.Unlock()
	return s.tell(false)
}

// tell tells Adopt which printers count, if they are others than before or first is set, and raises alarms about risks. The
// caller holds change.
func (s *Service) tell(first bool) error {
	s.mu.Lock()
	now := s.counting()
	s.warn()
	s.mu.Unlock()
	if !first && reflect.DeepEqual(now, s.told) {
		return nil
	}
	if err := s.cfg.Adopt(now); err != nil {
		return fmt.Errorf("adopted printers: %w", err)
	}
	s.told = slices.Clone(now)
	return nil
}

// soon is how long before its end a risk acceptance is an alarm.
const soon = 30 * 24 * time.Hour

// warn raises an alarm for each risk that ends soon or has ended. The caller holds mu.
func (s *Service) warn() {
	if s.cfg.Alarm == nil {
		return
	}
	now := s.cfg.Now()
	for _, a := range s.all() {
		if a.Link == staff.LinkRisk && a.Risk != nil && now.Add(soon).After(a.Risk.Until) {
			s.cfg.Alarm(staff.Alarm{
				Kind: staff.AlarmRisk, Subject: a.UUID, Name: cmp.Or(a.Name, a.URI), New: a.Risk.Until.UTC().Format(time.DateOnly), At: now,
			})
		}
	}
}

func (s *Service) note(kind event.Kind, a staff.Adopted) {
	if s.cfg.Note != nil {
		s.cfg.Note(kind, event.Detail{Reason: string(a.Link)})
	}
}

func (s *Service) cleared(uuid string, kinds ...staff.AlarmKind) {
	if s.cfg.Cleared == nil {
		return
	}
	for _, k := range kinds {
		s.cfg.Cleared(k, uuid)
	}
}

// current returns the printer with a UUID if it is adopted, also when its risk acceptance has ended.
func (s *Service) current(uuid string) (staff.Adopted, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.adopted(uuid)
}

// adopted is current. The caller holds mu.
func (s *Service) adopted(uuid string) (staff.Adopted, bool) {
	for _, a := range s.all() {
		if a.UUID == uuid {
			return a, true
		}
	}
	return staff.Adopted{}, false
}

// counting returns the printers that documents may go to. The caller holds mu.
func (s *Service) counting() []staff.Adopted {
	now := s.cfg.Now()
	return slices.DeleteFunc(s.all(), func(a staff.Adopted) bool {
		return a.Link == staff.LinkRisk && (a.Risk == nil || !now.Before(a.Risk.Until) || early(a, now))
	})
}

// early reports whether a file says that a risk was accepted on a day that is still to come: its year would be more than
// a year. A day less or more is the clock's.
func early(a staff.Adopted, now time.Time) bool {
	return a.By == byConfiguration && a.Risk.At.After(now.AddDate(0, 0, 1))
}

// all returns every printer that is adopted, also those whose risk acceptance has ended. The caller holds mu.
func (s *Service) all() []staff.Adopted {
	var all, people []staff.Adopted
	for _, c := range s.configured {
		if a, ok := s.combined(c); ok {
			all = append(all, a)
		}
	}
	for uuid, a := range s.stored {
		named := slices.ContainsFunc(s.configured, func(c Configured) bool { return c.UUID == uuid })
		// What the configuration answered for counts no longer than it stands there.
		if !named && a.Retired.IsZero() && a.By != byConfiguration {
			people = append(people, a)
		}
	}
	slices.SortFunc(people, func(a, b staff.Adopted) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.UUID, b.UUID)) })
	return append(all, people...)
}
