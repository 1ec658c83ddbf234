package dnssd

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// away is the machine at the other end of the cable: 192.0.2.9, fe80::9 and, outside of the network, 198.51.100.9.
var away far

// far runs functions on a thread that is in a network namespace of its own. What they open stays there.
type far struct{ calls chan func() }

func (f *far) begin() error {
	f.calls = make(chan func())
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: no other goroutine shall run here
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for call := range f.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		return fmt.Errorf("a network for the other machine: %w", err)
	}
	var thread int
	f.do(func() { thread = unix.Gettid() })
	if err := ip("link", "set", "far0", "netns", strconv.Itoa(thread)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", "far0", "addrgenmode", "none"}, // no address but these: who sends from them is known
		{"addr", "add", "192.0.2.9/24", "dev", "far0"},
		{"addr", "add", "198.51.100.9/32", "dev", "far0"},
		{"addr", "add", "fe80::9/64", "dev", "far0", "nodad"},
		{"link", "set", "far0", "up"},
	} {
		var err error
		f.do(func() { err = ip(args...) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *far) do(call func()) {
	done := make(chan struct{})
	f.calls <- func() {
		defer close(done)
		call()
	}
	<-done
}

// peer is a program on the other machine: it answers from a table, and remembers what it heard.
type peer struct {
	t    testing.TB
	link *link
	ifi  int

	mu     sync.Mutex
	answer map[string][][]string // as answers wants it
	heard  []string              // records of responses, as brief writes them
	asked  []string              // questions, "name TYPE"
	done   chan struct{}
}

func newPeer(t testing.TB, answer map[string][][]string) *peer {
	t.Helper()
	p := &peer{t: t, answer: answer, done: make(chan struct{})}
	var err error
	away.do(func() {
		var ifaces []iface
		if ifaces, err = interfaces([]string{"far0"}); err == nil {
			p.ifi = ifaces[0].Index
			p.link, err = open(t.Context(), ifaces, slog.New(slog.DiscardHandler))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(p.run)
	t.Cleanup(func() {
		close(p.done)
		running.Wait()
		p.link.close()
	})
	return p
}

func (p *peer) run() {
	for {
		var in packet
		select {
		case in = <-p.link.packets:
		case <-p.done:
			return
		}
		m := new(dns.Msg)
		if m.Unpack(in.data) != nil || in.from.Addr() == netip.MustParseAddr("192.0.2.9") || in.from.Addr().WithZone("") == netip.MustParseAddr("fe80::9") {
			continue
		}
		p.mu.Lock()
		for _, rr := range slices.Concat(m.Answer, m.Extra) {
			if m.Response {
				p.heard = append(p.heard, brief(rr))
			}
		}
		table := answers(p.answer)
		for _, q := range m.Question {
			if q.Qclass&cacheFlush != 0 {
				p.t.Errorf("%s: a unicast answer was asked for", q.Name)
			}
			p.asked = append(p.asked, q.Name+" "+dns.TypeToString[q.Qtype])
			for _, records := range table(q, 0) {
				p.say(records...)
			}
		}
		p.mu.Unlock()
	}
}

// say sends a response to everybody.
func (p *peer) say(records ...string) { p.link.send(p.ifi, wire(p.t, records...)) }

func (p *peer) ask(name string, typ uint16) {
	q := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: typ, Qclass: dns.ClassINET}}}
	b, err := q.Pack()
	if err != nil {
		p.t.Fatal(err)
	}
	p.link.send(p.ifi, b)
}

// forget makes hears and all look only at what comes from now on.
func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.asked = nil, nil
}

// mute makes p answer no more.
func (p *peer) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = nil
}

func (p *peer) all() (heard, asked []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard), slices.Clone(p.asked)
}

// patience is far more than anything takes: the machine that runs the tests may be busy.
const patience = 30 * time.Second

// eventually waits until ok; again is what to do every half second meanwhile, if anything.
func eventually(t testing.TB, what string, again func(), ok func() bool) {
	t.Helper()
	last := time.Now()
	for end := last.Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		if again != nil && time.Since(last) > 500*time.Millisecond {
			last = time.Now()
			again()
		}
	}
}

func (p *peer) hears(record string, again func()) {
	p.t.Helper()
	eventually(p.t, "heard "+record, again, func() bool {
		heard, _ := p.all()
		return slices.Contains(heard, record)
	})
}

// sendFrom sends a packet from another address or port of the other machine, or not by multicast.
func (f *far) sendFrom(t testing.TB, from, to string, data []byte) {
	t.Helper()
	var err error
	f.do(func() {
		var conn net.PacketConn
		conn, err = listenShared(t, from)
		if err != nil {
			return
		}
		defer conn.Close()
		dst := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
		_, err = conn.WriteTo(data, dst)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func listenShared(t testing.TB, address string) (net.PacketConn, error) {
	c := net.ListenConfig{Control: func(network, _ string, conn syscall.RawConn) error { return share("udp4", conn) }}
	return c.ListenPacket(t.Context(), "udp4", address)
}

// avahi runs Avahi with a host name, on the named interface of this machine or of the other one, and returns what it
// logs.
func avahi(t *testing.T, far bool, ifname, host string) (log func() string) {
	t.Helper()
	conf := t.TempDir() + "/avahi.conf"
	text := "[server]\nhost-name=" + host + "\nenable-dbus=no\nallow-interfaces=" + ifname +
		"\n[publish]\npublish-hinfo=no\npublish-workstation=no\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// /run is shared with the Avahi of this machine, if it has one.
	script := "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && mount -t tmpfs tmpfs /etc/avahi/services && " +
		"exec avahi-daemon -f " + conf + " --no-drop-root --no-chroot --no-rlimits --debug"
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	out := &buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	var err error
	if far {
		away.do(func() { err = cmd.Start() })
	} else {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "Avahi has started", nil, func() bool {
		return strings.Contains(out.String(), "Server startup complete") || cmd.ProcessState != nil
	})
	return out.String
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
