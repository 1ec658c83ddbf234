package dnssd

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	maxServices  = 256 // of one type; a network with more is attacking us
	maxPerSource = 128 // of those, that one address told of first: the others keep room beside a machine gone mad
	maxAddrs     = 16  // of one host
	maxSources   = 8   // of one service
	maxRecords   = 1024
	maxTTL       = 24 * time.Hour
	goodbyeTTL   = time.Second // RFC 6762 §10.1; also for what a cache-flush bit replaces, §10.2
	txtGrace     = time.Second // a service is told without its TXT record when that has not come by then
	maxInterval  = 28 * time.Second
	absence      = 10 * time.Second // for how long records outlive the network they were heard on

	doubtTTL   = 10 * time.Second
	cacheFlush = 1 << 15 // in the class of a record, RFC 6762 §10.2
	// Beyond these a network makes us ask without end, whoever does it: so many questions at once, so many a second.
	maxQuestions    = 1024
	questionsSecond = 10
)

// cache is what is known from the packets that came through one interface. It neither reads a clock nor sends: packet
// takes what came, due says what to ask, sightings what is there. It keeps only records that belong to an instance of
// the types it is for, so that its size is bounded by their number.
type cache struct {
	zone      string // name of the interface, for link-local addresses
	loopback  bool
	types     []string // "_ipp._tcp.local.", in lower case
	instances map[string]*instance
	hosts     map[string]*host

	browseAt time.Time
	interval time.Duration
	credit   float64 // questions that may be asked beside browsing
	credited time.Time
}

type instance struct {
	typ  int    // index in types
	name string // "Sala\ 1._ipp._tcp.local.", as it was last written
	from netip.Addr
	ptr  life

	srv     *srv
	srvAsk  retry
	txt     map[string]string // nil until it is known; outlives its record until another one comes
	txtLife life
	txtAsk  retry
}

type srv struct {
	life
	target  string
	port    uint16
	since   time.Time // when this target and port were first heard
	sources map[netip.Addr]time.Time
}

type host struct {
	name  string
	users int // instances that are there
	addrs map[netip.Addr]*life
	a     retry
	aaaa  retry
	srv   retry // for the addresses beside it
}

// life is how long a record counts.
type life struct {
	ttl           time.Duration
	seen, expires time.Time
	asked         int // refresh questions sent: at 80, 85, 90 and 95 % of ttl (RFC 6762 §5.2)
}

func born(now time.Time, seconds uint32) life {
	ttl := min(time.Duration(seconds)*time.Second, maxTTL)
	return life{ttl: ttl, seen: now, expires: now.Add(ttl)}
}

// dying is a life that ends in a second and is not asked about.
func (l *life) dying(now time.Time) {
	if end := now.Add(goodbyeTTL); end.Before(l.expires) {
		l.expires = end
	}
	l.asked = 4
}

// doubted is a life that ends in ten seconds unless an answer comes, for which is asked now and three times more
// (RFC 6762 §10.4).
func (l *life) doubted(now time.Time) {
	if l.expires.Sub(now) <= doubtTTL {
		return
	}
	l.ttl, l.expires, l.asked = 5*doubtTTL, now.Add(doubtTTL), 0
}

// retry is how often something missing was asked for: after 1, 2, 4 … seconds again.
type retry struct {
	n    int
	next time.Time
}

func newCache(zone string, loopback bool, types []string) *cache {
	c := &cache{zone: zone, loopback: loopback, instances: map[string]*instance{}, hosts: map[string]*host{}}
	for _, t := range types {
		c.types = append(c.types, strings.ToLower(dns.Fqdn(t))+"local.")
	}
	return c
}

// doubt asks where a machine is that does not answer any more where it was said to be: those whose TXT record has uuid.
func (c *cache) doubt(uuid string, now time.Time) {
	for _, in := range c.instances {
		if in.srv == nil || strings.TrimPrefix(strings.ToLower(in.txt["uuid"]), "urn:uuid:") != uuid {
			continue
		}
		in.srv.doubted(now)
		for _, l := range c.hosts[strings.ToLower(in.srv.target)].addrs {
			l.doubted(now)
		}
	}
}

// restart asks for everything at once, as after a cable was plugged in.
func (c *cache) restart(now time.Time) {
	c.browseAt, c.interval = now, 0
	for _, in := range c.instances {
		in.srvAsk, in.txtAsk = retry{}, retry{}
	}
	for _, h := range c.hosts {
		h.a, h.aaaa, h.srv = retry{}, retry{}, retry{}
	}
}

