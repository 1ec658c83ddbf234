// Package login pairs a kiosk with the phone of the citizen standing at it.
//
// A phone brings the challenge it read from a kiosk's QR (see package crossdevice). The Desk says which kiosk that is,
// lets one login only answer it, gives the phone the code to type there, and holds the citizen's identity, sealed for
// the box, until the box has fetched it. Everything is gone within minutes. It is kept in a moment.Store: in the memory
// of a hub alone, where a restart forgets all logins, or where all hubs find it.
package login

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sportello.example/sync/citizen"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/wire"
)

// Times and numbers of a Desk.
const (
	MaxWait = 30 * time.Second // the longest Result waits

	maxSkew     = 15 * time.Minute // between a box's clock and the hub's
	identityFor = 10 * time.Minute // how long after a login the hub may act for the citizen
	remember    = 45 * time.Minute // how long a challenge is known to have been used: longer than its T is accepted
	rememberOld = 12 * time.Hour   // the same for a challenge without a time, whose age nobody knows
	perBox      = 1024             // challenges remembered for a box
	sweepEvery  = 30 * time.Second
)

// The reasons why a phone gets no code.
var (
	ErrForged    = errors.New("QR not made by a box of this hub")
	ErrRevoked   = errors.New("QR of a box that is not enrolled any more")
	ErrExpired   = errors.New("QR expired")
	ErrUsed      = errors.New("QR already used")
	ErrCancelled = errors.New("login cancelled")
	ErrBusy      = errors.New("too many logins at this box")
)

// ErrMalformed means that a box asked for something that is no nonce.
var ErrMalformed = errors.New("not a nonce")

// ErrNobody means that nobody has logged in with a challenge, or no longer.
var ErrNobody = errors.New("nobody has logged in")

// ErrUnknownBox is for Boxes to answer.
var ErrUnknownBox = errors.New("box not enrolled")

// Boxes knows the boxes of this hub.
type Boxes interface {
	// LoginBox returns what a login at a box needs to know, or ErrUnknownBox when there is no such box or it is revoked.
	LoginBox(ctx context.Context, number uint32) (Box, error)
}

// Box is one enrolled box.
type Box struct {
	Branch string          // as citizens call it: "Biblioteca Harar"
	Epoch  uint16          // of its keys; the one before is accepted too, for challenges made just before a change
	Key    *ecdh.PublicKey // X25519, tokens are sealed to it
	Drift  time.Duration   // its clock minus the hub's, as last seen; 0 when not known
}

// Config is what a Desk is made of.
type Config struct {
	Master []byte             // 32 bytes that the keys of all boxes are derived from
	Key    ed25519.PrivateKey // signs tokens
	Boxes  Boxes
	// Moments is where logins under way are kept; nil: in memory of the Desk's own.
	Moments moment.Store
	Now     func() time.Time
	Log     *slog.Logger
}

// Visit is one phone's look at one challenge: where its citizen says to be.
type Visit struct {
	Branch       string
	Kiosk        int
	ClockUnknown bool      // the box does not believe its clock, so nobody can say how old the QR is
	Until        time.Time // when the kiosk will stop waiting for the code, as far as the hub can tell

	challenge crossdevice.Challenge
}

// Box returns the number of the box that made the challenge.
func (v Visit) Box() uint32 { return v.challenge.Box }

// Same reports whether w is a look at the same challenge.
func (v Visit) Same(w Visit) bool {
	return v.challenge.Box == w.challenge.Box && v.challenge.Nonce == w.challenge.Nonce
}

// Desk pairs kiosks and phones. It may be used by several goroutines.
type Desk struct{ cfg Config }

// New returns a Desk.
func New(cfg Config) (*Desk, error) {
	if len(cfg.Master) != 32 || len(cfg.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("login desk: needs a master key of 32 bytes and an Ed25519 key")
	}
	if cfg.Moments == nil {
		cfg.Moments = moment.New(cfg.Now)
	}
	return &Desk{cfg: cfg}, nil
}

// Run forgets what is over, every half minute, until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.cfg.Moments.Sweep(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Log.WarnContext(ctx, "logins that are over not forgotten", "err", err, "retry_in", sweepEvery)
			}
		}
	}
}

