package outboxtest

import (
	"context"
	"crypto/ed25519"
	"maps"
	"sync"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/wire"
)

// Hub stores events as a hub must (outbox.Hub), behind a line that can be broken. Make one with NewHub.
type Hub struct {
	// Line, if set, stands between a box and the hub: it calls next, or does not, and may change what comes back. It is
	// set before the hub is used.
	Line func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error)
	// Refuse, if set, says why an event will never be taken, "" for the others.
	Refuse func(e envelope.Envelope) string

	key ed25519.PrivateKey
	now func() time.Time

	mu      sync.Mutex
	chains  map[envelope.Chain][]*branch
	absent  int
	batches []envelope.Batch
}

var _ outbox.Hub = (*Hub)(nil)

// branch is one history of a chain.
type branch struct {
	hashes map[uint64]envelope.Hash // after each number at which an entry ends
	events map[uint64]string        // bodies
	seq    uint64
	safe   uint64
}

// NewHub returns a hub without events. now is what it takes for the time.
func NewHub(now func() time.Time) *Hub {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return &Hub{key: key, now: now, chains: map[envelope.Chain][]*branch{}}
}

// Key returns what the hub signs with.
func (h *Hub) Key() ed25519.PrivateKey { return h.key }

// Keys returns what its statements are checked with.
func (h *Hub) Keys() []ed25519.PublicKey {
	return []ed25519.PublicKey{h.key.Public().(ed25519.PublicKey)}
}

// Deliver implements outbox.Hub.
func (h *Hub) Deliver(_ context.Context, b envelope.Batch) (wire.Reply, error) {
	if h.Line != nil {
		return h.Line(b, h.Take)
	}
	return h.Take(b), nil
}

// Take stores a batch and returns the reply.
func (h *Hub) Take(b envelope.Batch) wire.Reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches = append(h.batches, b)
	var reply wire.Reply
	var also []wire.Ack // of runs that were there already, how far they are the hub's history: see ingest.Ingest
	for _, run := range b.Runs {
		reply.Refused = append(reply.Refused, h.refuse(b.Box, &run)...)
		on := h.store(run)
		reply.Acks = append(reply.Acks, h.ack(b.Box, run.Chain, on))
		if on != nil && on.seq > run.Last() && on.hashes[run.Last()] == run.Head {
			a := reply.Acks[len(reply.Acks)-1]
			a.Seq, a.Head, a.Safe = run.Last(), run.Head, min(a.Safe, run.Last())
			also = append(also, a.Sign(h.key))
		}
	}
	reply.Acks = append(reply.Acks, also...)
	return reply
}

// refuse cuts a run before the first event that the hub refuses.
func (h *Hub) refuse(box uint32, run *envelope.Run) []wire.Refusal {
	at := run.Prev
	for i, e := range run.Entries {
		at = at.After(e)
		v, err := envelope.Parse(e.Encoded)
		if err != nil || h.Refuse == nil {
			continue
		}
		if reason := h.Refuse(v); reason != "" {
			run.Entries = run.Entries[:i]
			return []wire.Refusal{wire.Refusal{Box: box, Chain: v.Chain, Seq: v.Seq, Hash: at, Reason: reason}.Sign(h.key)}
		}
	}
	return nil
}

func (h *Hub) ack(box uint32, c envelope.Chain, b *branch) wire.Ack {
	a := wire.Ack{Box: box, Chain: c, Head: envelope.Genesis(c), Fork: len(h.chains[c]) > 1, Issued: h.now()}
	if b != nil {
		a.Seq, a.Head, a.Safe = b.seq, b.hashes[b.seq], b.safe
	}
	return a.Sign(h.key)
}

