// Package ingesttest makes what boxes deliver, for tests of what takes it in.
package ingesttest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// Box is a box's queue, as far as its chains go. A copy of it, made by Clone, is a cloned disk.
type Box struct {
	Number uint32
	Epoch  envelope.Epoch
	Boot   uint32
	Now    time.Time // of its clock
	Mono   time.Duration
	Clock  envelope.Quality

	seal    func(aad, plain []byte) ([]byte, error)
	entries map[envelope.Chain][]envelope.Entry
	first   map[envelope.Chain]uint64 // number of the first of entries, when not 1
	before  map[envelope.Chain]envelope.Hash
}

// New returns a box with an empty queue whose clock is right.
func New(number uint32, epoch envelope.Epoch, now time.Time) *Box {
	return &Box{
		Number: number, Epoch: epoch, Boot: 1, Now: now, Clock: envelope.Synced, entries: map[envelope.Chain][]envelope.Entry{},
		first: map[envelope.Chain]uint64{}, before: map[envelope.Chain]envelope.Hash{},
	}
}

// Seal makes the box close what is private with do.
func (b *Box) Seal(do func(aad, plain []byte) ([]byte, error)) { b.seal = do }

// Clone returns a box with the same disk.
func (b *Box) Clone() *Box {
	c := New(b.Number, b.Epoch, b.Now)
	c.Boot, c.Mono, c.Clock, c.seal = b.Boot, b.Mono, b.Clock, b.seal
	for k, v := range b.entries {
		c.entries[k] = append([]envelope.Entry(nil), v...)
		c.first[k] = b.first[k]
	}
	maps.Copy(c.before, b.before)
	return c
}

// Chain returns the box's chain of a stream.
func (b *Box) Chain(s envelope.Stream) envelope.Chain {
	return envelope.Chain{Epoch: b.Epoch, Stream: s}
}

// Chains returns the chains that hold something, of all epochs, in an order of their own.
func (b *Box) Chains() []envelope.Chain {
	return slices.SortedFunc(maps.Keys(b.entries), func(x, y envelope.Chain) int {
		return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.Stream, y.Stream))
	})
}

// First returns the number of the first entry of a chain that is there.
func (b *Box) First(c envelope.Chain) uint64 { return max(b.first[c], 1) }

// Last returns the last number given out on a chain.
func (b *Box) Last(c envelope.Chain) uint64 {
	n := max(b.first[c], 1) - 1
	for _, e := range b.entries[c] {
		n += e.Count()
	}
	return n
}

// Put queues an event and returns its number.
func (b *Box) Put(t testing.TB, e event.Event) uint64 {
	t.Helper()
	body, err := json.Marshal(event.Body{Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail})
	if err != nil {
		t.Fatal(err)
	}
	return b.PutBody(t, e.Kind.Stream(), e.Kind, event.SchemaBody, body, e.Private)
}

// PutBody queues an event of any kind and schema.
func (b *Box) PutBody(t testing.TB, s envelope.Stream, kind event.Kind, schema uint8, body, private []byte) uint64 {
	t.Helper()
	env := envelope.Envelope{
		Box: b.Number, Chain: b.Chain(s), Seq: b.Last(b.Chain(s)) + 1, Kind: string(kind), Schema: schema,
		At: envelope.Stamp{Wall: b.Now, Boot: b.Boot, Mono: b.Mono, Quality: b.Clock}, Body: body,
	}
	if private != nil {
		var err error
		if env.Sealed, err = b.seal(env.AAD(), private); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := env.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.PutEntry(env.Chain, envelope.Entry{Encoded: encoded})
	return env.Seq
}

// PutEntry queues whatever it is given.
func (b *Box) PutEntry(c envelope.Chain, e envelope.Entry) { b.entries[c] = append(b.entries[c], e) }

// Begin makes a chain begin at a number, as that of stream All does on a box that was of the first release.
func (b *Box) Begin(c envelope.Chain, first uint64) { b.first[c] = first }

// Forget forgets the entries of a chain up to a number, as a box does with what is safe.
func (b *Box) Forget(c envelope.Chain, upTo uint64) {
	for len(b.entries[c]) > 0 {
		next := max(b.first[c], 1) + b.entries[c][0].Count()
		if next-1 > upTo {
			return
		}
		b.before[c] = b.hash(c).After(b.entries[c][0])
		b.first[c], b.entries[c] = next, b.entries[c][1:]
	}
}

// hash returns the hash before the first entry that is there.
func (b *Box) hash(c envelope.Chain) envelope.Hash {
	if h, ok := b.before[c]; ok {
		return h
	}
	return envelope.Genesis(c)
}

// Run returns the entries of a chain from number from to number to, as a box delivers them. When from lies within a
// stretch the run begins after it.
func (b *Box) Run(c envelope.Chain, from, to uint64) envelope.Run {
	first := max(b.first[c], 1)
	if from <= first {
		from = first
	}
	r := envelope.Run{Chain: c}
	at, n := b.hash(c), first
	for _, e := range b.entries[c] {
		if n < from {
			at, n = at.After(e), n+e.Count()
			continue
		}
		if len(r.Entries) == 0 {
			r.First, r.Prev = n, at
		}
		if n > to {
			break
		}
		r.Entries = append(r.Entries, e)
		at, n = at.After(e), n+e.Count()
	}
	if len(r.Entries) == 0 {
		r.Prev = at
	}
	r.Head = at
	if r.First == 0 {
		r.First = max(from, n)
	}
	r.Oldest = r.First == first
	return r
}

// Batch returns a batch with everything of the given streams, of all when there are none.
func (b *Box) Batch(streams ...envelope.Stream) envelope.Batch {
	if len(streams) == 0 {
		streams = envelope.Streams()
	}
	m := envelope.Batch{Box: b.Number}
	for _, s := range streams {
		if c := b.Chain(s); len(b.entries[c]) > 0 {
			m.Runs = append(m.Runs, b.Run(c, 1, b.Last(c)))
		}
	}
	return m
}

// Visits queues n visits: a session that begins, and two sheets.
func (b *Box) Visits(t testing.TB, n int) {
	t.Helper()
	for range n {
		session := fmt.Sprintf("%d-%s-%d-%p", b.Number, b.Epoch, b.Last(b.Chain(envelope.Session)), b)
		b.Put(t, event.Event{Kind: event.SessionStarted, Session: session, Detail: event.Detail{Mode: "self"}})
		b.Put(t, event.Event{Kind: event.PrintDone, Session: session, Detail: event.Detail{Pages: 2}})
	}
}
