// Package outboxtest is the two ends of the queue in memory, as plain as they can be: what a box's queue and a hub must do,
// to be run and to be read. Tests break them and the line between them in every way that the real ones can break.
package outboxtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
)

// Queue is a box's queue (outbox.Queue). Make one with NewQueue.
type Queue struct {
	mu      sync.Mutex
	box     uint32
	epochs  []envelope.Epoch // oldest first; the last is the present one
	chains  map[envelope.Chain]*chain
	renewed []string
	dead    map[envelope.Chain]map[uint64]string
	reads   int
}

var _ outbox.Queue = (*Queue)(nil)

// chain is one chain of a Queue. It gives out numbers that are never taken back.
type chain struct {
	forgotten uint64        // everything up to here is gone
	base      envelope.Hash // after forgotten
	rows      []row         // what follows
	cursor    uint64
}

// row is an entry and the hash after it.
type row struct {
	last    uint64 // the number of the entry, or the last that it stands for
	entry   envelope.Entry
	hash    envelope.Hash
	damaged bool
}

func (c *chain) last() uint64 {
	if n := len(c.rows); n > 0 {
		return c.rows[n-1].last
	}
	return c.forgotten
}

func (c *chain) head() envelope.Hash {
	if n := len(c.rows); n > 0 {
		return c.rows[n-1].hash
	}
	return c.base
}

// NewQueue returns an empty queue of a box.
func NewQueue(box uint32) *Queue {
	return &Queue{
		box: box, epochs: []envelope.Epoch{envelope.NewEpoch()},
		chains: map[envelope.Chain]*chain{}, dead: map[envelope.Chain]map[uint64]string{},
	}
}

// Add queues an event of a stream with so many bytes of body, and returns its envelope.
func (q *Queue) Add(s envelope.Stream, body string) envelope.Envelope {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := envelope.Chain{Epoch: q.epochs[len(q.epochs)-1], Stream: s}
	c := q.chain(id)
	e := envelope.Envelope{Box: q.box, Chain: id, Seq: c.last() + 1, Kind: "test", Schema: 2, Body: []byte(body)}
	b, err := e.Append(nil)
	if err != nil {
		panic(err) // a test that makes impossible events
	}
	c.rows = append(c.rows, row{last: e.Seq, entry: envelope.Entry{Encoded: b}, hash: c.head().Next(b)})
	return e
}

// Drop lets go of n numbers of a stream for want of room.
func (q *Queue) Drop(s envelope.Stream, n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.chain(envelope.Chain{Epoch: q.epochs[len(q.epochs)-1], Stream: s})
	h := c.head().Next([]byte("dropped"))
	m := &envelope.Missing{Count: n, Reason: envelope.Dropped, Hash: h}
	c.rows = append(c.rows, row{last: c.last() + n, entry: envelope.Entry{Missing: m}, hash: h})
}

// Damage changes an event behind the queue's back, as a bad disk does.
func (q *Queue) Damage(c envelope.Chain, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, r := range q.chain(c).rows {
		if r.last == seq {
			q.chain(c).rows[i].damaged = true
		}
	}
}

// Forget forgets what is acknowledged and up to seq, as the end of the time to keep it does.
func (q *Queue) Forget(c envelope.Chain, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chain(c).forget(seq)
}

func (c *chain) forget(seq uint64) {
	for len(c.rows) > 0 && c.rows[0].last <= min(seq, c.cursor) {
		c.forgotten, c.base, c.rows = c.rows[0].last, c.rows[0].hash, c.rows[1:]
	}
}

// Copy returns the queue as a copy of its disk has it.
func (q *Queue) Copy() *Queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := &Queue{
		box: q.box, epochs: slices.Clone(q.epochs), chains: map[envelope.Chain]*chain{}, renewed: slices.Clone(q.renewed),
		dead: map[envelope.Chain]map[uint64]string{},
	}
	for id, c := range q.chains {
		d := *c
		d.rows = slices.Clone(c.rows)
		out.chains[id] = &d
	}
	for id, d := range q.dead {
		out.dead[id] = maps.Clone(d)
	}
	return out
}

// Put makes the queue what old was: a disk that was rolled back.
func (q *Queue) Put(old *Queue) {
	old = old.Copy()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.epochs, q.chains, q.dead = old.epochs, old.chains, old.dead
}

// Epoch returns the present epoch.
func (q *Queue) Epoch() envelope.Epoch {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.epochs[len(q.epochs)-1]
}

// Renewed returns why new epochs were begun.
func (q *Queue) Renewed() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.renewed)
}

// Dead returns the reasons of the dead of a chain by number.
func (q *Queue) Dead(c envelope.Chain) map[uint64]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.dead[c])
}

// Queued returns how many numbers the hub has not acknowledged, of all streams.
func (q *Queue) Queued() (n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.chains {
		n += c.last() - c.cursor
	}
	return n
}

