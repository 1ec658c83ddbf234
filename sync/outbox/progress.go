package outbox

import "sportello.example/sync/envelope"

// watch returns how the hub takes up a chain.
func (r *Relay) watch(c envelope.Chain) *progress {
	p, ok := r.watched[c]
	if !ok {
		p = &progress{}
		r.watched[c] = p
	}
	return p
}

// held reports whether a chain waits for the next look.
func (r *Relay) held(c envelope.Chain) bool {
	p, ok := r.watched[c]
	return ok && p.strikes >= maxStrikes
}

// release lets the chains that wait try again.
func (r *Relay) release() {
	for _, p := range r.watched {
		p.strikes = 0
	}
}

// came notes that the hub has acknowledged a chain up to seq. A hub that goes back and forth, as two that do not know of
// each other would, has not come further.
func (r *Relay) came(c Chain, seq uint64) {
	if p := r.watch(c.Chain); seq > p.high {
		p.high, p.strikes = seq, 0
	}
}

// stuck reports whether a chain of b has got nowhere, and may try once more.
func (r *Relay) stuck(b batch) bool {
	for _, p := range b.parts {
		if w, ok := r.watched[p.chain.Chain]; ok && w.strikes > 0 && w.strikes < maxStrikes {
			return true
		}
	}
	return false
}

// Batches hold at most this many entries at first, and while the line is bad.
const minBatch = 20

// window is how many entries a batch may hold: it doubles until the line has once not carried it, then grows by a
// constant while batches get through, and is halved when one does not (additive increase, multiplicative decrease).
type window struct {
	n       int // at least 1, at most envelope.MaxEvents
	doubles int // up to here it doubles
}

const growth = 100

func newWindow() window { return window{minBatch, envelope.MaxEvents} }

// grow notes that a batch of so many entries got through.
func (w *window) grow(entries int) {
	switch {
	case entries < w.n: // says nothing of a full one
	case w.n < w.doubles:
		w.n = min(2*w.n, w.doubles)
	default:
		w.n = min(w.n+growth, envelope.MaxEvents)
	}
}

// shrink notes that a batch of so many entries did not get through.
func (w *window) shrink(entries int) {
	if entries == 0 {
		return // it only asked, which says nothing of how much the line carries
	}
	w.n = max(1, min(w.n, entries)/2)
	w.doubles = max(minBatch, w.n)
}

// reset forgets what the line was like.
func (w *window) reset() { w.n, w.doubles = max(minBatch, w.n), envelope.MaxEvents }
