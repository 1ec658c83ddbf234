package ingest

import (
	"slices"
	"time"

	"sportello.example/sync/envelope"
)

// start names one start of a box, as far as its queue remembers.
type start struct {
	box   uint32
	epoch envelope.Epoch
	boot  uint32
}

// clocks is what is known of the clocks of boxes. A clock may be set several times.
type clocks map[start][]Dating

func (c clocks) add(d Dating) {
	k := start{d.ID.Box, d.ID.Chain.Epoch, d.Boot}
	if i := slices.IndexFunc(c[k], func(o Dating) bool { return o.Mono == d.Mono }); i >= 0 {
		c[k][i] = d
		return
	}
	c[k] = append(c[k], d)
}

// room reports whether another word on a clock is to be kept. Half of the room of one start is for those that come first,
// the other for those that come after twice the time: so there is one near every event, however often and for however
// long a box says something.
func (c clocks) room(d Dating) bool {
	known := c[start{d.ID.Box, d.ID.Chain.Epoch, d.Boot}]
	all := 0
	for k, ds := range c {
		if k.box == d.ID.Box && k.epoch == d.ID.Chain.Epoch {
			all += len(ds)
		}
	}
	latest := time.Duration(0)
	for _, o := range known {
		if o.Mono == d.Mono {
			return true
		}
		latest = max(latest, o.Mono)
	}
	return all < maxClocks && (len(known) < maxDatings/2 || len(known) < maxDatings && d.Mono/2 >= latest)
}

// of returns what is known of the clock nearest to a moment of a start, false when nothing is.
func (c clocks) of(id ChainID, boot uint32, mono time.Duration) (best Dating, ok bool) {
	for _, d := range c[start{id.Box, id.Chain.Epoch, boot}] {
		if !ok || (d.Mono-mono).Abs() < (best.Mono-mono).Abs() {
			best, ok = d, true
		}
	}
	return best, ok
}

// Happened returns when an event happened that is mono after the start which d dates; never after it was received.
func (d Dating) Happened(mono time.Duration, received time.Time) time.Time {
	t := d.New.Add(mono - d.Mono)
	if t.After(received) {
		return received.UTC()
	}
	return t.UTC()
}

// date says when an event happened. b is the branch it goes to.
//
// The box's clock counts when it agreed with the hub's. Else what the box learned of its clock in the same start counts,
// if it ever did. Else a clock that may be right, and at last the latest time that is known before, together with how
// long the box was on: then the order and the distances are right at least.
func (c clocks) date(r *Row, b *Branch, received time.Time) {
	good := believable(r.Wall, received)
	r.Certain = false
	d, dated := c.of(r.ID, r.Boot, r.Mono)
	switch {
	case r.Quality == envelope.Synced && good:
		r.Happened, r.Certain = r.Wall, true
	case dated && r.Boot > 0 && r.Judged != Unreadable && r.Missing == nil:
		r.Happened, r.Certain = d.Happened(r.Mono, received), true
	case r.Quality == envelope.Free && good:
		r.Happened = r.Wall
	default:
		r.Happened = received
		if t := b.Dated.Add(r.Mono); r.Boot > 0 && !b.Dated.IsZero() && t.Before(received) {
			r.Happened = t
		}
	}
}

// believable reports whether an event that was received at one time can have happened at another. A box that believes
// its clock can still be wrong; it cannot report what has not happened yet, nor what happened before there were boxes.
func believable(at, received time.Time) bool {
	return at.Before(received.Add(time.Hour)) && at.Year() >= 2026
}
