package dnssd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var cableOnly = []string{"eth0"}

// printer is how a good printer on the other machine answers.
func printer(name string) map[string][][]string {
	records := []string{
		"_ipp._tcp.local. 4500 IN PTR " + name + "._ipp._tcp.local.",
		"!" + name + "._ipp._tcp.local. 120 IN SRV 0 0 631 " + name + ".local.",
		"!" + name + `._ipp._tcp.local. 4500 IN TXT "rp=ipp/print"`,
		"!" + name + ".local. 120 IN A 192.0.2.9", "!" + name + ".local. 120 IN AAAA fe80::9",
	}
	lower := strings.ToLower(name)
	return map[string][][]string{
		"_ipp._tcp.local. PTR":          {records},
		lower + "._ipp._tcp.local. SRV": {records[1:2]},
		lower + "._ipp._tcp.local. TXT": {records[2:3]},
		lower + ".local. A":             {records[3:4]},
		lower + ".local. AAAA":          {records[4:5]},
	}
}

func TestBrowseACable(t *testing.T) {
	t.Parallel()
	p := newPeer(t, printer("Laser"))
	b := &Browser{Types: []string{"_ipp._tcp"}, Interfaces: cableOnly}
	find := browse(t, b)
	find("printer, its addresses and who told of it", patience, func(s []Service) bool {
		return len(s) == 1 && s[0].Instance == "Laser" && fmt.Sprint(s[0].Addrs) == "[192.0.2.9 fe80::9%eth0]" &&
			slices.Contains(s[0].Sources, printerAddr)
	})
	eventually(t, "something heard, a question of ours among it", nil, func() bool {
		h := b.Heard()
		return h.Own && h.Packets >= 2 && h.Hosts >= 2 && h.Asked >= 2
	})

	// None of these comes from a neighbour who may answer, though each comes in through the cable.
	fake := func(name string) []byte { return wire(t, printer(name)["_ipp._tcp.local. PTR"][0]...) }
	away.sendFrom(t, "198.51.100.9:5353", "224.0.0.251:5353", fake("OffLink"))
	away.sendFrom(t, "192.0.2.9:40000", "224.0.0.251:5353", fake("OtherPort"))
	away.sendFrom(t, "192.0.2.9:5353", "192.0.2.2:5353", fake("Unicast"))
	away.sendFrom(t, "192.0.2.9:5353", "224.0.0.251:5353", fake("Good"))
	all := find("what came after", patience, named("Good"))
	for _, s := range all {
		if slices.Contains([]string{"OffLink", "OtherPort", "Unicast"}, s.Instance) {
			t.Errorf("%s was believed", s.Instance)
		}
	}

	p.mute()
	p.say("_ipp._tcp.local. 0 IN PTR Laser._ipp._tcp.local.")
	find("goodbye", patience, func(s []Service) bool { return !named("Laser")(s) })
}

func TestBrowseWhileInterfacesComeAndGo(t *testing.T) {
	p := newPeer(t, printer("Laser"))
	if err := ip("link", "set", "eth0", "down"); err != nil {
		t.Fatal(err)
	}
	find := browse(t, &Browser{Types: []string{"_ipp._tcp"}, Interfaces: cableOnly})
	if err := ip("link", "set", "eth0", "up"); err != nil {
		t.Fatal(err)
	}
	find("printer after the cable was plugged", patience, named("Laser"))
	if err := ip("link", "set", "eth0", "down"); err != nil {
		t.Fatal(err)
	}
	p.forget()
	if err := ip("link", "set", "eth0", "up"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asked again after the cable was pulled and plugged", nil, func() bool {
		_, asked := p.all()
		return slices.Contains(asked, "_ipp._tcp.local. PTR")
	})
	find("printer still", patience, named("Laser"))
}

// location and address are what a box with that name says when it has it.
func location(name string) string {
	return "!" + name + "._http._tcp.local. 120 IN SRV 0 0 80 " + strings.ToLower(name) + ".local."
}

