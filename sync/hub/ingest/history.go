package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// history is what the hub has of one chain, within a transaction: what is stored, and what is to be.
type history struct {
	id       ChainID
	tx       lookup
	branches []Branch // by number; never empty
	dirty    []bool   // which of them have changed
	fresh    [][]Row  // by branch: rows to be stored, in order
	new      bool     // nothing of the chain was stored before
}

// lookup is what judging asks of a Tx.
type lookup interface {
	HashAt(ctx context.Context, id ChainID, branch int, seq uint64) (envelope.Hash, bool, error)
	Rows(ctx context.Context, id ChainID, branch int, from, to uint64) ([]Row, error)
}

// newHistory returns the history that has these branches, in the order of their numbers.
func newHistory(tx lookup, id ChainID, branches []Branch) *history {
	none := len(branches) == 0
	if none {
		branches = []Branch{{ID: id, From: 1, Head: envelope.Genesis(id.Chain)}}
	}
	return &history{id: id, tx: tx, branches: branches, dirty: make([]bool, len(branches)), fresh: make([][]Row, len(branches)), new: none}
}

// begins reports whether this transaction stores the first of the chain.
func (h *history) begins() bool { return h.new && slices.Contains(h.dirty, true) }

// apart returns the branches that are told apart: all but the one of collect.
func (h *history) apart() []Branch { return h.branches[:min(len(h.branches), maxBranches)] }

// forked reports whether there are two histories.
func (h *history) forked() bool { return len(h.branches) > 1 }

// collect takes over entries of a run for which no more branches are begun: somebody has so many copies of one disk, or
// invents histories, and every run would have to be compared with each. The events are kept on a last branch, one after
// the other as they come and under numbers of their own, for a person to look at; they are not counted. What goes on from
// there is kept there too, so that no box waits for ever. Hence, of that branch, Seq counts events, and Head is the
// chain's hash after the last run on it.
func (h *history) collect(r *run, items []item, prepare func(*Branch, []item)) verdict {
	v := verdict{seq: r.last, head: r.head(), have: r.last}
	if len(h.branches) <= maxBranches {
		h.add(Branch{Parent: maxBranches, From: 1})
	}
	b := &h.branches[maxBranches]
	if b.Head == r.head() && b.Head != (envelope.Hash{}) {
		return v // delivered once more
	}
	for _, it := range items {
		if it.row.Missing != nil {
			continue
		}
		kept := item{row: Row{ID: h.id, Seq: b.Seq + 1 + uint64(len(v.items)), Hash: it.row.Hash, Encoded: it.row.Encoded, Judged: Unreadable}}
		kept.request = it.request // a citizen waits for it
		v.items = append(v.items, kept)
	}
	v.alarm = &Alarm{
		Kind: AlarmFork, Key: h.id.Chain.String() + "/" + MoreAlarms,
		Text: fmt.Sprintf("more than %d histories of %s: what others come is kept, unread and not counted", maxBranches, h.id.Chain),
	}
	prepare(b, v.items)
	h.grow(maxBranches, v.items)
	b.Head, h.dirty[maxBranches] = r.head(), true
	return v
}

// collected reports whether a run is what was collected last, or goes on from there.
func (h *history) collected(r *run) bool {
	if len(h.branches) <= maxBranches {
		return false
	}
	last := h.branches[maxBranches].Head
	return last != (envelope.Hash{}) && (r.prev == last || r.head() == last)
}

// add begins a branch and returns its number.
func (h *history) add(b Branch) int {
	b.ID, b.Number = h.id, len(h.branches)
	h.branches = append(h.branches, b)
	h.dirty = append(h.dirty, true)
	h.fresh = append(h.fresh, nil)
	return b.Number
}

// grow appends rows to a branch, whose numbers follow it.
func (h *history) grow(number int, items []item) {
	b := &h.branches[number]
	for i := range items {
		r := &items[i].row
		r.Branch = number
		h.fresh[number] = append(h.fresh[number], *r)
		b.Seq, b.Head = r.last(), r.Hash
	}
	h.dirty[number] = h.dirty[number] || len(items) > 0
}

