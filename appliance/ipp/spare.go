package ipp

import (
	"context"
	"time"
)

// spareFor is how long a connection waits for the next step of a job. Printers end connections that are idle, few in less
// than some seconds.
const spareFor = 2 * time.Second

// Prepare makes the connection on which the next Create and Send go, meanwhile, and returns at once. The printer's key is
// checked and nothing is said to it. When that fails they make their own, and tell. A connection that is not used is closed
// after two seconds.
func (c *Client) Prepare(ctx context.Context) {
	c.sparing.Lock()
	defer c.sparing.Unlock()
	if c.spare != nil || c.coming != nil {
		return
	}
	came := make(chan struct{})
	c.coming = came
	go func() {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
		l, err := c.open(ctx, c.address)
		if err == nil {
			c.keepSpare(l)
		}
		c.sparing.Lock()
		c.coming = nil
		c.sparing.Unlock()
		close(came)
	}()
}

// keepSpare keeps a connection for the next step of a job, in place of another.
func (c *Client) keepSpare(l *link) {
	c.sparing.Lock()
	before := c.spare
	c.spare = l
	c.sparing.Unlock()
	if before != nil {
		before.close()
	}
	time.AfterFunc(spareFor, func() {
		c.sparing.Lock()
		mine := c.spare == l
		if mine {
			c.spare = nil
		}
		c.sparing.Unlock()
		if mine {
			l.close()
		}
	})
}

// takeSpare returns the connection that was kept, also one that is just being made, else nil.
func (c *Client) takeSpare(ctx context.Context) *link {
	c.sparing.Lock()
	coming := c.coming
	c.sparing.Unlock()
	if coming != nil {
		select {
		case <-coming:
		case <-ctx.Done():
		}
	}
	c.sparing.Lock()
	defer c.sparing.Unlock()
	l := c.spare
	c.spare = nil
	return l
}
