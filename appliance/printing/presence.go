package printing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// probeTimeout is how long a printer may take to say how it is.
const probeTimeout = 2 * time.Second

// errIdentity means that something else than the adopted printer answered, or might.
var errIdentity = errors.New("another machine answers at the printer's address")

// strangerError is errIdentity with what is known of who answered.
type strangerError struct {
	uri  string
	uuid string // what it says it is, "" when it was not asked
	key  string // its key, "" when that is right or not known
	err  error
}

func (e *strangerError) Error() string        { return fmt.Sprintf("%v: %s: %v", errIdentity, e.uri, e.err) }
func (e *strangerError) Is(target error) bool { return target == errIdentity }
func (e *strangerError) Unwrap() error        { return e.err }

// Wake looks at every printer at once, as is due when somebody comes to a kiosk.
func (s *Spooler) Wake() {
	for _, d := range s.all() {
		d.wake()
	}
}

// look watches one printer until ctx ends, or it is retired and has nothing more to do. Presence is what the printer
// answers, not what is announced of it: printers that sleep vanish from DNS-SD, and a power cut says no goodbye.
func (s *Spooler) look(ctx context.Context, d *device) {
	doubted := false
	for ctx.Err() == nil {
		began := s.cfg.Now()
		s.load(ctx)
		if s.drop(d) {
			return
		}
		_, _, err := s.ask(ctx, d)
		switch {
		case err == nil:
			doubted = false
			s.compare(ctx, d)
			if d.hasOpen() && d.tryLock() {
				s.settle(ctx, d)
				d.unlock()
			}
		case ctx.Err() == nil && !errors.Is(err, errIdentity):
			if !doubted && s.cfg.Doubt != nil {
				s.cfg.Doubt(d.uuid)
			}
			doubted = true
			d.findAsleep(ctx)
		}
		s.warn(d)
		s.countSheets(ctx)
		pause := s.pause()
		if d.status().Trouble != kiosk.TroubleNone {
			pause = min(s.cfg.Active, pause)
		}
		// From one look's beginning to the next's, so that a power cut is noticed in time whatever else there was to do.
		pause = max(pause-max(0, s.cfg.Now().Sub(began)), pause/4)
		select {
		case <-d.hurry:
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pause is between looks at a printer that is well.
func (s *Spooler) pause() time.Duration {
	if s.cfg.Attended == nil || s.cfg.Attended() {
		return min(s.cfg.Session, s.cfg.Idle)
	}
	return s.cfg.Idle
}

// ask asks d how it is, remembers it, and tells the watchers. One answer that does not come may be the network's fault:
// the printer is asked again, and at all its other addresses.
func (s *Spooler) ask(ctx context.Context, d *device) (*ipp.Client, ipp.Printer, error) {
	c, p, err := d.askCurrent(ctx)
	if err != nil && ctx.Err() == nil {
		c, p, err = d.askElsewhere(ctx, err)
	}
	if err != nil && ctx.Err() != nil {
		return nil, p, err // nobody waited long enough to blame the printer
	}
	if err == nil {
		if d.settledAt(c.URI()) && s.cfg.Moved != nil {
			s.cfg.Moved(d.uuid, c.URI())
		}
	}
	changed := d.judge(p, err)
	s.blame(d, err)
	if changed {
		s.tell()
	}
	return c, p, err
}

// askCurrent asks the printer how it is where it last answered, or where it was adopted. Its errors are errIdentity or
// what package ipp returns.
func (d *device) askCurrent(ctx context.Context) (*ipp.Client, ipp.Printer, error) {
	d.mu.Lock()
	uri := cmp.Or(d.current, d.adopted.URI)
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
	return c, p, err
}

// askElsewhere asks at all addresses at once, because each that is dead costs the whole timeout: a second time where
// nobody answered, and everywhere else. Without a right answer it returns the most telling error.
func (d *device) askElsewhere(ctx context.Context, err error) (*ipp.Client, ipp.Printer, error) {
	d.mu.Lock()
	current := cmp.Or(d.current, d.adopted.URI)
	var others []*ipp.Client
	for _, uri := range append([]string{current, d.adopted.URI}, d.announced...) {
		if uri == "" || uri == current && !errors.Is(err, ipp.ErrUnreachable) {
			continue
		}
		c, cerr := d.client(uri)
		switch {
		case cerr != nil && uri != current && errors.Is(err, ipp.ErrUnreachable):
			err = cerr // that it is there and may not be used says more
		case cerr == nil && !slices.Contains(others, c):
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
	return right.c, right.p, nil
}

// settledAt remembers where the printer answered. It reports whether that is another address than before.
func (d *device) settledAt(uri string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := cmp.Or(d.current, d.adopted.URI)
	d.current = uri
	return uri != before
}

func (d *device) askAt(ctx context.Context, c *ipp.Client) (ipp.Printer, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p, err := c.Printer(ctx)
	if errors.Is(err, ipp.ErrKey) {
		return p, &strangerError{uri: c.URI(), key: d.strangeKey(ctx, c), err: err}
	}
	if err == nil && p.UUID != d.uuid {
		return p, &strangerError{uri: c.URI(), uuid: p.UUID, err: fmt.Errorf("it says it is %q", p.UUID)}
	}
	return p, err
}

// strangeKey is the fingerprint of a key that is shown at a printer's address and is not the printer's.
func (d *device) strangeKey(ctx context.Context, c *ipp.Client) string {
	keys, err := c.Keys(ctx)
	if err != nil {
		return ""
	}
	known := d.adoption().Keys
	for _, k := range keys {
		if !slices.ContainsFunc(known, func(a string) bool { return strings.EqualFold(a, k) }) {
			return k
		}
	}
	return ""
}

// findAsleep tells a printer that sleeps, whose port is open though it does not answer, from one that is not there or
// hangs: one that sleeps is not announced.
func (d *device) findAsleep(ctx context.Context) {
	d.mu.Lock()
	uri, awake := cmp.Or(d.current, d.adopted.URI), len(d.announced) > 0 || d.adopted.Link == staff.LinkDedicated
	d.mu.Unlock()
	presence := staff.Unreachable
	if u, err := url.Parse(uri); err == nil && u.Host != "" && !awake {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		dial := d.cfg.Dial
		if dial == nil {
			dial = (&net.Dialer{}).DialContext
		}
		if conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "631"))); err == nil {
			_ = conn.Close()
			presence = staff.Asleep
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.presence == staff.Unreachable || d.presence == staff.Asleep {
		d.presence = presence
	}
}
