package lan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/lan/lantest"
)

func TestFound(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	note := "Primo piano, sala è"
	printers := l.Printers(t,
		lantest.Config{Host: "p1", N: 11, Name: "Città Studi – Sala 1.0 (nuova)", Args: []string{"-l", note}},
		lantest.Config{Host: "p2", N: 12, Name: "Stampante anagrafe", Args: []string{"-l", note}},
		lantest.Config{Host: "p3", N: 13, Name: `HP "Rossa", piano 2\bis`, Args: []string{"-l", note}},
		lantest.Config{Host: "p4", N: 14, Name: "è tutto.un.punto._ipp._tcp", Args: []string{"-l", note}},
		lantest.Config{Host: "p5", N: 15, Name: "Arriva tardi", Off: true},
		lantest.Config{Host: "p6", N: 16, Name: "Arriva tardi e zitta", Off: true},
		lantest.Config{Host: "p7", N: 17, Name: "Va e viene"},
	)
	queues := l.PrintServer(t, "server", 50, 10)
	began := time.Now()
	b := browse(t, l, nil)

	t.Run("names and notes as people wrote them", func(t *testing.T) {
		t.Parallel()
		b.allWhole(t, "printers that have just been switched on", began, 2*time.Second, instances(printers[:4])...)
		for _, p := range printers[:4] {
			for _, s := range b.find(p.Instance()) {
				want := map[string]string{"uuid": p.UUID(), "rp": "ipp/print", "note": note, "pdl": "application/pdf"}
				for k, v := range want {
					if s.TXT[k] != v {
						t.Errorf("%s: TXT %s=%q, want %q", s.Instance, k, s.TXT[k], v)
					}
				}
				if s.Host != p.Name()+".local" || s.Port != 631 {
					t.Errorf("%s is at %s:%d", s.Instance, s.Host, s.Port)
				}
				for _, a := range []netip.Addr{p.Addr(), p.Addr6()} {
					until(t, fmt.Sprintf("%s at %v", s.Instance, a), 10*time.Second, func() bool {
						return slices.ContainsFunc(b.find(p.Instance()), func(s dnssd.Service) bool { return slices.Contains(s.Addrs, a) })
					})
				}
			}
		}
	})
	t.Run("ten queues on one print server", func(t *testing.T) {
		t.Parallel()
		var names []string
		for _, q := range queues {
			names = append(names, q.Instance)
		}
		b.allWhole(t, "all queues of a server that has just been switched on", began, 2*time.Second, names...)
		for _, q := range queues {
			if s := b.find(q.Instance); s[0].TXT["uuid"] != q.UUID || s[0].TXT["rp"] != q.RP {
				t.Errorf("%s: %v", q.Instance, s[0].TXT)
			}
		}
	})
	t.Run("one that is switched on later", func(t *testing.T) {
		t.Parallel()
		p := printers[4]
		p.Avahi(t)
		began := time.Now()
		p.Start(t)
		b.allWhole(t, "late printer", began, 2*time.Second, p.Instance())
	})
	t.Run("one whose announcements were lost", func(t *testing.T) {
		t.Parallel()
		p := printers[5]
		p.Multicast(t, false)
		p.Start(t)
		time.Sleep(5 * time.Second) // until Avahi has told what it tells by itself: nothing can be seen of that
		began := time.Now()
		p.Multicast(t, true)
		b.allWhole(t, "late printer without announcements", began, 30*time.Second, p.Instance())
	})
	t.Run("one that says goodbye and comes back", func(t *testing.T) {
		t.Parallel()
		p := printers[6]
		until(t, "found", 10*time.Second, func() bool { return b.has(p.Instance()) })
		began := time.Now()
		p.Stop()
		within(t, "goodbye", began, 2*time.Second, func() bool { return len(b.find(p.Instance())) == 0 })
		began = time.Now()
		p.Start(t)
		within(t, "back", began, 2*time.Second, func() bool { return b.has(p.Instance()) })
	})
	t.Run("responders with habits", func(t *testing.T) {
		t.Parallel()
		h := l.Host(t, "strange", 60)
		h.Talker(t, habits(t, h).answer)
		for _, name := range habitNames {
			until(t, name, 60*time.Second, func() bool {
				return slices.ContainsFunc(b.find(name), func(s dnssd.Service) bool {
					return s.TXT["uuid"] == habitUUID && s.TXT["rp"] == "ipp/print" && s.Port == 631 && slices.Contains(s.Addrs, h.Addr())
				})
			})
		}
	})
}

