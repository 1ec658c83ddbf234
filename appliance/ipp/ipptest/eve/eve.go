// Package eve runs CUPS's ippeveprinter, the reference printer of the IPP world, so that tests can print on software
// that nobody of us wrote.
//
// Debian's ippeveprinter insists on announcing itself, so it gets a D-Bus and an Avahi of its own. They stay on the
// loopback interface and, where the system allows it, see a private /run, so that they disturb no Avahi of the machine.
package eve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrMissing means that a program is not installed.
var ErrMissing = errors.New("ippeveprinter cannot be run: install the Debian packages cups-ipp-utils, dbus and avahi-daemon, and be root")

// Config says how the printer is.
type Config struct {
	Name    string // "" means "Eve"
	Dir     string // an empty directory; must be given
	Formats string // "" means application/pdf
	Engine  string // a shell script that prints "$1"; "" means one that succeeds at once
}

// Printer is a running ippeveprinter.
type Printer struct {
	dir  string
	port int
	stop context.CancelFunc
	done chan error
}

// setup runs inside a private mount namespace when there is one: $1 is the directory, $2 the port, $3 the formats, $4 the
// printer's name. The printer replaces the shell; the daemons die with their parent's process group.
const setup = `set -e
d=$1
mkdir -p "$d/spool" "$d/keys"
if [ -n "$EVE_PRIVATE" ]; then mount -t tmpfs tmpfs /run; fi
mkdir -p /run/avahi-daemon
cat > "$d/bus.conf" <<C
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$d/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*" eavesdrop="false"/><allow receive_sender="*"/></policy></busconfig>
C
printf '[server]\nhost-name=eve\nuse-ipv6=no\nallow-interfaces=lo\n[wide-area]\nenable-wide-area=no\n[publish]\npublish-hinfo=no\npublish-workstation=no\n' > "$d/avahi.conf"
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$d/bus"
dbus-daemon --config-file="$d/bus.conf" --nofork --nopidfile > "$d/bus.log" 2>&1 &
n=0; until [ -S "$d/bus" ]; do n=$((n+1)); [ $n -lt 200 ]; sleep 0.05; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "$d/avahi.conf" > "$d/avahi.log" 2>&1 &
n=0; until grep -q "Server startup complete" "$d/avahi.log"; do n=$((n+1)); [ $n -lt 200 ]; sleep 0.05; done
exec ippeveprinter -n localhost -p "$2" -d "$d/spool" -k -K "$d/keys" -f "$3" -c "$d/engine" -vv "$4" > "$d/printer.log" 2>&1
`

// Start starts a printer with US Letter in its trays, as it comes; see Load. It must be stopped.
func Start(ctx context.Context, cfg Config) (*Printer, error) {
	// Debian keeps the daemons where not every user's PATH leads.
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin"
	for _, program := range []string{"ippeveprinter", "dbus-daemon", "avahi-daemon"} {
		if !slices.ContainsFunc(filepath.SplitList(path), func(dir string) bool {
			_, err := exec.LookPath(filepath.Join(dir, program))
			return err == nil
		}) {
			return nil, fmt.Errorf("%w: no %s", ErrMissing, program)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	engine := cfg.Engine
	if engine == "" {
		engine = "exit 0"
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "engine"), []byte("#!/bin/sh\n"+engine+"\n"), 0o755); err != nil {
		return nil, fmt.Errorf("ippeveprinter: %w", err)
	}
	if cfg.Name == "" {
		cfg.Name = "Eve"
	}
	if cfg.Formats == "" {
		cfg.Formats = "application/pdf"
	}
	var failures []error
	for _, private := range []bool{true, false} {
		p, err := launch(ctx, cfg, path, port, private)
		if err == nil {
			return p, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrMissing, errors.Join(failures...))
}

func launch(ctx context.Context, cfg Config, path string, port int, private bool) (*Printer, error) {
	running, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(running, "/bin/sh", "-c", setup, "sh", cfg.Dir, strconv.Itoa(port), cfg.Formats, cfg.Name)
	cmd.Env = append(os.Environ(), "PATH="+path)
	// A process group of its own, so that the daemons go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if private {
		cmd.Env = append(cmd.Env, "EVE_PRIVATE=1")
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		stop()
		return nil, fmt.Errorf("ippeveprinter: %w", err)
	}
	p := &Printer{dir: cfg.Dir, port: port, stop: stop, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	for end := time.After(20 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", p.addr(), time.Second)
		if err == nil {
			_ = conn.Close()
			return p, nil
		}
		select {
		case err := <-p.done:
			p.done <- err
			stop()
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			return nil, fmt.Errorf("ippeveprinter ended (%w): %s", err, p.Log())
		case <-end:
			p.Stop()
			return nil, fmt.Errorf("ippeveprinter does not listen: %s", p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("ippeveprinter: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Stop ends the printer and its daemons.
func (p *Printer) Stop() {
	p.stop()
	p.done <- <-p.done
}

func (p *Printer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URI is the printer's, with ipp or ipps.
func (p *Printer) URI(scheme string) string {
	return scheme + "://" + net.JoinHostPort("localhost", strconv.Itoa(p.port)) + "/ipp/print"
}

// Load puts paper of a PWG 5101.1 size into both trays, by the printer's web page.
func (p *Printer) Load(ctx context.Context, size string, sheets int) error {
	q := url.Values{}
	for _, tray := range []string{"1", "3"} {
		q.Set("size"+tray, size)
		q.Set("type"+tray, "stationery")
		q.Set("level"+tray, strconv.Itoa(sheets))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr()+"/media?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("load %s: %w", size, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("load %s: %w", size, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("load %s: %s", size, resp.Status)
	}
	return nil
}

// Documents returns what it has printed, byte for byte, oldest first.
func (p *Printer) Documents() ([][]byte, error) {
	files, err := os.ReadDir(filepath.Join(p.dir, "spool"))
	if err != nil {
		return nil, fmt.Errorf("ippeveprinter's documents: %w", err)
	}
	slices.SortFunc(files, func(a, b os.DirEntry) int { return number(a.Name()) - number(b.Name()) })
	var docs [][]byte
	for _, f := range files {
		if filepath.Ext(f.Name()) == ".prn" {
			continue // what the engine wrote
		}
		b, err := os.ReadFile(filepath.Join(p.dir, "spool", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("ippeveprinter's documents: %w", err)
		}
		docs = append(docs, b)
	}
	return docs, nil
}

// number is the job's, with which the names of the kept files begin.
func number(name string) int {
	digits, _, _ := strings.Cut(name, "-")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// Log is what the printer and its daemons said.
func (p *Printer) Log() string {
	var b strings.Builder
	for _, name := range []string{"bus.log", "avahi.log", "printer.log"} {
		if text, err := os.ReadFile(filepath.Join(p.dir, name)); err == nil {
			fmt.Fprintf(&b, "%s:\n%s\n", name, text)
		}
	}
	return b.String()
}
