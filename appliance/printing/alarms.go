package printing

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk/staff"
)

// ringAgain is how soon after an alarm about who answers there can be another one of that kind about the same printer:
// who is on the network decides how often that changes.
const ringAgain = time.Minute

// raise tells that somebody must look at a printer, once until that is cleared or has changed.
func (s *Spooler) raise(kind staff.AlarmKind, uuid, name, before, now string) {
	s.alarming.Lock()
	defer s.alarming.Unlock()
	key := alarmKey{kind, uuid}
	a := staff.Alarm{Kind: kind, Subject: uuid, Name: name, Old: before, New: now, At: s.cfg.Now().UTC()}
	if was, ok := s.raised[key]; ok {
		if was.Old == a.Old && was.New == a.New {
			return
		}
	}
	switch kind {
	case staff.AlarmKey, staff.AlarmIdentity, staff.AlarmDuplicate:
		if s.rung[key].early(a.At) {
			return // whoever finds it again raises it again
		}
		s.rung[key] = ring(a.At)
	}
	if _, ok := s.raised[key]; ok {
		s.cleared(kind, uuid)
	}
	s.raised[key] = a
	if s.cfg.Alarm != nil {
		s.cfg.Alarm(a)
	}
}

// ring is when an alarm was raised last.
type ring time.Time

func (r ring) early(now time.Time) bool {
	since := now.Sub(time.Time(r))
	return 0 <= since && since < ringAgain
}

// settleAlarm takes an alarm back that was raised.
func (s *Spooler) settleAlarm(kind staff.AlarmKind, uuid string) {
	s.alarming.Lock()
	defer s.alarming.Unlock()
	if _, ok := s.raised[alarmKey{kind, uuid}]; ok {
		delete(s.raised, alarmKey{kind, uuid})
		s.cleared(kind, uuid)
	}
}

func (s *Spooler) cleared(kind staff.AlarmKind, uuid string) {
	if s.cfg.Cleared != nil {
		s.cfg.Cleared(kind, uuid)
	}
}

type alarmKey struct {
	kind staff.AlarmKind
	uuid string
}

// forget takes back what concerns the use of a printer that is not adopted any more.
func (s *Spooler) forget(d *device) {
	for _, kind := range []staff.AlarmKind{staff.AlarmKey, staff.AlarmIdentity, staff.AlarmDuplicate} {
		s.settleAlarm(kind, d.uuid)
	}
}

// blame tells who answered instead of d.
func (s *Spooler) blame(d *device, err error) {
	if !d.active() {
		return
	}
	var other *strangerError
	switch {
	case err == nil:
		s.settleAlarm(staff.AlarmKey, d.uuid)
		s.settleAlarm(staff.AlarmIdentity, d.uuid)
	case !errors.As(err, &other):
	case errors.Is(err, ipp.ErrKey):
		s.raise(staff.AlarmKey, d.uuid, d.status().Name, strings.Join(d.adoption().Keys, ", "), other.key)
	default:
		s.raise(staff.AlarmIdentity, d.uuid, d.status().Name, d.uuid, other.uuid)
	}
}

// warn tells that a sheet still waits in a printer.
func (s *Spooler) warn(d *device) {
	if d.blockedBy() != "" {
		s.raise(staff.AlarmSheet, d.uuid, d.status().Name, "", "")
	}
}

// maxNames is how many names of a printer are kept: anybody can announce its address under another one.
const maxNames = 16

// suspect is an address at which somebody announces a printer's UUID or name, where the printer is not known to be.
type suspect struct {
	uri     string
	foreign bool // announced by another host than the printer's
	proven  bool // the printer itself answers there
}

