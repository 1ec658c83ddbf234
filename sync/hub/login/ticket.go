package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/wire"
)

// tickets are what is known of challenges. The box is part of their names, so that no box can touch another one's.
var tickets = moment.Space{Name: "login", PerPart: perBox}

func name(c crossdevice.Challenge) string { return fmt.Sprintf("%d/%x", c.Box, c.Nonce) }

// ticket is what is known of one challenge.
type ticket struct {
	State wire.LoginState `json:"state"`
	Seen  time.Time       `json:"seen"` // when a phone first came, zero before

	forget time.Time
	// After a login, and until the time beside it.
	identity *identity
	until    time.Time
}

// identity is who logged in.
type identity struct {
	Token      []byte `json:"token"` // sealed for the box
	FiscalCode string `json:"fiscal_code"`
}

// String keeps a citizen out of logs.
func (identity) String() string { return "***" }

// GoString keeps a citizen out of logs.
func (identity) GoString() string { return "***" }

func (t *ticket) read(e moment.Entry) error {
	if err := json.Unmarshal(e.Value, t); err != nil {
		return fmt.Errorf("stored login: %w", err)
	}
	t.forget = e.Until
	if e.Secret != nil {
		t.identity, t.until = &identity{}, e.SecretUntil
		if err := json.Unmarshal(e.Secret, t.identity); err != nil {
			return errors.New("stored login cannot be read") // the cause might quote it
		}
	}
	return nil
}

func (t *ticket) write(e *moment.Entry) (err error) {
	if e.Value, err = json.Marshal(t); err != nil {
		return fmt.Errorf("store login: %w", err)
	}
	e.Until, e.Secret, e.SecretUntil = t.forget, nil, time.Time{}
	if t.identity != nil {
		e.SecretUntil = t.until
		if e.Secret, err = json.Marshal(t.identity); err != nil {
			return errors.New("login cannot be stored")
		}
	}
	return nil
}

// ticket returns the ticket of a challenge. It fails with moment.ErrNone.
func (d *Desk) ticket(ctx context.Context, c crossdevice.Challenge) (t ticket, err error) {
	e, err := d.cfg.Moments.Read(ctx, tickets, name(c))
	if err != nil {
		return ticket{}, err
	}
	return t, t.read(e)
}

// change hands the ticket of a challenge, a new one if need be, to do, and keeps what do makes of it. It fails with
// ErrBusy, and with do's error: then nothing changes.
func (d *Desk) change(ctx context.Context, c crossdevice.Challenge, do func(*ticket) error) error {
	now := d.cfg.Now()
	err := d.cfg.Moments.Change(ctx, tickets, name(c), func(e *moment.Entry, there bool) error {
		t := ticket{State: wire.LoginWaiting, forget: now.Add(remember)}
		if there {
			if err := t.read(*e); err != nil {
				return err
			}
		}
		if err := do(&t); err != nil {
			return err
		}
		e.Part = strconv.FormatUint(uint64(c.Box), 10)
		return t.write(e)
	})
	if errors.Is(err, moment.ErrFull) {
		return ErrBusy
	}
	return err
}

// open returns nil while a login can still answer the challenge.
func (t *ticket) open() error {
	switch t.State {
	case wire.LoginWaiting:
		return nil
	case wire.LoginDone:
		return ErrUsed
	default:
		return ErrCancelled
	}
}

// become ends the ticket's wait. What was known of a citizen is forgotten.
func (t *ticket) become(s wire.LoginState) {
	t.State, t.identity, t.until = s, nil, time.Time{}
}

// outlive keeps a ticket for as long as the challenge c could be shown to the hub again.
func (t *ticket) outlive(c crossdevice.Challenge, now time.Time) {
	if c.T == 0 {
		t.forget = now.Add(rememberOld)
	}
}

// stored is a Visit as it is kept between two pages.
type stored struct {
	Branch       string                `json:"branch"`
	Kiosk        int                   `json:"kiosk"`
	ClockUnknown bool                  `json:"clock_unknown"`
	Until        time.Time             `json:"until"`
	Challenge    crossdevice.Challenge `json:"challenge"`
}

// MarshalJSON makes a Visit fit for keeping. It is nobody's to read but UnmarshalJSON's.
func (v Visit) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{v.Branch, v.Kiosk, v.ClockUnknown, v.Until, v.challenge})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Visit) UnmarshalJSON(b []byte) error {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("stored visit: %w", err)
	}
	*v = Visit{s.Branch, s.Kiosk, s.ClockUnknown, s.Until, s.Challenge}
	return nil
}
