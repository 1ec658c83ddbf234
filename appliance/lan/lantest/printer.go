//go:build linux

package lantest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Config says how a printer is.
type Config struct {
	Host    string   // name of the machine
	N       int      // it is host N, 3 to 254
	Name    string   // DNS-SD instance
	Formats string   // "" means application/pdf
	Auth    bool     // asks for a user and a password; any are right
	Args    []string // more options of ippeveprinter
	Letter  bool     // US Letter stays in the trays, else A4 is loaded
	Off     bool     // not switched on yet: see Start
}

// Printer is a host on which an ippeveprinter runs.
type Printer struct {
	*Host
	cfg    Config
	port   int
	attrs  string // file with its attributes; "" means its own
	served *process
	uuid   string
}

// paths of a printer, in its directory.
const (
	spoolDir  = "spool"
	keysDir   = "keys"
	engine    = "engine"
	script    = "script"
	lastEnv   = "last.env"
	printerLg = "printer.log"
)

// engineScript is the print engine: it remembers what it was told and does what Engine says.
const engineScript = `#!/bin/sh
cd "${0%/*}"
env | grep -E '^(IPP_|CONTENT_TYPE)' | sort > last.env
. ./script
`

// Printed is an engine that prints one sheet at once.
const Printed = `echo "ATTR: job-impressions-completed=1" >&2`

// Printers plugs in printers and switches them on, all at once. They are there until the test ends.
func (l *LAN) Printers(t testing.TB, cfgs ...Config) []*Printer {
	t.Helper()
	printers, errs := make([]*Printer, len(cfgs)), make([]error, len(cfgs))
	var starting sync.WaitGroup
	for i, cfg := range cfgs {
		starting.Go(func() { printers[i], errs[i] = l.printer(cfg) })
	}
	starting.Wait()
	for _, p := range printers {
		if p != nil {
			t.Cleanup(p.off)
		}
	}
	for _, err := range errs {
		must(t, err)
	}
	return printers
}

// Printer is Printers for one.
func (l *LAN) Printer(t testing.TB, cfg Config) *Printer {
	t.Helper()
	return l.Printers(t, cfg)[0]
}

func (l *LAN) printer(cfg Config) (*Printer, error) {
	h, err := l.plugged(cfg.Host, cfg.N)
	if err != nil {
		return nil, err
	}
	p := &Printer{Host: h, cfg: cfg, port: 631}
	for _, dir := range []string{spoolDir, keysDir} {
		if err := os.Mkdir(p.file(dir), 0o755); err != nil {
			return p, err
		}
	}
	if err := os.WriteFile(p.file(engine), []byte(engineScript), 0o755); err != nil {
		return p, err
	}
	if err := p.setEngine(Printed); err != nil {
		return p, err
	}
	if cfg.Off {
		return p, nil
	}
	return p, p.start()
}

func (p *Printer) file(name string) string { return filepath.Join(p.dir, name) }

func (p *Printer) off() {
	p.served.kill()
	p.Host.off()
}