// holder returns the branch that holds a number of a branch: itself or one of its parents; false when none does.
func (h *history) holder(number int, seq uint64) (int, bool) {
	for seq < h.branches[number].From {
		if h.branches[number].Parent == number {
			return number, false
		}
		number = h.branches[number].Parent
	}
	return number, true
}

// hashAt returns the hash after seq on a branch. It returns false when it is not known: no row ends there, or the row
// has none.
func (h *history) hashAt(ctx context.Context, number int, seq uint64) (envelope.Hash, bool, error) {
	if seq == 0 {
		return envelope.Genesis(h.id.Chain), true, nil
	}
	if b := h.branches[number]; seq >= b.Seq {
		return b.Head, seq == b.Seq && b.Head != (envelope.Hash{}), nil
	}
	number, ok := h.holder(number, seq)
	if !ok {
		return envelope.Hash{}, false, nil
	}
	if f := h.fresh[number]; len(f) > 0 && seq >= f[0].Seq {
		i, _ := slices.BinarySearchFunc(f, seq, func(r Row, s uint64) int { return cmpSeq(r.last(), s) })
		known := i < len(f) && f[i].last() == seq && f[i].Hash != (envelope.Hash{})
		if !known {
			return envelope.Hash{}, false, nil
		}
		return f[i].Hash, true, nil
	}
	hash, ok, err := h.tx.HashAt(ctx, h.id, number, seq)
	return hash, ok && hash != (envelope.Hash{}), err
}

// rows returns the rows of a branch and its parents that begin from number from to number to, in order.
func (h *history) rows(ctx context.Context, number int, from, to uint64) ([]Row, error) {
	var parts [][]Row
	for from <= to {
		b, at := h.branches[number], max(from, h.branches[number].From)
		upTo := to
		f := h.fresh[number]
		lo, _ := slices.BinarySearchFunc(f, at, func(r Row, s uint64) int { return cmpSeq(r.Seq, s) })
		hi, _ := slices.BinarySearchFunc(f, to+1, func(r Row, s uint64) int { return cmpSeq(r.Seq, s) })
		part := f[lo:max(lo, hi)]
		if len(f) > 0 {
			upTo = min(to, f[0].Seq-1)
		}
		if at <= upTo {
			stored, err := h.tx.Rows(ctx, h.id, number, at, upTo)
			if err != nil {
				return nil, err
			}
			part = append(stored, part...)
		}
		parts = append(parts, part)
		if b.Parent == number || b.From <= from {
			break
		}
		to, number = b.From-1, b.Parent
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), nil
}

