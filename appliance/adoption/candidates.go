package adoption

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk/staff"
)

// What is announced is anybody's, so there are limits to what is asked and shown.
const (
	maxCandidates = 64
	maxEndpoints  = 4  // addresses of one printer
	maxOfOne      = 16 // printers of one address: a print server has some
	maxManual     = 32
)

// usbPorts is where ipp-usb begins to listen.
const usbPorts = 60000

// misleads reports whether an announcement would have the box ask its own services: only the box itself can announce a
// printer on a cable. A box whose whole network is the loopback hears nobody else; the
// source of a packet there may be another address of this machine.
func (s *Service) misleads(sv dnssd.Service, addr netip.Addr) bool {
	return addr.IsLoopback() && !s.cfg.Loopback && (sv.Port < usbPorts || !slices.ContainsFunc(sv.Sources, netip.Addr.IsLoopback))
}

// Found says what DNS-SD knows: services of _ipps._tcp, _ipp._tcp, _pdl-datastream._tcp and _printer._tcp.
func (s *Service) Found(services []dnssd.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = slices.Clone(services)
}

// Candidates returns what could be adopted now. It blocks for two seconds at most to ask them how they are.
func (s *Service) Candidates(ctx context.Context) ([]staff.Candidate, error) {
	s.mu.Lock()
	es := s.endpoints()
	s.mu.Unlock()
	answers := s.probeAll(ctx, es)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("candidates: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := s.merge(answers)
	s.listed = map[string]candidate{}
	out := make([]staff.Candidate, 0, len(cs))
	for _, c := range cs {
		s.listed[c.ID] = c
		out = append(out, c.Candidate)
	}
	return out, nil
}

// Add makes a candidate of an address that somebody typed. ErrAddress.
func (s *Service) Add(ctx context.Context, uri string) (staff.Candidate, error) {
	uri = strings.TrimSpace(uri)
	if err := checkAddress(uri); err != nil {
		return staff.Candidate{}, fmt.Errorf("add printer: %w", err)
	}
	a := s.probeAll(ctx, []endpoint{typed(uri)})[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.manual, uri) {
		if s.manual = append(s.manual, uri); len(s.manual) > maxManual {
			s.manual = s.manual[1:]
		}
	}
	c := s.judge(a, staff.Adopted{}, false)
	if known, ok := s.knownAs(a); ok {
		c = s.judge(a, known, true)
	}
	s.listed[c.ID] = c
	return c.Candidate, nil
}

func typed(uri string) endpoint {
	e := endpoint{uri: uri, group: uri, source: "manual", typed: true}
	if u, err := url.Parse(uri); err == nil {
		e.addr = u.Hostname()
	}
	return e
}

// knownAs returns what is adopted that an answer is of. The caller holds mu.
func (s *Service) knownAs(a answer) (staff.Adopted, bool) {
	if a.printer.UUID != "" {
		return s.adopted(a.printer.UUID)
	}
	if receipt(a.uri) {
		for _, known := range s.all() {
			if known.Receipt && known.URI == a.uri {
				return known, true
			}
		}
	}
	return staff.Adopted{}, false
}

// endpoints returns every address to ask at. The caller holds mu.
func (s *Service) endpoints() []endpoint {
	var es []endpoint
	add := func(e endpoint) {
		if !slices.ContainsFunc(es, func(o endpoint) bool { return o.uri == e.uri }) {
			es = append(es, e)
		}
	}
	for _, uri := range s.manual {
		add(typed(uri))
	}
	for _, c := range s.configured {
		if _, ok := s.combined(c); !ok && c.URI != "" {
			e := typed(c.URI)
			e.uuid = c.UUID
			add(e)
		}
	}
	announced := s.announced()
	for _, a := range s.all() { // they may have another key now
		i := slices.IndexFunc(announced, func(e endpoint) bool { return e.uri == a.URI })
		if i < 0 && a.URI != "" {
			e := typed(a.URI)
			e.uuid, e.typed = a.UUID, false
			add(e)
		}
	}
	for _, e := range announced {
		add(e)
	}
	return es
}

// announced returns the addresses that DNS-SD knows, those with TLS first. The caller holds mu.
func (s *Service) announced() []endpoint {
	var es []endpoint
	groups, ofGroup, ofAddr := map[string]bool{}, map[string]int{}, map[string]int{}
	for _, typ := range []string{"_ipps._tcp", "_ipp._tcp", "_pdl-datastream._tcp", "_printer._tcp"} {
		for _, sv := range s.found {
			if sv.Type != typ || len(sv.Addrs) == 0 {
				continue
			}
			group := cmp.Or(normal(sv.TXT["uuid"]), sv.Instance+"\n"+sv.Host)
			first := sv.Addrs[0].String()
			if !groups[group] {
				if len(groups) == maxCandidates || ofAddr[first] == maxOfOne {
					continue
				}
				groups[group] = true
				ofAddr[first]++
			}
			for _, addr := range sv.Addrs {
				if ofGroup[group] == maxEndpoints || s.misleads(sv, addr) {
					continue
				}
				e := endpoint{
					uri: uri(sv, addr), group: group, name: sv.Instance, uuid: normal(sv.TXT["uuid"]), addr: addr.String(), host: sv.Host, source: "dnssd",
				}
				if _, err := url.Parse(e.uri); err != nil || !receipt(e.uri) && typ != "_printer._tcp" && checkAddress(e.uri) != nil {
					continue
				}
				if typ == "_pdl-datastream._tcp" || typ == "_printer._tcp" {
					if typ == "_printer._tcp" || pages(sv.TXT["pdl"]) {
						e.barred = raw
					}
					// A printer that speaks IPP as well is no receipt printer, and the rest of it is of no use.
					if slices.ContainsFunc(es, func(o endpoint) bool { return o.speaksFor(e) }) {
						continue
					}
				}
				ofGroup[group]++
				es = append(es, e)
				if e.barred != "" || receipt(e.uri) {
					break // one address is enough to show it
				}
			}
		}
	}
	return es
}

// speaksFor reports whether e is a better way to the same machine.
func (e endpoint) speaksFor(o endpoint) bool {
	return e.group == o.group || e.addr == o.addr || e.host != "" && strings.EqualFold(e.host, o.host)
}

// pages reports whether a printer takes a language of office printers: then it is one, and no receipt printer.
func pages(pdl string) bool {
	return slices.ContainsFunc([]string{"pcl", "postscript", "pdf", "urf", "pwg"}, func(l string) bool {
		return strings.Contains(strings.ToLower(pdl), l)
	})
}

func uri(sv dnssd.Service, addr netip.Addr) string {
	u := url.URL{Host: net.JoinHostPort(addr.String(), strconv.Itoa(sv.Port))}
	switch sv.Type {
	case "_ipps._tcp":
		u.Scheme = "ipps"
	case "_ipp._tcp":
		u.Scheme = "ipp"
	case "_pdl-datastream._tcp":
		u.Scheme = "socket"
		return u.String()
	default:
		u.Scheme = "lpd"
	}
	u.Path = "/" + strings.TrimPrefix(sv.TXT["rp"], "/")
	return u.String()
}

// merge makes candidates of answers: one for each printer, by what it says it is and the keys it shows. Two that claim to be
// the same printer with different keys are two: a person finds out which of them stands in the room. The caller holds mu.
func (s *Service) merge(answers []answer) []candidate {
	var cs []candidate
	answered := map[string]bool{}
	for _, a := range answers {
		if a.err == nil {
			answered[a.group] = true
		}
	}
	for _, a := range answers {
		if a.err != nil && answered[a.group] && !a.typed {
			continue // it answered at another of its addresses
		}
		known, isKnown := s.knownAs(a)
		c := s.judge(a, known, isKnown)
		if isKnown && !same(c, known, s.cfg.Now()) && slices.ContainsFunc(answers, func(o answer) bool { return o.genuine(known) }) {
			c.Refused = duplicate
		}
		if !a.typed && (isKnown && same(c, known, s.cfg.Now()) || s.away(a)) {
			continue
		}
		if slices.ContainsFunc(cs, func(o candidate) bool { return o.ID == c.ID || o.same(a) }) ||
			slices.ContainsFunc(answers, func(o answer) bool { return inClear(a, o) }) {
			continue
		}
		if cs = append(cs, c); len(cs) == maxCandidates {
			break
		}
	}
	slices.SortStableFunc(cs, func(a, b candidate) int {
		return cmp.Or(strings.Compare(a.Refused, b.Refused), strings.Compare(a.Name, b.Name), strings.Compare(a.URI, b.URI))
	})
	return cs
}

// away reports whether an answer is only that an adopted printer does not answer: staff see that elsewhere. The caller
// holds mu.
func (s *Service) away(a answer) bool {
	if a.err == nil || a.uuid == "" {
		return false
	}
	_, ok := s.adopted(a.uuid)
	return ok
}

// same reports whether a is of the same printer as c: of several addresses that did not answer, or in the clear, one is shown.
func (c candidate) same(a answer) bool {
	if a.typed || c.TLS != secure(a.uri) {
		return false
	}
	if a.err != nil {
		return c.endpoint.group == a.group
	}
	return !c.TLS && c.UUID != "" && c.UUID == a.printer.UUID && c.endpoint.host == a.host && c.endpoint.group == a.group
}

// inClear reports whether a is in the clear what o says with TLS.
func inClear(a, o answer) bool {
	return !a.typed && a.err == nil && o.err == nil && !secure(a.uri) && secure(o.uri) && a.printer.UUID == o.printer.UUID && a.printer.UUID != "" &&
		(a.addr == o.addr || a.host != "" && strings.EqualFold(a.host, o.host))
}
