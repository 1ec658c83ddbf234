package ipptest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"sportello.example/appliance/dnssd"
)

// Announce makes the printer findable by DNS-SD on the named interfaces until ctx ends; none means all that can
// multicast, without the loopback. While the printer sleeps nothing is announced.
func (p *Printer) Announce(ctx context.Context, interfaces []string) error {
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
	}
	for ctx.Err() == nil {
		if !p.awake(ctx, true) {
			return nil
		}
		announcing, goodbye := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- dnssd.Announce(announcing, p.announcement(n, interfaces)) }()
		p.awake(ctx, false)
		goodbye()
		if err := <-done; err != nil {
			return fmt.Errorf("printer %s: %w", p.cfg.Name, err)
		}
	}
	return nil
}

// awake waits until the printer is awake, or asleep. It is false when ctx ended before.
func (p *Printer) awake(ctx context.Context, awake bool) bool {
	for {
		p.mu.Lock()
		asleep, changed := p.asleep, p.changed
		p.mu.Unlock()
		if asleep != awake {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (p *Printer) announcement(port int, interfaces []string) dnssd.Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	typ, tlsVersion := "_ipp._tcp", ""
	if p.cfg.TLS {
		typ, tlsVersion = "_ipps._tcp", "1.3"
	}
	txt := map[string]string{
		"txtvers": "1", "qtotal": "1", "rp": path[1:], "ty": p.cfg.Make, "note": "", "pdl": strings.Join(p.formats, ","),
		"UUID": p.uuid, "TLS": tlsVersion, "Color": "F", "Duplex": "F",
	}
	if p.takes(urf) {
		txt["URF"] = strings.Join(p.raster.URF, ",")
	}
	if p.user != "" {
		txt["air"] = "username,password"
	}
	return dnssd.Announcement{
		Instance: p.cfg.Name, Type: typ, Host: "stampante-" + p.uuid[:min(8, len(p.uuid))], Port: port,
		Interfaces: interfaces, Log: p.cfg.Log, Now: time.Now, TXT: txt,
	}
}

// Sleep puts the printer to sleep: it is not announced any more, its port stays open, it answers questions, and the next
// job wakes it.
func (p *Printer) Sleep(on bool) { p.set(func() { p.asleep = on }) }
