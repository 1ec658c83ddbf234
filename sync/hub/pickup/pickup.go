// Package pickup hands back what citizens chose and left behind while their branch had no line, to whoever types the
// code that was printed for them, until they have the certificate they chose.
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
	// Again is for how long the box that got the certificate for a request may ask for it again: the answer may have
	// been lost.
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
	// FindRequest returns the request left under code, for box. One that was collected is there for the box that
	// collected it only, until Again has passed. It fails with ErrNone.
	FindRequest(ctx context.Context, code string, box uint32, now time.Time) (wire.Request, error)
	// TakeRequest marks the request that FindRequest would return as collected by box. It fails with ErrNone.
	TakeRequest(ctx context.Context, code string, box uint32, now time.Time) error
}

// Desk hands requests back.
type Desk struct {
	Store Store
	Now   func() time.Time
	// Wrong counts wrong codes by box.
	Wrong *throttle.Failures
}

// Collect returns the request left under code, on behalf of somebody at a kiosk of box. Case and spaces in the code do
// not matter. It changes nothing: people come back when the login or the registry fails them. It fails with ErrNone or
// ErrTooMany.
func (d *Desk) Collect(ctx context.Context, box uint32, code string) (r wire.Request, err error) {
	err = d.try(box, code, func(code string) error {
		r, err = d.Store.FindRequest(ctx, code, box, d.Now())
		return err
	})
	if err != nil {
		return wire.Request{}, fmt.Errorf("collect for box %d: %w", box, err)
	}
	return r, nil
}

// Answered says that box has been given the certificate for the request left under code, which is thereby used up. It
// fails as Collect does.
func (d *Desk) Answered(ctx context.Context, box uint32, code string) error {
	err := d.try(box, code, func(code string) error { return d.Store.TakeRequest(ctx, code, box, d.Now()) })
	if err != nil {
		return fmt.Errorf("request answered at box %d: %w", box, err)
	}
	return nil
}

// try does what is to be done with a code and counts the wrong ones.
func (d *Desk) try(box uint32, code string, do func(code string) error) error {
	key := strconv.FormatUint(uint64(box), 10)
	if d.Wrong.Blocked(key) {
		return ErrTooMany
	}
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	err := ErrNone
	if Valid(code) {
		err = do(code)
	}
	if errors.Is(err, ErrNone) {
		d.Wrong.Add(key)
	}
	return err
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
