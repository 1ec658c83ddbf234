package dnssd

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	hostTTL    = 120  // seconds, of records with a host name in them (RFC 6762 §10)
	otherTTL   = 4500 //
	legacyTTL  = 10   // RFC 6762 §6.7
	probes     = 3    // RFC 6762 §8.1
	probeGap   = 250 * time.Millisecond
	announces  = 4 // RFC 6762 §8.3: after 0, 1, 3 and 7 s, for those whose network loses packets
	deferral   = time.Second
	answerGap  = time.Second      // between two answers with the same record, RFC 6762 §6
	defenceGap = probeGap         // and when somebody probes for it
	contested  = 10 * time.Minute // a name of which two machines speak twice in this time is given up
)

// verdict is what a packet means for our names.
type verdict int

const (
	fine         verdict = iota
	lostInstance         // another machine has the instance name
	lostHost             // another machine has the host name
)

// message is what a responder wants to send.
type message struct {
	ifi int
	msg *dns.Msg
	to  netip.AddrPort // zero means everybody
}

// responder probes for, announces, answers and defends the records of one service (RFC 6762 §6, §8, §9). It neither
// reads a clock nor sends: take takes what came, due says what to send.
type responder struct {
	instance, typ, host string // "Sala\ 1._http._tcp.local.", "_http._tcp.local.", "sportello.local."
	claim               bool
	zones               map[int]*zone // by index of the interface

	phase phase
	sent  int // probes or announcements of this phase
	next  time.Time
	lost  time.Time // when a name was contested last
}

type phase int

const (
	probing phase = iota
	announcing
	established
)

// zone is what a responder says on one interface.
type zone struct {
	records []own
	negate  []*dns.NSEC // what is not there, for the names that are ours
	at      time.Time   // of the next answer, when one is due
	nsec    []bool
	negated time.Time
}

type own struct {
	rr     dns.RR
	beside bool // told beside others only: not ours to answer for
	due    bool
	sent   time.Time
}

type service struct {
	instance, typ, host string // labels in presentation form; typ "_http._tcp"
	port                int
	txt                 []string
	claim               bool
}

// metaType is where the types of all services are listed, RFC 6763 §9.
const metaType = "_services._dns-sd._udp.local."

// newResponder begins with probing after up to 250 ms, or with announcing if the names are known to be ours.
func newResponder(s service, ifaces []iface, known bool, now time.Time) *responder {
	r := &responder{typ: s.typ + ".local.", host: s.host + ".local.", claim: s.claim, zones: map[int]*zone{}}
	r.instance = s.instance + "." + r.typ
	r.next = now.Add(rand.N(probeGap))
	if known {
		r.phase, r.next = announcing, now
	}
	for _, ifi := range ifaces {
		z := &zone{}
		hdr := func(name string, typ, class uint16, ttl uint32) dns.RR_Header {
			return dns.RR_Header{Name: name, Rrtype: typ, Class: class, Ttl: ttl}
		}
		add := func(rr dns.RR, beside bool) { z.records = append(z.records, own{rr: rr, beside: beside}) }
		const unique = dns.ClassINET | cacheFlush
		add(&dns.PTR{Hdr: hdr(r.typ, dns.TypePTR, dns.ClassINET, otherTTL), Ptr: r.instance}, false)
		add(&dns.PTR{Hdr: hdr(metaType, dns.TypePTR, dns.ClassINET, otherTTL), Ptr: r.typ}, false)
		add(&dns.SRV{Hdr: hdr(r.instance, dns.TypeSRV, unique, hostTTL), Port: uint16(s.port), Target: r.host}, false)
		add(&dns.TXT{Hdr: hdr(r.instance, dns.TypeTXT, unique, otherTTL), Txt: s.txt}, false)
		families := map[uint16]bool{}
		for _, a := range ifi.told() {
			if a.Is4() {
				add(&dns.A{Hdr: hdr(r.host, dns.TypeA, unique, hostTTL), A: a.AsSlice()}, !s.claim)
				families[dns.TypeA] = true
			} else {
				add(&dns.AAAA{Hdr: hdr(r.host, dns.TypeAAAA, unique, hostTTL), AAAA: a.AsSlice()}, !s.claim)
				families[dns.TypeAAAA] = true
			}
		}
		negate := func(name string, ttl uint32, types ...uint16) {
			z.negate = append(z.negate, &dns.NSEC{Hdr: hdr(name, dns.TypeNSEC, unique, ttl), NextDomain: name, TypeBitMap: types})
		}
		negate(r.instance, otherTTL, dns.TypeTXT, dns.TypeSRV)
		if s.claim {
			var types []uint16
			for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if families[typ] {
					types = append(types, typ)
				}
			}
			negate(r.host, hostTTL, types...)
		}
		z.nsec = make([]bool, len(z.negate))
		r.zones[ifi.Index] = z
	}
	return r
}

