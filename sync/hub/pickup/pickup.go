// Package pickup hands back what citizens chose and left behind while their branch had no line: once, to whoever types
// the code that was printed for them.
package pickup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sportello.example/provisioning/throttle"
	"sportello.example/sync/wire"
)

const (
	// CodeLength is the number of characters of a pick-up code, all from wire.PickupAlphabet.
	CodeLength = 6
	// Keep is how long a request waits to be collected.
	Keep = 30 * 24 * time.Hour
	// Again is for how long the branch that collected a request may ask for it again: the answer may get lost, and a
	// login may fail and be begun anew.
	Again = 15 * time.Minute
)

var (
	// ErrNone means that nothing waits under that code, or no longer.
	ErrNone = errors.New("no such request")
	// ErrTooMany means that this box has tried too many wrong codes. It heals in minutes.
	ErrTooMany = errors.New("too many wrong pick-up codes")
)

// Store keeps requests.
type Store interface {
	// Collect marks the request left under code as collected by box and returns it. One that was collected can be
	// collected again by the same box until Again has passed. It fails with ErrNone.
	Collect(ctx context.Context, code string, box uint32, now time.Time) (wire.Request, error)
}

// Desk hands requests back.
type Desk struct {
	Store Store
	Now   func() time.Time
	// Wrong counts wrong codes by box.
	Wrong *throttle.Failures
}

// Collect returns the request left under code, on behalf of somebody at a kiosk of box. Case and spaces in the code do
// not matter. It fails with ErrNone or ErrTooMany.
func (d *Desk) Collect(ctx context.Context, box uint32, code string) (wire.Request, error) {
	key := strconv.FormatUint(uint64(box), 10)
	if d.Wrong.Blocked(key) {
		return wire.Request{}, ErrTooMany
	}
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	r, err := wire.Request{}, ErrNone
	if Valid(code) {
		r, err = d.Store.Collect(ctx, code, box, d.Now())
	}
	if errors.Is(err, ErrNone) {
		d.Wrong.Add(key)
	}
	if err != nil {
		return wire.Request{}, fmt.Errorf("collect for box %d: %w", box, err)
	}
	return r, nil
}

// Valid reports whether code could be a pick-up code.
func Valid(code string) bool {
	if len(code) != CodeLength {
		return false
	}
	for i := range len(code) {
		if strings.IndexByte(wire.PickupAlphabet, code[i]) < 0 {
			return false
		}
	}
	return true
}