// Kept returns how many entries a chain has.
func (q *Queue) Kept(c envelope.Chain) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.chain(c).rows)
}

func (q *Queue) chain(id envelope.Chain) *chain {
	c, ok := q.chains[id]
	if !ok {
		c = &chain{base: envelope.Genesis(id)}
		q.chains[id] = c
	}
	return c
}

// Chains implements outbox.Queue.
func (q *Queue) Chains(context.Context) ([]outbox.Chain, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []outbox.Chain
	for _, s := range envelope.Streams() {
		for i, e := range q.epochs {
			id := envelope.Chain{Epoch: e, Stream: s}
			if c, ok := q.chains[id]; ok && c.cursor < c.last() {
				out = append(out, outbox.Chain{Chain: id, Cursor: c.cursor, Last: c.last(), Current: i == len(q.epochs)-1})
			}
		}
	}
	return out, nil
}

// Idle implements outbox.Queue.
func (q *Queue) Idle(context.Context) ([]outbox.Chain, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []outbox.Chain
	for _, s := range envelope.Streams() {
		for i, e := range q.epochs {
			id := envelope.Chain{Epoch: e, Stream: s}
			if c, ok := q.chains[id]; ok && c.cursor == c.last() && len(c.rows) > 0 {
				out = append(out, outbox.Chain{Chain: id, Cursor: c.cursor, Last: c.last(), Current: i == len(q.epochs)-1})
			}
		}
	}
	return out, nil
}

// Read implements outbox.Queue.
func (q *Queue) Read(_ context.Context, id envelope.Chain, after uint64, events, bytes int) (envelope.Run, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reads++
	c, ok := q.chains[id]
	if !ok {
		return envelope.Run{Chain: id, First: after + 1}, nil
	}
	run := envelope.Run{Chain: id, First: c.forgotten + 1, Prev: c.base, Oldest: after < c.forgotten}
	for _, r := range c.rows {
		if r.last <= after {
			run.First, run.Prev = r.last+1, r.hash
			continue
		}
		if n := len(run.Entries); n > 0 && (n >= events || bytes < len(r.entry.Encoded)) {
			break
		}
		e := r.entry
		if r.damaged {
			e = envelope.Entry{Missing: &envelope.Missing{Count: 1, Reason: envelope.Damaged, Hash: r.hash}}
		}
		bytes -= len(e.Encoded)
		run.Entries = append(run.Entries, e)
	}
	run.Head = run.Prev
	for _, e := range run.Entries {
		run.Head = run.Head.After(e)
	}
	return run, nil
}

// HashAt implements outbox.Queue.
func (q *Queue) HashAt(_ context.Context, id envelope.Chain, seq uint64) (envelope.Hash, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq == 0 {
		return envelope.Genesis(id), true, nil
	}
	c, ok := q.chains[id]
	if !ok {
		return envelope.Hash{}, false, nil
	}
	if seq == c.forgotten {
		return c.base, true, nil
	}
	for _, r := range c.rows {
		if r.last == seq {
			return r.hash, true, nil
		}
	}
	return envelope.Hash{}, false, nil
}

// Acked implements outbox.Queue.
func (q *Queue) Acked(_ context.Context, id envelope.Chain, seq, safe uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, ok := q.chains[id]
	if !ok {
		return nil
	}
	if seq > c.last() || safe > seq {
		return fmt.Errorf("acked %d, safe %d of %d", seq, safe, c.last())
	}
	c.cursor = max(seq, c.forgotten)
	if seq < c.forgotten {
		c.cursor = 0 // the next Read says that what is there is the oldest
	}
	c.forget(safe)
	return nil
}

// Rewind implements outbox.Queue.
func (q *Queue) Rewind(_ context.Context, id envelope.Chain) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c, ok := q.chains[id]; ok && len(c.rows) > 0 {
		c.cursor = 0
	}
	return nil
}

// Renew implements outbox.Queue.
func (q *Queue) Renew(_ context.Context, c envelope.Chain, reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.Epoch == q.epochs[len(q.epochs)-1] {
		q.epochs = append(q.epochs, envelope.NewEpoch())
		q.renewed = append(q.renewed, reason)
	}
	return nil
}

// Bury implements outbox.Queue.
func (q *Queue) Bury(_ context.Context, id envelope.Chain, seq uint64, reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, ok := q.chains[id]
	if !ok {
		return nil
	}
	for i, r := range c.rows {
		if r.last == seq && r.entry.Missing == nil {
			c.rows[i].entry = envelope.Entry{Missing: &envelope.Missing{Count: 1, Reason: envelope.Refused, Hash: r.hash}}
			if q.dead[id] == nil {
				q.dead[id] = map[uint64]string{}
			}
			q.dead[id][seq] = reason
		}
	}
	return nil
}
