package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// wire builds a response from records in the form of a zone file. A "!" before one sets its cache-flush bit.
func wire(t testing.TB, records ...string) []byte {
	t.Helper()
	m := newResponse()
	for _, s := range records {
		text, flush := strings.CutPrefix(s, "!")
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			t.Fatalf("%s: %v", s, err)
		}
		if flush {
			rr.Header().Class |= cacheFlush
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var printerAddr = netip.MustParseAddr("192.0.2.9")

// lan is a network in fake time: a cache, and machines that answer what it asks.
type lan struct {
	t      testing.TB
	c      *cache
	start  time.Time
	now    time.Time
	answer func(q dns.Question, at time.Duration) [][]string // packets

	asked []question
	sizes []time.Duration // when each packet was sent
}

type question struct {
	at   time.Duration
	name string
	typ  uint16
}

func newLAN(t testing.TB, types ...string) *lan {
	if len(types) == 0 {
		types = []string{"_ipp._tcp"}
	}
	start := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
	return &lan{t: t, c: newCache("eth0", false, types), start: start, now: start}
}

func (l *lan) hear(records ...string) {
	l.c.packet(wire(l.t, records...), printerAddr, l.now)
}

// until lets time pass. Answers take no time.
func (l *lan) until(end time.Duration) {
	for {
		packets, next := l.c.due(l.now)
		answered := false
		for _, p := range packets {
			l.sizes = append(l.sizes, l.now.Sub(l.start))
			m := new(dns.Msg)
			if err := m.Unpack(p); err != nil {
				l.t.Fatal(err)
			}
			for _, q := range m.Question {
				if q.Qclass != dns.ClassINET {
					l.t.Fatalf("%s asked with class %d: never QU", q.Name, q.Qclass)
				}
				l.asked = append(l.asked, question{l.now.Sub(l.start), q.Name, q.Qtype})
				if l.answer == nil {
					continue
				}
				for _, records := range l.answer(q, l.now.Sub(l.start)) {
					if known := slices.ContainsFunc(m.Answer, func(a dns.RR) bool {
						rr, _ := dns.NewRR(records[0])
						return equalRR(a, rr)
					}); !known {
						l.hear(records...)
						answered = true
					}
				}
			}
		}
		if answered {
			continue
		}
		if next.Sub(l.start) > end {
			l.now = l.start.Add(end)
			return
		}
		if !next.After(l.now) {
			l.t.Fatalf("at %v the next look is at %v", l.now.Sub(l.start), next.Sub(l.start))
		}
		l.now = next
	}
}

func (l *lan) services() []Service { return merge(map[int]*cache{1: l.c}, l.now) }

// known lists what is known, as "instance host port addrs".
func (l *lan) known() string {
	var all []string
	for _, s := range l.services() {
		all = append(all, fmt.Sprint(s.Instance, " ", s.Host, " ", s.Port, " ", s.Addrs, " ", s.TXT["rp"]))
	}
	return strings.Join(all, ", ")
}
