package dnssd

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	defaultRound = 30 * time.Second
	maxServices  = 256 // of one type; a network with more is attacking us
	maxPause     = 30 * time.Second
)

// Browser looks for services of some types.
//
// zeroconf tells of an instance once and never again: not of a new address, not of a goodbye. So Browser asks with a
// fresh resolver every Round, and forgets what has not answered for Forget. That something is still listed does not
// mean that it is switched on.
type Browser struct {
	Types      []string // "_ipp._tcp"
	Interfaces []string // names; empty means all that can multicast, without the loopback
	Round      time.Duration
	Forget     time.Duration // 0 means 3 minutes, and never less than two rounds
	Log        *slog.Logger
	Now        func() time.Time
}

// Heard is what a Browser heard by multicast in the last minute.
type Heard struct {
	Packets int
	Hosts   int  // that sent them
	Own     bool // one of our own questions came back: multicast leaves and enters this machine
	Asked   int  // questions we sent, in packets
}

// Heard says what was heard in the last minute. It may be called from any goroutine.
func (b *Browser) Heard() Heard { return Heard{} }

type key struct{ typ, instance string }

type sighting struct {
	service Service
	seen    time.Time
	round   int
}

// Run browses until ctx ends; then it returns nil and nothing of it runs any more. It calls found, always from the
// same goroutine, with everything that is known, sorted by type and instance, whenever that changes, and once with
// nothing if the first round found nothing. While no interface is up it keeps trying.
func (b *Browser) Run(ctx context.Context, found func([]Service)) error {
	round := cmp.Or(b.Round, defaultRound)
	forget := max(cmp.Or(b.Forget, 3*time.Minute), 2*round)
	seen := map[key]sighting{}
	told := false
	pause := time.Second

	for n := 1; ctx.Err() == nil; n++ {
		// The first rounds are short: whoever missed the first question is asked again soon.
		length := min(round, time.Duration(n*n)*2*time.Second)
		err := b.round(ctx, length, func(s Service) {
			k := key{s.Type, s.Instance}
			old, known := seen[k]
			if !known && count(seen, s.Type) >= maxServices {
				return
			}
			if known && old.round == n {
				s.Addrs = union(old.service.Addrs, s.Addrs)
			}
			seen[k] = sighting{s, b.Now(), n}
			if !known || !old.service.equal(s) {
				told = true
				found(list(seen))
			}
		})
		if err != nil {
			if pause == time.Second {
				b.Log.Warn("services not browsed", "err", err)
			}
			sleep(ctx, pause)
			pause = min(2*pause, maxPause)
			continue
		}
		pause = time.Second
		before := len(seen)
		maps.DeleteFunc(seen, func(_ key, s sighting) bool { return b.Now().Sub(s.seen) > forget })
		if ctx.Err() == nil && (len(seen) != before || !told) {
			told = true
			found(list(seen))
		}
	}
	return nil
}

// round browses every type once with fresh resolvers, for length. It calls found from the calling goroutine.
func (b *Browser) round(ctx context.Context, length time.Duration, found func(Service)) error {
	ifaces, err := interfaces(b.Interfaces)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()

	type find struct {
		typ   string
		entry *zeroconf.ServiceEntry
	}
	finds := make(chan find)
	var browsing sync.WaitGroup
	var failure error
	for _, typ := range b.Types {
		resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces(ifaces), zeroconf.SelectIPTraffic(families(ifaces)))
		if err != nil {
			failure = err
			break
		}
		entries := make(chan *zeroconf.ServiceEntry, 64)
		failure = resolver.Browse(ctx, typ, "local.", entries)
		// Also after an error zeroconf closes the channel, and until then somebody must read it.
		browsing.Go(func() {
			for e := range entries {
				finds <- find{typ, e}
			}
		})
		if failure != nil {
			break
		}
	}
	if failure != nil {
		cancel()
	}
	go func() {
		browsing.Wait()
		close(finds)
	}()
	for f := range finds {
		if s, ok := service(f.typ, f.entry, ifaces); ok && ctx.Err() == nil {
			found(s)
		}
	}
	return failure
}

// families says which IP versions the interfaces have: zeroconf fails as a whole when one of those it is asked for is
// missing.
func families(ifaces []net.Interface) zeroconf.IPType {
	for _, ifi := range ifaces {
		addrs, _ := addresses(ifi)
		if slices.ContainsFunc(addrs, netip.Addr.Is6) {
			return zeroconf.IPv4AndIPv6
		}
	}
	return zeroconf.IPv4
}

// service reads what zeroconf found. It is false for an entry nobody could use.
func service(typ string, e *zeroconf.ServiceEntry, ifaces []net.Interface) (Service, bool) {
	s := Service{
		Instance: clean(unescape(e.Instance), maxInstance),
		Type:     typ,
		Host:     strings.TrimSuffix(clean(unescape(e.HostName), 255), "."),
		Port:     e.Port,
		TXT:      parseTXT(e.Text),
	}
	for _, ip := range append(slices.Clone(e.AddrIPv4), e.AddrIPv6...) {
		a, ok := netip.AddrFromSlice(ip)
		a = a.Unmap()
		if !ok || a.IsUnspecified() || a.IsMulticast() {
			continue
		}
		if a.Is6() && a.IsLinkLocalUnicast() {
			// zeroconf does not say on which interface it heard the answer; with one there is no question.
			if len(ifaces) != 1 {
				continue
			}
			a = a.WithZone(ifaces[0].Name)
		}
		s.Addrs = append(s.Addrs, a)
	}
	s.Addrs = union(s.Addrs, nil)
	if len(s.Addrs) > 16 {
		s.Addrs = s.Addrs[:16]
	}
	return s, s.Instance != "" && 0 < s.Port && s.Port <= 65535 && len(s.Addrs) > 0
}

func union(a, b []netip.Addr) []netip.Addr {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func count(seen map[key]sighting, typ string) int {
	n := 0
	for k := range seen {
		if k.typ == typ {
			n++
		}
	}
	return n
}

func list(seen map[key]sighting) []Service {
	all := make([]Service, 0, len(seen))
	for _, s := range seen {
		all = append(all, s.service)
	}
	slices.SortFunc(all, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
