package box

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/printing"
	"sportello.example/firmware/program"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

// printerTypes are the services that a printer may announce: IPP, what receipt printers speak, and what is shown only so
// that nobody wonders why it cannot be adopted (RFC 1179).
var printerTypes = []string{"_ipps._tcp", "_ipp._tcp", "_pdl-datastream._tcp", "_printer._tcp"}

// printers is everything between a document and paper: what is found, what was adopted, what is printed, and what
// somebody must look at.
type printers struct {
	spool     *printing.Spooler
	adoptions *adoption.Service
	alarms    *staff.Alarms
	browser   *dnssd.Browser
}

// wirePrinters makes the box's printers. attended says whether somebody is at a kiosk.
func (b *Box) wirePrinters(ctx context.Context, attended func() bool) error {
	p := &b.printers
	p.alarms = &staff.Alarms{}
	var err error
	p.spool, err = printing.New(printing.Config{
		Journal: b.queue, Raster: b.draw, Attended: attended, Idle: time.Duration(b.cfg.Intervals.Probe),
		Alarm: b.alarm, Cleared: p.alarms.Clear, Day: b.midnight, Log: b.log, Now: b.now,
		Moved: func(uuid, uri string) { p.adoptions.Moved(uuid, uri) },
		Doubt: func(uuid string) { p.browser.Doubt(uuid) },
		TestPage: func(printer string) ([]byte, error) {
			return paper.TestPage(paper.AdoptionForm{Printer: printer, Branch: b.branch(), At: b.now()})
		},
	})
	if err != nil {
		return err
	}
	p.adoptions, err = adoption.New(ctx, adoption.Config{
		Store: b.queue, Loopback: onlyLoopback(b.cfg.Discovery.Interfaces), Printer: p.spool, Adopt: p.spool.Adopt, Branch: b.branch, Alarm: b.alarm, Cleared: p.alarms.Clear,
		Note: b.note, Log: b.log, Now: b.now,
	}, configured(b.cfg.Printers))
	if err != nil {
		return &program.UsageError{Err: err, Hint: "correct the [[printer]] entries of the configuration file"}
	}
	p.browser = &dnssd.Browser{Types: printerTypes, Interfaces: b.cfg.Discovery.Interfaces, Log: b.log, Now: b.now}
	return nil
}

// onlyLoopback says whether the named network interfaces lead to this machine only.
func onlyLoopback(names []string) bool {
	for _, name := range names {
		ifi, err := net.InterfaceByName(name)
		if err != nil || ifi.Flags&net.FlagLoopback == 0 {
			return false
		}
	}
	return len(names) > 0
}

// configured are the printers that the configuration file names.
func configured(printers []Printer) []adoption.Configured {
	all := make([]adoption.Configured, 0, len(printers))
	for _, p := range printers {
		c := adoption.Configured{UUID: p.UUID, URI: p.URI, Keys: p.Pins, Interface: p.Interface}
		if p.Risk != nil {
			c.Risk = &staff.Risk{By: p.Risk.By, Why: p.Risk.Why, At: p.Risk.At, Until: p.Risk.Until}
		}
		all = append(all, c)
	}
	return all
}

func (b *Box) branch() string {
	name, _ := b.place()
	return name
}

// midnight is when today began in the branch.
func (b *Box) midnight() time.Time {
	y, m, d := b.now().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, b.now().Location())
}

// alarm takes up something that somebody must look at: staff see it on their page, and the municipality that it happened.
func (b *Box) alarm(a staff.Alarm) {
	if a.At.IsZero() {
		a.At = b.now()
	}
	if !b.printers.alarms.Raise(a) {
		return
	}
	b.log.Warn("somebody must look at a printer", "alarm", a.Kind, "printer", a.Name, "uuid", a.Subject, "old", a.Old, "new", a.New)
	if a.Kind != staff.AlarmUncertain { // its print is an event already
		go b.note(event.PrinterAlarm, event.Detail{Reason: string(a.Kind)})
	}
}

// found tells everybody concerned what DNS-SD knows.
func (p *printers) found(services []dnssd.Service) {
	p.spool.Found(services)
	p.adoptions.Found(services)
}

// PrintersStatus is what GET /control/printers says to the box's own commands.
type PrintersStatus struct {
	Heard      dnssd.Heard       `json:"heard"`
	Adopted    []staff.Adopted   `json:"adopted"`
	Devices    []staff.Device    `json:"devices"`
	Candidates []staff.Candidate `json:"candidates"`
	Alarms     []staff.Alarm     `json:"alarms"`
	Undecided  int               `json:"undecided"` // prints that wait for somebody to look at the tray
}

const pathPrinters = "/control/printers"

func (b *Box) servePrinters(w http.ResponseWriter, r *http.Request) {
	st, err := b.printers.status(r.Context())
	if err != nil {
		b.log.Error("printers not read", "err", err)
		refuse(w, fmt.Errorf("printers: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(st) // the reader has gone
}

func (p *printers) status(ctx context.Context) (PrintersStatus, error) {
	p.spool.Wake() // while nobody is at a kiosk they were asked up to half a minute ago
	st := PrintersStatus{Heard: p.browser.Heard(), Alarms: p.alarms.List()}
	var err error
	if st.Adopted, err = p.adoptions.Adopted(ctx); err != nil {
		return st, err
	}
	if st.Candidates, err = p.adoptions.Candidates(ctx); err != nil {
		return st, err
	}
	st.Devices = p.spool.Devices() // the candidates were asked meanwhile, adopted printers among them
	undecided, err := p.spool.Undecided(ctx)
	st.Undecided = len(undecided)
	return st, err
}