func address(name string) string { return "!" + strings.ToLower(name) + ".local. 120 IN A 192.0.2.2" }

func box(name string, renamed func(string, string)) Announcement {
	return Announcement{
		Instance: name, Type: "_http._tcp", Host: strings.ToLower(name), Claim: true, Port: 80,
		TXT: map[string]string{"path": "/"}, Interfaces: cableOnly, Renamed: renamed,
	}
}

func TestAnnounceOnACable(t *testing.T) {
	p := newPeer(t, nil)
	unexpected := func(instance, host string) { t.Errorf("renamed to %q, %q", instance, host) }
	ours4, oursSRV := address("Sportello"), location("Sportello")
	stop := announce(t, box("Sportello", unexpected))
	second := box("Sportello", unexpected)
	second.Type = "_sportello._tcp"
	announce(t, second)
	p.hears(oursSRV, nil)
	p.hears(ours4, nil)
	p.hears("!Sportello._sportello._tcp.local. 120 IN SRV 0 0 80 sportello.local.", nil)
	p.forget()
	p.hears(ours4, func() { p.ask("sportello.local.", dns.TypeA) })

	// Another address, as from DHCP.
	if err := ip("addr", "add", "192.0.2.3/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	p.hears("!sportello.local. 120 IN A 192.0.2.3", nil)
	p.forget()
	if err := ip("addr", "del", "192.0.2.3/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	p.hears(ours4, nil)

	p.forget()
	stop()
	p.hears("!Sportello._http._tcp.local. 0 IN SRV 0 0 80 sportello.local.", nil)
	// The other service still needs the host name.
	p.forget()
	p.hears(ours4, func() { p.ask("sportello.local.", dns.TypeA) })
}

func TestGoodbyeRightAfterStart(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	stop := announce(t, box("Brief", nil))
	p.hears(location("Brief"), nil)
	stop()
	p.hears("!Brief._http._tcp.local. 0 IN SRV 0 0 80 brief.local.", nil)
	heard, _ := p.all()
	heard = slices.DeleteFunc(heard, func(rr string) bool { return !strings.HasPrefix(rr, "!Brief.") })
	if last := heard[len(heard)-1]; !strings.Contains(last, " 0 IN ") {
		t.Errorf("after the goodbye came %s", last)
	}
}

func TestAnswersOnlyWhereItWasTold(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	hidden := box("Hidden", nil)
	hidden.Interfaces = lo
	announce(t, hidden)
	announce(t, box("Open", nil))
	browse(t, &Browser{Types: []string{"_http._tcp"}})("it on the loopback", patience, named("Hidden"))
	p.hears(address("Open"), nil)
	p.forget()
	p.ask("hidden.local.", dns.TypeA)
	p.ask("Hidden._http._tcp.local.", dns.TypeSRV)
	p.hears(address("Open"), func() { p.ask("open.local.", dns.TypeA) })
	heard, _ := p.all()
	for _, rr := range heard {
		if strings.Contains(strings.ToLower(rr), "hidden") {
			t.Errorf("said on the cable: %s", rr)
		}
	}
}

func TestAnotherMachineHasOurName(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string][][]string{
		"taken._http._tcp.local. ANY": {{"!Taken._http._tcp.local. 120 IN SRV 0 0 8080 stranger.local."}},
		"taken.local. ANY":            {{"!taken.local. 120 IN A 192.0.2.9"}},
	})
	names := make(chan string, 4)
	announce(t, box("Taken", func(instance, host string) { names <- instance + "|" + host }))
	if got := <-names; got != "Taken (2)|taken-2" {
		t.Errorf("renamed to %s", got)
	}
	p.hears(address("Taken-2"), func() { p.ask("taken-2.local.", dns.TypeA) })

	// Later somebody comes who probes for nothing.
	rude := "!taken-2.local. 120 IN A 192.0.2.9"
	p.say(rude)
	p.hears(address("Taken-3"), func() { p.say(rude) })
	if got := <-names; got != "Taken (2)|taken-3" {
		t.Errorf("renamed to %s", got)
	}
}

