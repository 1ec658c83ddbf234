package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/ipp"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// listenFor is how long diagnose listens for printers when no box runs that has listened before.
const listenFor = 3 * time.Second

// printers asks the box that runs; without one it listens by itself and looks at what the configuration names.
func (d *diagnosis) printers(ctx context.Context) {
	st, err := d.askPrinters(ctx)
	if err != nil {
		d.unattended(ctx)
		return
	}
	d.heard(st.Heard)
	for _, c := range st.Candidates {
		word := "open the staff page to adopt it"
		if c.Refused != "" {
			word = "cannot be adopted as it is: " + c.Refused
		}
		if c.Known {
			word = "adopted, and now with another key"
		}
		d.note("found: %s at %s, uuid %s (%s)", c.Name, c.URI, orNone(c.UUID, "none"), word)
	}
	if len(st.Adopted) == 0 {
		d.wrong("open http://<box>/staff/ and adopt one", "no printer is adopted: nothing can be printed")
	}
	for _, a := range st.Adopted {
		d.link(a)
	}
	for _, dev := range st.Devices {
		d.device(dev)
	}
	for _, a := range st.Alarms {
		d.alarm(a)
	}
	if st.Undecided > 0 {
		d.wrong("open http://<box>/staff/ and say what is in the tray", "%d prints wait for somebody to look at the tray", st.Undecided)
	}
}

func (d *diagnosis) askPrinters(ctx context.Context) (PrintersStatus, error) {
	var st PrintersStatus
	r, err := find(d.cfg.Data)
	if err != nil {
		return st, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := r.call(ctx, http.MethodGet, pathPrinters, nil)
	if err != nil {
		return st, err
	}
	defer func() { _ = resp.Body.Close() }()
	return st, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&st)
}

func (d *diagnosis) heard(h dnssd.Heard) {
	switch {
	case h.Own && h.Hosts > 0:
		d.good("mDNS: %d packets from %d hosts in the last minute, and our own questions come back", h.Packets, h.Hosts)
	case h.Own:
		d.note("mDNS: our own questions come back, and no other host was heard in the last minute: is this the printers' network?")
	case h.Asked == 0:
		d.note("mDNS: nothing was asked in the last minute")
	default:
		d.wrong("check firewall and switch (multicast to 224.0.0.251, UDP 5353), or add printers by address on the staff page",
			"mDNS: our own %d questions of the last minute did not come back", h.Asked)
	}
}

// link says how the box knows that it talks to the printer it adopted.
func (d *diagnosis) link(a staff.Adopted) {
	if a.Link != staff.LinkRisk || a.Risk == nil {
		return
	}
	if d.now().After(a.Risk.Until) {
		d.wrong("replace it, or adopt it again with a new date", "printer %s: the time is over for which %s accepted a printer without encryption", a.Name, a.Risk.By)
		return
	}
	d.risk("printer %s is spoken to in the clear until %s: accepted by %s (%s)", a.Name, a.Risk.Until.Local().Format("2 Jan 2006"), a.Risk.By, a.Risk.Why)
}

func (d *diagnosis) device(p staff.Device) {
	var reasons []string
	for _, r := range p.Reasons {
		reasons = append(reasons, r.Keyword+" ("+r.Severity+")")
	}
	says := ""
	if len(reasons) > 0 {
		says = ": " + strings.Join(reasons, ", ")
	}
	switch {
	case p.Presence == staff.WrongIdentity:
		d.wrong("see whether it is the printer you know; then adopt it again on the staff page", "another machine or key answers as printer %s at %s", p.Name, p.URI)
	case p.Presence == staff.Unreachable:
		d.wrong("switch it on and check its cable", "printer %s does not answer at %s", p.Name, orNone(p.URI, "any address"))
	case p.Blocked != "":
		d.wrong("look at its tray and say so on the staff page", "printer %s may still hold a sheet of a visit that is over", p.Name)
	case p.Trouble != kiosk.TroubleNone:
		d.wrong("look at the printer's display", "printer %s cannot print (%s)%s", p.Name, p.Trouble, says)
	case p.Presence == staff.Asleep:
		d.good("printer %s sleeps at %s; it wakes for a job", p.Name, p.URI)
	default:
		d.good("printer %s is %s at %s, documents go as %s%s", p.Name, p.State, p.URI, orNone(p.Format, "nothing"), says)
	}
}

