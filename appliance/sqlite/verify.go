package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"sportello.example/sync/envelope"
)

// SQLite has no checksums: of single bits that flip in its file, most give other data without a word. So nothing leaves
// the queue before its hash was compared. A row's hash is over the hash of the row before it and its own bytes; the row
// after it tells which of the two has changed when they do not fit.

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// row is an event as it is stored.
type row struct {
	seq  uint64
	enc  []byte
	hash envelope.Hash
}

// gap is a stretch of a chain whose events are not there any more.
type gap struct {
	first, last uint64
	reason      envelope.Reason
	hash        envelope.Hash // of the chain after last
}

func (g gap) holds(seq uint64) bool { return g.first <= seq && seq <= g.last }

// table returns the name of a stream's table.
func table(s envelope.Stream) string { return "queue_" + s.String() }

const seqBits = 40 // of envelope.MaxSeq

// id is the key of an event in its stream's table.
func id(number int64, seq uint64) int64 { return number<<seqBits | int64(seq) }

// seqOf returns the event's number from its key.
func seqOf(id int64) uint64 { return uint64(id) & envelope.MaxSeq }

// fetch reads the rows of a chain from first to last in order: at most n, and no more once they are larger than bytes
// together, but for the one more that tells whether the one before it is sound. all says that these were all.
func fetch(ctx context.Context, q querier, st *chainState, first, last uint64, n, bytes int) (out []row, all bool, err error) {
	rows, err := q.QueryContext(ctx, "SELECT id, envelope, hash FROM "+table(st.Stream)+" WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
		id(st.number, first), id(st.number, last), n+1)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", st.Chain, err)
	}
	defer func() { _ = rows.Close() }()
	var hash sql.RawBytes
	total := 0
	for rows.Next() {
		var r row
		var key int64
		if err := rows.Scan(&key, &r.enc, &hash); err != nil {
			return nil, false, fmt.Errorf("read %s: %w", st.Chain, err)
		}
		r.seq = seqOf(key)
		if len(hash) == len(r.hash) {
			copy(r.hash[:], hash)
		}
		out = append(out, r)
		if total += len(r.enc); len(out) > n || total > bytes && len(out) > 1 {
			return out, false, nil
		}
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("read %s: %w", st.Chain, err)
	}
	return out, true, nil
}

// piece is one entry of a chain as it was found.
type piece struct {
	gap           // what it covers, and the hash after it
	enc    []byte // the event; nil: missing
	found  bool   // it was not known yet that it is missing
	repair bool   // the event is sound, and the hash in its row is not
}

// walk reads the entries of a chain that follow after: at most n, with bytes of events. st is what the database says of
// the chain. It returns where the walk began, which is before after when that is within a stretch that is missing, and
// the entries.
func walk(ctx context.Context, q querier, st *chainState, after uint64, n, bytes int) (start mark, out []piece, err error) {
	start = st.base
	if after > st.last.seq {
		return mark{seq: after}, nil, nil
	}
	if after > start.seq {
		if i := slices.IndexFunc(st.missing, func(g gap) bool { return g.holds(after) && g.last != after }); i >= 0 {
			after = st.missing[i].first - 1
		}
		var known bool
		if start.hash, known, err = hashAt(ctx, q, st, after); err != nil {
			return mark{}, nil, err
		}
		if start.seq = after; !known { // its row is gone, and nobody has said so: begin where something is known
			start = st.base
		}
	}
	rows, all, err := fetch(ctx, q, st, start.seq+1, st.last.seq, n, bytes)
	if err != nil {
		return mark{}, nil, err
	}
	out, at := pieces(st, start, rows, all, n)
	if all && len(out) < n && at.seq < st.last.seq { // rows are gone from the end
		out = append(out, piece{gap: gap{at.seq + 1, st.last.seq, envelope.Damaged, st.last.hash}, found: true})
	}
	return start, out, nil
}

