package content

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sportello.example/sync/desired"
)

const (
	// Life is how long a document is good for. A box that was not given another one says then that it is old.
	Life = 30 * 24 * time.Hour
	// renewBefore is how long before its end a document is signed anew under the same number.
	renewBefore = 10 * 24 * time.Hour
	// watchEvery is how often the counter of changes is looked at.
	watchEvery = 500 * time.Millisecond
	// maxBatch is how many documents are signed in one transaction.
	maxBatch = 500
	// issueLimit is how long that may take.
	issueLimit = 20 * time.Second
	// maxVersion bounds what is believed of the number that a box says it has.
	maxVersion = 1 << 62
)

// Config is what a Desk needs.
type Config struct {
	Store Store
	Key   ed25519.PrivateKey // signs documents
	// Also are other public keys that the hub signs with, or will: boxes learn them from documents.
	Also []ed25519.PublicKey
	Now  func() time.Time
	Log  *slog.Logger
}

// Desk hands boxes their documents and files. Make one with New; its methods may be called at the same time. While Run
// runs, changes that others make are noticed.
type Desk struct {
	cfg Config

	issuing sync.Mutex // held during Store.Issue

	mu      sync.Mutex
	kept    *kept
	changed chan struct{} // closed when kept is replaced
	cards   map[uint32]card
	next    *batch // documents to be issued together, nil: none yet
	stopped chan struct{}
}

// card is what a desk remembers of a box's last document.
type card struct {
	version, highest, rollback uint64
	core                       [32]byte
	issued, renew              time.Time
	etag                       string
}

// New returns a desk.
func New(cfg Config) *Desk {
	return &Desk{cfg: cfg, changed: make(chan struct{}), cards: map[uint32]card{}, stopped: make(chan struct{})}
}

// Answer is a box's document.
type Answer struct {
	ETag   string
	Signed desired.Signed // empty when the box has it
	Same   bool           // the box has it
}

// State returns the document of a box in that branch, which says by ifNoneMatch (RFC 9110 §13.1.2; "": nothing) which
// one it has. When that is the one it is to have, State waits until it is not, or until wait has passed.
func (d *Desk) State(ctx context.Context, box uint32, branch, ifNoneMatch string, wait time.Duration) (Answer, error) {
	have := parseTags(ifNoneMatch)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		k, changed, err := d.now(ctx)
		if err != nil {
			return Answer{}, fmt.Errorf("desired state of box %d: %w", box, err)
		}
		c, signed, err := d.card(ctx, k, box, branch, have)
		if err != nil {
			return Answer{}, fmt.Errorf("desired state of box %d: %w", box, err)
		}
		if !have.match(c.etag) {
			if len(signed.Body) > 0 { // a moment ago
				return Answer{ETag: c.etag, Signed: signed}, nil
			}
			is, err := d.cfg.Store.Signed(ctx, box)
			if err != nil {
				return Answer{}, fmt.Errorf("desired state of box %d: %w", box, err)
			}
			return Answer{ETag: cardOf(is).etag, Signed: is.Signed}, nil
		}
		same := Answer{ETag: c.etag, Same: true}
		if wait <= 0 {
			return same, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return same, nil
		case <-d.stopped:
			return same, nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

// now returns what boxes are to have at this moment, and a channel that is closed when that changes.
func (d *Desk) now(ctx context.Context) (*kept, <-chan struct{}, error) {
	d.mu.Lock()
	k, changed := d.kept, d.changed
	d.mu.Unlock()
	if k != nil && !k.over(d.cfg.Now()) {
		return k, changed, nil
	}
	if err := d.reload(ctx); err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept, d.changed, nil
}

// reload reads everything anew and wakes those who wait.
func (d *Desk) reload(ctx context.Context) error {
	k, err := d.cfg.Store.Kept(ctx)
	if err != nil {
		return err
	}
	next := newKept(k, d.cfg, d.cfg.Now())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept != nil && d.kept.Changes > next.Changes {
		return nil // somebody else has read later
	}
	d.kept = next
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

// Run looks for changes that others made, until ctx ends; it returns nil then, and those who wait are sent home.
func (d *Desk) Run(ctx context.Context) error {
	defer close(d.stopped)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	quiet := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := d.look(ctx)
		if err != nil && !quiet && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "changes of what boxes are to have cannot be read", "err", err)
		}
		quiet = err != nil
	}
}

