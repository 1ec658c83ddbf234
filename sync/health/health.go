// Package health keeps the lights of a box: what works, what does not, and since when.
//
// Whoever finds out sets a light; pages show them all. A light is never a guess: what nobody has tried yet is Unknown.
package health

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Light names one of the things that are watched.
type Light string

// The lights of a box.
const (
	Network  Light = "network"  // the branch's LAN
	Hub      Light = "hub"      // the municipality's server
	Registry Light = "registry" // ANPR and SPID, as the hub sees them
	Printer  Light = "printer"
	Disk     Light = "disk"
	Clock    Light = "clock"
)

// Lights lists all lights in the order people read them.
func Lights() []Light { return []Light{Network, Hub, Registry, Printer, Disk, Clock} }

// State says how a thing is.
type State string

// The states. The zero value of a Status means Unknown too.
const (
	Unknown State = "unknown"
	Up      State = "up"
	Slow    State = "slow" // works, but people will wait
	Down    State = "down"
)

// Status is what a light shows.
type Status struct {
	State  State     `json:"state"`
	Since  time.Time `json:"since"`            // when State became what it is, UTC; zero for a light never set
	Detail string    `json:"detail,omitempty"` // a word from the list of the package that set it, such as "no_paper"
}

// Board holds the lights of one box. Make one with New; its methods may be called at the same time.
type Board struct {
	now func() time.Time

	mu       sync.Mutex
	lights   map[Light]Status
	watchers []chan struct{}
}

// New returns a board on which nothing is known yet.
func New(now func() time.Time) *Board { return &Board{now: now, lights: map[Light]Status{}} }

// Set says how a thing is. Saying the same state again does not change since when. Set never waits for a watcher.
func (b *Board) Set(l Light, s State, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.lights[l]
	if ok && old.State == s && old.Detail == detail {
		return
	}
	st := Status{State: s, Since: old.Since, Detail: detail}
	if !ok || old.State != s {
		st.Since = b.now().UTC()
	}
	b.lights[l] = st
	for _, w := range b.watchers {
		select {
		case w <- struct{}{}:
		default: // it has not looked since the last change: one look will show both
		}
	}
}

// Status returns what one light shows.
func (b *Board) Status(l Light) Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status(l)
}

// Snapshot returns what every light shows at one moment. The map is the caller's.
func (b *Board) Snapshot() map[Light]Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := map[Light]Status{}
	for _, l := range Lights() {
		m[l] = b.status(l)
	}
	return m
}

func (b *Board) status(l Light) Status {
	s, ok := b.lights[l]
	if !ok {
		s.State = Unknown
	}
	return s
}

// Watch returns a channel that holds a value whenever something changed since the last receive. It is never closed;
// after ctx has ended it holds nothing new.
func (b *Board) Watch(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = append(b.watchers, w)
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watchers = slices.DeleteFunc(b.watchers, func(c chan struct{}) bool { return c == w })
	})
	return w
}