// TestBesideAvahi has Avahi claim the same host name: on the same machine both may have it, on two machines one.
func TestBesideAvahi(t *testing.T) {
	t.Parallel()
	both := func(t *testing.T, name string, avahiFirst bool) {
		p := newPeer(t, nil)
		renamed := func(instance, host string) { t.Errorf("renamed to %q, %q", instance, host) }
		var log func() string
		if avahiFirst {
			log = avahi(t, false, "eth0", strings.ToLower(name))
		}
		announce(t, box(name, renamed))
		p.hears(location(name), nil)
		if !avahiFirst {
			log = avahi(t, false, "eth0", strings.ToLower(name))
		}
		p.forget()
		p.hears(address(name), func() { p.ask(strings.ToLower(name)+".local.", dns.TypeA) })
		if text := log(); !strings.Contains(text, "Host name is "+strings.ToLower(name)+".local") || strings.Contains(text, "conflict") {
			t.Errorf("Avahi says:\n%s", text)
		}
	}
	// One after the other: two Avahis on one machine would fight over the names of its addresses.
	t.Run("on one machine", func(t *testing.T) {
		t.Parallel()
		t.Run("Avahi first", func(t *testing.T) { both(t, "Second", true) })
		t.Run("Avahi later", func(t *testing.T) { both(t, "First", false) })
	})
	t.Run("on two machines", func(t *testing.T) {
		t.Parallel()
		avahi(t, true, "far0", "loser")
		names := make(chan string, 4)
		announce(t, box("Loser", func(instance, host string) { names <- instance + "|" + host }))
		if got := <-names; got != "Loser|loser-2" {
			t.Errorf("renamed to %s", got)
		}
	})
}

// usage is what leaks.
type usage struct {
	goroutines, files int
	heap              uint64
}