func (d *Desk) look(ctx context.Context) error {
	n, err := d.cfg.Store.Changes(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	k := d.kept
	d.mu.Unlock()
	if k != nil && k.Changes == n && !k.over(d.cfg.Now()) {
		return nil
	}
	return d.reload(ctx)
}

// card returns the last document of a box, after a new one was issued if it must be; then it returns that one too.
func (d *Desk) card(ctx context.Context, k *kept, box uint32, branch string, have tags) (card, desired.Signed, error) {
	doc, core := k.document(box, branch)
	d.mu.Lock()
	c, ok := d.cards[box]
	d.mu.Unlock()
	if ok && c.core == core && d.cfg.Now().Before(c.renew) && k.GoBack[box] == 0 && !c.behind(have) {
		return c, desired.Signed{}, nil
	}
	o := &order{box: box, doc: doc, core: core, have: have}
	if err := d.issue(ctx, o); err != nil {
		return card{}, desired.Signed{}, err
	}
	return o.got, o.signed, nil
}

// behind says whether a box has been given documents that this card knows nothing of: by another hub, or by this one
// before its database was restored from a backup.
func (c card) behind(have tags) bool {
	return have.version > c.highest || have.version == c.version && have.known && have.core != coreTag(c.core[:])
}

func cardOf(is Issued) card {
	c := card{
		version: is.Version, highest: is.Highest, rollback: is.Rollback, issued: is.Issued, renew: is.Expires.Add(-renewBefore),
		etag: etag(is.Version, is.Core, is.Issued),
	}
	copy(c.core[:], is.Core)
	return c
}

// order is a box that may need a new document.
type order struct {
	box  uint32
	doc  desired.Document
	core [32]byte
	have tags

	got    card
	signed desired.Signed // empty when it is as it was
}

// batch is orders that are dealt with in one transaction.
type batch struct {
	orders []*order
	done   chan struct{}
	err    error
}

// issue deals with an order. Of those that come at the same time, the first one does the work for all.
func (d *Desk) issue(ctx context.Context, o *order) error {
	d.mu.Lock()
	b, first := d.next, false
	if b == nil || len(b.orders) >= maxBatch {
		b, first = &batch{done: make(chan struct{})}, true
		d.next = b
	}
	b.orders = append(b.orders, o)
	d.mu.Unlock()
	if first {
		d.issuing.Lock()
		d.mu.Lock()
		if d.next == b {
			d.next = nil
		}
		d.mu.Unlock()
		// Others wait for this: it must not end because this box has hung up.
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), issueLimit)
		b.err = d.issueAll(work, b.orders)
		cancel()
		d.issuing.Unlock()
		close(b.done)
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Desk) issueAll(ctx context.Context, orders []*order) error {
	by := map[uint32][]*order{}
	var boxes []uint32
	for _, o := range orders {
		if by[o.box] == nil {
			boxes = append(boxes, o.box)
		}
		by[o.box] = append(by[o.box], o)
	}
	slices.Sort(boxes)
	got := map[uint32]Issued{}
	err := d.cfg.Store.Issue(ctx, boxes, func(last Issued, goBack uint64) (Issued, bool, error) {
		os := by[last.Box]
		o := *os[len(os)-1] // the last one has seen the most
		for _, other := range os {
			if other.have.version > o.have.version {
				o.have = other.have
			}
		}
		is, issued, err := d.decide(&o, last, goBack)
		if err != nil {
			return Issued{}, false, err
		}
		got[last.Box] = is
		return is, issued, nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for box, is := range got {
		c := cardOf(is)
		d.cards[box] = c
		for _, o := range by[box] {
			o.got, o.signed = c, is.Signed
		}
	}
	return nil
}

// decide returns the document that a box is to have after the last one, and whether that is another one.
func (d *Desk) decide(o *order, last Issued, goBack uint64) (Issued, bool, error) {
	now := d.cfg.Now().UTC().Truncate(time.Second)
	known := cardOf(last)
	behind := last.Version != 0 && known.behind(o.have) && last.Rollback <= o.have.version
	next := Issued{Box: o.box, Version: last.Version, Highest: last.Highest, Rollback: last.Rollback, Issued: now, Expires: now.Add(Life)}
	switch {
	case goBack != 0 && goBack < max(last.Highest, o.have.version):
		next.Version = goBack
		next.Highest = max(last.Highest, o.have.version)
		if last.Rollback == next.Highest { // that number has served
			next.Highest++
		}
		next.Rollback = next.Highest
	case last.Version == 0 || behind || !bytes.Equal(last.Core, o.core[:]):
		next.Version = max(last.Highest, o.have.version) + 1
		next.Highest, next.Rollback = next.Version, 0
	case now.Before(known.renew):
		return last, false, nil
	default: // signed anew, before it is too old
		if !now.After(last.Issued) {
			return last, false, nil // the hub's clock was set back
		}
	}
	doc := o.doc
	doc.Version, doc.Rollback, doc.Issued, doc.Expires = next.Version, next.Rollback, next.Issued, next.Expires
	var err error
	if next.Signed, err = desired.Sign(doc, d.cfg.Key); err != nil {
		return Issued{}, false, err
	}
	if len(next.Signed.Body) > desired.MaxDocument {
		return Issued{}, false, fmt.Errorf("document has %d bytes, more than %d: %w", len(next.Signed.Body), desired.MaxDocument, errTooMuch)
	}
	next.Core, next.Content = o.core[:], doc.Content
	return next, true, nil
}

var errTooMuch = errors.New("too much for one box")

// tags is what a box says it has.
type tags struct {
	all     []string
	version uint64 // the highest number among them
	core    string // of that one
	known   bool   // whether one of the tags was of the form that etag makes
}

// etag names a document, strongly: its number, a part of its core, and when it was signed.
func etag(version uint64, core []byte, issued time.Time) string {
	return `"` + strconv.FormatUint(version, 10) + "." + coreTag(core) + "." + strconv.FormatInt(issued.Unix(), 36) + `"`
}

func coreTag(core []byte) string {
	return base64.RawURLEncoding.EncodeToString(core[:min(6, len(core))])
}

// parseTags reads If-None-Match. What is not of this hub's making is kept to be compared only.
func parseTags(header string) (t tags) {
	for s := range strings.SplitSeq(header, ",") {
		s = strings.TrimPrefix(strings.TrimSpace(s), "W/") // compared weakly, RFC 9110 §13.1.2
		if s == "" || len(t.all) >= 8 {
			continue
		}
		t.all = append(t.all, s)
		parts := strings.Split(strings.Trim(s, `"`), ".")
		if len(parts) != 3 {
			continue
		}
		if n, err := strconv.ParseUint(parts[0], 10, 64); err == nil && n < maxVersion && (!t.known || n > t.version) {
			t.version, t.core, t.known = n, parts[1], true
		}
	}
	return t
}

func (t tags) match(etag string) bool {
	return slices.Contains(t.all, etag) || slices.Contains(t.all, "*")
}
