package crossdevice

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Limits on guessing.
const (
	maxTries  = 3                // wrong codes that kill a challenge
	maxWrong  = 9                // wrong codes that lock a kiosk …
	wrongSpan = 30 * time.Minute // … within this time
)

// The reasons why a code is not accepted. A wrong one is a *WrongError, which is ErrWrong to errors.Is.
var (
	ErrWrong   = errors.New("wrong code")
	ErrDead    = errors.New("too many wrong codes for this challenge")
	ErrExpired = errors.New("challenge expired")
	ErrLocked  = errors.New("kiosk locked after too many wrong codes")
	ErrNone    = errors.New("no challenge at this kiosk")
)

// WrongError says how many tries are left for this challenge. A code that has not eight digits uses up none.
type WrongError struct{ Left int }

func (e *WrongError) Error() string { return fmt.Sprintf("wrong code, %d tries left", e.Left) }

// Is reports whether target is ErrWrong.
func (e *WrongError) Is(target error) bool { return target == ErrWrong }

// BoxConfig is what a Box needs to know.
type BoxConfig struct {
	Number uint32 // of the box, at the hub
	Epoch  uint16
	Keys   Keys
	// Now returns the time with its monotonic reading, as time.Now does: ages are taken from that reading, so that a
	// step of the wall clock neither revives nor kills a challenge.
	Now func() time.Time
	// ClockOK says whether the box believes its wall clock; nil means it does. When it does not, challenges carry no
	// time and the phone's page warns the citizen the more.
	ClockOK func() bool
}

// Box is the box's side of the login: the challenges its kiosks are showing and the codes typed at them. Everything is
// in RAM, so a restart kills every challenge. A Box may be used by several goroutines.
type Box struct {
	cfg BoxConfig

	mu     sync.Mutex
	kiosks map[uint8]*kioskState
}

// kioskState is what the box remembers of one kiosk.
type kioskState struct {
	challenge Challenge
	born      time.Time
	tries     int
	state     state
	wrong     []time.Time // wrong codes within wrongSpan, oldest first
}

type state uint8

const (
	none state = iota
	live
	dead
	verified
)

// NewBox returns a Box without challenges.
func NewBox(cfg BoxConfig) *Box {
	return &Box{cfg: cfg, kiosks: make(map[uint8]*kioskState)}
}

// Rekey changes to the keys of another epoch. Challenges made with the old ones die.
func (b *Box) Rekey(epoch uint16, k Keys) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg.Epoch, b.cfg.Keys = epoch, k
	for _, s := range b.kiosks {
		s.clear()
	}
}

// New makes a challenge for a kiosk, in place of the one it may have had, and returns it also as the text for the QR.
// It returns ErrLocked when too many wrong codes were typed at that kiosk in the last half hour.
func (b *Box) New(kiosk uint8) (Challenge, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	s := b.kiosk(kiosk, now)
	s.clear()
	if len(s.wrong) >= maxWrong {
		return Challenge{}, "", ErrLocked
	}
	c := Challenge{Epoch: b.cfg.Epoch, Box: b.cfg.Number, Kiosk: kiosk}
	if b.cfg.ClockOK == nil || b.cfg.ClockOK() {
		c.T = uint32(now.Unix())
	}
	if _, err := rand.Read(c.Nonce[:]); err != nil {
		return Challenge{}, "", fmt.Errorf("challenge for kiosk %d: %w", kiosk, err)
	}
	s.challenge, s.born, s.state = c, now, live
	return c, c.Encode(b.cfg.Keys), nil
}

// Enter checks a code typed at a kiosk against its challenge; spaces and hyphens in it do not matter. A right code
// consumes the challenge and tells the level of assurance of the login it came from: somebody with such a login answered
// this challenge, and who it was only a token can say. The errors are ErrWrong (a *WrongError), ErrDead, ErrExpired,
// ErrLocked and ErrNone.
func (b *Box) Enter(kiosk uint8, code string) (level uint8, c Challenge, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	s := b.kiosk(kiosk, now)
	switch {
	case len(s.wrong) >= maxWrong:
		return 0, Challenge{}, ErrLocked
	case s.state == dead:
		return 0, Challenge{}, ErrDead
	case s.state != live:
		return 0, Challenge{}, ErrNone
	case !s.fresh(now):
		return 0, Challenge{}, ErrExpired
	}
	code, ok := clean(code)
	if !ok {
		return 0, Challenge{}, &WrongError{Left: maxTries - s.tries}
	}
	for _, l := range []uint8{Level2, Level3} {
		if subtle.ConstantTimeCompare([]byte(Code(b.cfg.Keys, s.challenge, l)), []byte(code)) == 1 {
			level = l
		}
	}
	if level != 0 {
		s.state = verified
		return level, s.challenge, nil
	}
	s.tries++
	s.wrong = append(s.wrong, now)
	if s.tries >= maxTries {
		s.clear()
		s.state = dead
	}
	switch {
	case len(s.wrong) >= maxWrong:
		return 0, Challenge{}, ErrLocked
	case s.state == dead:
		return 0, Challenge{}, ErrDead
	}
	return 0, Challenge{}, &WrongError{Left: maxTries - s.tries}
}

// Verified returns the challenge whose code was typed at a kiosk, until the next New or Cancel: the one that a token
// must answer.
func (b *Box) Verified(kiosk uint8) (Challenge, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.kiosk(kiosk, b.cfg.Now())
	return s.challenge, s.state == verified
}

// Left returns how long the challenge of a kiosk still lives, 0 when it has none.
func (b *Box) Left(kiosk uint8) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	s := b.kiosk(kiosk, now)
	if s.state != live || !s.fresh(now) {
		return 0
	}
	return TTL - now.Sub(s.born)
}

// Cancel forgets the challenge of a kiosk. It does not forget wrong codes.
func (b *Box) Cancel(kiosk uint8) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kiosk(kiosk, b.cfg.Now()).clear()
}

// Locked reports whether a kiosk is locked after too many wrong codes.
func (b *Box) Locked(kiosk uint8) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kiosk(kiosk, b.cfg.Now()).wrong) >= maxWrong
}

// Unlock forgets the wrong codes of a kiosk. It is for staff, who have seen that nobody is guessing.
func (b *Box) Unlock(kiosk uint8) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kiosk(kiosk, b.cfg.Now()).wrong = nil
}

// kiosk returns the state of a kiosk, without wrong codes that no longer count.
func (b *Box) kiosk(n uint8, now time.Time) *kioskState {
	s := b.kiosks[n]
	if s == nil {
		s = &kioskState{}
		b.kiosks[n] = s
	}
	old := 0
	for old < len(s.wrong) && now.Sub(s.wrong[old]) >= wrongSpan {
		old++
	}
	s.wrong = s.wrong[old:]
	return s
}

// fresh reports whether the challenge is young enough. An age below zero comes from a clock without a monotonic
// reading that was set back: the age is not known then.
func (s *kioskState) fresh(now time.Time) bool {
	age := now.Sub(s.born)
	return age >= 0 && age < TTL
}

func (s *kioskState) clear() {
	s.challenge, s.born, s.tries, s.state = Challenge{}, time.Time{}, 0, none
}

// clean returns the eight digits of a typed code, and false when it has not eight.
func clean(code string) (string, bool) {
	if len(code) > 64 {
		return "", false
	}
	code = strings.NewReplacer(" ", "", "\u00a0", "", "-", "").Replace(code)
	if len(code) != digits {
		return "", false
	}
	for i := range code {
		if code[i] < '0' || code[i] > '9' {
			return "", false
		}
	}
	return code, true
}
