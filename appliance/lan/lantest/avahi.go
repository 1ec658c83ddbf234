//go:build linux

package lantest

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*" eavesdrop="false"/><allow receive_sender="*"/></policy></busconfig>
`

// The limits let several tests ask within a second.
const avahiConf = `[server]
host-name=%s
use-ipv4=yes
use-ipv6=yes
allow-interfaces=eth0
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
`

// Avahi starts the host's Avahi, with nothing in its cache, and waits until it answers for the host's name.
func (h *Host) Avahi(t testing.TB) {
	t.Helper()
	must(t, h.startAvahi())
}

// NoAvahi ends the host's Avahi. It says goodbye.
func (h *Host) NoAvahi() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.avahi.end()
	h.dbus.end()
}

func (h *Host) startAvahi() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.avahi.alive() && h.dbus.alive() {
		return nil
	}
	h.avahi.kill()
	h.dbus.kill()
	file := func(name string) string { return filepath.Join(h.dir, name) }
	for name, text := range map[string]string{"bus.conf": busConf, "avahi.conf": fmt.Sprintf(avahiConf, h.name)} {
		if err := os.WriteFile(file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// What a killed one left behind.
	socket := h.path("/run/dbus/system_bus_socket")
	_ = os.Remove(socket)
	_ = os.Remove(h.path("/run/avahi-daemon/pid"))
	var err error
	h.dbus, err = background(file("dbus.log"), environment(),
		h.enter("dbus-daemon", "--config-file="+file("bus.conf"), "--nofork", "--nopidfile"))
	if err != nil {
		return err
	}
	err = h.dbus.await("dbus-daemon of "+h.name, file("dbus.log"), func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	if err != nil {
		return err
	}
	h.avahi, err = background(file("avahi.log"), environment(),
		h.enter("avahi-daemon", "--no-drop-root", "--no-chroot", "--no-rlimits", "-f", file("avahi.conf")))
	if err != nil {
		return err
	}
	return h.avahi.await("avahi-daemon of "+h.name, file("avahi.log"), func() bool {
		return contains(file("avahi.log"), "Server startup complete")
	})
}

// path is where this process finds a file of the host.
func (h *Host) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.hold.cmd.Process.Pid, name)
}

// Queue is a printer that a print server announces. Nothing answers at its port.
type Queue struct {
	Instance string
	UUID     string
	RP       string // path without the first slash
}

// PrintServer plugs in a host that announces count queues on one Avahi, each by ipp and by ipps.
func (l *LAN) PrintServer(t testing.TB, name string, n, count int) []Queue {
	t.Helper()
	h := l.Host(t, name, n)
	var queues []Queue
	for i := range count {
		q := Queue{fmt.Sprintf("Coda %d @ %s", i+1, name), fmt.Sprintf("5f0f0000-0000-4000-8000-%012x", n<<16+i), fmt.Sprintf("printers/coda%d", i+1)}
		queues = append(queues, q)
		var text strings.Builder
		text.WriteString(`<?xml version="1.0"?><service-group><name>` + html.EscapeString(q.Instance) + `</name>`)
		for _, typ := range []string{"_ipp._tcp", "_ipps._tcp"} {
			text.WriteString(`<service><type>` + typ + `</type><port>631</port>`)
			for _, r := range []string{
				"txtvers=1", "qtotal=1", "rp=" + q.RP, "ty=Coda di prova", "adminurl=https://" + name + ".local:631/" + q.RP,
				"note=Piano terra, stanza " + fmt.Sprint(i+1), "priority=0", "product=(Coda di prova)", "printer-state=3",
				"printer-type=0x901046", "UUID=" + q.UUID, "pdl=application/octet-stream,application/pdf,application/postscript,image/jpeg,image/png,image/pwg-raster,image/urf",
				"URF=CP1,W8,SRGB24,RS300,IS1,MT1,V1.4", "TLS=1.2", "Color=T", "Duplex=T",
			} {
				text.WriteString(`<txt-record>` + html.EscapeString(r) + `</txt-record>`)
			}
			text.WriteString(`</service>`)
		}
		text.WriteString(`</service-group>`)
		must(t, os.WriteFile(h.path(fmt.Sprintf("/etc/avahi/services/coda%d.service", i+1)), []byte(text.String()), 0o644))
	}
	h.Avahi(t)
	return queues
}
