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
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// errIdentity means that something else than the approved printer answered.
var errIdentity = errors.New("another machine answers at the printer's address")

// maxAddresses limits how many announced addresses of one printer are tried: an announcement is anybody's.
const maxAddresses = 4

// device is an approved printer.
type device struct {
	approved staff.Adopted
	uuid     string
	user     string
	now      func() time.Time
	lock     chan struct{} // holds one token while a job or a settlement has the printer
	hurry    chan struct{} // wakes the goroutine that looks at it

	mu        sync.Mutex
	announced []string               // URIs, as DNS-SD knows them
	clients   map[string]*ipp.Client // by URI
	current   string                 // URI that last answered rightly
	last      kiosk.PrinterStatus
	counted   bool  // it has counted an impression of some job
	countless bool  // it has completed a job and counted no impression of it
	open      []Row // jobs of the past that must be looked after when the printer answers
}

func newDevice(a staff.Adopted, cfg Config) (*device, error) {
	d := &device{
		approved: a, uuid: normal(a.UUID), user: cfg.User, now: cfg.Now, lock: make(chan struct{}, 1),
		hurry: make(chan struct{}, 1), clients: map[string]*ipp.Client{},
		last: kiosk.PrinterStatus{State: kiosk.PrinterOffline, Trouble: kiosk.TroubleUnreachable, Since: cfg.Now()},
	}
	if d.uuid == "" {
		return nil, fmt.Errorf("approved printer %q has no UUID", a.URI)
	}
	if a.URI != "" {
		if _, err := d.client(a.URI); err != nil {
			return nil, err
		}
	} else if _, err := ipp.New(ipp.Config{URI: "ipps://printer/", Pins: a.Keys}); err != nil {
		return nil, err
	}
	return d, nil
}

func normal(uuid string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(uuid)), "urn:uuid:")
}

// client returns the client for a URI. The caller holds mu, or nobody else knows d yet.
func (d *device) client(uri string) (*ipp.Client, error) {
	if c := d.clients[uri]; c != nil {
		return c, nil
	}
	c, err := ipp.New(ipp.Config{URI: uri, Pins: d.approved.Keys, User: d.user})
	if err != nil {
		return nil, err
	}
	d.clients[uri] = c
	return c, nil
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

// found picks the addresses at which this printer announces itself. It reports whether they are others than before.
func (d *device) found(services []dnssd.Service) bool {
	uris := URIs(d.approved, services)
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(uris, d.announced) {
		return false
	}
	d.announced = uris
	for uri, c := range d.clients {
		if uri != d.approved.URI && uri != d.current && !slices.Contains(uris, uri) {
			c.Close()
			delete(d.clients, uri)
		}
	}
	return true
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// askCurrent asks the printer how it is where it last answered, or where it was approved. Its errors are errIdentity or
// what package ipp returns.
func (d *device) askCurrent(ctx context.Context) (*ipp.Client, ipp.Printer, error) {
	d.mu.Lock()
	uri := cmp.Or(d.current, d.approved.URI)
	var c *ipp.Client
	err := fmt.Errorf("%w: no address is known", ipp.ErrUnreachable)
	if uri != "" {
		c, err = d.client(uri)
	}
	d.mu.Unlock()
	if err != nil {
		return nil, ipp.Printer{}, err
	}
	p, err := d.askAt(ctx, c)
	if err != nil {
		return nil, p, err
	}
	d.settledAt(uri)
	return c, p, nil
}

// askElsewhere asks at all other addresses at once, because each that is dead costs the whole timeout. Without a right
// answer it returns the most telling error.
func (d *device) askElsewhere(ctx context.Context, err error) (*ipp.Client, ipp.Printer, error) {
	d.mu.Lock()
	var others []*ipp.Client
	for _, uri := range append([]string{d.approved.URI}, d.announced...) {
		if uri == "" || uri == cmp.Or(d.current, d.approved.URI) {
			continue
		}
		if c, cerr := d.client(uri); cerr == nil && !slices.Contains(others, c) {
			others = append(others, c)
		}
	}
	d.mu.Unlock()
	type answer struct {
		c   *ipp.Client
		p   ipp.Printer
		err error
	}
	answers := make(chan answer)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range others {
		go func() {
			p, err := d.askAt(ctx, c)
			answers <- answer{c, p, err}
		}()
	}
	var right *answer
	for range others {
		a := <-answers
		switch {
		case a.err == nil && right == nil:
			right = &a
			cancel()
		case errors.Is(a.err, errIdentity):
			err = a.err // that somebody else answers says more than that nobody does
		}
	}
	if right == nil {
		return nil, ipp.Printer{}, err
	}
	d.settledAt(right.c.URI())
	return right.c, right.p, nil
}

// settledAt remembers where the printer answered.
func (d *device) settledAt(uri string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current = uri
}

func (d *device) askAt(ctx context.Context, c *ipp.Client) (ipp.Printer, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p, err := c.Printer(ctx)
	if errors.Is(err, ipp.ErrKey) {
		return p, fmt.Errorf("%w: %w", errIdentity, err)
	}
	if err == nil && p.UUID != d.uuid {
		return p, fmt.Errorf("%w: %s says it is %q", errIdentity, c.URI(), p.UUID)
	}
	return p, err
}

func (d *device) status() kiosk.PrinterStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// judge remembers how the printer is and reports whether that is new.
func (d *device) judge(p ipp.Printer, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.last
	if err == nil {
		now.Name = cmp.Or(p.Name, d.uuid)
	}
	now.State, now.Trouble = kiosk.PrinterReady, kiosk.TroubleNone
	switch trouble := troubleFor(p, err); {
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
		now.Since = d.now()
	}
	d.last = now
	return true
}

// troubleFor says what keeps a printer that answered so from printing A4.
func troubleFor(p ipp.Printer, err error) kiosk.Trouble {
	switch {
	case errors.Is(err, errIdentity):
		return kiosk.TroubleIdentity
	case errors.Is(err, ipp.ErrUnreachable):
		return kiosk.TroubleUnreachable
	case err != nil:
		return kiosk.TroubleOther
	}
	_, trouble := Plan(p)
	// An empty tray is empty before it is the wrong one; a printer without PDF needs no paper.
	if trouble == kiosk.TroubleFormat {
		return trouble
	}
	return cmp.Or(troubleOf(p), trouble)
}

// remember puts a row on the list of what must be looked after.
func (d *device) remember(row Row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, row)
}

func (d *device) hasOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open) > 0
}

// takeOpen empties the list.
func (d *device) takeOpen() []Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := d.open
	d.open = nil
	return rows
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