// leave lets everything expire soon: the network it was heard on has gone, or is another one. Who is there again at
// once has not been away.
func (c *cache) leave(now time.Time) {
	end := now.Add(absence)
	for l := range c.lives {
		if end.Before(l.expires) {
			l.expires = end
		}
		l.ttl = 2 * absence // not known answers any more, and refreshed as what they are
	}
}

func (c *cache) lives(yield func(*life) bool) {
	for _, in := range c.instances {
		if !yield(&in.ptr) || in.srv != nil && !yield(&in.srv.life) || in.txt != nil && !yield(&in.txtLife) {
			return
		}
	}
	for _, h := range c.hosts {
		for _, l := range h.addrs {
			if !yield(l) {
				return
			}
		}
	}
}

// response unpacks a packet if it is a response that one machine may send. Work and memory for it are bounded by its
// size and the number of its records.
func response(data []byte) (*dns.Msg, bool) {
	if len(data) < 12 || len(data) > maxPacket || data[2]&0x80 == 0 {
		return nil, false
	}
	return unpack(data)
}

func unpack(data []byte) (*dns.Msg, bool) {
	if len(data) < 12 {
		return nil, false
	}
	n := 0
	for i := 4; i < 12; i += 2 {
		n += int(data[i])<<8 | int(data[i+1])
	}
	m := new(dns.Msg)
	if n > maxRecords || m.Unpack(data) != nil || m.Opcode != dns.OpcodeQuery {
		return nil, false
	}
	return m, true
}

// packet takes up the records of a response that came from a machine on this network. It reports whether that may
// change what there is to tell or to ask.
func (c *cache) packet(data []byte, from netip.Addr, now time.Time) bool {
	m, ok := response(data)
	if !ok {
		return false
	}
	records := slices.Concat(m.Answer, m.Ns, m.Extra)
	changed := false
	// What a record belongs to may stand behind it in the packet.
	for _, rr := range records {
		if ptr, ok := rr.(*dns.PTR); ok {
			changed = c.pointer(ptr, from, now) || changed
		}
	}
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.SRV:
			changed = c.location(rr, from, now) || changed
		case *dns.TXT:
			changed = c.text(rr, now) || changed
		}
	}
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			changed = c.address(&rr.Hdr, rr.A, now) || changed
		case *dns.AAAA:
			changed = c.address(&rr.Hdr, rr.AAAA, now) || changed
		}
	}
	return changed
}

func (c *cache) pointer(rr *dns.PTR, from netip.Addr, now time.Time) bool {
	typ := slices.Index(c.types, strings.ToLower(rr.Hdr.Name))
	if typ < 0 {
		return false
	}
	key := strings.ToLower(rr.Ptr)
	label, ok := strings.CutSuffix(key, "."+c.types[typ])
	if !ok || dns.CountLabel(label+".") != 1 {
		return false
	}
	in := c.instances[key]
	if rr.Hdr.Ttl == 0 {
		if in == nil {
			return false
		}
		in.ptr.dying(now)
		return true
	}
	if in == nil {
		if !c.room(typ, from) {
			return false
		}
		in = &instance{typ: typ, name: rr.Ptr, from: from}
		c.instances[key] = in
		in.ptr = born(now, rr.Hdr.Ttl)
		return true
	}
	changed := in.name != rr.Ptr
	in.name = rr.Ptr
	in.ptr = born(now, rr.Hdr.Ttl)
	return changed
}

// room says whether an instance more may be taken up. When all places are taken, whoever told of most gives one up to
// who told of fewer: a machine with several addresses keeps nobody out either.
func (c *cache) room(typ int, from netip.Addr) bool {
	all, same := 0, 0
	for _, in := range c.instances {
		if in.typ == typ {
			all++
			if in.from == from {
				same++
			}
		}
	}
	if all < maxServices || same >= maxPerSource {
		return same < maxPerSource
	}
	told := map[netip.Addr][]string{}
	for key, in := range c.instances {
		if in.typ == typ {
			told[in.from] = append(told[in.from], key)
		}
	}
	var most []string
	for _, keys := range told {
		if len(keys) > len(most) {
			most = keys
		}
	}
	if len(most) < same+2 {
		return false
	}
	last := slices.Max(most)
	c.nowhere(c.instances[last])
	delete(c.instances, last)
	return true
}