// take takes up a packet from another program, or from ourselves. local says that an address is one of this machine.
// Messages that it returns are answers to those that do not speak multicast DNS in full.
func (r *responder) take(p packet, local func(netip.Addr) bool, now time.Time) (verdict, []message) {
	z := r.zones[p.ifi]
	if z == nil {
		return fine, nil
	}
	m, ok := unpack(p.data)
	if !ok {
		return fine, nil
	}
	if m.Response {
		if p.from.Port() != port {
			return fine, nil
		}
		return r.judge(m, z, p.from.Addr(), local, now), nil
	}
	if r.phase == probing {
		r.tie(m, z, p.from.Addr(), local, now)
		return fine, nil
	}
	if p.from.Port() != port {
		return fine, r.legacy(m, z, p)
	}
	r.query(m, z, now)
	return fine, nil
}

// judge looks in a response for what contradicts us (RFC 6762 §9). What is the same as ours is no conflict, whoever
// says it; and whatever this machine says of its own addresses is true.
func (r *responder) judge(m *dns.Msg, z *zone, from netip.Addr, local func(netip.Addr) bool, now time.Time) verdict {
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		hdr := rr.Header()
		same := slices.IndexFunc(z.records, func(o own) bool { return equalRR(o.rr, rr) })
		if same >= 0 {
			// Somebody takes leave of a record that is ours too: it stays.
			if hdr.Ttl == 0 && r.phase != probing && !z.records[same].beside {
				z.schedule(same, now, 0)
			}
			continue
		}
		if hdr.Ttl == 0 {
			continue
		}
		v := fine
		switch rr := rr.(type) {
		case *dns.SRV:
			if strings.EqualFold(hdr.Name, r.instance) {
				v = lostInstance
			}
		case *dns.A:
			v = r.foreign(hdr.Name, rr.A, from, local)
		case *dns.AAAA:
			v = r.foreign(hdr.Name, rr.AAAA, from, local)
		}
		if v == fine {
			continue
		}
		if r.phase == probing || !r.lost.IsZero() && now.Sub(r.lost) < contested {
			return v
		}
		// Both were there before their networks were joined: who probes last, or loses the tie, takes another name.
		r.lost = now
		r.phase, r.sent, r.next = probing, 0, now
		return fine
	}
	return fine
}

func (r *responder) foreign(name string, ip []byte, from netip.Addr, local func(netip.Addr) bool) verdict {
	if !r.claim || !strings.EqualFold(name, r.host) || local(from) {
		return fine
	}
	if a, ok := netip.AddrFromSlice(ip); ok && local(a.Unmap()) {
		return fine
	}
	return lostHost
}

// tie decides between us and another machine that probes for a name of ours in the same moment (RFC 6762 §8.2): the
// records that sort later win, and the other side waits a second. By then the winner answers.
func (r *responder) tie(m *dns.Msg, z *zone, from netip.Addr, local func(netip.Addr) bool, now time.Time) {
	if r.sent == 0 || len(m.Ns) == 0 {
		return
	}
	for _, name := range r.names() {
		if name == r.host && local(from) {
			continue
		}
		var mine, theirs [][]byte
		for _, o := range z.records {
			if o.rr.Header().Name == name {
				mine = append(mine, sortable(o.rr))
			}
		}
		for _, rr := range m.Ns {
			if strings.EqualFold(rr.Header().Name, name) {
				theirs = append(theirs, sortable(rr))
			}
		}
		slices.SortFunc(mine, bytes.Compare)
		slices.SortFunc(theirs, bytes.Compare)
		if len(theirs) > 0 && slices.CompareFunc(mine, theirs, bytes.Compare) < 0 {
			r.sent, r.next = 0, now.Add(deferral)
			return
		}
	}
}

// names are those that must be nobody else's.
func (r *responder) names() []string {
	if r.claim {
		return []string{r.instance, r.host}
	}
	return []string{r.instance}
}

// query notes what to answer (RFC 6762 §6).
func (r *responder) query(m *dns.Msg, z *zone, now time.Time) {
	for _, q := range m.Question {
		if q.Qclass&^cacheFlush != dns.ClassINET && q.Qclass&^cacheFlush != dns.ClassANY {
			continue
		}
		answered := false
		for i, o := range z.records {
			hdr := o.rr.Header()
			if o.beside || !strings.EqualFold(hdr.Name, q.Name) || q.Qtype != hdr.Rrtype && q.Qtype != dns.TypeANY {
				continue
			}
			answered = true
			if known(m.Answer, o.rr) {
				continue
			}
			gap, wait := answerGap, time.Duration(0)
			if len(m.Ns) > 0 {
				gap = defenceGap
			}
			if hdr.Class&cacheFlush == 0 { // others may answer as well
				wait = 20*time.Millisecond + rand.N(100*time.Millisecond)
			}
			if now.Sub(o.sent) >= gap {
				z.schedule(i, now, wait)
			}
		}
		for i, n := range z.negate {
			if !answered && strings.EqualFold(n.Hdr.Name, q.Name) && now.Sub(z.negated) >= answerGap {
				z.nsec[i] = true
				z.by(now)
			}
		}
	}
}

func (z *zone) schedule(i int, now time.Time, wait time.Duration) {
	z.records[i].due = true
	z.by(now.Add(wait))
}