// Open reads the challenge that a phone brought. It changes nothing: people scan a QR twice. The errors are ErrForged,
// ErrRevoked, ErrExpired, ErrUsed, ErrCancelled, ErrBusy, or that of Boxes or Moments.
func (d *Desk) Open(ctx context.Context, encoded string) (Visit, error) {
	var box Box
	var boxErr error
	c, err := crossdevice.Decode(encoded, func(number uint32, epoch uint16) (crossdevice.Keys, bool) {
		if box, boxErr = d.cfg.Boxes.LoginBox(ctx, number); boxErr != nil {
			// Whether an unknown box's QR is a revoked box's or an invention, only the tag can tell.
			return crossdevice.Derive(d.cfg.Master, number, epoch), errors.Is(boxErr, ErrUnknownBox)
		}
		ok := epoch == box.Epoch || box.Epoch > 0 && epoch == box.Epoch-1
		return crossdevice.Derive(d.cfg.Master, number, epoch), ok
	})
	switch {
	case boxErr != nil && !errors.Is(boxErr, ErrUnknownBox):
		return Visit{}, fmt.Errorf("login at box %d: %w", c.Box, boxErr)
	case err != nil:
		return Visit{}, ErrForged
	case boxErr != nil:
		return Visit{}, ErrRevoked
	}
	now := d.cfg.Now()
	if c.T != 0 {
		if age := now.Add(box.Drift).Sub(time.Unix(int64(c.T), 0)); age > maxSkew || age < -maxSkew {
			return Visit{}, ErrExpired
		}
	}
	var seen time.Time
	err = d.change(ctx, c, func(t *ticket) error {
		if err := t.open(); err != nil {
			return err
		}
		if t.Seen.IsZero() {
			t.Seen = now.UTC()
		}
		seen = t.Seen
		return nil
	})
	if err != nil {
		return Visit{}, err
	}
	v := Visit{Branch: box.Branch, Kiosk: int(c.Kiosk), ClockUnknown: c.T == 0, Until: seen.Add(crossdevice.TTL), challenge: c}
	if c.T != 0 {
		// A box whose clock is fast or slow by minutes must not make the hub promise nothing or too much.
		if until := time.Unix(int64(c.T), 0).Add(-box.Drift).Add(crossdevice.TTL); until.After(now) && until.Before(v.Until) {
			v.Until = until
		}
	}
	return v, nil
}

// Complete answers the challenge of v with a citizen's identity and returns the code that the phone shows. Of all who
// try, one succeeds, once: the others get ErrUsed (or ErrCancelled, ErrExpired, ErrRevoked).
func (d *Desk) Complete(ctx context.Context, v Visit, proof citizen.IdentityProof) (code string, err error) {
	c := v.challenge
	if proof.Level < crossdevice.Level2 {
		return "", fmt.Errorf("login at box %d: level of assurance %d is too low", c.Box, proof.Level)
	}
	box, err := d.cfg.Boxes.LoginBox(ctx, c.Box) // again: it may have been revoked since
	if errors.Is(err, ErrUnknownBox) {
		return "", ErrRevoked
	}
	if err != nil {
		return "", fmt.Errorf("login at box %d: %w", c.Box, err)
	}
	now := d.cfg.Now()
	if !now.Before(v.Until) {
		return "", ErrExpired
	}
	level := min(proof.Level, crossdevice.Level3)
	token, err := crossdevice.SealToken(crossdevice.Token{
		Nonce: c.Nonce, Exp: uint32(now.Add(identityFor).Unix()), Level: level,
		FiscalCode: proof.FiscalCode, Name: proof.Name, FamilyName: proof.FamilyName,
	}, d.cfg.Key, box.Key, c)
	if err != nil {
		return "", fmt.Errorf("login at box %d: %w", c.Box, err)
	}
	err = d.change(ctx, c, func(t *ticket) error {
		if t.State == wire.LoginDone && t.identity != nil && bytes.Equal(t.identity.Token, token) {
			return nil // this very one: it was stored, and the answer was lost
		}
		if err := t.open(); err != nil {
			return err
		}
		t.become(wire.LoginDone)
		t.identity = &identity{Token: token, FiscalCode: proof.FiscalCode.Reveal()}
		t.until = now.Add(identityFor)
		t.outlive(c, now)
		return nil
	})
	if err != nil {
		return "", err
	}
	d.cfg.Log.Info("login completed", "box", c.Box, "kiosk", c.Kiosk, "scheme", string(proof.Scheme), "level", proof.Level)
	return crossdevice.Code(crossdevice.Derive(d.cfg.Master, c.Box, c.Epoch), c, level), nil
}