func cmpSeq(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// common returns the number up to which a run says the same as a branch. It returns false when they have nothing in
// common, not even what comes before the run.
func (h *history) common(ctx context.Context, number int, r *run) (uint64, bool, error) {
	if r.first-1 > h.branches[number].Seq {
		return 0, false, nil
	}
	if h.id.Chain.Stream == envelope.All {
		return h.commonBodies(ctx, number, r)
	}
	b := h.branches[number]
	at, err := h.meet(ctx, number, r)
	if err != nil || at < 0 {
		return 0, false, err
	}
	// An entry that ends above, within the branch, is not what the branch has there. Either the hashes differ. Or they
	// cannot be compared, because it lies within a stretch that never came here: that its numbers are spoken for says
	// nothing about it, since a disk that was put back gives them out once more. If it were taken for known, an event would
	// be nowhere, and of what follows nobody would know where it belongs.
	if at < r.within(b.Seq) {
		return r.end(at), true, nil
	}
	// What is left lies beyond the branch, but for a stretch that begins within it: events that came here were let go by
	// the box later. It takes nothing away from what is here.
	return max(min(b.Seq, r.last), r.first-1), true, nil
}

// meet returns the last position of a run at which its hash is that of a branch, -1 when there is none. Equal hashes mean
// an equal past, whatever cannot be compared before.
func (h *history) meet(ctx context.Context, number int, r *run) (int, error) {
	upTo := min(h.branches[number].Seq, r.last)
	at := r.within(upTo)
	equal, err := h.same(ctx, number, r, at)
	if err != nil || equal {
		return at, err
	}
	if at == 0 {
		return -1, nil
	}
	rows, err := h.rows(ctx, number, r.first, upTo)
	if err != nil {
		return 0, err
	}
	ends := make(map[uint64]envelope.Hash, len(rows)+1)
	for i := range rows {
		ends[rows[i].last()] = rows[i].Hash
	}
	if len(rows) > 0 && rows[0].Seq > r.first { // the one before may have begun before the run
		hash, known, err := h.hashAt(ctx, number, rows[0].Seq-1)
		if err != nil {
			return 0, err
		}
		if known {
			ends[rows[0].Seq-1] = hash
		}
	}
	for at--; at > 0; at-- {
		if hash := ends[r.end(at)]; hash != (envelope.Hash{}) && hash == r.hash(at) {
			return at, nil
		}
	}
	if equal, err = h.same(ctx, number, r, 0); err != nil || equal {
		return 0, err
	}
	return -1, nil
}

// same reports whether the hashes of a run and a branch are known to be the same at a position of the run; see run.end.
func (h *history) same(ctx context.Context, number int, r *run, at int) (equal bool, err error) {
	got, known, err := h.hashAt(ctx, number, r.end(at))
	return known && got == r.hash(at), err
}

// commonBodies is common for stream All, which boxes of the first release delivered in JSON and without hashes. After
// such a box has got a newer program, the chain of that stream begins with what was left, so the hash before it says
// nothing. What counts is what the events say.
func (h *history) commonBodies(ctx context.Context, number int, r *run) (uint64, bool, error) {
	b, before := h.branches[number], r.first-1
	if !r.v1 {
		equal, err := h.same(ctx, number, r, r.within(b.Seq))
		if err != nil || equal {
			return max(min(b.Seq, r.last), before), equal, err
		}
	}
	if before == b.Seq {
		fits := r.v1 || b.Head == (envelope.Hash{}) || r.oldest && r.prev == envelope.Genesis(r.id.Chain)
		return before, fits, nil
	}
	rows, err := h.rows(ctx, number, r.first, min(b.Seq, r.last))
	if err != nil {
		return 0, false, err
	}
	at := before
	for i := range r.items {
		it := &r.items[i].row
		if it.Seq > b.Seq {
			break
		}
		if it.Missing == nil {
			for len(rows) > 0 && rows[0].Seq < it.Seq {
				rows = rows[1:]
			}
			if len(rows) == 0 || rows[0].Seq != it.Seq || rows[0].Missing != nil || !sameEvent(&rows[0], it) {
				return at, true, nil
			}
		}
		at = it.last()
	}
	return max(before, min(at, b.Seq)), true, nil
}

// sameEvent reports whether two rows of stream All are the same event: one may have come in JSON, the other as an
// envelope around it.
func sameEvent(a, b *Row) bool {
	x, y := bodyV1(a), bodyV1(b)
	if bytes.Equal(x, y) {
		return true
	}
	var p, q event.V1
	if json.Unmarshal(x, &p) != nil || json.Unmarshal(y, &q) != nil {
		return false
	}
	x, err := json.Marshal(p)
	if err != nil {
		return false
	}
	y, err = json.Marshal(q)
	return err == nil && bytes.Equal(x, y)
}

// bodyV1 returns the event in JSON that a row holds.
func bodyV1(r *Row) []byte {
	if r.hashless() {
		return r.Encoded
	}
	e, err := envelope.Parse(r.Encoded)
	if err != nil {
		return nil
	}
	return e.Body
}
