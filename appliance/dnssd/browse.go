package dnssd

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	nothingYet = 2 * time.Second      // when it is told that nothing was found
	opening    = time.Second          // in which everything is told as it comes
	openingGap = 5 * time.Millisecond //
	tellingGap = 500 * time.Millisecond
	lookingGap = 20 * time.Millisecond // between looks at the whole cache after that, whatever comes
	settling   = time.Second           // before zeroconf is started on interfaces that just changed
	maxPause   = 30 * time.Second
	// zeroconfTypes is how many types it asks for: each costs up to two packets a minute, of which an idle network is to
	// see twelve at most.
	zeroconfTypes = 2
)

// Browser looks for services of some types. Use it as a pointer.
//
// What it tells comes from a cache of its own, with the rules of RFC 6762 §5.2, §10: a service is there from its SRV
// record and an address on (and its TXT record, unless that takes longer than a second), until it says goodbye or its
// records expire, with whatever it said last. That something is listed does not mean that it is switched on, and one that
// sleeps may not be listed.
//
// In a network where nothing changes it asks every 28 seconds, with a packet over each IP version that the interface has,
// and zeroconf once a minute on average for each of its types, over IPv4 where there is IPv4.
type Browser struct {
	Types      []string // "_ipp._tcp"; zeroconf asks for the first two, the rest is left to the cache
	Interfaces []string // names; empty means all that can multicast, without the loopback
	Log        *slog.Logger
	Now        func() time.Time

	hearing hearing
	doubts  doubts
}

// doubts are UUIDs of machines that do not answer where they were said to be.
type doubts struct {
	mu    sync.Mutex
	uuids []string
	kick  chan struct{} // nil until somebody browses
}

const maxDoubts = 64

// Doubt says that who announces itself with that UUID in its TXT record (lower case, without "urn:uuid:") does not answer
// at its addresses. It is asked for at once; what nobody confirms within ten seconds is forgotten (RFC 6762 §10.4). It may
// be called from any goroutine and does not block.
func (b *Browser) Doubt(uuid string) {
	b.doubts.mu.Lock()
	defer b.doubts.mu.Unlock()
	if len(b.doubts.uuids) == maxDoubts {
		return
	}
	b.doubts.uuids = append(b.doubts.uuids, uuid)
	select {
	case b.doubts.kick <- struct{}{}:
	default: // nobody browses yet, or it is said already
	}
}

func (d *doubts) open() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kick = make(chan struct{}, 1)
	if len(d.uuids) > 0 { // said while there was no network
		d.kick <- struct{}{}
	}
	return d.kick
}

func (d *doubts) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.uuids
	d.uuids = nil
	return all
}

// Run browses until ctx ends; then it returns nil and nothing of it runs any more, but for zeroconf's goroutines, which
// end in that moment. It calls found, always from the same goroutine, with everything that is known, sorted by type and
// instance, whenever that changes, in the first second as it comes and then twice a second at most; and once with nothing
// if nothing was found for two seconds. While no interface is up it keeps trying.
func (b *Browser) Run(ctx context.Context, found func([]Service)) error {
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { watch(ctx, changed) })
	defer watching.Wait()
	defer cancel()

	s := &search{b: b, found: found, caches: map[int]*cache{}}
	pause := time.Second
	for session := 0; ctx.Err() == nil; {
		ifaces, err := interfaces(b.Interfaces)
		s.use(ifaces)
		var l *link
		if err == nil {
			l, err = open(ctx, ifaces, b.Log)
		}
		if err != nil {
			if pause == time.Second && ctx.Err() == nil {
				b.Log.Warn("services not browsed", "err", err)
			}
			s.idle(ctx, changed, pause)
			pause = min(2*pause, maxPause)
			continue
		}
		pause = time.Second
		s.session(ctx, l, changed, session > 0)
		session++
	}
	return nil
}

// search is one run of a Browser. Only its goroutine touches it.
type search struct {
	b      *Browser
	found  func([]Service)
	caches map[int]*cache // by index of the interface
	ifaces []iface

	began  time.Time // of the first question
	told   []Service // nil before something was told
	toldAt time.Time
	dirty  bool // something may have changed since the last look
	looked time.Time
}

// use takes up which interfaces there are now. What was heard on one that has gone, or that is on another network now,
// stays for some seconds: a cable that is pulled and plugged makes nothing disappear.
func (s *search) use(ifaces []iface) {
	now := s.b.Now()
	before := s.ifaces
	s.ifaces = ifaces
	find := func(all []iface, index int) (iface, bool) {
		i := slices.IndexFunc(all, func(ifi iface) bool { return ifi.Index == index })
		if i < 0 {
			return iface{}, false
		}
		return all[i], true
	}
	for index, c := range s.caches {
		old, was := find(before, index)
		now2, is := find(ifaces, index)
		if was && (!is || !unchanged([]iface{old}, []iface{now2})) {
			c.leave(now)
		}
	}
	for _, ifi := range ifaces {
		c := s.caches[ifi.Index]
		if c == nil || c.zone != ifi.Name {
			c = newCache(ifi.Name, ifi.loopback(), s.b.Types)
			s.caches[ifi.Index] = c
		}
		if old, was := find(before, ifi.Index); !was || !unchanged([]iface{old}, []iface{ifi}) {
			c.restart(now)
		}
	}
	s.dirty = true
}

