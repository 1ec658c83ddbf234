package dnssd

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func wired(addrs ...string) []iface {
	ifi := iface{Interface: net.Interface{Index: 1, Name: "eth0", Flags: net.FlagUp | net.FlagRunning}}
	for _, a := range addrs {
		ifi.prefixes = append(ifi.prefixes, netip.MustParsePrefix(a))
	}
	return []iface{ifi}
}

var cable = wired("192.0.2.2/24")

// machine is a box on a network in fake time.
type machine struct {
	names   names
	addr    netip.Addr
	r       *responder
	at      time.Time // when it is switched on
	renames []string
}

func (m *machine) begin(now time.Time) {
	instance, _ := escapeLabel(m.names.instance)
	host, _ := escapeLabel(m.names.host)
	s := service{instance, "_http._tcp", host, 80, []string{"path=/"}, true}
	m.r = newResponder(s, wired(netip.PrefixFrom(m.addr, 24).String()), false, now)
}

// run lets the machines speak with each other for a while; apart says that no packet arrives.
func run(t *testing.T, from time.Time, d time.Duration, apart bool, machines ...*machine) {
	t.Helper()
	for now := from; now.Before(from.Add(d)); now = now.Add(10 * time.Millisecond) {
		for _, m := range machines {
			if now.Before(m.at) {
				continue
			}
			if m.r == nil {
				m.begin(now)
			}
			out, _ := m.r.due(now)
			for _, msg := range out {
				b, err := msg.msg.Pack()
				if err != nil {
					t.Fatal(err)
				}
				for _, other := range machines {
					if other.r == nil || apart && other != m {
						continue
					}
					local := func(a netip.Addr) bool { return a == other.addr }
					if v, _ := other.r.take(packet{b, 1, netip.AddrPortFrom(m.addr, port)}, local, now); v != fine {
						a := announcer{a: Announcement{Now: func() time.Time { return now }}, names: other.names}
						a.number(v)
						other.names = a.names
						other.renames = append(other.renames, other.names.instance+" "+other.names.host)
						other.begin(now)
					}
				}
			}
		}
	}
}