func used(t testing.TB) usage {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// settles waits until no more is used than before: goroutines and descriptors to the last one.
func settles(t testing.TB, before usage) usage {
	t.Helper()
	var now usage
	for end := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		now = used(t)
		if now.goroutines <= before.goroutines && now.files <= before.files && now.heap < before.heap+8<<20 {
			return now
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("used: %+v, before: %+v\n%s", now, before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestInterfacesFlap pulls and plugs the cable, and an adapter, SPORTELLO_FLAPS times (60 without it).
func TestInterfacesFlap(t *testing.T) {
	flaps := 60
	if s := os.Getenv("SPORTELLO_FLAPS"); s != "" {
		var err error
		if flaps, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	p := newPeer(t, printer("Laser"))
	all := []string{"eth0", "flap0"}
	find := browse(t, &Browser{Types: []string{"_ipp._tcp", "_ipps._tcp"}, Interfaces: all})
	a := box("Sportello", func(instance, host string) { t.Errorf("renamed to %q, %q", instance, host) })
	a.Interfaces = all
	announce(t, a)
	flap := func(i int) {
		t.Helper()
		commands := [][]string{{"link", "set", "eth0", "down"}, {"link", "set", "eth0", "up"}}
		if i%2 == 1 {
			commands = [][]string{
				{"link", "add", "flap0", "type", "veth", "peer", "name", "flap1"},
				{"link", "set", "flap1", "up"},
				{"addr", "add", "203.0.113." + strconv.Itoa(1+i%250) + "/24", "dev", "flap0"},
				{"link", "set", "flap0", "up"},
				{"link", "del", "flap0"},
			}
		}
		for _, args := range commands {
			if err := ip(args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	works := func() {
		t.Helper()
		p.forget()
		find("printer", patience, named("Laser"))
		p.hears(address("Sportello"), func() { p.ask("sportello.local.", dns.TypeA) })
	}
	for i := range 4 {
		flap(i)
	}
	works()
	// The resolvers come back a second after the last change; then everything runs that will.
	var before usage
	for begun, last := time.Now(), 0; time.Since(begun) < 3*settling/2; time.Sleep(20 * time.Millisecond) {
		if before = used(t); before.files != last {
			begun, last = time.Now(), before.files
		}
	}
	for i := range flaps {
		flap(i)
		if i == flaps/2 {
			works()
		}
	}
	works()
	eventually(t, "zeroconf's resolvers are back", nil, func() bool { return used(t).files == before.files })
	after := settles(t, before)
	t.Logf("%d flaps: %+v before, %+v after", flaps, before, after)
}

// TestFlood sends, in each IP version, what no network sends: noise, huge records, thousands of instances, our own names with other data.
func TestFlood(t *testing.T) {
	const rate, packets = 5000, 6000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	luck := rand.New(rand.NewPCG(seed, 5353))
	p := newPeer(t, printer("Laser"))
	find := browse(t, &Browser{Types: []string{"_ipp._tcp", "_ipps._tcp", "_pdl-datastream._tcp"}, Interfaces: cableOnly})
	announce(t, box("Sportello", nil))
	find("printer", patience, named("Laser"))
	p.hears(location("Sportello"), nil)

	kinds := hostile(t, luck)
	before := used(t)
	peak := before.heap
	begun := time.Now()
	for i := range packets {
		p.link.send(p.ifi, kinds[luck.IntN(len(kinds))])
		if i%50 == 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / rate))) // paces, waits for nothing
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	took := time.Since(begun)
	// The other machine is flooded by our own answers and questions as well: let it forget them.
	p.forget()
	after := settles(t, usage{before.goroutines, before.files, before.heap + 24<<20})
	t.Logf("%d packets, %.0f a second; %+v before, %+v after, heap at most %d MB", packets, packets/took.Seconds(), before, after, peak>>20)
	if peak > before.heap+256<<20 {
		t.Errorf("heap of %d MB", peak>>20)
	}
	if all := find("printer still", patience, named("Laser")); len(all) > 3*maxServices {
		t.Errorf("%d services", len(all))
	}
}

// hostile makes packets to choose from.
func hostile(t *testing.T, luck *rand.Rand) [][]byte {
	var all [][]byte
	for i := range 400 {
		noise := make([]byte, luck.IntN(1400))
		for k := range noise {
			noise[k] = byte(luck.Uint32())
		}
		name := fmt.Sprintf("Fake%d._ipp._tcp.local.", i)
		fake := wire(t, "_ipp._tcp.local. 4500 IN PTR "+name, "!"+name+" 120 IN SRV 0 0 631 f"+strconv.Itoa(luck.IntN(50))+".local.",
			"!f"+strconv.Itoa(luck.IntN(50))+".local. 120 IN A 10.0."+strconv.Itoa(luck.IntN(255))+".1")
		broken := slices.Clone(fake)
		broken[luck.IntN(len(broken))] ^= byte(1 + luck.IntN(255))
		all = append(all, noise, fake, broken)
	}
	huge := []string{"_ipp._tcp.local. 4500 IN PTR Huge._ipp._tcp.local.", "Huge._ipp._tcp.local. 120 IN TXT"}
	for range 30 {
		huge[1] += ` "` + strings.Repeat("x", 255) + `"`
	}
	many := make([]string, 0, 200)
	for i := range 200 {
		many = append(many, fmt.Sprintf("_ipps._tcp.local. 1 IN PTR Many%d._ipps._tcp.local.", i))
	}
	for range 20 {
		all = append(all, wire(t, huge...), wire(t, many...),
			wire(t, "!Sportello._http._tcp.local. 120 IN SRV 0 0 99 evil.local.", "!sportello.local. 120 IN A 192.0.2.9"),
			wire(t, "!Laser._ipp._tcp.local. 120 IN SRV 0 0 631 Laser.local.", "!Laser.local. 1 IN A 10.1.2.3"))
	}
	return all
}