func (d *diagnosis) alarm(a staff.Alarm) {
	if a.Kind == staff.AlarmRisk { // when it is over the printer is not among those that are adopted
		d.wrong("replace it, or adopt it again with a new date", "printer %s is spoken to in the clear until %s only: nothing goes there any more then", a.Name, a.New)
		return
	}
	what := fmt.Sprintf("alarm of %s: %s, %s", a.At.Local().Format("2 Jan 15:04"), a.Kind, orNone(a.Name, a.Subject))
	if a.Old != "" || a.New != "" {
		what += fmt.Sprintf(" (known: %s, now: %s)", orNone(a.Old, "nothing"), orNone(a.New, "nothing"))
	}
	d.wrong("http://<box>/staff/ says what to do", "%s", what)
}

// unattended looks at what the configuration names, when no box runs that would know more.
func (d *diagnosis) unattended(ctx context.Context) {
	d.note("printers adopted on the staff page are known to a box that runs only; these are the configuration's")
	ctx, cancel := context.WithTimeout(ctx, listenFor+5*time.Second)
	defer cancel()
	listen, stop := context.WithTimeout(ctx, listenFor)
	defer stop()
	var found []dnssd.Service
	browser := dnssd.Browser{Types: printerTypes, Interfaces: d.cfg.Discovery.Interfaces, Log: slog.New(slog.DiscardHandler), Now: d.now}
	if err := browser.Run(listen, func(s []dnssd.Service) { found = s }); err != nil {
		d.wrong("check the network interfaces", "cannot listen for printers: %v", err)
	}
	d.heard(browser.Heard())
	for _, s := range found {
		d.note("announced: %s at %s port %d, uuid %s", s.Instance, s.Addrs[0], s.Port, orNone(s.TXT["uuid"], "none"))
	}
	if len(found) == 0 {
		d.note("no printer announced itself within %s", listenFor)
	}
	for i, p := range d.cfg.Printers {
		if r := configured(d.cfg.Printers)[i].Risk; r != nil {
			d.link(staff.Adopted{Name: p.UUID, Link: staff.LinkRisk, Risk: r})
		}
		d.configured(ctx, p, found)
	}
}

// configured asks a printer of the configuration how it is, where the file says or where it announces itself.
func (d *diagnosis) configured(ctx context.Context, p Printer, found []dnssd.Service) {
	uris := []string{p.URI}
	if p.URI == "" {
		uris = announcedURIs(p, found)
	}
	if len(uris) == 0 {
		d.wrong("switch it on and check that it is on the same network, or set its uri", "printer %s is not announced", p.UUID)
		return
	}
	var errs []error
	for _, uri := range uris {
		got, err := askPrinter(ctx, uri, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", uri, err))
			continue
		}
		if len(got.Reasons) > 0 {
			d.wrong("look at the printer's display", "printer %s says: %s", got.Name, strings.Join(got.Reasons, ", "))
			return
		}
		d.good("printer %s is ready at %s", got.Name, uri)
		return
	}
	d.wrong("switch it on, check its cable, and see whether it is the printer you know", "printer %s does not answer: %v", p.UUID, errors.Join(errs...))
}

func askPrinter(ctx context.Context, uri string, p Printer) (ipp.Printer, error) {
	c, err := ipp.New(ipp.Config{URI: uri, Pins: p.Pins, Interface: p.Interface})
	if err != nil {
		return ipp.Printer{}, err
	}
	defer c.Close()
	got, err := c.Printer(ctx)
	if err == nil && got.UUID != plainUUID(p.UUID) {
		err = fmt.Errorf("another printer answers: %s", got.UUID)
	}
	return got, err
}

// announcedURIs returns where a printer of the configuration announces itself.
func announcedURIs(p Printer, found []dnssd.Service) []string {
	a := staff.Adopted{UUID: p.UUID, Keys: p.Pins, Interface: p.Interface}
	return printing.URIs(a, found)
}

func plainUUID(s string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "urn:uuid:")
}