func TestTwoBoxesWithOneName(t *testing.T) {
	for _, tt := range []struct {
		name        string
		late, apart time.Duration
		rounds      int
	}{
		{"switched on in one moment", 0, 0, 20},
		{"switched on while the other one probes", 400 * time.Millisecond, 0, 5},
		{"switched on later", 20 * time.Second, 0, 1},
		{"in networks that are joined later", 0, 20 * time.Second, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range tt.rounds { // each with other random delays
				start := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
				a := &machine{names: names{"Sportello", "sportello"}, addr: netip.MustParseAddr("192.0.2.2"), at: start}
				b := &machine{names: a.names, addr: netip.MustParseAddr("192.0.2.3"), at: start.Add(tt.late)}
				run(t, start, tt.apart, true, a, b)
				start = start.Add(tt.apart)
				if tt.apart > 0 { // somebody asks, both answer
					q := &dns.Msg{Question: []dns.Question{{Name: "sportello.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}}
					wire, _ := q.Pack()
					for _, m := range []*machine{a, b} {
						m.r.take(packet{wire, 1, netip.MustParseAddrPort("192.0.2.9:5353")}, func(netip.Addr) bool { return false }, start)
					}
				}
				run(t, start, 40*time.Second, false, a, b)
				first, second := a.names, b.names
				if first != (names{"Sportello", "sportello"}) {
					first, second = second, first
				}
				if first != (names{"Sportello", "sportello"}) || second != (names{"Sportello (2)", "sportello-2"}) {
					t.Fatalf("the boxes are called %q and %q; renamed %q and %q", a.names, b.names, a.renames, b.renames)
				}
				if tt.late > 10*time.Second && len(a.renames) > 0 {
					t.Fatalf("the box that was there has another name: %q", a.renames)
				}
				for _, m := range []*machine{a, b} {
					if m.r.phase != established {
						t.Fatalf("%q is not announced: phase %d", m.names, m.r.phase)
					}
				}
			}
		})
	}
}

func TestWhatIsNoConflict(t *testing.T) {
	now := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
	self := netip.MustParseAddr("192.0.2.2")
	other := netip.MustParseAddr("192.0.2.3")
	for _, tt := range []struct {
		name string
		from netip.Addr
		rr   string
		want verdict
	}{
		{"what is the same", other, "!Sportello._http._tcp.local. 120 IN SRV 0 0 80 sportello.local.", fine},
		{"what is the same in capitals", other, "!SPORTELLO._http._tcp.local. 120 IN SRV 0 0 80 SPORTELLO.local.", fine},
		{"another type of ours", self, "!Sportello._sportello._tcp.local. 120 IN SRV 0 0 80 sportello.local.", fine},
		{"an address of ours on another interface, which a reflector repeats", other, "!sportello.local. 120 IN A 192.0.2.2", fine},
		{"what Avahi on this machine says of it", self, "!sportello.local. 120 IN A 198.51.100.7", fine},
		{"a goodbye", other, "!Sportello._http._tcp.local. 0 IN SRV 0 0 99 other.local.", fine},
		{"another host", other, "!sportello-2.local. 120 IN A 192.0.2.3", fine},
		{"another machine with the instance", other, "!Sportello._http._tcp.local. 120 IN SRV 0 0 80 other.local.", lostInstance},
		{"another program with the instance", self, "!Sportello._http._tcp.local. 120 IN SRV 0 0 99 sportello.local.", lostInstance},
		{"another machine with the host name", other, "!sportello.local. 120 IN A 192.0.2.3", lostHost},
		{"another machine with the host name in IPv6", other, "!Sportello.Local. 120 IN AAAA fd77::3", lostHost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newResponder(service{"Sportello", "_http._tcp", "sportello", 80, []string{""}, true}, cable, false, now)
			local := func(a netip.Addr) bool { return a == self }
			got, _ := r.take(packet{wire(t, tt.rr), 1, netip.AddrPortFrom(tt.from, port)}, local, now)
			if got != tt.want {
				t.Errorf("%s from %v: got %d, want %d", tt.rr, tt.from, got, tt.want)
			}
		})
	}
}

// ask returns what a responder sends in the second after a question.
func ask(r *responder, now time.Time, from string, q *dns.Msg) (answers, beside []string) {
	b, err := q.Pack()
	if err != nil {
		panic(err)
	}
	_, out := r.take(packet{b, 1, netip.MustParseAddrPort(from)}, func(netip.Addr) bool { return false }, now)
	for end := now.Add(time.Second); now.Before(end); now = now.Add(10 * time.Millisecond) {
		more, _ := r.due(now)
		out = append(out, more...)
	}
	for _, m := range out {
		for _, rr := range m.msg.Answer {
			answers = append(answers, brief(rr))
		}
		for _, rr := range m.msg.Extra {
			beside = append(beside, brief(rr))
		}
	}
	slices.Sort(answers)
	slices.Sort(beside)
	return answers, beside
}

func brief(rr dns.RR) string {
	flush := ""
	if rr.Header().Class&cacheFlush != 0 {
		rr = dns.Copy(rr)
		rr.Header().Class &^= cacheFlush
		flush = "!"
	}
	return flush + strings.Join(strings.Fields(rr.String()), " ")
}

func TestAnswers(t *testing.T) {
	const (
		typ  = "_http._tcp.local. 4500 IN PTR Sala._http._tcp.local."
		srv  = "!Sala._http._tcp.local. 120 IN SRV 0 0 80 sala.local."
		text = `!Sala._http._tcp.local. 4500 IN TXT "path=/"`
		a    = "!sala.local. 120 IN A 192.0.2.2"
		aaaa = "!sala.local. 120 IN AAAA fd77::2"
	)
	dual := wired("192.0.2.2/24", "fd77::2/64", "fe80::2/64")
	q := func(name string, typ uint16) *dns.Msg {
		return &dns.Msg{Question: []dns.Question{{Name: name, Qtype: typ, Qclass: dns.ClassINET}}}
	}
	withKnown := q("_http._tcp.local.", dns.TypePTR)
	rr, _ := dns.NewRR(strings.Replace(typ, "4500", "2300", 1))
	withKnown.Answer = []dns.RR{rr}
	for _, tt := range []struct {
		name    string
		claim   bool
		ifaces  []iface
		from    string
		q       *dns.Msg
		answers []string
		beside  []string
	}{
		{
			"who offers the type", true, dual, "192.0.2.9:5353", q("_http._tcp.local.", dns.TypePTR),
			[]string{typ},
			[]string{text, srv, a, aaaa},
		},
		{"who knows already is not told", true, dual, "192.0.2.9:5353", withKnown, nil, nil},
		{
			"in capitals", true, dual, "192.0.2.9:5353", q("SALA._HTTP._tcp.local.", dns.TypeSRV),
			[]string{srv},
			[]string{a, aaaa},
		},
		{
			"which types there are", true, dual, "192.0.2.9:5353", q(metaType, dns.TypePTR),
			[]string{metaType + " 4500 IN PTR _http._tcp.local."},
			nil,
		},
		{"the host", true, dual, "192.0.2.9:5353", q("sala.local.", dns.TypeA), []string{a}, []string{aaaa}},
		{
			"a family that is not there", true, cable, "192.0.2.9:5353", q("sala.local.", dns.TypeAAAA),
			[]string{"!sala.local. 120 IN NSEC sala.local. A"},
			nil,
		},
		{"a host that is not claimed", false, dual, "192.0.2.9:5353", q("sala.local.", dns.TypeA), nil, nil},
		{
			"the address beside it all the same", false, cable, "192.0.2.9:5353", q("Sala._http._tcp.local.", dns.TypeSRV),
			[]string{srv},
			[]string{a},
		},
		{
			"a link-local address of a family that has no other", true, wired("192.0.2.2/24", "fe80::2/64"), "192.0.2.9:5353",
			q("sala.local.", dns.TypeAAAA),
			[]string{"!sala.local. 120 IN AAAA fe80::2"},
			[]string{a},
		},
		{"somebody else", true, dual, "192.0.2.9:5353", q("other.local.", dns.TypeA), nil, nil},
		{
			"link-local addresses when there is nothing else", true, wired("169.254.7.7/16", "fe80::2/64"), "169.254.1.1:5353",
			q("sala.local.", dns.TypeA),
			[]string{"!sala.local. 120 IN A 169.254.7.7"},
			[]string{"!sala.local. 120 IN AAAA fe80::2"},
		},
		{
			"a program that speaks plain DNS", true, cable, "192.0.2.9:40000", q("sala.local.", dns.TypeA),
			[]string{"sala.local. 10 IN A 192.0.2.2"},
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
			r := newResponder(service{"Sala", "_http._tcp", "sala", 80, []string{"path=/"}, tt.claim}, tt.ifaces, true, now)
			for end := now.Add(20 * time.Second); now.Before(end); now = now.Add(100 * time.Millisecond) {
				r.due(now)
			}
			answers, beside := ask(r, now, tt.from, tt.q)
			slices.Sort(tt.answers)
			slices.Sort(tt.beside)
			if diff := cmp.Diff([][]string{tt.answers, tt.beside}, [][]string{answers, beside}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, _ := ask(r, now, tt.from, tt.q); len(again) > 0 && strings.HasSuffix(tt.from, ":5353") {
				t.Errorf("said twice in a second: %v", again)
			}
		})
	}
}

func TestLifeOfAnAnnouncement(t *testing.T) {
	start := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
	now := start
	r := newResponder(service{"Sala", "_http._tcp", "sala", 80, []string{""}, true}, cable, false, now)
	if bye := r.goodbye(); bye != nil {
		t.Errorf("goodbye before anything was announced: %v", bye)
	}
	var probed, announced []time.Duration
	for now.Before(start.Add(time.Minute)) {
		out, next := r.due(now)
		for _, m := range out {
			if m.msg.Response {
				announced = append(announced, now.Sub(start))
			} else {
				probed = append(probed, now.Sub(start))
			}
		}
		if next.IsZero() {
			break
		}
		now = next
	}
	if len(probed) != 3 || probed[0] > probeGap || probed[2]-probed[0] != 2*probeGap {
		t.Errorf("probed at %v", probed)
	}
	if len(announced) != 4 || announced[0]-probed[2] != probeGap || announced[1]-announced[0] < time.Second {
		t.Errorf("announced at %v after probes at %v", announced, probed)
	}

	// Another program on this machine, or a forger, takes leave for us: we are still there.
	_, _ = r.take(packet{wire(t, "!sala.local. 0 IN A 192.0.2.2"), 1, netip.MustParseAddrPort("192.0.2.9:5353")}, nil, now)
	out, _ := r.due(now)
	if len(out) != 1 || fmt.Sprint(brief(out[0].msg.Answer[0])) != "!sala.local. 120 IN A 192.0.2.2" {
		t.Errorf("after somebody's goodbye to our address: %v", out)
	}

	var leave []string
	for _, m := range r.goodbye() {
		for _, rr := range m.msg.Answer {
			leave = append(leave, brief(rr))
		}
	}
	want := []string{
		"_http._tcp.local. 0 IN PTR Sala._http._tcp.local.", "!Sala._http._tcp.local. 0 IN SRV 0 0 80 sala.local.",
		`!Sala._http._tcp.local. 0 IN TXT ""`, "!sala.local. 0 IN A 192.0.2.2",
	}
	if diff := cmp.Diff(want, leave); diff != "" {
		t.Errorf("goodbye (-want +got):\n%s", diff)
	}
}

func TestNumberedNames(t *testing.T) {
	long := strings.Repeat("a", 61) + "à"
	for _, tt := range []struct{ name, before, after, want string }{
		{"Sportello", " (", ")", "Sportello (2)"},
		{"Sportello (2)", " (", ")", "Sportello (3)"},
		{"Sportello (9)", " (", ")", "Sportello (10)"},
		{"Sportello (nuovo)", " (", ")", "Sportello (nuovo) (2)"},
		{"sportello", "-", "", "sportello-2"},
		{"sportello-2", "-", "", "sportello-3"},
		{"sportello-harar", "-", "", "sportello-harar-2"},
		{long, " (", ")", strings.Repeat("a", 59) + " (2)"},
		{strings.Repeat("a", 58) + "àà", " (", ")", strings.Repeat("a", 58) + " (2)"},
	} {
		if got := numbered(tt.name, tt.before, tt.after); got != tt.want || len(got) > maxInstance {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