// location takes up where a service is. The newest answer counts: there is one SRV record (RFC 6763 §5; a cache-flush
// bit says so, and who forgets the bit means it too).
func (c *cache) location(rr *dns.SRV, from netip.Addr, now time.Time) bool {
	in := c.instances[strings.ToLower(rr.Hdr.Name)]
	if in == nil {
		return false
	}
	same := in.srv != nil && in.srv.port == rr.Port && strings.EqualFold(in.srv.target, rr.Target)
	if rr.Hdr.Ttl == 0 {
		if same {
			in.srv.dying(now)
		}
		return same
	}
	if !same {
		sources := map[netip.Addr]time.Time{}
		if in.srv != nil {
			sources = in.srv.sources
		}
		key := strings.ToLower(rr.Target)
		h := c.hosts[key]
		if h == nil {
			h = &host{name: rr.Target, addrs: map[netip.Addr]*life{}}
			c.hosts[key] = h
		}
		h.users++
		c.nowhere(in)
		in.srv = &srv{target: rr.Target, port: rr.Port, since: now, sources: sources}
	}
	in.srv.life = born(now, rr.Hdr.Ttl)
	in.srvAsk = retry{}
	_, known := in.srv.sources[from]
	if known || len(in.srv.sources) < maxSources {
		in.srv.sources[from] = now
	}
	return !same || !known
}

// nowhere forgets where an instance is, and the host if no other one is there.
func (c *cache) nowhere(in *instance) {
	if in.srv == nil {
		return
	}
	key := strings.ToLower(in.srv.target)
	in.srv = nil
	if h := c.hosts[key]; h.users > 1 {
		h.users--
	} else {
		delete(c.hosts, key)
	}
}

func (c *cache) text(rr *dns.TXT, now time.Time) bool {
	in := c.instances[strings.ToLower(rr.Hdr.Name)]
	if in == nil || rr.Hdr.Ttl == 0 {
		return false // a goodbye to the TXT record alone means nothing: another one will come, or nothing will be left
	}
	txt := parseTXT(rr.Txt)
	changed := in.txt == nil || !maps.Equal(in.txt, txt)
	in.txt, in.txtLife, in.txtAsk = txt, born(now, rr.Hdr.Ttl), retry{}
	return changed
}

func (c *cache) address(hdr *dns.RR_Header, ip []byte, now time.Time) bool {
	h := c.hosts[strings.ToLower(hdr.Name)]
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	// Elsewhere 127.0.0.1 would be this machine instead of the one that says so.
	if h == nil || !ok || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() && !c.loopback {
		return false
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(c.zone)
	}
	l := h.addrs[a]
	if hdr.Ttl == 0 {
		if l != nil {
			l.dying(now)
		}
		return l != nil
	}
	dying := false
	if hdr.Class&cacheFlush != 0 {
		for other, ol := range h.addrs {
			if other != a && other.Is4() == a.Is4() && now.Sub(ol.seen) > time.Second {
				ol.dying(now)
				dying = true
			}
		}
	}
	switch {
	case l != nil:
		*l = born(now, hdr.Ttl)
		return dying
	case len(h.addrs) >= maxAddrs:
		return dying
	}
	fresh := born(now, hdr.Ttl)
	h.addrs[a] = &fresh
	return true
}

// sighting is a service as one interface saw it.
type sighting struct {
	Service
	key   string
	since time.Time // of its SRV record
}

// sightings returns the services that are complete: the SRV record and an address are there, and the TXT record too or
// it has been waited for.
func (c *cache) sightings(now time.Time) []sighting {
	var all []sighting
	for key, in := range c.instances {
		if in.srv == nil || in.srv.port == 0 || in.txt == nil && now.Before(in.srv.since.Add(txtGrace)) {
			continue
		}
		h := c.hosts[strings.ToLower(in.srv.target)]
		label := in.name[:len(in.name)-len(c.types[in.typ])-1]
		s := Service{
			Instance: clean(unescape(label), maxInstance),
			Type:     strings.TrimSuffix(c.types[in.typ], ".local."),
			Host:     strings.TrimSuffix(clean(unescape(in.srv.target), 255), "."),
			Port:     int(in.srv.port),
			TXT:      in.txt,
			Addrs:    slices.SortedFunc(maps.Keys(h.addrs), netip.Addr.Compare),
			Sources:  slices.SortedFunc(maps.Keys(in.srv.sources), netip.Addr.Compare),
		}
		if s.Instance == "" || len(s.Addrs) == 0 {
			continue
		}
		if s.TXT == nil {
			s.TXT = map[string]string{}
		}
		all = append(all, sighting{s, key, in.srv.since})
	}
	return all
}
