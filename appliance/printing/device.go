package printing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// maxAddresses limits how many announced addresses of one printer are tried: an announcement is anybody's.
const maxAddresses = 4

// device is an adopted printer, or one that an adoption page is printed on.
type device struct {
	uuid   string
	cfg    *Config
	lock   chan struct{} // holds one token while a job or a settlement has the printer
	hurry  chan struct{} // wakes the goroutine that looks at it
	looked bool          // Run looks at it; only Run's goroutine touches this

	mu        sync.Mutex
	adopted   staff.Adopted
	retired   bool
	announced []string               // URIs, as DNS-SD knows them
	heard     bool                   // it was announced at some time
	names     map[string]bool        // instances it was announced as
	host      string                 // that was last announced where it answers
	suspects  []suspect              // who else is announced as it
	clients   map[string]*ipp.Client // by URI
	current   string                 // URI that last answered rightly
	last      kiosk.PrinterStatus
	seen      ipp.Printer // as it last said
	presence  staff.Presence
	fault     string      // key that answered instead of the adopted ones
	counted   bool        // it has counted an impression of some job
	countless bool        // it has completed a job and counted no impression of it
	open      []Row       // jobs of the past that must be looked after when the printer answers
	queue     []staff.Job // ours that have not ended
}

func newDevice(a staff.Adopted, cfg *Config) *device {
	a.UUID = normal(a.UUID)
	return &device{
		adopted: a, uuid: a.UUID, cfg: cfg, lock: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		clients: map[string]*ipp.Client{}, names: map[string]bool{}, presence: staff.Unreachable,
		last: kiosk.PrinterStatus{
			UUID: a.UUID, Name: a.Name, State: kiosk.PrinterOffline, Trouble: kiosk.TroubleUnreachable, Since: cfg.Now(),
		},
	}
}

func normal(uuid string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(uuid)), "urn:uuid:")
}

// check says what is wrong with how it was adopted. That a risk acceptance has ended is not: such a printer is refused
// when it is used, and staff are told.
func (d *device) check() error {
	a := d.adopted
	began := d.cfg.Now()
	if a.Risk != nil {
		began = a.Risk.At
	}
	if a.URI != "" {
		if _, err := d.config(a.URI); err != nil {
			return err
		}
		return permitted(a, a.URI, began)
	}
	if len(a.Keys) == 0 && a.Link == "" {
		return nil // wherever it announces itself is looked at then
	}
	_, err := d.config("ipps://printer/")
	return cmp.Or(err, permitted(a, "ipps://printer/", began))
}

// config makes a client without a connection.
func (d *device) config(uri string) (*ipp.Client, error) {
	cfg := ipp.Config{URI: uri, Pins: d.adopted.Keys, User: d.cfg.User, UUID: d.uuid, Dial: d.cfg.Dial}
	if d.adopted.Link == staff.LinkDedicated {
		cfg.Interface = d.adopted.Interface
	}
	return ipp.New(cfg)
}

// client returns the client for a URI that documents may go to now. The caller holds mu.
func (d *device) client(uri string) (*ipp.Client, error) {
	if err := permitted(d.adopted, uri, d.cfg.Now()); err != nil {
		return nil, fmt.Errorf("%w: %w", errIdentity, err)
	}
	if c := d.clients[uri]; c != nil {
		return c, nil
	}
	c, err := d.config(uri)
	if err != nil {
		return nil, err
	}
	d.clients[uri] = c
	return c, nil
}

// allowed says why nothing may be sent to uri now.
func (d *device) allowed(uri string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := permitted(d.adopted, uri, d.cfg.Now()); err != nil {
		return fmt.Errorf("%w: %w", errIdentity, err)
	}
	return nil
}

func (d *device) adoption() staff.Adopted {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.adopted
}

// readopt takes up what has changed of its adoption. What is being printed is finished as it was begun.
func (d *device) readopt(a staff.Adopted) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retired = false
	if !slices.Equal(a.Keys, d.adopted.Keys) || a.Link != d.adopted.Link || a.Interface != d.adopted.Interface {
		d.closeClients(nil)
		d.current = ""
	}
	d.adopted = a
	d.last.Name = cmp.Or(d.last.Name, a.Name)
}

func (d *device) retire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retired = true
}

// active reports whether documents may go to it.
func (d *device) active() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.retired
}

// finished reports whether it is retired and has nothing more to do.
func (d *device) finished() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.retired && len(d.open) == 0 && len(d.queue) == 0
}

func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closeClients(nil)
}

// closeClients forgets the clients whose URI is not to be kept. The caller holds mu.
func (d *device) closeClients(keep func(uri string) bool) {
	for uri, c := range d.clients {
		if keep == nil || !keep(uri) {
			c.Close()
			delete(d.clients, uri)
		}
	}
}

func (d *device) tryLock() bool {
	select {
	case d.lock <- struct{}{}:
		return true
	default:
		return false
	}
}

func (d *device) unlock() { <-d.lock }

