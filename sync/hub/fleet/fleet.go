// Package fleet knows the boxes of a hub: which branch each serves, whether it is welcome, and when it was last heard of.
package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sportello.example/provisioning/enroll"
	"sportello.example/sync/wire"
)

const (
	// TokenLife is how long a one-time token can be used.
	TokenLife = 30 * 24 * time.Hour
	// MaxKiosks is how many kiosks a branch can have.
	MaxKiosks = 99

	saveContact = time.Minute // how often the last contact of a box is written to disk
	maxBranch   = 100         // characters
)

var (
	// ErrUnknown means that there is no such box.
	ErrUnknown = errors.New("no such box")
	// ErrBranch means that a branch's name or number of kiosks cannot be used.
	ErrBranch = errors.New("branch is not valid")
)

// PendingUnknown is Box.Pending of a box that has not said how many events wait in its queue.
const PendingUnknown = -1

// Box is one box. Times are UTC; a zero time means never.
type Box struct {
	Number     uint32 // from 1, never used again
	Branch     string
	Kiosks     int
	LoginEpoch uint16 // generation of the keys that box and hub share for logins
	KeyID      string // of the TLS key it enrolled with, "" before
	TokenKey   []byte // X25519 public key for identity tokens

	Created, Enrolled, Revoked time.Time

	Contact time.Time     // last time it was heard of
	Pending int           // events that waited in its queue then, or PendingUnknown
	Drift   time.Duration // its clock minus the hub's when it last said; 0 when not known
	Report  *wire.Report  // what it last said of its queue; nil when it never did

	Reported time.Time // when Report was received

	// What the hub's store counts, for Boxes: Box may leave it out.
	Alarms int // open ones
	Gaps   int // stretches of events that never come
	Forks  int // histories beside the first one, of all chains
}

// Oldest returns when the oldest event in the box's queue happened, by the hub's clock as far as the drift of the box's
// is known. It returns false when the queue is empty, or the box does not say.
func (b Box) Oldest() (t time.Time, ok bool) {
	if b.Report == nil {
		return time.Time{}, false
	}
	for _, s := range b.Report.Streams {
		if s.Queued > 0 && s.Oldest != nil && (!ok || s.Oldest.Before(t)) {
			t, ok = *s.Oldest, true
		}
	}
	if t = t.Add(-b.Drift).UTC(); ok && t.After(b.Contact) {
		t = b.Contact
	}
	return t, ok
}

// Store keeps boxes and tokens.
type Store interface {
	// AddBox stores a new box and a token for it, and returns the box's number.
	AddBox(ctx context.Context, b Box, tokenHash [32]byte, expires time.Time) (uint32, error)
	// AddToken stores another token for a box. It fails with ErrUnknown.
	AddToken(ctx context.Context, number uint32, tokenHash [32]byte, expires time.Time) error
	// UseToken is admit.Boxes.Use.
	UseToken(ctx context.Context, tokenHash [32]byte, k enroll.Key, now time.Time) (Box, error)
	// Box fails with ErrUnknown.
	Box(ctx context.Context, number uint32) (Box, error)
	// Boxes returns all boxes in the order of their numbers.
	Boxes(ctx context.Context) ([]Box, error)
	// RevokeBox fails with ErrUnknown. Revoking again keeps the first date.
	RevokeBox(ctx context.Context, number uint32, at time.Time) error
	// SaveContact stores that a box was heard of. Of what several hubs hear it keeps what was received last; what is
	// older changes nothing.
	SaveContact(ctx context.Context, number uint32, c Contact) error
}

// Contact is that a box was heard of, and what it said then or lately.
type Contact struct {
	At      time.Time
	Pending int // as Box.Pending

	// What it said of its queue, when that was received, and its clock minus the hub's then. Nil: it stays as stored.
	Report   *wire.Report
	Reported time.Time
	Drift    time.Duration
}

// Fleet is all boxes of a hub. Make one with New; its methods may be called at the same time.
type Fleet struct {
	store Store
	now   func() time.Time

	mu       sync.Mutex
	contacts map[uint32]contact
}

type contact struct {
	Contact // Report is nil when it is stored

	saved time.Time // when it was written to disk last
	drift time.Duration
	timed time.Time // when the box last told its time, and drift was; zero: never
}

// New returns the fleet kept in s.
func New(s Store, now func() time.Time) *Fleet {
	return &Fleet{store: s, now: now, contacts: map[uint32]contact{}}
}

// Add prepares a new box for a branch and returns it with its one-time token, which is stored nowhere. It fails with
// ErrBranch.
func (f *Fleet) Add(ctx context.Context, branch string, kiosks int) (b Box, token string, err error) {
	branch = strings.TrimSpace(branch)
	if n := utf8.RuneCountInString(branch); n == 0 || n > maxBranch || !utf8.ValidString(branch) || strings.ContainsFunc(branch, unicode.IsControl) {
		return Box{}, "", fmt.Errorf("add box: a name of 1 to %d characters is needed: %w", maxBranch, ErrBranch)
	}
	if kiosks < 1 || kiosks > MaxKiosks {
		return Box{}, "", fmt.Errorf("add box: 1 to %d kiosks, not %d: %w", MaxKiosks, kiosks, ErrBranch)
	}
	token = newToken()
	b = Box{Branch: branch, Kiosks: kiosks, LoginEpoch: 1, Created: f.now().UTC(), Pending: PendingUnknown}
	if b.Number, err = f.store.AddBox(ctx, b, enroll.HashToken(token), f.now().UTC().Add(TokenLife)); err != nil {
		return Box{}, "", fmt.Errorf("add box: %w", err)
	}
	return b, token, nil
}