func (z *zone) by(at time.Time) {
	if z.at.IsZero() || at.Before(z.at) {
		z.at = at
	}
}

// legacy answers a program that asks from a port of its own and hears no multicast (RFC 6762 §6.7).
func (r *responder) legacy(m *dns.Msg, z *zone, p packet) []message {
	reply := new(dns.Msg).SetReply(m)
	reply.Authoritative, reply.Compress = true, true
	for _, q := range m.Question {
		for _, o := range z.records {
			if hdr := o.rr.Header(); !o.beside && strings.EqualFold(hdr.Name, q.Name) && (q.Qtype == hdr.Rrtype || q.Qtype == dns.TypeANY) {
				rr := dns.Copy(o.rr)
				rr.Header().Ttl = legacyTTL
				rr.Header().Class &^= cacheFlush
				reply.Answer = append(reply.Answer, rr)
			}
		}
	}
	if len(m.Question) != 1 || len(reply.Answer) == 0 {
		return nil
	}
	return []message{{p.ifi, reply, p.from}}
}

// due returns what to send now, and when to call it next.
func (r *responder) due(now time.Time) (out []message, next time.Time) {
	if r.phase != established && !now.Before(r.next) {
		switch {
		case r.phase == probing && r.sent == probes:
			r.phase, r.sent = announcing, 0
			fallthrough
		case r.phase == announcing:
			out = append(out, r.everything(now)...)
			r.next = now.Add(time.Second << r.sent)
			if r.sent++; r.sent == announces {
				r.phase = established
			}
		default:
			out = append(out, r.probe()...)
			r.next = now.Add(probeGap)
			r.sent++
		}
	}
	if r.phase != established {
		next = r.next
	}
	for index, z := range r.zones {
		if z.at.IsZero() {
			continue
		}
		if now.Before(z.at) {
			if next.IsZero() || z.at.Before(next) {
				next = z.at
			}
			continue
		}
		z.at = time.Time{}
		if m := z.answer(r, now); m != nil && r.phase != probing {
			out = append(out, message{ifi: index, msg: m})
		}
	}
	return out, next
}

func (r *responder) probe() []message {
	var out []message
	for index, z := range r.zones {
		m := new(dns.Msg)
		m.Compress = true
		for _, name := range r.names() {
			m.Question = append(m.Question, dns.Question{Name: name, Qtype: dns.TypeANY, Qclass: dns.ClassINET})
			for _, o := range z.records {
				if o.rr.Header().Name == name {
					rr := dns.Copy(o.rr)
					rr.Header().Class &^= cacheFlush
					m.Ns = append(m.Ns, rr)
				}
			}
		}
		out = append(out, message{ifi: index, msg: m})
	}
	return out
}

func newResponse() *dns.Msg {
	return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true}
}

// everything announces all records on all interfaces.
func (r *responder) everything(now time.Time) []message {
	var out []message
	for index, z := range r.zones {
		m := newResponse()
		for i := range z.records {
			z.records[i].sent, z.records[i].due = now, false
			if z.records[i].beside {
				m.Extra = append(m.Extra, z.records[i].rr)
			} else {
				m.Answer = append(m.Answer, z.records[i].rr)
			}
		}
		out = append(out, message{ifi: index, msg: m})
	}
	return out
}

// answer puts together what is due, and beside it what will be asked for next (RFC 6763 §12).
func (z *zone) answer(r *responder, now time.Time) *dns.Msg {
	m := newResponse()
	beside := map[uint16]bool{}
	for i := range z.records {
		o := &z.records[i]
		if !o.due {
			continue
		}
		o.due, o.sent = false, now
		m.Answer = append(m.Answer, o.rr)
		switch hdr := o.rr.Header(); {
		case hdr.Rrtype == dns.TypePTR && hdr.Name == r.typ:
			beside[dns.TypeSRV], beside[dns.TypeTXT] = true, true
			fallthrough
		case hdr.Rrtype == dns.TypeSRV, hdr.Rrtype == dns.TypeA, hdr.Rrtype == dns.TypeAAAA:
			beside[dns.TypeA], beside[dns.TypeAAAA] = true, true
		}
	}
	for i := range z.records {
		if o := &z.records[i]; beside[o.rr.Header().Rrtype] && o.sent != now {
			m.Extra = append(m.Extra, o.rr)
		}
	}
	for i, wanted := range z.nsec {
		if wanted {
			z.nsec[i], z.negated = false, now
			m.Answer = append(m.Answer, z.negate[i])
		}
	}
	if len(m.Answer) == 0 {
		return nil
	}
	return m
}

// goodbye takes leave of what was announced (RFC 6762 §10.1). Others on this machine may offer the type as well.
func (r *responder) goodbye() []message {
	if r.phase == probing {
		return nil
	}
	var out []message
	for index, z := range r.zones {
		m := newResponse()
		for _, o := range z.records {
			if o.beside || o.rr.Header().Name == metaType {
				continue
			}
			rr := dns.Copy(o.rr)
			rr.Header().Ttl = 0
			m.Answer = append(m.Answer, rr)
		}
		out = append(out, message{ifi: index, msg: m})
	}
	return out
}