// start starts the daemons that do not run and waits until the printer listens.
func (p *Printer) start() error {
	if err := errors.Join(p.makeKey(), p.startAvahi()); err != nil {
		return err
	}
	formats := p.cfg.Formats
	if formats == "" {
		formats = "application/pdf"
	}
	args := []string{
		"ippeveprinter", "-p", strconv.Itoa(p.port), "-d", p.file(spoolDir), "-k", "-K", p.file(keysDir), "-c", p.file(engine), "-vvv",
	}
	if p.attrs != "" {
		args = append(args, "-a", p.attrs) // they have the formats
	} else {
		args = append(args, "-f", formats)
	}
	if p.cfg.Auth {
		args = append(args, "-A", "--pam-service", "printer")
	}
	args = append(append(args, p.cfg.Args...), p.cfg.Name)
	var err error
	if p.served, err = background(p.file(printerLg), environment(), p.enter(args...)); err != nil {
		return err
	}
	err = p.served.await("printer "+p.name, p.file(printerLg), func() bool {
		conn, err := p.Dial(context.Background(), "tcp", netip.AddrPortFrom(p.Addr(), uint16(p.port)).String())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if err == nil && p.uuid == "" {
		p.uuid, err = p.askUUID()
	}
	if err == nil && !p.cfg.Letter {
		err = p.load("iso_a4_210x297mm", 100)
	}
	return err
}

// makeKey gives the printer its TLS key, if it has none. ippeveprinter would make one when it is first asked for it, and
// two when it is asked twice at once.
func (p *Printer) makeKey() error {
	file := filepath.Join(p.file(keysDir), p.name)
	if _, err := os.Stat(file + ".crt"); err == nil {
		return nil
	}
	cert, err := certificate(p.name)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(file+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
		os.WriteFile(file+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o644),
	)
}

// Start switches the printer on again, with the options it had.
func (p *Printer) Start(t testing.TB) {
	t.Helper()
	must(t, p.start())
}

// Stop switches the printer off in an orderly way: it says goodbye. The machine stays.
func (p *Printer) Stop() { p.served.end() }

// Crash cuts the power: nothing says goodbye. The machine stays, so that its ports refuse; see also Unplug.
func (p *Printer) Crash() {
	p.killDaemons()
	p.served.kill()
}

// Freeze stops the printer's program: connections are made and nothing answers.
func (p *Printer) Freeze() { p.served.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (p *Printer) Thaw() { p.served.signal(syscall.SIGCONT) }

// IPP lets the port of IPP be reached, or not, while multicast DNS works.
func (p *Printer) IPP(t testing.TB, on bool) {
	t.Helper()
	p.filter(t, "ipp", unless(on, fmt.Sprintf("tcp dport %[1]d drop; tcp sport %[1]d drop", p.port)))
}

// Move switches the printer off and on again at another port, with the same UUID: ippeveprinter makes a UUID of name,
// host and port, so it is given the attributes it has now.
func (p *Printer) Move(t testing.TB, port int) {
	t.Helper()
	attrs := p.file("attributes")
	out, err := p.Command(t.Context(), "ipptool", "--ippserver", attrs, p.URI("ipp"), "get-printer-attributes.test").CombinedOutput()
	if err != nil {
		t.Fatalf("attributes of %s: %v: %s", p.name, err, out)
	}
	p.Stop()
	p.attrs, p.port = attrs, port
	p.Start(t)
}

// NewKeys switches the printer off and on again with another TLS key, as an update of its firmware may.
func (p *Printer) NewKeys(t testing.TB) {
	t.Helper()
	p.Stop()
	for _, ext := range []string{".key", ".crt"} {
		must(t, os.Remove(filepath.Join(p.file(keysDir), p.name+ext)))
	}
	p.Start(t)
}

// Instance is the DNS-SD instance it announces.
func (p *Printer) Instance() string { return p.cfg.Name }

// Port is where it listens, for ipp and for ipps.
func (p *Printer) Port() int { return p.port }

// UUID is its printer-uuid, lower case, without "urn:uuid:".
func (p *Printer) UUID() string { return p.uuid }

// URI is where it is now, by ipp or ipps.
func (p *Printer) URI(scheme string) string {
	return scheme + "://" + net.JoinHostPort(p.Addr().String(), strconv.Itoa(p.port)) + "/ipp/print"
}

// Log is what the printer's program has said.
func (p *Printer) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(p.file(printerLg))
	must(t, err)
	return string(b)
}

// Engine says what the printer does with a document ($1), as a shell script from the next job on: sleep N; echo "STATE:
// +media-jam" >&2; echo "ATTR: job-impressions-completed=1" >&2; until [ -e go ]; do sleep 0.05; done (see Release);
// exit 1 for a job that is aborted.
func (p *Printer) Engine(t testing.TB, text string) {
	t.Helper()
	must(t, p.setEngine(text))
}

func (p *Printer) setEngine(text string) error {
	beside := p.file(script + ".new")
	if err := os.WriteFile(beside, []byte(text+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(beside, p.file(script))
}

// Release makes the file for which an engine waits.
func (p *Printer) Release(t testing.TB, name string) {
	t.Helper()
	must(t, os.WriteFile(p.file(name), nil, 0o644))
}

// Told is what the print engine was told of its last job: IPP_MEDIA_COL and the like. It is nil before the first.
func (p *Printer) Told(t testing.TB) map[string]string {
	t.Helper()
	b, err := os.ReadFile(p.file(lastEnv))
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[k] = v
	}
	return env
}
