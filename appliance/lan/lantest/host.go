//go:build linux

package lantest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Host is a machine on the network. Its methods that take a testing.TB end the test when something cannot be done.
type Host struct {
	lan   *LAN
	name  string
	n     int
	cable string // its end at the switch
	dir   string
	hold  *process // keeps the namespaces

	mu    sync.Mutex
	dbus  *process
	avahi *process
}

// powerOn makes a machine of new namespaces: $1 is its directory, $2 its name. It ends with the process that it becomes.
const powerOn = `set -e
echo "$2" > /proc/sys/kernel/hostname
mount --bind "$1/hosts" /etc/hosts
for d in /run/dbus /run/avahi-daemon /etc/avahi/services /etc/pam.d; do
  mount -t tmpfs -o mode=755 tmpfs $d
done
chown avahi:avahi /run/avahi-daemon
printf 'auth required pam_permit.so\naccount required pam_permit.so\n' > /etc/pam.d/printer
echo ready
exec sleep infinity`

// machine makes a host without a cable.
func (l *LAN) machine(name string, n int) (*Host, error) {
	h := &Host{lan: l, name: name, n: n, dir: filepath.Join(l.dir, name)}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	if err := h.hosts(); err != nil {
		return nil, err
	}
	c := exec.Command("/bin/sh", "-c", powerOn, "sh", h.dir, name)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Setpgid: true}
	log := filepath.Join(h.dir, "power.log")
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	h.hold = &process{cmd: c, done: make(chan struct{})}
	go func() {
		_ = c.Wait()
		close(h.hold.done)
	}()
	return h, h.hold.await("host "+name, log, func() bool { return contains(log, "ready") })
}

func contains(file, text string) bool {
	b, err := os.ReadFile(file)
	return err == nil && strings.Contains(string(b), text)
}

// plugged makes a host and plugs it in.
func (l *LAN) plugged(name string, n int) (*Host, error) {
	h, err := l.machine(name, n)
	if err != nil {
		return nil, err
	}
	h.cable = fmt.Sprintf("v%d", l.cables.Add(1))
	err = l.sw.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", h.cable, h.hold.cmd.Process.Pid),
		fmt.Sprintf("link set %s master br0 up", h.cable),
	)
	if err == nil {
		err = configure(l, h, "eth0", n)
	}
	if err != nil {
		h.off()
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// Host plugs in a machine on which nothing runs, as host n (3 to 254). It is there until the test ends.
func (l *LAN) Host(t testing.TB, name string, n int) *Host {
	t.Helper()
	h, err := l.plugged(name, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.off)
	return h
}

// hosts writes the host's /etc/hosts: ippeveprinter looks up the name of the machine it is on.
func (h *Host) hosts() error {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, a := range []netip.Addr{h.lan.Addr(h.n), h.lan.Addr6(h.n)} {
		text.WriteString(fmt.Sprintf("%v %s %s.local\n", a, h.name, h.name))
	}
	return os.WriteFile(filepath.Join(h.dir, "hosts"), []byte(text.String()), 0o644)
}

// off switches the machine off: everything on it ends, and nothing of it says goodbye.
func (h *Host) off() {
	h.killDaemons()
	h.hold.kill()
}

// killDaemons kills the daemons.
func (h *Host) killDaemons() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.avahi.kill()
	h.dbus.kill()
}

// Name is the host's name without ".local".
func (h *Host) Name() string { return h.name }

// Addr is the host's IPv4 address.
func (h *Host) Addr() netip.Addr { return h.lan.Addr(h.n) }

// Addr6 is the host's IPv6 address.
func (h *Host) Addr6() netip.Addr { return h.lan.Addr6(h.n) }

// enter is how a program is started on the host; nil is the box.
func (h *Host) enter(args ...string) []string {
	if h == nil {
		return args
	}
	return append([]string{"nsenter", "--target=" + strconv.Itoa(h.hold.cmd.Process.Pid), "--net", "--mount", "--uts", "--"}, args...)
}