// suspected says who is announced as d besides where d answers. The same printer over IPv4 and IPv6, over ipp and ipps,
// is announced by one host; so is one that was given another address. That host is remembered, for whoever takes its name
// over silences it first. The caller holds mu.
func (d *device) suspected(services []dnssd.Service) []suspect {
	current := address(cmp.Or(d.current, d.adopted.URI))
	var mine, named []dnssd.Service
	for _, s := range services {
		if schemes[s.Type] == "" {
			continue
		}
		if normal(s.TXT["uuid"]) == d.uuid {
			mine = append(mine, s)
			if slices.ContainsFunc(s.Addrs, func(a netip.Addr) bool { return hostPort(a, s.Port) == current }) {
				d.host = strings.ToLower(s.Host)
				if len(d.names) < maxNames {
					d.names[s.Instance] = true
				}
			}
		} else {
			named = append(named, s)
		}
	}
	for _, s := range named {
		if d.names[s.Instance] {
			mine = append(mine, s)
		}
	}
	var all []suspect
	for _, s := range mine {
		for _, a := range slices.Concat(s.Addrs, s.Sources) {
			// A source tells the address of another's printer when it is a proxy: then nobody answers there.
			uri := serviceURI(s, a)
			at := hostPort(a, s.Port)
			if at == current || len(all) == 2*maxAddresses || slices.ContainsFunc(all, func(o suspect) bool { return o.uri == uri }) {
				continue
			}
			before := slices.IndexFunc(d.suspects, func(o suspect) bool { return o.uri == uri })
			all = append(all, suspect{
				uri: uri, foreign: d.host != "" && strings.ToLower(s.Host) != d.host, proven: before >= 0 && d.suspects[before].proven,
			})
		}
	}
	slices.SortFunc(all, func(a, b suspect) int { return cmp.Compare(a.uri, b.uri) })
	return all
}

// address is the host and port of a printer's URI.
func address(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), "631"))
}

// compare asks those who are announced as d, which has just answered, who they are. Nothing of a document goes there. One
// that has d's key is d; one that cannot prove it and comes from another host is another machine, whatever it says.
func (s *Spooler) compare(ctx context.Context, d *device) {
	services := s.heard()
	d.mu.Lock()
	d.suspects = d.suspected(services) // where it answers may be known only now
	suspects, current, keys := slices.Clone(d.suspects), d.current, d.adopted.Keys
	d.mu.Unlock()
	type answer struct {
		suspect
		wrong bool
	}
	answers := make(chan answer)
	asked := 0
	for _, sus := range suspects {
		plain := len(keys) > 0 && !strings.HasPrefix(sus.uri, "ipps:")
		if sus.proven || address(sus.uri) == address(current) || plain && !sus.foreign {
			continue // the printer's own plain port says nothing that counts
		}
		asked++
		go func() {
			right, wrong := s.identify(ctx, d, sus, keys)
			sus.proven = right
			answers <- answer{sus, wrong}
		}()
	}
	var wrong []string
	for range asked {
		a := <-answers
		if a.wrong {
			wrong = append(wrong, a.uri)
		}
		if a.proven {
			d.prove(a.uri)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if len(wrong) > 0 {
		s.raise(staff.AlarmDuplicate, d.uuid, d.status().Name, current, slices.Min(wrong))
	} else {
		s.settleAlarm(staff.AlarmDuplicate, d.uuid)
	}
}

func (d *device) prove(uri string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.suspects {
		d.suspects[i].proven = d.suspects[i].proven || d.suspects[i].uri == uri
	}
}

// identify reports whether d answers at a suspect's address, or another machine; both are false when nobody does. A
// printer that has keys is known by them alone, and nothing is said to who may be another one.
func (s *Spooler) identify(ctx context.Context, d *device, sus suspect, keys []string) (right, wrong bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if len(keys) > 0 {
		return s.identifyByKey(ctx, sus, keys)
	}
	c, err := ipp.New(ipp.Config{URI: sus.uri, User: s.cfg.User, Dial: s.cfg.Dial})
	if err != nil {
		return false, false
	}
	defer c.Close()
	p, err := c.Printer(ctx)
	switch {
	case err != nil:
		return false, false
	case p.UUID != d.uuid:
		return false, true
	}
	return !sus.foreign, sus.foreign
}

// identifyByKey looks which key is shown at a suspect's address. One that listens there and shows none is another machine
// when another host announced it.
func (s *Spooler) identifyByKey(ctx context.Context, sus suspect, keys []string) (right, wrong bool) {
	if !s.listens(ctx, address(sus.uri)) {
		return false, false
	}
	u, err := url.Parse(sus.uri)
	if err != nil {
		return false, false
	}
	u.Scheme = "ipps"
	c, err := ipp.New(ipp.Config{URI: u.String(), User: s.cfg.User, Dial: s.cfg.Dial})
	if err != nil {
		return false, false
	}
	defer c.Close()
	shown, err := c.Keys(ctx)
	switch {
	case err != nil:
		return false, sus.foreign
	case slices.ContainsFunc(shown, func(k string) bool {
		return slices.ContainsFunc(keys, func(known string) bool { return strings.EqualFold(known, k) })
	}):
		return true, false
	}
	return false, true
}

// listens reports whether somebody takes connections at an address.
func (s *Spooler) listens(ctx context.Context, address string) bool {
	dial := s.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout/2)
	defer cancel()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
