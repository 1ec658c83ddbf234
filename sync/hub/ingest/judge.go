package ingest

import (
	"context"
	"fmt"
	"slices"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// run is a piece of a chain as a box delivers it, read as far as this hub can.
type run struct {
	id          ChainID
	first, last uint64
	prev        envelope.Hash // before first; zero when it came in JSON
	oldest      bool
	v1          bool // came in JSON, without hashes
	items       []item
	refused     []wire.Refusal
}

// end returns the number at a position of the run: 0 is before its first entry, i after its i-th.
func (r *run) end(i int) uint64 {
	if i == 0 {
		return r.first - 1
	}
	return r.items[i-1].row.last()
}

// hash returns the chain's hash at a position of the run.
func (r *run) hash(i int) envelope.Hash {
	if i == 0 {
		return r.prev
	}
	return r.items[i-1].row.Hash
}

// head returns the chain's hash after the run.
func (r *run) head() envelope.Hash { return r.hash(len(r.items)) }

// within returns the last position of the run that is not after seq, at least 0.
func (r *run) within(seq uint64) int {
	if r.last <= seq {
		return len(r.items)
	}
	at := 0
	for at < len(r.items) && r.items[at].row.last() <= seq {
		at++
	}
	return at
}

// after returns the entries that follow number seq. A stretch that begins before is cut.
func (r *run) after(seq uint64) []item {
	for i := range r.items {
		row := &r.items[i].row
		if row.last() <= seq {
			continue
		}
		rest := r.items[i:]
		if row.Missing != nil && row.Seq <= seq {
			rest = slices.Clone(rest) // a transaction may be run again
			m := *row.Missing
			m.Count -= seq + 1 - row.Seq
			rest[0].row.Missing, rest[0].row.Seq = &m, seq+1
		}
		return rest
	}
	return nil
}

// verdict is what becomes of a run.
type verdict struct {
	items []item // new ones, in order, all on one branch
	alarm *Alarm // about the run as a whole
	seq   uint64 // to be acknowledged …
	head  envelope.Hash
	safe  uint64
	have  uint64 // as seq, whether or not a hash is known
	gap   bool   // nothing was stored: the box should begin earlier
	also  bool   // seq is after the run: that the run itself is there has to be said as well
}

// judge says what becomes of a run and adds what is new to the history. prepare is called on entries before they are
// added.
//
// There may be several branches. The run belongs to the one with which it has most in common: then it says what is
// there already, or goes on from its end, or parts from it, which makes a new branch, as long as these are few enough to be
// told apart. Nobody's events are thrown away.
func (h *history) judge(ctx context.Context, r *run, prepare func(b *Branch, items []item)) (verdict, error) {
	best, upTo, equals, err := h.place(ctx, r)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	full := len(h.branches) >= maxBranches
	switch b := &h.branches[max(best, 0)]; {
	case best < 0 && h.collected(r):
		return h.collect(r, r.items, prepare), nil
	case best < 0 && (!r.oldest || len(r.items) == 0 && (h.forked() || r.first <= b.Seq+1)):
		// What the box sent cannot be joined to anything. It learns where the hub is, finds that this is, or is not, its
		// own past, and begins with what the hub needs.
		v.gap = true
		return h.ack(v, 0), nil
	case best < 0 && !h.forked() && r.first > b.Seq+1:
		v.items = append([]item{h.hole(b.Seq+1, r)}, r.items...)
	case best < 0 && full:
		return h.collect(r, r.items, prepare), nil
	case best < 0:
		best = h.add(Branch{Parent: len(h.branches), From: r.first, Seq: r.first - 1, Head: r.prev, Safe: r.first - 1})
		v.items, v.alarm = r.items, h.fork(best)
	case upTo >= r.last:
		// Two branches that share what was sent: which of them the box follows will be seen later. And of rows that came
		// in JSON no hash is known, but the run's own is right for what it covers.
		if equals > 1 || h.id.Chain.Stream == envelope.All && !r.v1 {
			v.seq, v.head, v.safe, v.have = r.last, r.head(), min(r.last, b.Safe), r.last
			return v, nil
		}
		v = h.ack(v, best)
		v.also = v.seq > r.last
		return v, nil
	case upTo < b.Seq && full:
		return h.collect(r, r.after(upTo), prepare), nil
	case upTo < b.Seq:
		v.items = r.after(upTo)
		best = h.add(Branch{Parent: best, From: upTo + 1, Seq: upTo, Safe: min(b.Safe, upTo), Dated: b.Dated})
		v.alarm = h.fork(best)
	default:
		v.items = r.after(upTo)
	}
	prepare(&h.branches[max(best, 0)], v.items)
	h.grow(max(best, 0), v.items)
	return h.ack(v, max(best, 0)), nil
}

// place returns the branch with which a run has most in common, up to which number, and how many branches share that. The
// branch is -1 when there is none.
func (h *history) place(ctx context.Context, r *run) (best int, upTo uint64, equals int, err error) {
	if h.id.Chain.Stream != envelope.All {
		// Nearly always. But where another branch goes further it may be that one which the run belongs to: events of a
		// stretch that was let go later may have come late, and made a branch of what is one history.
		fits := func(b Branch) bool { return b.Seq == r.first-1 && b.Head == r.prev }
		further := func(b Branch) bool { return b.Seq >= r.first }
		if i := slices.IndexFunc(h.apart(), fits); i >= 0 && !slices.ContainsFunc(h.apart(), further) {
			return i, r.first - 1, 1, nil
		}
	}
	best = -1
	for i := range h.apart() {
		n, ok, err := h.common(ctx, i, r)
		if err != nil {
			return 0, 0, 0, err
		}
		switch {
		case !ok:
		case best < 0 || n > upTo:
			best, upTo, equals = i, n, 1
		case n == upTo:
			// One that ends here goes on; of two that do not, the younger one is more likely to be in use.
			if equals++; h.branches[i].Seq == n || h.branches[best].Seq != n {
				best = i
			}
		}
	}
	return best, upTo, equals, nil
}

// ack fills in how far a branch has come.
func (h *history) ack(v verdict, number int) verdict {
	b := h.branches[number]
	v.have = b.Seq
	if v.seq, v.head, v.safe = b.Seq, b.Head, min(b.Safe, b.Seq); v.head == (envelope.Hash{}) {
		// No hash is known of what came in JSON, and an acknowledgement without one is worth nothing.
		v.seq, v.head, v.safe = 0, envelope.Genesis(h.id.Chain), 0
	}
	return v
}

// hole is what comes before a run and never will: the box has nothing older.
func (h *history) hole(from uint64, r *run) item {
	m := &envelope.Missing{Count: r.first - from, Reason: envelope.Forgotten, Hash: r.prev}
	return item{row: Row{ID: h.id, Seq: from, Hash: r.prev, Missing: m, Judged: Absent}, alarm: absent(h.id.Chain, from, m)}
}

// fork is the alarm for a branch that has just begun.
func (h *history) fork(number int) *Alarm {
	b := h.branches[number]
	return &Alarm{
		Kind: AlarmFork, Key: fmt.Sprintf("%s/%d", h.id.Chain, number),
		Text: fmt.Sprintf("two histories of %s from number %d on: a disk was copied or put back; both are kept and counted", h.id.Chain, b.From),
	}
}