func environment() []string {
	return append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket")
}

// Command is a program to be run on the host.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	args = h.enter(args...)
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env = environment()
	return c
}

// ip runs commands of ip(8) on the host; nil is the box.
func (h *Host) ip(lines ...string) error {
	c := command(h.enter("ip", "-batch", "-")...)
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	return c.run()
}

// In calls f on a thread whose network is the host's: sockets that f makes are the host's for as long as they live. f
// must make them itself, not in another goroutine.
func (h *Host) In(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread comes back to the box's network. To let it end instead would be simpler, but it may have started a
		// child that is to be killed when it ends (PR_SET_PDEATHSIG means the thread).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- h.visit(f)
	}()
	return <-done
}

func (h *Host) visit(f func() error) error {
	home, err := os.Open("/proc/1/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.hold.cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network of %s: %w", h.name, err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic("a thread is lost in the network of " + h.name + ": " + err.Error())
		}
	}()
	return f()
}

// Dial connects from the host. The address is an IP address with a port.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.In(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Unplug pulls the host's cable.
func (h *Host) Unplug(t testing.TB) {
	t.Helper()
	must(t, h.lan.sw.ip("link set "+h.cable+" down"))
}

// Plug puts it in again.
func (h *Host) Plug(t testing.TB) {
	t.Helper()
	must(t, h.lan.sw.ip("link set "+h.cable+" up"))
}

// Renumber gives the host the addresses of host n, as if DHCP had. Its cable stays where it is.
func (h *Host) Renumber(t testing.TB, n int) {
	t.Helper()
	must(t, h.ip(
		// First, because a second address of a network goes with the first one.
		fmt.Sprintf("addr del %v/24 dev eth0", h.lan.Addr(h.n)),
		fmt.Sprintf("addr del %v/64 dev eth0", h.lan.Addr6(h.n)),
		fmt.Sprintf("addr add %v/24 dev eth0", h.lan.Addr(n)),
		fmt.Sprintf("addr add %v/64 dev eth0 nodad", h.lan.Addr6(n)),
		"route replace 224.0.0.0/4 dev eth0",
	))
	h.n = n
	must(t, h.hosts())
}

// filter has the host's nftables drop what matches rule, both ways; "" drops nothing any more.
func (h *Host) filter(t testing.TB, table, rule string) {
	t.Helper()
	script := fmt.Sprintf("table inet %[1]s\ndelete table inet %[1]s\n", table)
	if rule != "" {
		script += fmt.Sprintf(`table inet %s {
	chain in { type filter hook input priority 0; iifname "lo" accept; %[2]s; }
	chain out { type filter hook output priority 0; oifname "lo" accept; %[2]s; }
}
`, table, rule)
	}
	c := command(h.enter("nft", "-f", "-")...)
	c.Stdin = strings.NewReader(script)
	must(t, c.run())
}

// Loss has percent of the host's packets vanish, both ways.
func (h *Host) Loss(t testing.TB, percent int) {
	t.Helper()
	rule := ""
	if percent > 0 {
		rule = fmt.Sprintf("numgen random mod 100 < %d drop", percent)
	}
	h.filter(t, "loss", rule)
}

// Multicast lets multicast DNS reach the host and leave it, or not, as in a wireless network that isolates its clients.
func (h *Host) Multicast(t testing.TB, on bool) {
	t.Helper()
	h.filter(t, "multicast", unless(on, "ip daddr 224.0.0.251 drop; ip6 daddr ff02::fb drop"))
}

// Deaf has the host hear no multicast DNS, or hear it again, while it can speak.
func (h *Host) Deaf(t testing.TB, deaf bool) {
	t.Helper()
	h.filter(t, "deaf", unless(!deaf, `udp dport 5353 iifname "eth0" drop`))
}

func unless(on bool, rule string) string {
	if on {
		return ""
	}
	return rule
}