func (d *device) wake() {
	select {
	case d.hurry <- struct{}{}:
	default:
	}
}

// prepare has the connection made for the next job, while there is something else to do. Nothing is said on it yet.
func (d *device) prepare(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if uri := cmp.Or(d.current, d.adopted.URI); uri != "" && d.blocking() == "" {
		if c, err := d.client(uri); err == nil {
			c.Prepare(ctx)
		}
	}
}

// enqueue notes how far a job of ours is.
func (d *device) enqueue(row Row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.queue, func(j staff.Job) bool { return j.ID == row.ID }); i >= 0 {
		d.queue[i].State = string(row.State)
		return
	}
	d.queue = append(d.queue, staff.Job{ID: row.ID, Kiosk: row.Kiosk, Kind: row.Kind, State: string(row.State), Since: d.cfg.Now()})
}

func (d *device) unqueue(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = slices.DeleteFunc(d.queue, func(j staff.Job) bool { return j.ID == id })
}

// found picks the addresses at which this printer announces itself. It reports whether anything changed.
func (d *device) found(services []dnssd.Service) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	uris := URIs(d.adopted, services)
	suspects := d.suspected(services)
	if slices.Equal(uris, d.announced) && slices.EqualFunc(suspects, d.suspects, func(a, b suspect) bool { return a.uri == b.uri }) {
		return false
	}
	d.announced, d.suspects = uris, suspects
	d.heard = d.heard || len(uris) > 0
	d.closeClients(func(uri string) bool {
		return uri == d.adopted.URI || uri == d.current || slices.Contains(uris, uri)
	})
	return true
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// status says how it is for those who want to print.
func (d *device) status() kiosk.PrinterStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.last
	if d.blocking() != "" {
		now.State, now.Trouble = kiosk.PrinterAttention, kiosk.TroubleBlocked
	}
	return now
}

// judge remembers how the printer is and reports whether that is new.
func (d *device) judge(p ipp.Printer, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.last
	d.fault = ""
	switch {
	case err == nil:
		now.Name = cmp.Or(p.Name, d.adopted.Name, d.uuid)
		d.seen, d.presence = p, staff.Online
		if d.heard && len(d.announced) == 0 {
			d.presence = staff.Asleep
		}
	case errors.Is(err, errIdentity):
		d.presence = staff.WrongIdentity
		var other *strangerError
		if errors.As(err, &other) {
			d.fault = other.key
		}
	case d.presence != staff.Asleep: // whether its port is open is found out later
		d.presence = staff.Unreachable
	}
	now.State, now.Trouble = kiosk.PrinterReady, kiosk.TroubleNone
	switch trouble := d.troubleFor(p, err); {
	case trouble == kiosk.TroubleUnreachable && err != nil:
		now.State, now.Trouble = kiosk.PrinterOffline, trouble
	case trouble != kiosk.TroubleNone:
		now.State, now.Trouble = kiosk.PrinterAttention, trouble
	case p.State == ipp.PrinterProcessing:
		now.State = kiosk.PrinterBusy
	}
	if now == d.last {
		return false
	}
	if now.State != d.last.State || now.Trouble != d.last.Trouble {
		now.Since = d.cfg.Now()
	}
	d.last = now
	return true
}

// plan says how a document is printed on p. The caller holds mu, or nobody else knows d.
func (d *device) plan(p ipp.Printer) (Planned, kiosk.Trouble) {
	if _, picture := formatFor(p, d.adopted); picture != nil && d.cfg.Raster == nil && !p.Auth {
		return Planned{}, kiosk.TroubleFormat
	}
	return Plan(p, d.adopted)
}

// trouble is what keeps a printer that answered so from printing A4.
func (d *device) trouble(p ipp.Printer, err error) kiosk.Trouble {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.troubleFor(p, err)
}

// troubleFor is trouble for a caller that holds mu.
func (d *device) troubleFor(p ipp.Printer, err error) kiosk.Trouble {
	switch {
	case errors.Is(err, errIdentity):
		return kiosk.TroubleIdentity
	case errors.Is(err, ipp.ErrAuth):
		return kiosk.TroubleAuth
	case errors.Is(err, ipp.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return kiosk.TroubleUnreachable
	case err != nil:
		return kiosk.TroubleOther
	}
	_, trouble := d.plan(p)
	// An empty tray is empty before it is the wrong one; a printer that cannot draw a document needs no paper.
	if trouble == kiosk.TroubleFormat || trouble == kiosk.TroubleAuth {
		return trouble
	}
	return cmp.Or(troubleOf(p), trouble)
}

// learn learns from a job, anybody's, whether the printer counts impressions.
func (d *device) learn(j ipp.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counted = d.counted || j.Impressions > 0
	d.countless = d.countless || j.State == ipp.JobCompleted && j.Impressions == 0
}

// counts reports whether the printer is known to count impressions: it has, and never left a printed job at 0.
func (d *device) counts() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counted && !d.countless
}
