package desired

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Source is the hub, as a follower needs it. Errors mean that the line is down or the hub not in order.
type Source interface {
	// State returns the hub's document for this box and its ETag, and whether it is another one than the one with the
	// given ETag ("": none). When it is not, the call blocks for as long as wait, or until there is another; a proxy or
	// hub that does not hold requests makes it return at once.
	State(ctx context.Context, etag string, wait time.Duration) (s Signed, newTag string, changed bool, err error)
	// Blob writes to w the bytes of a blob from that one on. When it fails, what was written is right as far as it goes.
	Blob(ctx context.Context, sha256 string, from int64, w io.Writer) error
}

// Options are what a Follower needs. Zero values are usable where nothing else is said.
type Options struct {
	Dir string // needed: a folder of its own
	Box uint32 // needed: number of this box
	// Keys are the public keys of the hub that the box was given when it enrolled. Needed; documents add to them.
	Keys    func() []ed25519.PublicKey
	Source  Source           // needed
	Release string           // of this program, "v1.2.3"; "": follows every document
	Now     func() time.Time // needed
	// ClockOK says whether Now can be believed; nil: always.
	ClockOK  func() bool
	LongPoll func() bool // whether requests may be held open at the hub; nil: always
	// OnChange is called from Run, with the document that was there at its beginning and after each switch. When it fails it
	// is called again, after a while, and until it returns nil Version does not say that the box follows the document.
	// nil: nobody is told.
	OnChange func(Document) error
	Log      *slog.Logger      // nil: nothing is logged
	Poll     time.Duration     // between two requests that were not held; 0: a minute, give or take a fifth
	Wait     time.Duration     // for which a request is held; 0: 55 s
	MaxPause time.Duration     // between tries when the line is down; 0: five minutes
	jitter   func(int64) int64 // a random number below the argument; nil: math/rand
	crash    func(string)      // called between steps, in tests
}

// Follower keeps a box as its hub wants it. Make one with New; its methods may be called at the same time.
//
// Two things happen at the same time: one asks the hub for documents, the other fetches files. What a document says
// itself (notices, keys) counts as soon as it has been judged; that an emergency is announced must not wait for a large
// file. Its files are used from the switch on, when all of them are there.
type Follower struct {
	o Options

	current atomic.Pointer[record] // the document whose files are in use, nil: none yet
	pending atomic.Pointer[record] // one that was judged, and whose files are being fetched, nil: none

	refused string // of the one who asks: ETag of a document that was refused for what it says

	reported atomic.Uint64 // version of the last document that OnChange has taken

	// Of the one who fetches.
	due      bool // OnChange has not taken the current document yet
	previous *record
	verified map[string]bool // SHA-256 of files that were read whole in this life of the program

	up, upFetch chan struct{} // LineUp was called
	work        chan struct{} // pending was set

	mu       sync.Mutex
	lowest   floor
	missing  map[string]bool // SHA-256 of files of current that are not there
	watchers []chan struct{}
}

