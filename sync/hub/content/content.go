// Package content keeps what the municipality's boxes are to have: notices, files, and the keys that they seal to. It
// makes of it the one signed document (package desired) that each box follows.
//
// A document is numbered anew only when what it asks of that box changes. Whoever changes something may be another
// process on the same data (a command beside the server, a second hub): every change raises one counter in the database,
// and one watcher looks at it for all boxes that wait.
package content

import (
	"context"
	"errors"
	"time"

	"sportello.example/sync/desired"
)

// Notice is a message of the municipality, and for whom it is.
type Notice struct {
	desired.Notice
	Branch  string // for the boxes of this branch; "": of every one
	Box     uint32 // for this box; 0: for every one
	Created time.Time
}

// Item is a file that boxes are to have under a name. One that is for a box counts there instead of the one for all.
type Item struct {
	Name    string
	Box     uint32 // for this box; 0: for every one
	SHA256  string // "": this box is to have no such file, though others do
	Size    int64
	Created time.Time
}

// Key is the public half of a key that boxes seal to.
type Key struct {
	Public  []byte    // X25519
	Added   time.Time // it is used from then on, until another is added
	Retired time.Time // zero: what is sealed to it can be opened
}

// Kept is all that documents are made of, at one moment.
type Kept struct {
	Changes uint64   // see Store.Changes
	Notices []Notice // that were not taken back, oldest first
	Items   []Item   // by name
	Keys    []Key    // not retired, the one to use first
	// MinProgram is the oldest release that may follow documents; "": every one.
	MinProgram string
	// GoBack says which boxes have leave to go back once, and to which version.
	GoBack map[uint32]uint64
}

// Issued is a document as it was signed for a box.
type Issued struct {
	Box     uint32
	Version uint64 // 0: none yet
	// Highest is the highest number that was ever given to this box's documents or permissions to go back.
	Highest  uint64
	Rollback uint64 // see desired.Document
	Core     []byte // desired.Document.Core
	Issued   time.Time
	Expires  time.Time
	Signed   desired.Signed // empty where only the numbers are asked for
	Content  []desired.Blob // of the document
}

// Version is a document that a box was once given.
type Version struct {
	Number  uint64
	Issued  time.Time
	Content []desired.Blob
}

var (
	// ErrNoNotice means that there is no such notice, or not any more.
	ErrNoNotice = errors.New("no such notice")
	// ErrNoItem means that there is no such file, or none with these bytes.
	ErrNoItem = errors.New("no such file")
	// ErrNoVersion means that a box was never given that version, or so long ago that it is not known any more.
	ErrNoVersion = errors.New("no such version of the box's documents")
	// ErrNoKey means that there is no such key in use.
	ErrNoKey = errors.New("no such key")
)

const (
	// PartSize is the length of the pieces that files are stored in, in bytes; the last one is shorter.
	PartSize = 256 << 10
	// KeepVersions is how many of a box's versions are remembered.
	KeepVersions = 20
	// KeepBlobs is how long the bytes of a file are kept after nothing names it any more: for going back.
	KeepBlobs = 90 * 24 * time.Hour
)

// Store keeps what boxes are to have. Every method that changes what a document says raises the counter of changes in
// the same transaction.
type Store interface {
	// Changes returns the counter of changes. It is cheap: it is asked for twice a second.
	Changes(ctx context.Context) (uint64, error)
	// Kept returns everything at one moment.
	Kept(ctx context.Context) (Kept, error)

	// AddNotice stores a notice under its ID.
	AddNotice(ctx context.Context, n Notice) error
	// RemoveNotice takes a notice back. It fails with ErrNoNotice.
	RemoveNotice(ctx context.Context, id string, now time.Time) error

	// SetMinProgram says which release is the oldest that may follow documents; "": every one.
	SetMinProgram(ctx context.Context, release string) error

	// AddPart stores a piece of a file (PartSize), counted from 0, over what was there.
	AddPart(ctx context.Context, sha256 string, n int, b []byte, now time.Time) error
	// PutItem makes boxes have a file; without a SHA256, not have one. It fails with ErrNoItem when not all of its
	// pieces are stored. It forgets the bytes of files that nothing has named for KeepBlobs before i.Created.
	PutItem(ctx context.Context, i Item) error
	// RemoveItem undoes PutItem; without a name, all that was done for that box. It fails with ErrNoItem.
	RemoveItem(ctx context.Context, name string, box uint32, now time.Time) error
	// Part returns a piece of a file. It fails with ErrNoItem.
	Part(ctx context.Context, sha256 string, n int) ([]byte, error)

	// Issue calls decide with what each of the boxes was last issued (Version 0: nothing; Signed is empty), in the order
	// of their numbers, and stores what it returns true with, all in one transaction that nobody else's can come
	// between. What is stored with a Rollback uses up the leave to go back. decide may be called again from the start.
	Issue(ctx context.Context, boxes []uint32, decide func(last Issued, goBack uint64) (Issued, bool, error)) error
	// Signed returns the last document issued to a box. It fails with ErrNoVersion.
	Signed(ctx context.Context, box uint32) (Issued, error)
	// Versions returns the last documents of a box, newest first, KeepVersions at most.
	Versions(ctx context.Context, box uint32) ([]Version, error)
	// GoBack gives a box the files of an earlier version, by items of its own, and leave to go back to that number. It
	// fails with ErrNoVersion, or with ErrNoItem when the bytes of a file are not there any more.
	GoBack(ctx context.Context, box uint32, version uint64, now time.Time) error

	// AddKey makes boxes seal to this key from now on.
	AddKey(ctx context.Context, public []byte, now time.Time) error
	// RetireKey says that nothing sealed to a key will be opened any more. It fails with ErrNoKey.
	RetireKey(ctx context.Context, public []byte, now time.Time) error
	// Keys returns all keys, retired ones too, the newest first.
	Keys(ctx context.Context) ([]Key, error)
}
