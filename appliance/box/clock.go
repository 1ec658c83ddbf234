package box

import (
	"sync"
	"time"

	"sportello.example/sync/health"
)

// believable is how far the box's clock may be from the hub's before the box stops believing its own.
const believable = 2 * time.Minute

// clock is the box's wall clock, with what the hub last said about it. A box has no battery: it may wake up in 1970,
// and a clock that somebody set wrong must neither expire what is fresh nor revive what is old.
type clock struct {
	now   func() time.Time
	board *health.Board

	mu     sync.Mutex
	known  bool
	offset time.Duration // hub minus box
}

// hubSaid compares the clocks. The hub's answer is as old as the line is slow, which believable leaves room for.
func (c *clock) hubSaid(t time.Time) {
	c.mu.Lock()
	c.known, c.offset = true, t.Sub(c.now()).Round(time.Second)
	ok := c.offset.Abs() <= believable
	c.mu.Unlock()
	if ok {
		c.board.Set(health.Clock, health.Up, "")
	} else {
		c.board.Set(health.Clock, health.Down, "wrong")
	}
}

// ok says whether the box believes its clock: not before the hub has confirmed it once.
func (c *clock) ok() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known && c.offset.Abs() <= believable
}

// hubTime is what the hub's clock shows now, as far as the box can know.
func (c *clock) hubTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.known && c.offset.Abs() > believable {
		return now.Add(c.offset)
	}
	return now
}