// TestFoundOnABadLine loses almost every third packet of every printer, both ways.
func TestFoundOnABadLine(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	var cfgs []lantest.Config
	for n := range 4 {
		cfgs = append(cfgs, lantest.Config{Host: fmt.Sprintf("p%d", n+1), N: 11 + n, Name: fmt.Sprintf("Sala %d", n+1)})
	}
	printers := l.Printers(t, cfgs...)
	for _, p := range printers {
		p.Loss(t, 30)
	}
	began := time.Now()
	b := browse(t, l, nil)
	b.allWhole(t, "all at 30 % loss", began, 15*time.Second, instances(printers)...)
}

func instances(printers []*lantest.Printer) []string {
	var all []string
	for _, p := range printers {
		all = append(all, p.Instance())
	}
	return all
}

// The instances of a responder that answers truly and never all at once.
const (
	onlyPTR  = "Solo il nome"    // each record only for its own question
	split    = "A pezzi"         // each record in a packet of its own
	lateTXT  = "TXT a richiesta" // all but TXT
	lateAddr = "Dov'è"           // all but addresses
	shouts   = "Grida"           // names in upper case

	habitUUID = "0badcafe-0000-4000-8000-000000000001"
)

var habitNames = []string{onlyPTR, split, lateTXT, lateAddr, shouts}

// strange answers for hosts with instances of strange habits.
type strange struct {
	ptr, srv, txt, a map[string]dns.RR // by instance
	names, hosts     map[string]string // instance by lower-case name
}

func habits(t *testing.T, h *lantest.Host) *strange {
	t.Helper()
	s := &strange{
		ptr: map[string]dns.RR{}, srv: map[string]dns.RR{}, txt: map[string]dns.RR{}, a: map[string]dns.RR{},
		names: map[string]string{}, hosts: map[string]string{},
	}
	for i, in := range habitNames {
		typ, host := "_ipp._tcp.local.", fmt.Sprintf("%s%d.local.", h.Name(), i)
		if in == shouts {
			typ, host = strings.ToUpper(typ), strings.ToUpper(host)
		}
		name := escape(in) + "." + typ
		s.ptr[in] = record(t, typ, "PTR "+name)
		s.srv[in] = record(t, name, "SRV 0 0 631 "+host)
		s.txt[in] = record(t, name, `TXT "txtvers=1" "rp=ipp/print" "UUID=`+habitUUID+`"`)
		s.a[in] = record(t, host, "A "+h.Addr().String())
		s.names[strings.ToLower(s.srv[in].Header().Name)], s.hosts[strings.ToLower(host)] = in, in
	}
	return s
}

// escape writes a label in the presentation form of DNS.
func escape(label string) string {
	var b strings.Builder
	for _, c := range []byte(label) {
		if c <= ' ' || c > '~' || strings.IndexByte(`."\;()@$`, c) >= 0 {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func record(t testing.TB, name, rest string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(name + " 4500 IN " + rest)
	if err != nil {
		t.Fatal(err)
	}
	// As it comes from the wire: there are several ways to write a name.
	wire := make([]byte, 512)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if rr, _, err = dns.UnpackRR(wire[:n], 0); err != nil {
		t.Fatal(err)
	}
	return rr
}

func (s *strange) answer(q dns.Question) [][]dns.RR {
	name := strings.ToLower(q.Name)
	if name == "_ipp._tcp.local." && q.Qtype == dns.TypePTR {
		return [][]dns.RR{
			{s.ptr[onlyPTR]},
			{s.ptr[split]},
			{s.srv[split]},
			{s.txt[split]},
			{s.a[split]},
			{s.ptr[lateTXT], s.srv[lateTXT], s.a[lateTXT]},
			{s.ptr[lateAddr], s.srv[lateAddr], s.txt[lateAddr]},
			{s.ptr[shouts], s.srv[shouts], s.txt[shouts], s.a[shouts]},
		}
	}
	var packets [][]dns.RR
	tell := func(typ uint16, rr dns.RR) {
		if rr != nil && (q.Qtype == typ || q.Qtype == dns.TypeANY) {
			packets = append(packets, []dns.RR{rr})
		}
	}
	tell(dns.TypeA, s.a[s.hosts[name]])
	tell(dns.TypeSRV, s.srv[s.names[name]])
	tell(dns.TypeTXT, s.txt[s.names[name]])
	return packets
}
