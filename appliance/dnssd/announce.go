package dnssd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grandcat/zeroconf"
)

// lookAgain is how often Announce looks whether the network has changed.
const lookAgain = 2 * time.Second

// Announcement is a service of ours that others shall find.
type Announcement struct {
	Instance   string            // for people to read, at most 63 bytes; one that another machine has gets a number
	Type       string            // "_http._tcp"
	Host       string            // name of this machine without ".local"; "" means what the system says
	// Claim is whether Host is ours to answer for: its A and AAAA records are probed for, answered and defended. Else
	// somebody else on this machine does (Avahi, or a test).
	Claim bool
	// Renamed is told the names that are used when another machine has ours; nil: nobody is told. It must not block.
	Renamed func(instance, host string)
	Port       int               //
	TXT        map[string]string // each "key=value" at most 255 bytes
	Interfaces []string          // names; empty means all that can multicast, without the loopback
	Log        *slog.Logger      //
}

// Announce answers those who look for the service until ctx ends; then it says goodbye (RFC 6762 §10.1) and returns
// nil. While no interface is up it waits for one, and when addresses change it announces itself anew. An error means
// an announcement that can never work.
//
// A goroutine of zeroconf may outlive an announcement of less than four seconds; it then only sleeps.
func Announce(ctx context.Context, a Announcement) error {
	instance, err := escapeLabel(a.Instance)
	if err != nil {
		return fmt.Errorf("announce %s: %w", a.Type, err)
	}
	if a.Port < 1 || a.Port > 65535 || a.Type == "" {
		return fmt.Errorf("announce %q: type %q on port %d", a.Instance, a.Type, a.Port)
	}
	keys := slices.Sorted(maps.Keys(a.TXT))
	if i := slices.Index(keys, "txtvers"); i > 0 {
		keys = slices.Insert(slices.Delete(keys, i, i+1), 0, "txtvers")
	}
	txt, err := formatTXT(a.TXT, keys)
	if err != nil {
		return fmt.Errorf("announce %q: %w", a.Instance, err)
	}
	host := a.Host
	if host == "" {
		if host, err = os.Hostname(); err != nil {
			return fmt.Errorf("announce %q: %w", a.Instance, err)
		}
	}
	host, _, _ = strings.Cut(host, ".")
	if host, err = escapeLabel(host); err != nil {
		return fmt.Errorf("announce %q: host: %w", a.Instance, err)
	}

	var servers []*zeroconf.Server
	goodbye := func() {
		for _, s := range servers {
			s.Shutdown()
		}
		servers = nil
	}
	defer goodbye()
	current, warned := "", false
	for ctx.Err() == nil {
		ifaces, err := interfaces(a.Interfaces)
		if err == nil {
			if now := signature(ifaces); now != current {
				goodbye()
				current = now
				servers, err = register(instance, a.Type, a.Port, host, txt, ifaces)
			}
		}
		if err != nil {
			goodbye()
			current = ""
			if !warned {
				a.Log.Warn("service not announced", "type", a.Type, "err", err)
			}
		}
		warned = err != nil
		sleep(ctx, lookAgain)
	}
	return nil
}

func signature(ifaces []net.Interface) string {
	var b strings.Builder
	for _, ifi := range ifaces {
		_, s := addresses(ifi)
		b.WriteString(s)
	}
	return b.String()
}

// register starts the responders. zeroconf tells on each interface that interface's addresses, except that it never
// tells 127.0.0.1: a loopback interface gets a responder with its addresses spelled out.
func register(instance, typ string, port int, host string, txt []string, ifaces []net.Interface) ([]*zeroconf.Server, error) {
	var servers []*zeroconf.Server
	add := func(ips []string, on []net.Interface) error {
		s, err := zeroconf.RegisterProxy(instance, typ, "local.", port, host, ips, txt, on)
		if err != nil {
			return err
		}
		servers = append(servers, s)
		return nil
	}
	var lan []net.Interface
	for _, ifi := range ifaces {
		if ifi.Flags&net.FlagLoopback == 0 {
			lan = append(lan, ifi)
			continue
		}
		addrs, _ := addresses(ifi)
		var ips []string
		for _, addr := range addrs {
			ips = append(ips, addr.String())
		}
		if err := add(ips, []net.Interface{ifi}); err != nil {
			return servers, fmt.Errorf("%s: %w", ifi.Name, err)
		}
	}
	if len(lan) > 0 {
		if err := add(nil, lan); err != nil {
			return servers, err
		}
	}
	return servers, nil
}
