package dnssd

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// round is one look at the cache: what is due now, and when the next thing will be.
type round struct {
	c         *cache
	now, next time.Time
	browsing  bool
	asked     map[dns.Question]bool
	questions []dns.Question
}

// due forgets what has expired and returns the packets to send now and when to call it next. It browses after 0, 1, 2,
// 4 … seconds, asks anew for what expires (RFC 6762 §5.2) and asks for what is missing.
//
// What will have to be refreshed before the next browsing is asked for along with this one: in a network where nothing
// happens all of it is one packet every 28 seconds.
func (c *cache) due(now time.Time) (packets [][]byte, next time.Time) {
	c.expire(now)
	c.credit = min(maxQuestions, c.credit+max(0, now.Sub(c.credited).Seconds())*questionsSecond)
	c.credited = now

	r := &round{c: c, now: now, asked: map[dns.Question]bool{}}
	if !now.Before(c.browseAt) {
		c.interval = max(time.Second, min(2*c.interval, maxInterval))
		c.browseAt = now.Add(c.interval)
		r.browsing = true
		for _, typ := range c.types {
			r.add(typ, dns.TypePTR)
		}
	}
	r.next = c.browseAt
	for _, in := range c.instances {
		r.instance(in)
	}
	var known []dns.RR
	if r.browsing {
		known = c.known(now)
	}
	return pack(r.questions, known), r.next
}

// at makes sure that the next look is not later than t.
func (r *round) at(t time.Time) {
	if t.Before(r.next) {
		r.next = t
	}
}

func (r *round) add(name string, typ uint16) bool {
	q := dns.Question{Name: name, Qtype: typ, Qclass: dns.ClassINET}
	if !r.asked[q] {
		r.asked[q] = true
		r.questions = append(r.questions, q)
	}
	return true
}

// ask asks beside browsing, if there is not too much of that.
func (r *round) ask(name string, typ uint16) bool {
	if r.c.credit < 1 {
		r.at(r.now.Add(time.Second))
		return false
	}
	r.c.credit--
	return r.add(name, typ)
}

func (r *round) instance(in *instance) {
	r.refresh(&in.ptr, r.c.types[in.typ], dns.TypePTR)
	if in.txt == nil || !r.now.Before(in.txtLife.expires) {
		r.missing(&in.txtAsk, in.name, dns.TypeTXT)
	} else {
		r.refresh(&in.txtLife, in.name, dns.TypeTXT)
	}
	if in.srv == nil {
		r.missing(&in.srvAsk, in.name, dns.TypeSRV)
		return
	}
	r.refresh(&in.srv.life, in.name, dns.TypeSRV)
	if t := in.srv.since.Add(txtGrace); in.txt == nil && r.now.Before(t) {
		r.at(t)
	}

	h := r.c.hosts[strings.ToLower(in.srv.target)]
	has4, has6 := false, false
	for a, l := range h.addrs {
		typ := dns.TypeA
		if a.Is6() {
			typ = dns.TypeAAAA
		}
		has4, has6 = has4 || a.Is4(), has6 || a.Is6()
		r.refresh(l, h.name, typ)
	}
	// Who has one family may lack the other for ever.
	if !has4 && (!has6 || h.a.n < 2) {
		r.missing(&h.a, h.name, dns.TypeA)
	}
	if !has6 && (!has4 || h.aaaa.n < 2) {
		r.missing(&h.aaaa, h.name, dns.TypeAAAA)
	}
	if !has4 && !has6 && h.a.n > 1 {
		// There are machines that tell their addresses beside the SRV record only: zeroconf is one.
		r.missing(&h.srv, in.name, dns.TypeSRV)
	}
}

// missing asks for something that is not there, 1, 2, 4, 8 seconds apart, and then along with browsing only.
func (r *round) missing(t *retry, name string, typ uint16) {
	late := t.n >= 5
	if late && !r.browsing {
		return
	}
	if !late && r.now.Before(t.next) {
		r.at(t.next)
		return
	}
	if r.ask(name, typ) {
		t.next = r.now.Add(time.Second << min(t.n, 5))
		t.n++
		if t.n < 5 {
			r.at(t.next)
		}
	}
}

// refresh asks again for a record of which 80, 85, 90, 95 % of the time have passed.
func (r *round) refresh(l *life, name string, typ uint16) {
	r.at(l.expires)
	stage := func() time.Time { return l.expires.Add(-l.ttl * time.Duration(20-5*l.asked) / 100) }
	limit := r.now
	if r.browsing && l.asked == 0 && r.now.Sub(l.seen) > l.ttl/2 {
		limit = r.c.browseAt
	}
	if l.asked < 4 && !stage().After(limit) && r.ask(name, typ) {
		for l.asked++; l.asked < 4 && !stage().After(r.now); {
			l.asked++
		}
	}
	if l.asked < 4 {
		r.at(stage())
	}
}

// expire forgets what nobody said again.
func (c *cache) expire(now time.Time) {
	gone := func(l life) bool { return !now.Before(l.expires) }
	for key, in := range c.instances {
		if in.srv != nil && (gone(in.srv.life) || gone(in.ptr)) {
			c.nowhere(in)
		}
		if gone(in.ptr) {
			delete(c.instances, key)
		}
		if in.srv != nil {
			maps.DeleteFunc(in.srv.sources, func(_ netip.Addr, seen time.Time) bool { return now.Sub(seen) > in.srv.ttl })
		}
	}
	for _, h := range c.hosts {
		before := len(h.addrs)
		maps.DeleteFunc(h.addrs, func(_ netip.Addr, l *life) bool { return gone(*l) })
		if before > 0 && len(h.addrs) == 0 {
			h.a, h.aaaa, h.srv = retry{}, retry{}, retry{}
		}
	}
}

// known are the answers that nobody need give (RFC 6762 §7.1): those that count for more than half of their time.
func (c *cache) known(now time.Time) []dns.RR {
	var all []dns.RR
	for _, key := range slices.Sorted(maps.Keys(c.instances)) {
		in := c.instances[key]
		if left := in.ptr.expires.Sub(now); left > in.ptr.ttl/2 {
			hdr := dns.RR_Header{Name: c.types[in.typ], Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: uint32(left.Seconds())}
			all = append(all, &dns.PTR{Hdr: hdr, Ptr: in.name})
		}
	}
	return all
}

// mtu is what fits into a packet of ours without being cut, with the headers of IPv6 and UDP before it.
const mtu = 1440

// pack writes questions into as few packets as possible. As many of the known answers as fit go with them; about the
// others we only hear once more what we know.
func pack(questions []dns.Question, known []dns.RR) [][]byte {
	var packets [][]byte
	for len(questions) > 0 {
		m := &dns.Msg{Compress: true}
		n := 0
		for n < len(questions) {
			m.Question = questions[:n+1]
			if m.Len() > mtu {
				break
			}
			n++
		}
		n = max(n, 1)
		m.Question, questions = questions[:n], questions[n:]
		if len(questions) == 0 {
			for _, rr := range known {
				m.Answer = append(m.Answer, rr)
				if m.Len() > mtu {
					m.Answer = m.Answer[:len(m.Answer)-1]
					break
				}
			}
		}
		if b, err := m.Pack(); err == nil {
			packets = append(packets, b)
		}
	}
	return packets
}
