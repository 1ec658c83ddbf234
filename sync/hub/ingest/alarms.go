package ingest

import (
	"fmt"
	"strings"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// The kinds of an Alarm. The words are stored.
const (
	AlarmFork       = "fork"       // two histories of one chain: a cloned or restored disk
	AlarmGap        = "gap"        // the box found events missing, or something was begun anew
	AlarmAbsent     = "absent"     // events that never come
	AlarmDropped    = "dropped"    // events let go for want of room
	AlarmRefused    = "refused"    // an event that the hub does not take
	AlarmDead       = "dead"       // an event that the box can never deliver
	AlarmEpoch      = "epoch"      // the box began a new numbering, and not because it was new
	AlarmNotOpened  = "not_opened" // what is sealed does not open
	AlarmUnreadable = "unreadable" // what is no event
	AlarmOtherBox   = "other_box"  // events that another box has queued
	AlarmPrinter    = "printer"    // a printer of the branch is not what it was: see printerAlarms
)

// goodReasons are those for which a box begins an epoch without anything being wrong.
var goodReasons = map[string]bool{"": true, "new": true, "first": true, "upgraded": true}

// printerAlarms says in words what a box tells of its printers.
var printerAlarms = map[string]string{
	"key":       "an adopted printer answers with another key: its program was updated, it was replaced, or somebody pretends to be it",
	"identity":  "another machine answers at the address of an adopted printer",
	"duplicate": "two machines say that they are the same printer",
	"sheet":     "a sheet of a visit that is over may still come out of a printer",
	"risk":      "the time is ending, or over, for which somebody accepted a printer without encryption",
}

// alarmOf returns what somebody should look at when an event comes in, nil when nothing.
func alarmOf(k event.Kind, d event.Detail) *Alarm {
	about := word(string(d.Epoch)) + "/" + word(d.Stream)
	key := fmt.Sprintf("%s/%d", about, d.From)
	switch k {
	case event.EpochBegun:
		if goodReasons[d.Reason] {
			return nil
		}
		return &Alarm{Kind: AlarmEpoch, Key: word(string(d.Epoch)), Text: "the box began to number its events anew: " + word(d.Reason)}
	case event.Gap:
		return &Alarm{Kind: AlarmGap, Key: key, Text: fmt.Sprintf("the box found %d events of %s missing from number %d on: %s", d.Count, about, d.From, word(d.Reason))}
	case event.QueueDropped:
		return &Alarm{Kind: AlarmDropped, Key: key, Text: fmt.Sprintf("the box let %d events of %s go for want of room: %s", d.Count, about, word(d.Reason))}
	case event.EventDead:
		return &Alarm{Kind: AlarmDead, Key: key, Text: fmt.Sprintf("the box can never deliver number %d of %s: %s", d.From, about, word(d.Reason))}
	case event.PrinterAlarm:
		text := printerAlarms[d.Reason]
		if text == "" {
			return nil
		}
		return &Alarm{Kind: AlarmPrinter, Key: d.Reason, Text: text + "; the branch's staff page says more"}
	case event.EventsLost, event.DatabaseSetAside:
		return &Alarm{Kind: AlarmGap, Key: string(k), Text: "the box reports " + string(k)}
	}
	return nil
}

// otherBox is the alarm for events that say they were queued by another box than delivers them. They are stored all the
// same: a data folder goes with whoever has it.
func otherBox(writer uint32) *Alarm {
	return &Alarm{
		Kind: AlarmOtherBox, Key: fmt.Sprint(writer),
		Text: fmt.Sprintf("the box delivers the queue of box %d: a data folder was copied and enrolled twice, or moved to another box", writer),
	}
}

// absent returns the alarm for a stretch that never comes, nil when nothing was lost.
func absent(c envelope.Chain, seq uint64, m *envelope.Missing) *Alarm {
	a := &Alarm{
		Kind: AlarmAbsent, Key: fmt.Sprintf("%s/%d", c, seq),
		Text: fmt.Sprintf("numbers %d to %d of %s never come: %s", seq, seq+m.Count-1, c, m.Reason),
	}
	switch m.Reason {
	case envelope.RolledUp: // counted in other events
		return nil
	case envelope.Refused:
		a.Kind = AlarmRefused
	case envelope.Dropped:
		a.Kind = AlarmDropped
	}
	return a
}

// word lets a word of a closed vocabulary through, and nothing else that a box may have written there.
func word(s string) string {
	ok := strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-' && r != ' '
	}) < 0
	if s == "" || len(s) > 64 || !ok {
		return "?"
	}
	return s
}