// Cancel is "No, annulla" before the login: the challenge is burnt, and the kiosk is told. After the login it does
// nothing: whoever else photographed the QR cannot undo it. The error is that of Moments.
func (d *Desk) Cancel(ctx context.Context, v Visit) error { return d.end(ctx, v, wire.LoginCancelled) }

// Refuse is an identity provider's error: the challenge is burnt, and the kiosk is told, so that it can offer another.
// The error is that of Moments.
func (d *Desk) Refuse(ctx context.Context, v Visit) error { return d.end(ctx, v, wire.LoginRefused) }

func (d *Desk) end(ctx context.Context, v Visit, s wire.LoginState) error {
	now := d.cfg.Now()
	err := d.change(ctx, v.challenge, func(t *ticket) error {
		if t.State == wire.LoginWaiting {
			t.become(s)
			t.outlive(v.challenge, now)
		}
		return nil
	})
	if errors.Is(err, ErrBusy) { // nothing is known of it, and so nothing is to be burnt
		return nil
	}
	return err
}

// NotMe is "Non sono io", said on the phone that logged in: the challenge is burnt, the identity is forgotten at once,
// and the log says that somebody may be getting people to log in for them. The error is that of Moments.
func (d *Desk) NotMe(ctx context.Context, v Visit) error {
	disowned := false
	err := d.change(ctx, v.challenge, func(t *ticket) error {
		disowned = t.State != wire.LoginCancelled
		t.become(wire.LoginCancelled)
		return nil
	})
	if err == nil && disowned {
		d.cfg.Log.Error("login disowned on the phone", "box", v.challenge.Box, "kiosk", v.challenge.Kiosk)
	}
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// Result tells a box how far the phone that read its challenge has got. It blocks until that is more than "waiting",
// but not longer than wait or MaxWait; when ctx ends it returns ctx's error. A box sees its own challenges only. Ten
// minutes after a login its token is gone. The other errors are ErrMalformed, ErrBusy, and that of Moments.
func (d *Desk) Result(ctx context.Context, boxNumber uint32, nonceHex string, wait time.Duration) (wire.Login, error) {
	c, err := named(boxNumber, nonceHex)
	if err != nil {
		return wire.Login{}, err
	}
	if wait <= 0 {
		return d.state(ctx, c)
	}
	timeout := time.NewTimer(min(wait, MaxWait))
	defer timeout.Stop()
	changed, stop := d.cfg.Moments.Watch(tickets, name(c))
	defer stop()
	for {
		res, err := d.state(ctx, c)
		if err != nil || res.State != wire.LoginWaiting {
			return res, err
		}
		select {
		case <-changed:
		case <-timeout.C:
			return res, nil
		case <-ctx.Done():
			return wire.Login{}, ctx.Err()
		}
	}
}

// state returns how far a login has got. One that nobody knows begins.
func (d *Desk) state(ctx context.Context, c crossdevice.Challenge) (res wire.Login, err error) {
	t, err := d.ticket(ctx, c)
	if errors.Is(err, moment.ErrNone) {
		err = d.change(ctx, c, func(now *ticket) error {
			t = *now
			return nil
		})
	}
	if err != nil {
		return wire.Login{}, err
	}
	res.State = t.State
	if t.identity != nil {
		res.Token = t.identity.Token
	}
	return res, nil
}

// Citizen returns the fiscal code of whoever logged in with a challenge of a box, for ten minutes after the login: the
// hub may ask the registry for that person only. It fails with ErrNobody.
func (d *Desk) Citizen(ctx context.Context, boxNumber uint32, nonceHex string) (fiscalCode string, err error) {
	c, err := named(boxNumber, nonceHex)
	if err != nil {
		return "", ErrNobody
	}
	t, err := d.ticket(ctx, c)
	if errors.Is(err, moment.ErrNone) || err == nil && (t.State != wire.LoginDone || t.identity == nil) {
		return "", ErrNobody
	}
	if err != nil {
		return "", err
	}
	return t.identity.FiscalCode, nil
}

func named(box uint32, nonceHex string) (crossdevice.Challenge, error) {
	c := crossdevice.Challenge{Box: box}
	if len(nonceHex) != hex.EncodedLen(len(c.Nonce)) {
		return c, ErrMalformed
	}
	if _, err := hex.Decode(c.Nonce[:], []byte(nonceHex)); err != nil {
		return c, ErrMalformed
	}
	return c, nil
}
