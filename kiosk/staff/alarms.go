package staff

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// AlarmKind says what somebody must look at. A text for it is staff.alarm.<kind>.
type AlarmKind string

// The alarms.
const (
	AlarmKey       AlarmKind = "key"       // an adopted printer answers with another key: Old and New fingerprints
	AlarmIdentity  AlarmKind = "identity"  // another machine answers at an adopted printer's address
	AlarmDuplicate AlarmKind = "duplicate" // one instance or UUID at two addresses: Old the known, New the other
	AlarmSheet     AlarmKind = "sheet"     // a sheet of a visit that is over may still come out of this printer
	AlarmUncertain AlarmKind = "uncertain" // nobody knows what came out
	AlarmRisk      AlarmKind = "risk"      // a risk acceptance ends within 30 days, or has ended: New the day, 2006-01-02
	AlarmName      AlarmKind = "name"      // another machine had the box's name: it is called New now
)

// Alarm is something that somebody must look at.
type Alarm struct {
	Kind    AlarmKind
	Subject string // printer's UUID, or the box's name
	Name    string // for display
	Old     string
	New     string
	At      time.Time
}

// maxAlarms is how many alarms are kept: an attacker on the network must not fill the memory.
const maxAlarms = 100

// Alarms keeps what somebody must look at, in RAM. The zero value works. Its methods may be called from any goroutine.
type Alarms struct {
	mu     sync.Mutex
	alarms []Alarm
}

// Raise adds an alarm, and reports whether it is new: one of the same kind, subject, Old and New is raised once until it
// is cleared. Of the box's names only the last one is kept: who claims one after the other must not fill the list, for
// then nobody would be told of another key.
func (a *Alarms) Raise(al Alarm) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if al.Kind == AlarmName {
		if i := slices.IndexFunc(a.alarms, func(o Alarm) bool { return o.Kind == AlarmName }); i >= 0 {
			a.alarms[i] = al
			return false
		}
	}
	if len(a.alarms) >= maxAlarms || slices.ContainsFunc(a.alarms, func(o Alarm) bool {
		return o.Kind == al.Kind && o.Subject == al.Subject && o.Old == al.Old && o.New == al.New
	}) {
		return false
	}
	a.alarms = append(a.alarms, al)
	return true
}

// Clear removes the alarms of a kind about a subject.
func (a *Alarms) Clear(kind AlarmKind, subject string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alarms = slices.DeleteFunc(a.alarms, func(o Alarm) bool { return o.Kind == kind && o.Subject == subject })
}

// List returns the alarms, newest first.
func (a *Alarms) List() []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := slices.Clone(a.alarms)
	slices.SortStableFunc(l, func(x, y Alarm) int { return cmp.Or(y.At.Compare(x.At), cmp.Compare(x.Subject, y.Subject)) })
	return l
}
