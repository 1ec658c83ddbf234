package server

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/fleet"
)

// boxRow is one box as "hub box list --json" prints it. Fields are only ever added.
type boxRow struct {
	Box      uint32         `json:"box"`
	Branch   string         `json:"branch"`
	Kiosks   int            `json:"kiosks"`
	State    string         `json:"state"`             // waiting | enrolled | revoked
	Contact  *time.Time     `json:"contact,omitempty"` // when it was last heard of: whether its line is up
	Queued   int            `json:"queued"`            // -1: not known
	Streams  []streamRow    `json:"streams"`           //
	Oldest   *time.Time     `json:"oldest,omitempty"`  // of what is queued, by the hub's clock
	LastAck  *time.Time     `json:"last_ack,omitempty"`
	Dead     int            `json:"dead"`
	BoxGaps  int            `json:"box_gaps"` // found by the box
	Gaps     int            `json:"gaps"`     // at the hub: stretches of events that never come
	Forks    int            `json:"forks"`
	Alarms   int            `json:"alarms"` // open ones
	Dropped  uint64         `json:"dropped"`
	Epoch    envelope.Epoch `json:"epoch,omitempty"`
	Disk     string         `json:"disk,omitempty"` // ok | warn | high | full
	Used     int64          `json:"disk_used"`      // bytes
	Limit    int64          `json:"disk_limit"`     // bytes
	Desired  uint64         `json:"desired"`        // version of the desired state that it follows
	Release  string         `json:"release,omitempty"`
	Clock    string         `json:"clock,omitempty"` // synced | free | unknown
	DriftMS  int64          `json:"drift_ms"`        // its clock minus the hub's
	SealKeys []string       `json:"seal_keys,omitempty"`
}

// streamRow is one stream of a boxRow.
type streamRow struct {
	Stream envelope.Stream `json:"stream"`
	Queued int             `json:"queued"`
	Kept   int             `json:"kept"`
}

func rowOf(b fleet.Box) boxRow {
	r := boxRow{
		Box: b.Number, Branch: b.Branch, Kiosks: b.Kiosks, State: "waiting", Queued: b.Pending, Streams: []streamRow{},
		Gaps: b.Gaps, Forks: b.Forks, Alarms: b.Alarms, DriftMS: b.Drift.Milliseconds(),
	}
	switch {
	case !b.Revoked.IsZero():
		r.State = "revoked"
	case !b.Enrolled.IsZero():
		r.State = "enrolled"
	}
	if !b.Contact.IsZero() {
		r.Contact = &b.Contact
	}
	if t, ok := b.Oldest(); ok {
		r.Oldest = &t
	}
	q := b.Report
	if q == nil {
		return r
	}
	for _, s := range q.Streams {
		r.Streams = append(r.Streams, streamRow{s.Stream, s.Queued, s.Kept})
		if s.LastAck == nil {
			continue
		}
		if at := s.LastAck.Add(-b.Drift).UTC(); r.LastAck == nil || at.After(*r.LastAck) {
			r.LastAck = &at
		}
	}
	r.Dead, r.BoxGaps, r.Dropped, r.Epoch, r.Desired, r.Release, r.Clock, r.SealKeys = q.Dead, q.Gaps, q.Dropped, q.Epoch, q.State, q.Release, q.Clock, q.SealKeys
	r.Disk, r.Used, r.Limit = q.Disk.State, q.Disk.Used, q.Disk.Limit
	return r
}

// printBoxes prints the fleet: a line for each box, or JSON for programs.
func printBoxes(out io.Writer, bs []fleet.Box, place *time.Location, now time.Time, asJSON bool) error {
	rows := make([]boxRow, len(bs))
	for i, b := range bs {
		rows[i] = rowOf(b)
	}
	if asJSON {
		return json.NewEncoder(out).Encode(rows)
	}
	if len(bs) == 0 {
		_, err := fmt.Fprintln(out, "no boxes yet: “hub box add” prepares one")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "BOX\tBRANCH\tKIOSKS\tSTATE\tLAST CONTACT\tQUEUED\tOLDEST\tLAST ACK\tDEAD\tGAPS\tFORKS\tALARMS\tEPOCH\tDISK\tDESIRED")
	for _, r := range rows {
		state := r.State
		if state == "waiting" {
			state = "waits for enrolment"
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			r.Box, r.Branch, r.Kiosks, state, orNever(r.Contact, place), queuedText(r), age(r.Oldest, now), orDash(r.LastAck, place),
			r.Dead, r.Gaps+r.BoxGaps, r.Forks, r.Alarms, short(string(r.Epoch)), diskText(r), version(r.Desired))
	}
	return w.Flush()
}

func orNever(t *time.Time, place *time.Location) string {
	if t == nil {
		return "never"
	}
	return t.In(place).Format("2006-01-02 15:04")
}

func orDash(t *time.Time, place *time.Location) string {
	if t == nil {
		return "-"
	}
	return orNever(t, place)
}

// queuedText says how many events wait, and of which streams: "12 (legal 2, stats 10)".
func queuedText(r boxRow) string {
	if r.Queued < 0 {
		return "-"
	}
	var parts []string
	for _, s := range r.Streams {
		if s.Queued > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", s.Stream, s.Queued))
		}
	}
	if len(parts) == 0 {
		return strconv.Itoa(r.Queued)
	}
	return fmt.Sprintf("%d (%s)", r.Queued, strings.Join(parts, ", "))
}

// age says how long ago something was.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch d := max(0, now.Sub(*t)); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// short is enough of an epoch to tell it from another by eye.
func short(s string) string {
	if s == "" {
		return "-"
	}
	return s[:min(8, len(s))]
}

func diskText(r boxRow) string {
	switch {
	case r.Disk == "":
		return "-"
	case r.Limit > 0:
		return fmt.Sprintf("%s %d%%", r.Disk, r.Used*100/r.Limit)
	}
	return r.Disk
}

func version(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}
