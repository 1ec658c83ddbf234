package printing

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"sportello.example/kiosk/staff"
)

// errRefused means that an adopted printer may not be used in the way it was adopted, or not any more.
var errRefused = errors.New("not a way to send documents")

// Adopt replaces the printers that documents may go to, in order of preference, also while Run runs. Those that are
// retired, or missing in all, finish what they print; their open rows are settled. Receipt printers get slips only. On
// an error, which names what to do, nothing has changed.
func (s *Spooler) Adopt(all []staff.Adopted) error {
	s.adopting.Lock()
	defer s.adopting.Unlock()
	if err := s.check(all); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	before := s.all()
	var now []*device
	var receipts []*receipt
	for _, a := range all {
		a.UUID = normal(a.UUID)
		switch {
		case !a.Retired.IsZero():
		case a.Receipt:
			receipts = append(receipts, s.receiptOf(a))
		default:
			i := slices.IndexFunc(before, func(d *device) bool { return d.uuid == a.UUID })
			if i >= 0 {
				before[i].readopt(a)
				now = append(now, before[i])
				continue
			}
			now = append(now, newDevice(a, &s.cfg))
		}
	}
	for _, d := range before {
		if !slices.Contains(now, d) {
			d.retire()
			s.forget(d)
			now = append(now, d) // until it has finished: see drop
		}
	}
	s.mu.Lock()
	for _, r := range s.receipts {
		if !slices.Contains(receipts, r) {
			close(r.gone)
		}
	}
	s.devices, s.receipts, s.adopted = now, receipts, slices.Clone(all)
	s.found()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	s.Wake()
	s.tell()
	return nil
}

// check refuses what can never work.
func (s *Spooler) check(all []staff.Adopted) error {
	seen := map[string]bool{}
	for _, a := range all {
		uuid := normal(a.UUID)
		switch {
		case !a.Retired.IsZero():
			continue
		case uuid == "":
			return fmt.Errorf("adopted printer %q has no UUID", a.URI)
		case seen[uuid]:
			return fmt.Errorf("printer %s is adopted twice", uuid)
		}
		seen[uuid] = true
		if a.Receipt {
			continue
		}
		if err := newDevice(a, &s.cfg).check(); err != nil {
			return fmt.Errorf("printer %s: %w", uuid, err)
		}
	}
	return nil
}

// drop ends a retired printer that has nothing more to do. It is false when there is something.
func (s *Spooler) drop(d *device) bool {
	s.adopting.Lock()
	defer s.adopting.Unlock()
	if !d.finished() {
		return false
	}
	s.mu.Lock()
	s.devices = slices.DeleteFunc(slices.Clone(s.devices), func(o *device) bool { return o == d })
	s.mu.Unlock()
	d.close()
	return true
}

// permitted says why documents may not go to a by uri. Encrypted and with its keys known they may; else the way there
// must be the box's own loopback (ipp-usb), a port that leads to this printer only, or somebody must have accepted the
// risk, for a time.
func permitted(a staff.Adopted, uri string, now time.Time) error {
	u, err := url.Parse(uri)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	known := u.Scheme == "ipps" && len(a.Keys) > 0
	switch {
	case known:
		return nil
	case len(a.Keys) > 0:
		return fmt.Errorf("%w: %s: its keys are known, and in the clear they cannot be checked: use ipps", errRefused, uri)
	}
	switch a.Link {
	case staff.LinkTLS:
		return fmt.Errorf("%w: %s: its keys are not known, or it is not ipps: adopt it again over ipps", errRefused, uri)
	case staff.LinkDedicated:
		if a.Interface == "" {
			return fmt.Errorf("%w: %s: name the interface of the port that leads to this printer only", errRefused, uri)
		}
		return nil
	case staff.LinkRisk:
		if a.Risk == nil || a.Risk.Until.IsZero() {
			return fmt.Errorf("%w: %s: a risk is accepted by name and until a date", errRefused, uri)
		}
		if uri != a.URI {
			return fmt.Errorf("%w: %s: in the clear it is used where it was adopted only (%q): adopt it again where it is now", errRefused, uri, a.URI)
		}
		if now.After(a.Risk.Until) {
			return fmt.Errorf("%w: %s: its risk was accepted until %s: adopt it again", errRefused, uri, a.Risk.Until.UTC().Format(time.DateOnly))
		}
		return nil
	case staff.LinkUSB, "":
		if loopback(u.Hostname()) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s: it cannot be known who answers there: adopt it over ipps with its keys, connect it by USB or to "+
		"a port of its own, or accept the risk by name and until a date", errRefused, uri)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