// store stores what is new of a run and returns the branch it is on; nil: nothing of this chain is here.
func (h *Hub) store(run envelope.Run) *branch {
	id, branches := run.Chain, h.chains[run.Chain]
	var best *branch
	most := -1
	for _, b := range branches {
		if at, _ := b.meet(run); at > most || at >= 0 && at == most && best.seq > run.First-1 && b.seq < best.seq {
			best, most = b, at
		}
	}
	if best != nil {
		return h.follow(id, best, run)
	}
	if len(branches) == 0 {
		b := &branch{hashes: map[uint64]envelope.Hash{0: envelope.Genesis(id)}, events: map[uint64]string{}}
		if run.Prev == b.hashes[0] && run.First == 1 {
			h.chains[id] = append(branches, b)
			return h.follow(id, b, run)
		}
		if !run.Oldest {
			return nil // a gap: the box sends what it has from the beginning
		}
		branches = append(branches, b)
		h.chains[id] = branches
	}
	b := branches[0]
	switch {
	case !run.Oldest:
		return b // a gap, or the history of another disk: the box learns how far this one goes
	case run.First > b.seq+1: // the box has nothing older: a hole, for ever
		h.absent++
	default: // what the box has begins inside of what is here, and is something else
		b = &branch{hashes: map[uint64]envelope.Hash{}, events: map[uint64]string{}}
		h.chains[id] = append(branches, b)
	}
	b.seq = run.First - 1
	b.hashes[b.seq] = run.Prev
	return h.follow(id, b, run)
}

// meet returns the last position of a run at which its hash is the branch's (0 is before its first entry), -1 when there
// is none, and whether the run has something else than the branch after it: the hash is another, or cannot be compared,
// within a stretch that the branch has as missing.
func (b *branch) meet(run envelope.Run) (last int, apart bool) {
	at, n := run.Prev, run.First-1
	last = -1
	if b.hashes[n] == at {
		last = 0
	}
	for i, e := range run.Entries {
		at, n = at.After(e), n+e.Count()
		switch known, ok := b.hashes[n]; {
		case ok && known == at:
			last, apart = i+1, false
		case n <= b.seq:
			apart = true
		}
	}
	return last, apart
}

// follow stores a run that meets a branch. Where it parts from it, a new branch begins.
func (h *Hub) follow(id envelope.Chain, b *branch, run envelope.Run) *branch {
	common, apart := b.meet(run)
	at, n := run.Prev, run.First-1
	for i, e := range run.Entries {
		if i == common && apart { // another history
			fork := &branch{hashes: maps.Clone(b.hashes), events: maps.Clone(b.events), seq: n, safe: min(b.safe, n)}
			maps.DeleteFunc(fork.hashes, func(seq uint64, _ envelope.Hash) bool { return seq > n })
			maps.DeleteFunc(fork.events, func(seq uint64, _ string) bool { return seq > n })
			h.chains[id] = append(h.chains[id], fork)
			b = fork
		}
		at, n = at.After(e), n+e.Count()
		if i < common || n <= b.seq {
			continue
		}
		b.seq, b.hashes[n] = n, at
		if v, err := envelope.Parse(e.Encoded); err == nil {
			b.events[n] = string(v.Body)
		}
	}
	return b
}

// Backup says that what is here now is safe, and returns it.
func (h *Hub) Backup() map[envelope.Chain][]*branch {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, branches := range h.chains {
		for _, b := range branches {
			b.safe = b.seq
		}
	}
	return copied(h.chains)
}

// Restore makes the hub what Backup returned.
func (h *Hub) Restore(b map[envelope.Chain][]*branch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chains = copied(b)
}

func copied(in map[envelope.Chain][]*branch) map[envelope.Chain][]*branch {
	out := map[envelope.Chain][]*branch{}
	for id, branches := range in {
		for _, b := range branches {
			c := *b
			c.hashes, c.events = maps.Clone(b.hashes), maps.Clone(b.events)
			out[id] = append(out[id], &c)
		}
	}
	return out
}

// Bodies returns how often each body is stored, however many histories it is on.
func (h *Hub) Bodies() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	type place struct {
		id   envelope.Chain
		seq  uint64
		hash envelope.Hash
	}
	seen := map[place]bool{}
	out := map[string]int{}
	for id, branches := range h.chains {
		for _, b := range branches {
			for seq, body := range b.events {
				if p := (place{id, seq, b.hashes[seq]}); !seen[p] {
					seen[p] = true
					out[body]++
				}
			}
		}
	}
	return out
}

// Absent returns how many stretches the hub knows never to come.
func (h *Hub) Absent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.absent
}

// Branches returns how many histories a chain has.
func (h *Hub) Branches(c envelope.Chain) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.chains[c])
}

// Batches returns what has arrived, in order.
func (h *Hub) Batches() []envelope.Batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]envelope.Batch(nil), h.batches...)
}
