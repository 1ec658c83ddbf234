// Package moment keeps for minutes what all replicas of a hub must know: a login that is under way, whichever of them
// the phone and the kiosk happen to talk to. A hub alone keeps it in memory (New); hubs beside one PostgreSQL keep it
// there.
//
// An entry has a name within a space, some bytes, and a time at which it is forgotten. Entries may be lost, all at once,
// when the machine that keeps them breaks: who was logging in begins again.
package moment

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNone means that there is no such entry, or no longer.
	ErrNone = errors.New("no such entry")
	// ErrFull means that a space, or a part of it, has as many entries as it may.
	ErrFull = errors.New("too many entries")
)

// Space is a set of entries of one kind, and how many there may be. The limits are against floods: entries that several
// replicas make at the same instant may exceed them by as many.
type Space struct {
	Name    string
	PerPart int // entries of one Entry.Part; 0: any number
	Total   int // entries in all; 0: any number
}

// Entry is what is kept under a name.
type Entry struct {
	Part  string    // what entries are counted and listed by, such as a box; fixed once the entry is there
	Value []byte    //
	Until time.Time // when it is forgotten

	// Secret is forgotten earlier than the rest, at SecretUntil.
	Secret      []byte
	SecretUntil time.Time
}

// Named is an entry with its name.
type Named struct {
	Key string
	Entry
}

// Store keeps entries. Its methods may be called at the same time, by several replicas: each is one step that nobody
// sees half done. Implementations pass storetest.Moments.
type Store interface {
	// Read returns an entry. It fails with ErrNone.
	Read(ctx context.Context, s Space, key string) (Entry, error)
	// Change hands an entry to do, a zero one when there is none, and keeps what do makes of it; when Until is zero then,
	// or over, the entry is gone. When do fails nothing changes, and Change returns its error. do may be run again and
	// must not wait. Change fails with ErrFull when it would make an entry that there is no room for.
	Change(ctx context.Context, s Space, key string, do func(e *Entry, there bool) error) error
	// Add keeps a new entry. First it hands the entries of the same part to room, oldest first, which names those that
	// make room: they are gone. It fails with ErrFull when there is no room even so, and with room's error; then
	// nothing changes. room may be run again and must not wait.
	Add(ctx context.Context, s Space, key string, e Entry, room func(others []Named) (drop []string, err error)) error
	// Watch returns a channel that gets a value when the entry may have changed since. It may get one when nothing has.
	// The caller reads the entry after Watch, and calls stop when it does not wait any more.
	Watch(s Space, key string) (changed <-chan struct{}, stop func())
	// Sweep forgets what is over. Nothing that is over can be read before that either, but it is still in memory.
	Sweep(ctx context.Context) error
}

// Live returns what is left of an entry at a time; false when it is over.
func (e Entry) Live(now time.Time) (Entry, bool) {
	if !now.Before(e.Until) {
		return Entry{}, false
	}
	if e.Secret != nil && !now.Before(e.SecretUntil) {
		e.Secret, e.SecretUntil = nil, time.Time{}
	}
	return e, true
}
