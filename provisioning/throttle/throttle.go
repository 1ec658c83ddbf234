// Package throttle counts failures, such as wrong codes, and says when to stop listening to who makes them.
package throttle

import (
	"maps"
	"sync"
	"time"
)

// maxKeys bounds the memory: beyond it counts are forgotten. Whoever commands so many addresses is stopped by the
// length of what they must guess.
const maxKeys = 10_000

// Failures allows Max failures of one key, such as an address or a box, in any Window. Each replica of a hub counts for
// itself: whoever talks to two of them has twice as many tries. Its methods may be called at the
// same time. The counts live in memory only.
type Failures struct {
	Now    func() time.Time
	Max    int
	Window time.Duration

	mu    sync.Mutex
	keys  map[string]count
	swept time.Time
}

type count struct {
	n     int
	since time.Time
}

// Blocked reports whether key has used up its failures.
func (f *Failures) Blocked(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.keys[key]
	return ok && c.n >= f.Max && !f.over(c)
}

// Add counts a failure of key.
func (f *Failures) Add(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.Now()
	if f.keys == nil {
		f.keys = map[string]count{}
	}
	c, ok := f.keys[key]
	if !ok || f.over(c) {
		c = count{since: now}
	}
	c.n++
	switch {
	case len(f.keys) >= maxKeys:
		clear(f.keys)
	case now.Sub(f.swept) >= f.Window || now.Before(f.swept):
		f.swept = now
		maps.DeleteFunc(f.keys, func(_ string, c count) bool { return f.over(c) })
	}
	f.keys[key] = c
}

// over reports whether a count is too old to matter, also when the clock was set back.
func (f *Failures) over(c count) bool {
	age := f.Now().Sub(c.since)
	return age >= f.Window || age < 0
}
