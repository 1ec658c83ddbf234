package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	ptr  = "_ipp._tcp.local. 4500 IN PTR Fake._ipp._tcp.local."
	at   = "!Fake._ipp._tcp.local. 120 IN SRV 0 0 631 fake.local."
	txt  = `!Fake._ipp._tcp.local. 4500 IN TXT "rp=ipp/print"`
	addr = "!fake.local. 120 IN A 192.0.2.9"
)

// answers makes a machine that gives, for questions of these names and types, these packets.
func answers(table map[string][][]string) func(dns.Question, time.Duration) [][]string {
	return func(q dns.Question, _ time.Duration) [][]string {
		return table[strings.ToLower(q.Name)+" "+dns.TypeToString[q.Qtype]]
	}
}

func TestAwkwardResponders(t *testing.T) {
	const (
		askPTR  = "_ipp._tcp.local. PTR"
		askSRV  = "fake._ipp._tcp.local. SRV"
		askTXT  = "fake._ipp._tcp.local. TXT"
		askA    = "fake.local. A"
		askAAAA = "fake.local. AAAA"
	)
	for _, tt := range []struct {
		name    string
		answers map[string][][]string
		within  time.Duration
		want    string
	}{
		{
			"all in one packet",
			map[string][][]string{askPTR: {{ptr, at, txt, addr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"PTR only, the rest when asked",
			map[string][][]string{askPTR: {{ptr}}, askSRV: {{at}}, askTXT: {{txt}}, askA: {{addr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"split over packets",
			map[string][][]string{askPTR: {{ptr, at}, {txt}, {addr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"the address before the service",
			map[string][][]string{askPTR: {{addr}, {txt}, {at}, {ptr}}, askSRV: {{at}}, askTXT: {{txt}}, askA: {{addr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"PTR behind what it points at",
			map[string][][]string{askPTR: {{addr, txt, at, ptr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"addresses beside the SRV record only",
			map[string][][]string{askPTR: {{ptr, at, txt}}, askSRV: {{at, addr}}},
			4 * time.Second, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"the type in capitals",
			map[string][][]string{askPTR: {{"_IPP._TCP.local. 4500 IN PTR Fake._IPP._TCP.local.", at, txt, addr}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"instance and host in other letters",
			map[string][][]string{askPTR: {{
				ptr, "!FAKE._ipp._tcp.LOCAL. 120 IN SRV 0 0 631 fake.local.", txt, "!FAKE.local. 120 IN A 192.0.2.9",
			}}},
			0, "Fake fake.local 631 [192.0.2.9] ipp/print",
		},
		{
			"no TXT record ever",
			map[string][][]string{askPTR: {{ptr, at, addr}}},
			time.Second, "Fake fake.local 631 [192.0.2.9] ",
		},
		{
			"both IP versions, the second when asked",
			map[string][][]string{askPTR: {{ptr, at, txt, addr}}, askAAAA: {{"!fake.local. 120 IN AAAA fe80::9"}}},
			0, "Fake fake.local 631 [192.0.2.9 fe80::9%eth0] ipp/print",
		},
		{
			"escaped names",
			map[string][][]string{askPTR: {{
				`_ipp._tcp.local. 4500 IN PTR Citt\195\160\ 1\.0._ipp._tcp.local.`,
				`Citt\195\160\ 1\.0._ipp._tcp.local. 120 IN SRV 0 0 631 fake.local.`,
				`Citt\195\160\ 1\.0._ipp._tcp.local. 120 IN TXT "rp=\195\160"`, addr,
			}}},
			0, "Città 1.0 fake.local 631 [192.0.2.9] à",
		},
		{
			"an address of whoever hears it",
			map[string][][]string{askPTR: {{ptr, at, txt, "fake.local. 120 IN A 127.0.0.1", "fake.local. 120 IN AAAA ::1"}}},
			10 * time.Second, "",
		},
		{
			"an instance of another type",
			map[string][][]string{askPTR: {{"_ipp._tcp.local. 4500 IN PTR Fake._http._tcp.local.", at, txt, addr}}},
			10 * time.Second, "",
		},
		{
			"an instance of two labels",
			map[string][][]string{askPTR: {{
				"_ipp._tcp.local. 4500 IN PTR a.b._ipp._tcp.local.", "a.b._ipp._tcp.local. 120 IN SRV 0 0 631 fake.local.", txt, addr,
			}}},
			10 * time.Second, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			l.answer = answers(tt.answers)
			l.until(tt.within)
			if got := l.known(); got != tt.want {
				t.Errorf("after %v: got %q, want %q; asked %v", tt.within, got, tt.want, l.asked)
			}
		})
	}
}

// TestRecordsLive plays what a machine says over time, and nobody answers questions.
func TestRecordsLive(t *testing.T) {
	const fake = "Fake fake.local 631 [192.0.2.9] ipp/print"
	type step struct {
		at   time.Duration
		hear []string
		want string
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a goodbye counts after a second", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{10 * time.Second, []string{"_ipp._tcp.local. 0 IN PTR Fake._ipp._tcp.local."}, fake},
			{10*time.Second + 900*time.Millisecond, nil, fake},
			{11 * time.Second, nil, ""},
		}},
		{"a goodbye is taken back", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{10 * time.Second, []string{"_ipp._tcp.local. 0 IN PTR Fake._ipp._tcp.local."}, fake},
			{10*time.Second + 500*time.Millisecond, []string{ptr}, fake},
			{12 * time.Second, nil, fake},
		}},
		{"the newest SRV record counts, and not the goodbye of the old one", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{
				3 * time.Second,
				[]string{"!Fake._ipp._tcp.local. 120 IN SRV 0 0 8631 fake.local."},
				"Fake fake.local 8631 [192.0.2.9] ipp/print",
			},
			{
				4 * time.Second,
				[]string{"!Fake._ipp._tcp.local. 0 IN SRV 0 0 631 fake.local."},
				"Fake fake.local 8631 [192.0.2.9] ipp/print",
			},
			{6 * time.Second, nil, "Fake fake.local 8631 [192.0.2.9] ipp/print"},
		}},
		{"the newest TXT record counts", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{
				3 * time.Second,
				[]string{`!Fake._ipp._tcp.local. 4500 IN TXT "rp=other"`},
				"Fake fake.local 631 [192.0.2.9] other",
			},
		}},
		{"a new address replaces the old one after a second", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{
				10 * time.Second,
				[]string{"!fake.local. 120 IN A 192.0.2.77"},
				"Fake fake.local 631 [192.0.2.9 192.0.2.77] ipp/print",
			},
			{11 * time.Second, nil, "Fake fake.local 631 [192.0.2.77] ipp/print"},
		}},
		{"two addresses told in one second are both true", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{
				900 * time.Millisecond,
				[]string{"!fake.local. 120 IN A 192.0.2.77"},
				"Fake fake.local 631 [192.0.2.9 192.0.2.77] ipp/print",
			},
			{5 * time.Second, nil, "Fake fake.local 631 [192.0.2.9 192.0.2.77] ipp/print"},
		}},
		{"a new IPv4 address says nothing of IPv6", []step{
			{0, []string{ptr, at, txt, "!fake.local. 120 IN AAAA fd77::9"}, "Fake fake.local 631 [fd77::9] ipp/print"},
			{
				10 * time.Second,
				[]string{addr},
				"Fake fake.local 631 [192.0.2.9 fd77::9] ipp/print",
			},
			{12 * time.Second, nil, "Fake fake.local 631 [192.0.2.9 fd77::9] ipp/print"},
		}},
		{"records expire", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{119 * time.Second, nil, fake},
			{120 * time.Second, nil, ""},
		}},
		{"a silent machine is not back because of its TXT record", []step{
			{0, []string{ptr, at, txt, addr}, fake},
			{130 * time.Second, []string{txt}, ""},
			{131 * time.Second, []string{at, addr}, fake},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			for _, s := range tt.steps {
				l.until(s.at)
				if s.hear != nil {
					l.hear(s.hear...)
				}
				l.until(s.at)
				if got := l.known(); got != s.want {
					t.Fatalf("at %v: got %q, want %q", s.at, got, s.want)
				}
			}
		})
	}
}

func TestAsksAgainBeforeRecordsExpire(t *testing.T) {
	l := newLAN(t)
	l.hear(ptr, strings.Replace(at, "120", "1000", 1), txt, strings.Replace(addr, "120", "10000", 1))
	l.until(1001 * time.Second)
	var srv []time.Duration
	for _, q := range l.asked {
		if q.typ == dns.TypeSRV {
			srv = append(srv, q.at)
		}
	}
	// The first goes along with a browsing, less than 28 s early. When all was in vain the record is missing.
	if len(srv) < 5 || srv[0] <= 772*time.Second || srv[0] > 800*time.Second {
		t.Fatalf("SRV asked at %v, want the first time at 772 to 800 s", srv)
	}
	want := []time.Duration{850 * time.Second, 900 * time.Second, 950 * time.Second, 1000 * time.Second}
	if diff := cmp.Diff(want, srv[1:5]); diff != "" {
		t.Errorf("SRV asked (-want +got):\n%s", diff)
	}
}

// printers answers like n good printers, each with two services.
func printers(n int) func(dns.Question, time.Duration) [][]string {
	table := map[string][][]string{}
	for i := range n {
		for _, typ := range []string{"_ipp._tcp.local.", "_ipps._tcp.local."} {
			name := fmt.Sprintf("laser-%d.%s", i, typ)
			ptr := fmt.Sprintf("%s 4500 IN PTR %s", typ, name)
			srv := fmt.Sprintf("!%s 120 IN SRV 0 0 631 host-%d.local.", name, i)
			txt := fmt.Sprintf("!%s 4500 IN TXT rp=ipp/print", name)
			a := fmt.Sprintf("!host-%d.local. 120 IN A 192.0.2.%d", i, i+10)
			table[typ+" PTR"] = append(table[typ+" PTR"], []string{ptr, srv, txt, a})
			table[name+" SRV"] = [][]string{{srv, a}}
			table[name+" TXT"] = [][]string{{txt}}
			table[fmt.Sprintf("host-%d.local. A", i)] = [][]string{{a}}
		}
	}
	return answers(table)
}

func TestIdleNetworkIsHardlyAsked(t *testing.T) {
	for _, n := range []int{0, 1, 10} {
		t.Run(fmt.Sprint(n, " printers"), func(t *testing.T) {
			l := newLAN(t, "_ipps._tcp", "_ipp._tcp", "_pdl-datastream._tcp", "_printer._tcp")
			l.answer = printers(n)
			l.until(time.Hour)
			if got := len(l.services()); got != 2*n {
				t.Errorf("%d services after an hour, want %d", got, 2*n)
			}
			// zeroconf asks for each of its types 30 to 90 s apart, over one IP version; each packet of ours goes out over two.
			const minute, mostOfZeroconf = time.Minute, 2
			for i, at := range l.sizes {
				if at < 2*time.Minute {
					continue
				}
				in := 0
				for _, other := range l.sizes[i:] {
					if other < at+minute {
						in++
					}
				}
				if all := 2*in + mostOfZeroconf*zeroconfTypes; all > 12 {
					t.Fatalf("%d packets in the minute after %v, want 12 at most", all, at)
				}
			}
			// Who comes late, and whose announcements are lost, is asked within 30 s.
			last := time.Duration(0)
			for _, q := range l.asked {
				if q.typ == dns.TypePTR && q.name == "_ipp._tcp.local." {
					if q.at-last > 29*time.Second {
						t.Fatalf("nobody asked for _ipp._tcp between %v and %v", last, q.at)
					}
					last = q.at
				}
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	l := newLAN(t)
	good, mad := netip.MustParseAddr("192.0.2.200"), []netip.Addr{printerAddr, netip.MustParseAddr("fe80::9"), netip.MustParseAddr("192.0.2.99")}
	for i := range 1500 {
		l.now = l.now.Add(200 * time.Microsecond)
		var records []string
		for k := range 10 {
			n := i*10 + k
			records = append(records,
				fmt.Sprintf("_ipp._tcp.local. 4500 IN PTR Fake%d._ipp._tcp.local.", n),
				fmt.Sprintf("Fake%d._ipp._tcp.local. 120 IN SRV 0 0 631 h%d.local.", n%100, n),
				fmt.Sprintf("h%d.local. 120 IN A 10.%d.%d.%d", n%100, n>>16&255, n>>8&255, n&255))
		}
		l.c.packet(wire(t, records...), mad[i%len(mad)], l.now)
	}
	if len(l.c.instances) != maxServices {
		t.Errorf("%d instances: a flood that leaves room proves nothing", len(l.c.instances))
	}
	l.c.packet(wire(t, strings.ReplaceAll(ptr, "Fake", "Real"), strings.ReplaceAll(at, "Fake", "Real"),
		strings.ReplaceAll(txt, "Fake", "Real"), addr), good, l.now)
	packets, _ := l.c.due(l.now)
	if len(l.c.instances) > maxServices || len(l.c.hosts) > maxServices {
		t.Errorf("%d instances, %d hosts", len(l.c.instances), len(l.c.hosts))
	}
	for _, h := range l.c.hosts {
		if len(h.addrs) > maxAddrs {
			t.Errorf("%s has %d addresses", h.name, len(h.addrs))
		}
	}
	if len(packets) > 60 {
		t.Errorf("%d packets of questions", len(packets))
	}
	if !strings.Contains(l.known(), "Real fake.local 631") {
		t.Errorf("a printer beside the flood is not found among %d", len(l.services()))
	}
}

func TestWhatTheCacheDoesNotTake(t *testing.T) {
	good := wire(t, ptr, at, txt, addr)
	query := slices.Clone(good)
	query[2] &^= 0x80
	many := slices.Clone(good)
	many[10], many[11] = 0xff, 0xff
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"a response", good, "Fake fake.local 631 [192.0.2.9] ipp/print"},
		{"a query with answers", query, ""},
		{"a packet cut short", good[:len(good)-3], ""},
		{"65,535 records said to follow", many, ""},
		{"more than 9,000 bytes", append(slices.Clone(good), make([]byte, 9000)...), ""},
		{"nothing", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			l.c.packet(tt.data, printerAddr, l.now)
			if got := l.known(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTwoInterfaces covers a box with cable and radio in one network.
func TestTwoInterfaces(t *testing.T) {
	now := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
	eth, wlan := newCache("eth0", false, []string{"_ipp._tcp"}), newCache("wlan0", false, []string{"_ipp._tcp"})
	caches := map[int]*cache{1: eth, 2: wlan}
	eth.packet(wire(t, ptr, at, txt, addr, "!fake.local. 120 IN AAAA fe80::9"), printerAddr, now)
	wlan.packet(wire(t, ptr, at, txt, "!fake.local. 120 IN A 198.51.100.9", "!fake.local. 120 IN AAAA fe80::9"),
		netip.MustParseAddr("198.51.100.9"), now)
	all := merge(caches, now)
	want := "[192.0.2.9 198.51.100.9 fe80::9%eth0 fe80::9%wlan0] [192.0.2.9 198.51.100.9]"
	if len(all) != 1 || fmt.Sprint(all[0].Addrs, all[0].Sources) != want {
		t.Fatalf("got %+v, want one with %s", all, want)
	}
	// The printer has another port now, and only the radio has heard so.
	wlan.packet(wire(t, "!Fake._ipp._tcp.local. 120 IN SRV 0 0 8631 fake.local."), printerAddr, now.Add(time.Minute))
	if all := merge(caches, now.Add(time.Minute)); len(all) != 1 || all[0].Port != 8631 {
		t.Errorf("got %+v, want one on port 8631", all)
	}
	// The cable is pulled: what was heard through it is forgotten soon.
	eth.leave(now.Add(time.Minute))
	eth.expire(now.Add(time.Minute + absence))
	if all := merge(caches, now.Add(time.Minute+absence)); len(all) != 1 || slices.Contains(all[0].Addrs, printerAddr) {
		t.Errorf("got %+v, want one without %v", all, printerAddr)
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(wire(f, ptr, at, txt, addr), wire(f, strings.Replace(ptr, "4500", "0", 1)))
	f.Add(wire(f, ptr), wire(f, at, "!fake.local. 120 IN AAAA fe80::9"))
	f.Add(wire(f, `_ipp._tcp.local. 1 IN PTR \000\255\.._ipp._tcp.local.`), []byte{})
	query := &dns.Msg{Question: []dns.Question{{Name: "Fake._ipp._tcp.local.", Qtype: dns.TypeANY, Qclass: dns.ClassINET}}}
	b, err := query.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, wire(f, "Fake._ipp._tcp.local. 120 IN SRV 0 0 1 other.local.", "fake.local. 120 IN A 192.0.2.200"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		now := time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)
		c := newCache("eth0", false, []string{"_ipp._tcp", "_ipps._tcp"})
		r := newResponder(service{"Fake", "_ipp._tcp", "fake", 631, []string{""}, true}, cable, true, now)
		local := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.2") }
		for _, data := range [][]byte{one, two, one} {
			c.packet(data, printerAddr, now)
			for _, from := range []uint16{port, 40000} {
				_, out := r.take(packet{data, 1, netip.AddrPortFrom(printerAddr, from)}, local, now)
				more, _ := r.due(now)
				for _, m := range append(out, more...) {
					if b, err := m.msg.Pack(); err == nil && len(b) > maxPacket {
						t.Errorf("an answer of %d bytes", len(b))
					}
				}
			}
			packets, next := c.due(now)
			for _, p := range packets {
				if len(p) > mtu {
					t.Errorf("a question of %d bytes", len(p))
				}
			}
			if !next.After(now) {
				t.Errorf("the next look is at %v, now is %v", next, now)
			}
			for _, s := range merge(map[int]*cache{1: c}, now.Add(time.Minute)) {
				if s.Instance == "" || len(s.Instance) > maxInstance || len(s.Addrs) == 0 || len(s.Addrs) > maxAddrs || s.Port == 0 {
					t.Errorf("told %+v", s)
				}
			}
			now = now.Add(700 * time.Millisecond)
		}
	})
}