// Token makes a further one-time token for a box whose hardware or disk is replaced. Whoever uses it takes the place of
// the old one. It fails with ErrUnknown, or enroll.ErrRevoked.
func (f *Fleet) Token(ctx context.Context, number uint32) (string, error) {
	b, err := f.store.Box(ctx, number)
	if err == nil && !b.Revoked.IsZero() {
		err = enroll.ErrRevoked
	}
	if err != nil {
		return "", fmt.Errorf("token for box %d: %w", number, err)
	}
	token := newToken()
	if err := f.store.AddToken(ctx, number, enroll.HashToken(token), f.now().UTC().Add(TokenLife)); err != nil {
		return "", fmt.Errorf("token for box %d: %w", number, err)
	}
	return token, nil
}

// newToken returns 130 random bits in groups that people can read out.
func newToken() string {
	t := rand.Text() // 26 characters of base 32
	return strings.Join([]string{t[:5], t[5:10], t[10:15], t[15:20], t[20:26]}, "-")
}

// Use implements admit.Boxes.
func (f *Fleet) Use(ctx context.Context, tokenHash [32]byte, k enroll.Key) (enroll.Grant, error) {
	b, err := f.store.UseToken(ctx, tokenHash, k, f.now().UTC())
	return grant(b), err
}

// Renew implements admit.Boxes.
func (f *Fleet) Renew(ctx context.Context, number uint32, keyID string) (enroll.Grant, error) {
	b, err := f.Admit(ctx, number, keyID)
	return grant(b), err
}

func grant(b Box) enroll.Grant {
	return enroll.Grant{Box: b.Number, Branch: b.Branch, Kiosks: b.Kiosks}
}

// Admit returns the box with this number if it is welcome with the key that has this ID (see ca.KeyID). It fails with
// enroll.ErrRevoked.
func (f *Fleet) Admit(ctx context.Context, number uint32, keyID string) (Box, error) {
	b, err := f.store.Box(ctx, number)
	if errors.Is(err, ErrUnknown) || err == nil && (!b.Revoked.IsZero() || b.KeyID != keyID) {
		return Box{}, fmt.Errorf("admit box %d: %w", number, enroll.ErrRevoked)
	}
	if err != nil {
		return Box{}, fmt.Errorf("admit box %d: %w", number, err)
	}
	return b, nil
}

// Box returns one box, or ErrUnknown.
func (f *Fleet) Box(ctx context.Context, number uint32) (Box, error) {
	b, err := f.store.Box(ctx, number)
	if err != nil {
		return Box{}, fmt.Errorf("box %d: %w", number, err)
	}
	return f.heard(b), nil
}

// Boxes returns all boxes in the order of their numbers, revoked ones included.
func (f *Fleet) Boxes(ctx context.Context) ([]Box, error) {
	bs, err := f.store.Boxes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list boxes: %w", err)
	}
	for i := range bs {
		bs[i] = f.heard(bs[i])
	}
	return bs, nil
}

// heard adds to b what is newer in memory than on disk. On disk may be what another hub beside the same database heard.
func (f *Fleet) heard(b Box) Box {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.contacts[b.Number]
	if !ok {
		return b
	}
	if !c.At.Truncate(time.Second).Before(b.Contact) {
		b.Contact, b.Pending = c.At, c.Pending
	}
	if c.Report != nil && !c.Reported.Before(b.Reported) {
		b.Report, b.Reported, b.Drift = c.Report, c.Reported, c.Drift
	}
	if !c.timed.IsZero() && !c.timed.Before(b.Reported) {
		b.Drift = c.drift
	}
	return b
}

// Revoke shuts a box out from its next request on, for good. It fails with ErrUnknown.
func (f *Fleet) Revoke(ctx context.Context, number uint32) error {
	if err := f.store.RevokeBox(ctx, number, f.now().UTC()); err != nil {
		return fmt.Errorf("revoke box %d: %w", number, err)
	}
	return nil
}

// Report is what a box says of itself when it calls.
type Report struct {
	Pending int          // events in its queue, or PendingUnknown
	Time    time.Time    // by its clock; zero when it does not say
	Queue   *wire.Report // nil when it does not say
}

// Heard notes that a box was in contact, and what it said of itself. What is on disk is up to a minute old: boxes call
// every few seconds.
func (f *Fleet) Heard(ctx context.Context, number uint32, r Report) error {
	now := f.now().UTC()
	f.mu.Lock()
	c, ok := f.contacts[number]
	if !ok {
		c.Pending = PendingUnknown
	}
	c.At = now
	if r.Pending != PendingUnknown {
		c.Pending = r.Pending
	}
	if !r.Time.IsZero() {
		c.drift, c.timed = r.Time.Sub(now), now
	}
	if r.Queue != nil {
		c.Report, c.Reported, c.Drift = r.Queue, now, 0
		switch {
		case !r.Time.IsZero():
			c.Drift = c.drift
		case !r.Queue.Time.IsZero():
			c.Drift = r.Queue.Time.Sub(now)
		}
	}
	save := now.Sub(c.saved) >= saveContact || now.Before(c.saved)
	if save {
		c.saved = now
	}
	f.contacts[number] = c
	f.mu.Unlock()
	if !save {
		return nil
	}
	if err := f.store.SaveContact(ctx, number, c.Contact); err != nil {
		return fmt.Errorf("contact of box %d: %w", number, err)
	}
	// Stored once: later it would be older than what another hub has heard.
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.contacts[number]; last.Report == c.Report {
		last.Report = nil
		f.contacts[number] = last
	}
	return nil
}
