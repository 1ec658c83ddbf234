// Package stats counts the events of all branches. Figures are computed from the stored events, never incremented.
package stats

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sportello.example/sync/hub/fleet"
)

// Count is what happened at one box within one hour in sessions of one mode.
type Count struct {
	Box      uint32
	Hour     time.Time // its beginning, UTC
	Mode     string    // self, assisted, or "" when the beginning of the session is not known
	Sessions int
	Papers   int // sheets that came out
}

// Counter counts stored events.
type Counter interface {
	// Counts counts the events from a time on, at the hour they happened by a clock that was right.
	Counts(ctx context.Context, from time.Time) ([]Count, error)
	// LastEvents returns when the latest stored event of each box happened, of those that came with the time by a clock
	// that was right.
	LastEvents(ctx context.Context) (map[uint32]time.Time, error)
}

// Boxes lists boxes.
type Boxes interface {
	Boxes(ctx context.Context) ([]fleet.Box, error)
}

// Reports makes the municipality's figures. All fields are needed.
type Reports struct {
	Counter Counter
	Boxes   Boxes
	Now     func() time.Time
	Place   *time.Location // days begin at midnight there
}

// Summary is the municipality's page in figures.
type Summary struct {
	Time     time.Time `json:"time"` // of the hub, UTC
	Total    Tally     `json:"total"`
	Branches []Branch  `json:"branches"` // by name
}

// Branch is one branch in a Summary.
type Branch struct {
	Name     string    `json:"name"`
	DataUpTo time.Time `json:"data_up_to"` // nothing is missing before; zero when nothing is known
	Boxes    []Box     `json:"boxes"`
	Total    Tally     `json:"total"`
	Days     []Day     `json:"days"` // latest first, only those on which something happened
}

// Box is one box in a Summary.
type Box struct {
	Number   uint32    `json:"number"`
	Kiosks   int       `json:"kiosks"`
	Enrolled bool      `json:"enrolled"`
	Revoked  bool      `json:"revoked,omitempty"`
	Contact  time.Time `json:"contact"` // zero: never
	Pending  int       `json:"pending"` // events in its queue at that time, -1 when not known

	Oldest time.Time `json:"oldest,omitzero"` // when the oldest of them happened; zero when there is none, or not known
	Alarms int       `json:"alarms"`          // open ones
	Dead   int       `json:"dead"`            // events that it can never deliver
	Gaps   int       `json:"gaps"`            // stretches of events that never come
	Forks  int       `json:"forks"`           // histories beside the first one
	Disk   string    `json:"disk,omitempty"`  // ok | warn | high | full; "": not known
}

// Day is one day of a branch.
type Day struct {
	Date string `json:"date"` // 2026-11-22
	Tally
}

// Tally counts sessions and sheets of paper by who did the typing.
type Tally struct {
	Self     Figures `json:"self"`
	Assisted Figures `json:"assisted"`
	Unknown  Figures `json:"unknown,omitzero"` // the beginning of the session is not here
}

// Figures are counted together.
type Figures struct {
	Sessions int `json:"sessions"`
	Papers   int `json:"papers"`
}

func (t *Tally) add(c Count) {
	f := &t.Unknown
	switch c.Mode {
	case "self":
		f = &t.Self
	case "assisted":
		f = &t.Assisted
	}
	f.Sessions += c.Sessions
	f.Papers += c.Papers
}

// All returns the sum of a tally.
func (t Tally) All() Figures {
	return Figures{
		Sessions: t.Self.Sessions + t.Assisted.Sessions + t.Unknown.Sessions,
		Papers:   t.Self.Papers + t.Assisted.Papers + t.Unknown.Papers,
	}
}

// Summary counts the last days, today included.
func (r *Reports) Summary(ctx context.Context, days int) (Summary, error) {
	now := r.Now().In(r.Place)
	from := time.Date(now.Year(), now.Month(), now.Day()-days+1, 0, 0, 0, 0, r.Place)
	boxes, err := r.Boxes.Boxes(ctx)
	if err != nil {
		return Summary{}, fmt.Errorf("summary: %w", err)
	}
	counts, err := r.Counter.Counts(ctx, from.UTC())
	if err != nil {
		return Summary{}, fmt.Errorf("summary: %w", err)
	}
	last, err := r.Counter.LastEvents(ctx)
	if err != nil {
		return Summary{}, fmt.Errorf("summary: %w", err)
	}

	s := Summary{Time: now.UTC(), Branches: []Branch{}}
	branchOf := map[uint32]string{}
	branches := map[string]*Branch{}
	known := map[string]bool{} // branches whose DataUpTo is set
	for _, b := range boxes {
		branchOf[b.Number] = b.Branch
		br, ok := branches[b.Branch]
		if !ok {
			br = &Branch{Name: b.Branch, Days: []Day{}}
			branches[b.Branch] = br
		}
		br.Boxes = append(br.Boxes, boxOf(b))
		if !b.Revoked.IsZero() {
			continue
		}
		// A branch with two boxes is complete up to where the one that lags behind is.
		if upTo := dataUpTo(b, last[b.Number]); !known[b.Branch] || upTo.Before(br.DataUpTo) {
			br.DataUpTo, known[b.Branch] = upTo, true
		}
	}
	daysOf := map[string]map[string]*Day{}
	for _, c := range counts {
		br, ok := branches[branchOf[c.Box]]
		if !ok {
			continue
		}
		date := c.Hour.In(r.Place).Format(time.DateOnly)
		if daysOf[br.Name] == nil {
			daysOf[br.Name] = map[string]*Day{}
		}
		d, ok := daysOf[br.Name][date]
		if !ok {
			d = &Day{Date: date}
			daysOf[br.Name][date] = d
		}
		d.add(c)
		br.Total.add(c)
		s.Total.add(c)
	}
	for name, br := range branches {
		for _, d := range daysOf[name] {
			br.Days = append(br.Days, *d)
		}
		slices.SortFunc(br.Days, func(a, b Day) int { return strings.Compare(b.Date, a.Date) })
		s.Branches = append(s.Branches, *br)
	}
	slices.SortFunc(s.Branches, func(a, b Branch) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

func boxOf(b fleet.Box) Box {
	out := Box{
		Number: b.Number, Kiosks: b.Kiosks, Enrolled: !b.Enrolled.IsZero(), Revoked: !b.Revoked.IsZero(),
		Contact: b.Contact, Pending: b.Pending, Alarms: b.Alarms, Gaps: b.Gaps, Forks: b.Forks,
	}
	out.Oldest, _ = b.Oldest()
	if b.Report != nil {
		out.Dead, out.Disk = b.Report.Dead, b.Report.Disk.State
	}
	return out
}

// dataUpTo returns until when nothing of a box is missing: its last contact if its queue was empty then, else the time of
// the oldest event in it, of whatever stream. Of a box that does not say, it is its latest event.
func dataUpTo(b fleet.Box, last time.Time) time.Time {
	switch oldest, ok := b.Oldest(); {
	case b.Pending == 0 && b.Contact.After(last):
		return b.Contact
	case b.Pending > 0 && ok:
		return oldest
	}
	return last
}
