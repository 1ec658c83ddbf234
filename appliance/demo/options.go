package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// errUsage means that the command line makes no sense: exit code 2.
var errUsage = errors.New("wrong usage")

// options are what the command line says.
type options struct {
	kiosk, hub, console string // addresses, host:port
	dir                 string // "": a temporary folder
	lan, check, verbose bool
	sessions            int // visits that -check plays besides the main job

	stdout, stderr io.Writer
}

// validate checks the addresses. Errors match errUsage.
func (o *options) validate() error {
	if o.sessions < 0 || o.sessions > 0 && !o.check {
		return fmt.Errorf("%w: -sessions %d: it is a number of visits, and belongs to -check", errUsage, o.sessions)
	}
	for _, a := range []struct{ flag, addr string }{{"kiosk", o.kiosk}, {"hub", o.hub}, {"console", o.console}} {
		host, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			return fmt.Errorf("%w: -%s %q is not an address such as 127.0.0.1:8080", errUsage, a.flag, a.addr)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return fmt.Errorf("%w: -%s %q has no port from 0 to 65535", errUsage, a.flag, a.addr)
		}
		if loopback(host) {
			continue
		}
		switch {
		case net.ParseIP(host) == nil:
			return fmt.Errorf("%w: -%s %q: give an IP address or localhost", errUsage, a.flag, a.addr)
		case a.flag == "console":
			return fmt.Errorf("%w: -console %q: the console breaks things, so it stays on this machine", errUsage, a.addr)
		case a.flag == "hub":
			return fmt.Errorf("%w: -hub %q: without TLS people log in on this machine only", errUsage, a.addr)
		case !o.lan:
			return fmt.Errorf("%w: -%s %q can be reached from the network; add -lan if that is meant", errUsage, a.flag, a.addr)
		}
	}
	return nil
}

// loopback says whether a host can only be this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// loopbacks returns the names of the loopback interfaces: "lo" on Linux.
func loopbacks() ([]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("this machine has no loopback interface")
	}
	return names, nil
}

func itoa(n int) string { return strconv.Itoa(n) }
