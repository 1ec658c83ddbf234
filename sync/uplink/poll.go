package uplink

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

const (
	pollGrace = 5 * time.Second // how much longer than asked the hub may take to answer a long poll
	leastCut  = 2 * time.Second // a poll that fails sooner was not cut for its length
)

// poll makes a long poll: do asks the hub to wait so long, in whole seconds. Municipal proxies and address translators
// cut calls on which nothing moves for a while. Then poll asks again without waiting, so that the caller has an answer,
// and waits for less from then on, slowly more as long as it gets through.
func (c *Client) poll(ctx context.Context, wait time.Duration, do func(time.Duration) error) error {
	if most := time.Duration(c.cuts.Load()); most > 0 {
		wait = min(wait, most)
	}
	wait = wait.Truncate(time.Second)
	start := c.o.Now()
	err := do(wait)
	took := c.o.Now().Sub(start)
	switch {
	case err == nil:
		if most := c.cuts.Load(); most > 0 && took >= wait && wait > 0 {
			c.cuts.CompareAndSwap(most, most+int64(time.Second))
		}
		return nil
	case ctx.Err() != nil || wait < leastCut || took < leastCut || !cut(err):
		return err
	}
	c.cuts.Store(int64(max(leastCut, min(wait, took)*3/4)))
	return do(0)
}

// cut reports whether err may be due to somebody between the box and the hub who does not like to wait.
func cut(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Status == http.StatusBadGateway || s.Status == http.StatusGatewayTimeout || s.Status == http.StatusRequestTimeout
	}
	return errors.Is(err, ErrOffline)
}

// pollLimit is the hard end of a call that asks the hub to wait so long.
func (c *Client) pollLimit(wait time.Duration) time.Duration {
	if wait == 0 {
		return c.o.Timeout
	}
	return wait + min(pollGrace, c.o.Timeout)
}

// seconds writes a time in whole seconds.
func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