// session browses on the interfaces of l until ctx ends or they change. It closes l.
func (s *search) session(ctx context.Context, l *link, changed <-chan struct{}, again bool) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer l.close()
	defer cancel()

	wake := time.NewTimer(0)
	defer wake.Stop()
	if s.began.IsZero() {
		s.began = s.b.Now()
	}
	wake.Reset(s.look(l))
	for _, typ := range s.b.Types[:min(zeroconfTypes, len(s.b.Types))] {
		asking.Go(func() {
			if again {
				sleep(ctx, settling)
			}
			s.b.trigger(ctx, typ, l.ifaces)
		})
	}
	doubted := s.b.doubts.open()
	for {
		select {
		case <-ctx.Done():
			return
		case <-doubted:
			for _, uuid := range s.b.doubts.take() {
				for _, c := range s.caches {
					c.doubt(uuid, s.b.Now())
				}
			}
		case <-changed:
			if now, err := interfaces(s.b.Interfaces); err != nil || !unchanged(now, l.ifaces) {
				return
			}
			continue
		case p := <-l.packets:
			s.hear(p)
			for range len(l.packets) {
				s.hear(<-l.packets)
			}
			if !s.dirty {
				continue
			}
		case <-wake.C:
		}
		wake.Reset(s.look(l))
	}
}

// idle is a session without a network: what is known expires.
func (s *search) idle(ctx context.Context, changed <-chan struct{}, pause time.Duration) {
	end := s.b.Now().Add(pause)
	for ctx.Err() == nil {
		wait := min(s.look(nil), end.Sub(s.b.Now()))
		if wait <= 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
			t.Stop()
			return
		case <-ctx.Done():
			t.Stop()
		}
	}
}

func (s *search) hear(p packet) {
	now := s.b.Now()
	s.b.hearing.packet(p.data, p.from.Addr(), now)
	if c := s.caches[p.ifi]; c != nil && p.from.Port() == port && c.packet(p.data, p.from.Addr(), now) {
		s.dirty = true
	}
}

// look asks and tells what is due, and returns how long nothing will be. l is nil while there is no network.
func (s *search) look(l *link) time.Duration {
	now := s.b.Now()
	looking, telling := lookingGap, tellingGap
	if now.Sub(s.began) < opening {
		looking, telling = openingGap, openingGap
	}
	if wait := s.looked.Add(looking).Sub(now); wait > 0 && wait <= looking {
		return wait
	}
	s.looked, s.dirty = now, false
	next := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for index, c := range s.caches {
		if l == nil || !slices.ContainsFunc(l.ifaces, func(ifi iface) bool { return ifi.Index == index }) {
			c.expire(now)
			if len(c.instances) == 0 {
				delete(s.caches, index)
			}
			sooner(now.Add(time.Second))
			continue
		}
		packets, at := c.due(now)
		for _, p := range packets {
			s.b.hearing.asked(p, l.send(index, p), now)
		}
		sooner(at)
	}

	if all := merge(s.caches, now); s.news(all) {
		switch at := s.toldAt.Add(telling); {
		case s.told == nil && len(all) == 0 && now.Before(s.began.Add(nothingYet)):
			sooner(s.began.Add(nothingYet))
		case s.told != nil && now.Before(at):
			sooner(at)
		default:
			s.told, s.toldAt = all, now
			s.found(slices.Clone(all))
		}
	}
	return max(next.Sub(s.b.Now()), 0)
}

func (s *search) news(all []Service) bool {
	return !s.began.IsZero() && (s.told == nil || !slices.EqualFunc(all, s.told, Service.equal))
}

// merge puts together what was seen on all interfaces; the result is not nil. Of an instance that is seen in two places
// the one that changed last counts, with the addresses of both if they mean the same.
func merge(caches map[int]*cache, now time.Time) []Service {
	seen := map[string]sighting{}
	for _, index := range slices.Sorted(maps.Keys(caches)) {
		for _, s := range caches[index].sightings(now) {
			other, twice := seen[s.key]
			switch {
			case !twice:
			case s.Host != other.Host || s.Port != other.Port:
				s.Sources = union(s.Sources, other.Sources)
				if s.since.Before(other.since) {
					other.Sources = s.Sources
					s = other
				}
			default:
				s.Addrs, s.Sources = union(s.Addrs, other.Addrs), union(s.Sources, other.Sources)
			}
			seen[s.key] = s
		}
	}
	all := make([]Service, 0, len(seen))
	for _, s := range seen {
		all = append(all, s.Service)
	}
	slices.SortFunc(all, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Host, b.Host), a.Port-b.Port)
	})
	return all
}

func union(a, b []netip.Addr) []netip.Addr {
	all := slices.Concat(a, b)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// trigger keeps a resolver of zeroconf asking for a type until ctx ends. What it finds is in the cache anyway, which
// hears the same packets and knows more of them; but somebody must take it from the channel until that is closed.
func (b *Browser) trigger(ctx context.Context, typ string, ifaces []iface) {
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
		if err := resolve(ctx, typ, ifaces); err != nil && ctx.Err() == nil {
			b.Log.Debug("zeroconf does not browse", "type", typ, "err", err, "retry_in", pause)
		}
		sleep(ctx, pause)
	}
}

func resolve(ctx context.Context, typ string, ifaces []iface) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// One IP version is enough to make machines tell of themselves, and half the packets.
	family := zeroconf.IPType(zeroconf.IPv4)
	if !slices.ContainsFunc(ifaces, func(ifi iface) bool { return ifi.speaks(false) }) {
		family = zeroconf.IPv6
	}
	var on []net.Interface
	for _, ifi := range ifaces {
		on = append(on, ifi.Interface)
	}
	resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces(on), zeroconf.SelectIPTraffic(family))
	if err != nil {
		return err
	}
	entries := make(chan *zeroconf.ServiceEntry, 64)
	failed := resolver.Browse(ctx, typ, "local.", entries)
	if failed != nil {
		cancel()
	}
	n := 0
	for range entries {
		// It remembers every instance it has ever seen: one that has seen too many is given up for a new one.
		if n++; n == maxServices {
			cancel()
		}
	}
	return failed
}
