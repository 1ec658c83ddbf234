// Package clock is a box's idea of what time it is. A box has no battery: it may wake up in 1970, and a clock that
// somebody set wrong must neither expire what is fresh nor revive what is old.
//
// A Clock says when something happened three times over (envelope.Stamp): by the wall clock, by the time since the
// program started, and how far the former can be believed. What the hub says sets it: from then on it counts on from the
// hub's word by the monotonic clock, whatever is done to the machine's.
package clock

import (
	"sync"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/health"
)

const (
	// Believable is how far the machine's clock may be from the hub's before the box stops believing it.
	Believable = 2 * time.Minute
	// Step is from which difference on the clock is set anew: less is what a slow answer of the hub makes.
	Step = 2 * time.Second
)

// Config is what a Clock is made of.
type Config struct {
	// Now is the machine's wall clock.
	Now func() time.Time
	// Machine is a clock whose monotonic reading is right whatever is done to Now; nil: Now.
	Machine func() time.Time
	// Floor is a time that has surely passed, such as the date of the program: see Clock.Passed.
	Floor time.Time
	// Board gets the light health.Clock; nil: none.
	Board *health.Board
}

// Clock is a box's clock, from the start of the program on. It is safe for concurrent use. Make one with New.
type Clock struct {
	cfg   Config
	start time.Time // with its monotonic reading

	mu      sync.Mutex // guards the fields that follow
	floor   time.Time
	known   bool          // the hub has said what time it is
	learned time.Time     // what it said …
	at      time.Duration // … and when that was, since start
	last    event.Clock   // what was set last
}

// New returns a clock that has just started.
func New(cfg Config) *Clock {
	if cfg.Machine == nil {
		cfg.Machine = cfg.Now
	}
	return &Clock{cfg: cfg, start: cfg.Machine(), floor: cfg.Floor}
}

// Mono returns the time since the clock was made. It never goes back, whatever is done to the wall clock.
func (c *Clock) Mono() time.Duration { return max(0, c.cfg.Machine().Sub(c.start)) }

// Passed says that t, which comes from somebody who knows (a signature of the hub, a certificate, the compiler), has
// passed: a clock that shows less is wrong.
func (c *Clock) Passed(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.floor) {
		c.floor = t
	}
}

// Floor returns the latest time that has surely passed.
func (c *Clock) Floor() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floor
}

// Stamp says when something that happens now happens, in start number boot of the box.
func (c *Clock) Stamp(boot uint32) envelope.Stamp {
	mono, now := c.Mono(), c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, quality := c.wall(now, mono)
	return envelope.Stamp{Wall: wall.UTC().Truncate(time.Millisecond), Boot: boot, Mono: mono.Truncate(time.Millisecond), Quality: quality}
}

// wall returns what the box takes the time to be. The caller holds the lock.
func (c *Clock) wall(now time.Time, mono time.Duration) (time.Time, envelope.Quality) {
	switch {
	case c.known:
		return c.learned.Add(mono - c.at), envelope.Synced
	case now.Before(c.floor):
		return now, envelope.Unknown
	default:
		return now, envelope.Free
	}
}

// Quality says how far the wall clock can be believed now.
func (c *Clock) Quality() envelope.Quality { return c.Stamp(0).Quality }

// Plausible says whether HubTime may be right: the hub has said it, or nothing is known that speaks against it.
func (c *Clock) Plausible() bool { return c.Quality() != envelope.Unknown }

// HubSaid takes up that the hub's clock showed t, in an answer that took so long. It returns what has changed, and true,
// when the time was learned for the first time since the start, or is off by more than Step; Boot is for the caller to
// fill in. It sets the light.
func (c *Clock) HubSaid(t time.Time, took time.Duration) (set event.Clock, changed bool) {
	mono, now := c.Mono(), c.cfg.Now()
	c.mu.Lock()
	t = t.UTC().Add(max(0, took) / 2) // it was said about half way
	old, _ := c.wall(now, mono)
	// Nobody knows which part of the time the answer was on its way: within that the clocks agree.
	if !c.known || t.Sub(old).Abs() > Step+took/2 {
		c.known, c.learned, c.at = true, t, mono
		c.last = event.Clock{Mono: mono.Milliseconds(), Old: old.UTC().Truncate(time.Millisecond), New: t.Truncate(time.Millisecond)}
		set, changed = c.last, true
	}
	c.mu.Unlock()
	c.Look()
	return set, changed
}

// Last returns what HubSaid last returned as changed, false when nothing was learned yet: a new epoch of the queue is
// told it again.
func (c *Clock) Last() (event.Clock, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.known
}

// OK says whether the machine's clock can be believed: not before the hub has confirmed it once.
func (c *Clock) OK() bool {
	known, off := c.off()
	return known && off.Abs() <= Believable
}

// off returns how far the machine's clock is behind the hub's, false when the hub has not said.
func (c *Clock) off() (known bool, off time.Duration) {
	mono, now := c.Mono(), c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return false, 0
	}
	return true, c.learned.Add(mono - c.at).Sub(now)
}

// HubTime is what the hub's clock shows now, as far as the box can know: the machine's time while that is believable.
func (c *Clock) HubTime() time.Time {
	now := c.cfg.Now()
	if known, off := c.off(); known && off.Abs() > Believable {
		return now.Add(off)
	}
	return now
}

// Look sets the light: HubSaid does it, and somebody may change the machine's clock between two words of the hub.
func (c *Clock) Look() {
	known, off := c.off()
	switch {
	case c.cfg.Board == nil:
	case known && off.Abs() > Believable:
		c.cfg.Board.Set(health.Clock, health.Down, "wrong")
	case known:
		c.cfg.Board.Set(health.Clock, health.Up, "")
	case c.cfg.Now().Before(c.Floor()):
		c.cfg.Board.Set(health.Clock, health.Down, "wrong")
	case c.cfg.Board.Status(health.Clock).State == health.Down: // somebody has set it since
		c.cfg.Board.Set(health.Clock, health.Unknown, "")
	}
}
