package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"sportello.example/appliance/box"
	"sportello.example/sync/hub/stats"
)

// The choices of a switch that has only two.
const (
	on  = "on"
	off = "off"
)

// clockState is how wrong the box's clock is.
type clockState string

// The states of the box's clock.
const (
	clockRight    clockState = "right"
	clockTomorrow clockState = "tomorrow"
	clockPast     clockState = "past" // ten years ago
)

var clockErrors = map[clockState]time.Duration{
	clockRight: 0, clockTomorrow: 24 * time.Hour, clockPast: -10 * 365 * 24 * time.Hour,
}

// state is everything the console shows.
type state struct {
	Now       time.Time    `json:"now"`
	Dir       string       `json:"dir"`
	Addresses stateURLs    `json:"addresses"`
	StaffCode string       `json:"staff_code"` // opens the box's staff pages
	Line      lineState    `json:"line"`
	Hub       string       `json:"hub"`      // on | off
	Registry  string       `json:"registry"` // on | off
	Printer   printerState `json:"printer"`
	Clock     clockState   `json:"clock"`
	BoxPower  string       `json:"box_power"` // on | off
	Notice    noticeState  `json:"notice"`
	Carried   int          `json:"carried"` // events on the last stick

	Box          boxState          `json:"box"`
	Municipality municipalityState `json:"municipality"`
	Phone        screen            `json:"phone"` // what a phone would see now
	Sheets       []sheet           `json:"sheets"`
	Citizens     []person          `json:"citizens"`
	Parts        []partStatus      `json:"parts"`
}

type stateURLs struct {
	Kiosk   string `json:"kiosk"`
	Hub     string `json:"hub"`
	Console string `json:"console"`
}

// boxState is what the box says of itself.
type boxState struct {
	Reachable bool `json:"reachable"`
	box.Status
}

// municipalityState is what the hub counts.
type municipalityState struct {
	Reachable bool          `json:"reachable"`
	Total     stats.Figures `json:"total"`      // of all branches
	DataUpTo  time.Time     `json:"data_up_to"` // of the demo's branch
	Pending   int           `json:"pending"`    // events in the box's queue when it was last heard of, -1 when not known
}

// person is somebody one can be.
type person struct {
	Name       string `json:"name"`
	FiscalCode string `json:"fiscal_code"`
	Note       string `json:"note,omitempty"` // what is special
}

// State returns how everything is. Switches are as they stand; what the parts say may be half a second old.
func (s *stage) State(context.Context) state {
	s.mu.Lock()
	st := s.seen
	st.Clock, st.Registry, st.Notice, st.Carried = s.clock, off, s.notice, s.carried
	if s.registryOn {
		st.Registry = on
	}
	s.mu.Unlock()
	st.Now, st.Dir = now().UTC(), s.dir
	st.Addresses = stateURLs{"http://" + s.addr.kiosk, "http://" + s.addr.hub, "http://" + s.addr.console}
	st.Citizens, st.StaffCode = citizens(), s.staffCode
	st.Line, st.Hub, st.BoxPower = s.line.State(), power(s.hub), power(s.box)
	st.Phone, _ = s.tap.QR()
	st.Sheets = s.tray.Sheets()
	for _, p := range s.all() {
		st.Parts = append(st.Parts, p.Status())
	}
	return st
}

func power(p *part) string {
	if p.Status().Running {
		return on
	}
	return off
}

// watch looks at box, hub, printer and registry twice a second until ctx ends.
func (s *stage) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		s.look(ctx)
		pause(ctx, 500*time.Millisecond)
	}
	return nil
}

// look asks every part how it is. A part that does not answer keeps its last figures and is not reachable.
func (s *stage) look(ctx context.Context) {
	s.mu.Lock()
	st := s.seen
	s.mu.Unlock()
	var bs box.Status
	_, err := s.boxPage.get(ctx, "/status", &bs)
	st.Box.Reachable = err == nil
	if err == nil {
		st.Box.Status = bs
	}
	var sum stats.Summary
	_, err = s.hubPage.get(ctx, "/api/summary", &sum)
	st.Municipality.Reachable = err == nil
	if err == nil {
		st.Municipality.Total = sum.Total.All()
		st.Municipality.Pending = -1
		for _, b := range sum.Branches {
			st.Municipality.DataUpTo = b.DataUpTo
			if len(b.Boxes) > 0 {
				st.Municipality.Pending = b.Boxes[len(b.Boxes)-1].Pending
			}
		}
	}
	if p, err := s.printerKnobs.State(ctx); err == nil {
		st.Printer = p
	}
	if err := s.tray.Look(ctx); err != nil && ctx.Err() == nil {
		s.log.Debug("printer does not show its sheets", "err", err)
	}
	s.mu.Lock()
	s.seen = st
	s.mu.Unlock()
}

// Switch turns a switch of the console. It returns when the change is made; that the parts have noticed is another
// matter. A switch or a choice that does not exist is an error that matches errUnknown.
func (s *stage) Switch(ctx context.Context, name, to string) error {
	s.turning.Lock()
	defer s.turning.Unlock()
	defer s.look(ctx)
	switch name {
	case "line":
		return s.line.Set(lineState(to))
	case "hub":
		return s.power(ctx, to, func() { s.hub.Stop() }, s.startHub)
	case "box":
		return s.power(ctx, to, func() { s.box.Kill(); s.tap.Forget() }, s.startBox)
	case "registry":
		if to != on && to != off {
			return fmt.Errorf("registry %q: %w", to, errUnknown)
		}
		if err := s.registryKnob.Set(ctx, to == on); err != nil {
			return err
		}
		s.mu.Lock()
		s.registryOn = to == on
		s.mu.Unlock()
		return nil
	case "printer":
		return s.printerKnobs.Set(ctx, printerState(to))
	case "clock":
		return s.setClock(ctx, clockState(to))
	case "notice":
		return s.setNotice(ctx, noticeState(to))
	case "stick":
		if to != "carry" {
			return fmt.Errorf("stick %q: %w", to, errUnknown)
		}
		n, err := s.carry(ctx)
		s.mu.Lock()
		s.carried = int(n) //nolint:gosec // a queue of this size does not exist
		s.mu.Unlock()
		return err
	default:
		return fmt.Errorf("switch %q: %w", name, errUnknown)
	}
}

func (s *stage) power(ctx context.Context, to string, stop func(), start func(context.Context) error) error {
	switch to {
	case on:
		return start(ctx)
	case off:
		stop()
		return nil
	default:
		return fmt.Errorf("power %q: %w", to, errUnknown)
	}
}

// setClock pulls the box's plug, and lets it wake up with another time.
func (s *stage) setClock(ctx context.Context, to clockState) error {
	d, ok := clockErrors[to]
	if !ok {
		return fmt.Errorf("clock %q: %w", to, errUnknown)
	}
	s.box.Kill()
	s.tap.Forget()
	if err := os.WriteFile(filepath.Join(s.dir, "clock"), []byte(d.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	s.mu.Lock()
	s.clock = to
	s.mu.Unlock()
	return s.startBox(ctx)
}

func clockOrDash(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Local().Format("15:04:05")
}

// hostOf returns the host of an address.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