// pieces compares rows, and what is known to be missing, with their hashes. Of rows that are not all the last one only
// serves to judge the one before.
func pieces(st *chainState, at mark, rows []row, all bool, n int) ([]piece, mark) {
	out := make([]piece, 0, min(n, len(rows)+len(st.missing)))
	gaps := st.missing
	for len(gaps) > 0 && gaps[0].last <= at.seq {
		gaps = gaps[1:]
	}
	for len(out) < n {
		for len(rows) > 0 && rows[0].seq <= at.seq { // left over of a stretch that is missing
			rows = rows[1:]
		}
		if len(gaps) > 0 && (len(rows) == 0 && all || len(rows) > 0 && gaps[0].first <= rows[0].seq) {
			g := gaps[0]
			gaps = gaps[1:]
			hole := g.first > at.seq+1 // rows before it are gone
			p := piece{gap: g, found: hole}
			if p.first = at.seq + 1; hole {
				p.reason = envelope.Damaged
			}
			out, at = append(out, p), mark{g.last, g.hash}
			continue
		}
		if len(rows) == 0 || len(rows) == 1 && !all && len(out) > 0 {
			break
		}
		var next *row
		if len(rows) > 1 {
			next = &rows[1]
		}
		p := judgeRow(st, at, rows[0], next)
		rows = rows[1:]
		out, at = append(out, p), mark{p.last, p.hash}
	}
	return out, at
}

// judgeRow compares a row with the chain before it, and with the row after it when they do not fit.
func judgeRow(st *chainState, at mark, r row, next *row) piece {
	p := piece{gap: gap{first: r.seq, last: r.seq, hash: r.hash}, enc: r.enc}
	if r.seq == at.seq+1 {
		is := at.hash.Next(r.enc)
		if is == r.hash {
			return p
		}
		// Its bytes may be sound and the hash beside them not: whoever follows was hashed over the right one.
		if next != nil && next.seq == r.seq+1 && is.Next(next.enc) == next.hash || r.seq == st.last.seq && is == st.last.hash {
			p.hash, p.repair = is, true
			return p
		}
	}
	p.first, p.enc, p.reason, p.found = at.seq+1, nil, envelope.Damaged, true
	if r.seq == st.last.seq {
		p.hash = st.last.hash
	}
	return p
}

// hashAt returns the chain's hash after seq, false when it is not known.
func hashAt(ctx context.Context, q querier, st *chainState, seq uint64) (envelope.Hash, bool, error) {
	switch {
	case seq == st.base.seq:
		return st.base.hash, true, nil
	case seq == 0:
		return envelope.Genesis(st.Chain), true, nil
	case seq == st.last.seq:
		return st.last.hash, true, nil
	case seq < st.base.seq, seq > st.last.seq:
		return envelope.Hash{}, false, nil
	}
	before, haveBefore := st.base.hash, st.base.seq == seq-1
	for _, g := range st.missing {
		if g.holds(seq) {
			return g.hash, g.last == seq, nil
		}
		if g.last == seq-1 {
			before, haveBefore = g.hash, true
		}
	}
	rows, _, err := fetch(ctx, q, st, seq-1, seq+1, 3, envelope.MaxEncoded*3)
	if err != nil {
		return envelope.Hash{}, false, err
	}
	if len(rows) > 0 && rows[0].seq == seq-1 {
		before, haveBefore = rows[0].hash, true
		rows = rows[1:]
	}
	if len(rows) == 0 || rows[0].seq != seq {
		return envelope.Hash{}, false, nil
	}
	r := rows[0]
	is := before.Next(r.enc)
	if len(rows) > 1 && haveBefore && is != r.hash && r.hash.Next(rows[1].enc) != rows[1].hash && is.Next(rows[1].enc) == rows[1].hash {
		return is, true, nil
	}
	return r.hash, true, nil
}

// ErrNoChain means that the queue has no such chain, or no longer.
var ErrNoChain = errors.New("no such chain in the queue")