// New returns a follower of what is in o.Dir: it reads the files there whole. Without a document, or with damaged ones,
// it begins with what is left. Errors are of the disk.
func New(o Options) (*Follower, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ClockOK == nil {
		o.ClockOK = func() bool { return true }
	}
	if o.LongPoll == nil {
		o.LongPoll = func() bool { return true }
	}
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	if o.Wait <= 0 {
		o.Wait = 55 * time.Second
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 5 * time.Minute
	}
	if o.jitter == nil {
		o.jitter = rand.Int64N
	}
	if o.crash == nil {
		o.crash = func(string) {}
	}
	f := &Follower{
		o: o, verified: map[string]bool{},
		up: make(chan struct{}, 1), upFetch: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	if err := f.start(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current returns the document that the box follows, since when it has it, and whether that is fresh: past its date the
// box goes on with it and says that it is old. The zero Document means that there is none yet. The date is not judged
// by a clock that is not believed.
func (f *Follower) Current() (d Document, since time.Time, fresh bool) {
	r := f.current.Load()
	if r == nil {
		return Document{}, time.Time{}, false
	}
	return r.doc, r.Received, !f.o.ClockOK() || r.doc.Expires.IsZero() || f.o.Now().Before(r.doc.Expires)
}

// latest is the last document that was judged good.
func (f *Follower) latest() *record {
	if r := f.pending.Load(); r != nil {
		return r
	}
	return f.current.Load()
}

// Version is the version of the document that the box follows, once OnChange has taken it; until then that of the one
// before, and 0 when there is none. A hub that hears it may rely on the box using the keys which that document names.
func (f *Follower) Version() uint64 { return f.reported.Load() }

// Notices returns the notices that are to be shown now, the gravest first. A clock that is behind the document's date
// is taken to show that date.
func (f *Follower) Notices() []Posted {
	r := f.latest()
	if r == nil {
		return nil
	}
	now := f.o.Now()
	if now.Before(r.doc.Issued) || !f.o.ClockOK() {
		now = r.doc.Issued
	}
	var ns []Posted
	for _, n := range r.doc.Notices {
		if n.active(now) {
			ns = append(ns, Posted{n, r.Posted[n.ID]})
		}
	}
	sortNotices(ns)
	return ns
}

// SignKeys returns every key that the hub may sign with: those of Options.Keys, and those that documents named.
func (f *Follower) SignKeys() []ed25519.PublicKey {
	keys := slices.Clone(f.o.Keys())
	if r := f.latest(); r != nil {
		for _, k := range publicKeys(r.SignKeys) {
			if !slices.ContainsFunc(keys, func(o ed25519.PublicKey) bool { return o.Equal(k) }) {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// SealKey returns the public key that events are to be sealed to, nil when no document names one.
func (f *Follower) SealKey() []byte {
	if r := f.latest(); r != nil && len(r.doc.SealKeys) > 0 {
		return slices.Clone(r.doc.SealKeys[0])
	}
	return nil
}

// Open opens a file of the document that the box follows. It fails with ErrBlob.
func (f *Follower) Open(name string) (io.ReadCloser, error) {
	r := f.current.Load()
	if r == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrBlob)
	}
	for _, b := range r.doc.Content {
		if b.Name != name {
			continue
		}
		file, err := os.Open(f.blobPath(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", name, ErrBlob, err)
		}
		return file, nil
	}
	return nil, fmt.Errorf("%s: the document does not name it: %w", name, ErrBlob)
}

// Watch returns a channel that holds a value whenever the document has changed since the last receive. It is never
// closed; after ctx has ended it holds nothing new.
func (f *Follower) Watch(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = append(f.watchers, w)
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers = slices.DeleteFunc(f.watchers, func(c chan struct{}) bool { return c == w })
	})
	return w
}

// LineUp says that the line is back: a request that hangs in the old one is given up, and a pause is over.
func (f *Follower) LineUp() {
	poke(f.up)
	poke(f.upFetch)
}

// poke leaves a value in a channel that has room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *Follower) setMissing(m map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = m
}

// judge says whether a document may take the place of the one there: nil and false mean that it is the same one, to the
// date. It fails with ErrSignature, ErrMalformed, ErrOlder and ErrProgram.
func (f *Follower) judge(s Signed) (d Document, take bool, err error) {
	if d, err = s.Open(f.o.Box, f.SignKeys()); err != nil {
		return Document{}, false, err
	}
	if !programFits(f.o.Release, d.MinProgram) {
		return Document{}, false, fmt.Errorf("version %d asks for release %q or later, this is %q: %w", d.Version, d.MinProgram, f.o.Release, ErrProgram)
	}
	cur, low := f.latest(), f.floor()
	if cur != nil && d.Version == cur.doc.Version && d.Core() == cur.doc.Core() {
		return d, d.Issued.After(cur.doc.Issued), nil
	}
	// What has the number of the floor itself is what a box had that has lost it.
	if max(d.Version, d.Rollback) >= low && (cur == nil || d.Version > cur.Floor || d.Rollback >= cur.Floor && d.Rollback > cur.RolledBack) {
		return d, true, nil
	}
	if cur != nil {
		low = max(low, cur.Floor)
	}
	return Document{}, false, fmt.Errorf("version %d after version %d: %w", d.Version, low, ErrOlder)
}

// succeed returns the record of a document that takes the place of old, nil when there is none yet.
func (f *Follower) succeed(old *record, s Signed, etag string, d Document) *record {
	received := f.o.Now().UTC()
	if !f.o.ClockOK() {
		received = d.Issued.UTC()
	}
	next := &record{
		Signed: s, ETag: etag, Received: received, Floor: max(d.Version, d.Rollback), RolledBack: d.Rollback,
		SignKeys: d.SignKeys, Posted: map[string]time.Time{}, doc: d,
	}
	for _, n := range d.Notices {
		next.Posted[n.ID] = received
	}
	if old == nil {
		return next
	}
	next.Floor, next.RolledBack = max(next.Floor, old.Floor), max(next.RolledBack, old.RolledBack)
	if len(d.SignKeys) == 0 {
		next.SignKeys = old.SignKeys
	}
	if next.same(old) {
		next.Received = old.Received
	}
	for id, since := range old.Posted {
		if _, still := next.Posted[id]; still {
			next.Posted[id] = since
		}
	}
	return next
}

// same says whether two records ask the same of the box, under the same number.
func (r *record) same(o *record) bool {
	return o != nil && r.doc.Version == o.doc.Version && r.doc.Core() == o.doc.Core()
}

// place makes a document whose files are all there the one that the box follows: first it keeps the one before, then
// one rename switches.
func (f *Follower) place(ctx context.Context, next *record) error {
	old := f.current.Load()
	if old != nil && !next.same(old) {
		if err := old.save(filepath.Join(f.o.Dir, previousFile)); err != nil {
			return fmt.Errorf("keep previous state: %w", err)
		}
		f.previous = old
	}
	f.o.crash("previous")
	if err := next.save(filepath.Join(f.o.Dir, stateFile)); err != nil {
		return fmt.Errorf("switch state: %w", err)
	}
	f.o.crash("switched")
	f.current.Store(next)
	f.setMissing(nil)
	if f.pending.CompareAndSwap(next, nil) {
		_ = os.Remove(filepath.Join(f.o.Dir, pendingFile)) // were it left, it would be seen to be nothing new
		f.collect(next, f.previous)
	}
	if next.same(old) {
		return nil
	}
	f.o.Log.InfoContext(ctx, "desired state taken", "version", next.doc.Version, "notices", len(next.doc.Notices), "files", len(next.doc.Content))
	return f.switched()
}

// switched tells those who want to know that files are in use now.
func (f *Follower) switched() error {
	f.tell()
	f.due = true
	return f.takeUp()
}

// errOnChange means that the box did not take up a document.
var errOnChange = errors.New("desired state not taken up")

// takeUp has OnChange take the current document, when it has not yet, and says from then on that the box follows it.
func (f *Follower) takeUp() error {
	r := f.current.Load()
	if !f.due || r == nil {
		return nil
	}
	if f.o.OnChange != nil {
		if err := f.o.OnChange(r.doc); err != nil {
			return fmt.Errorf("%w: %w", errOnChange, err)
		}
	}
	f.due = false
	f.reported.Store(r.doc.Version)
	return nil
}

// tell wakes those that watch. It never waits for them.
func (f *Follower) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		poke(w)
	}
}

// Missing returns the names of files that the document names and that are not there, in order.
func (f *Follower) Missing() []string {
	r := f.current.Load()
	if r == nil {
		return nil
	}
	f.mu.Lock()
	gone := maps.Clone(f.missing)
	f.mu.Unlock()
	var names []string
	for _, b := range r.doc.Content {
		if gone[b.SHA256] {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
}
