package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"sportello.example/sync/envelope"
)

// chainState is what is known of a chain. The goroutine that writes changes it, under Store.mu.
type chainState struct {
	envelope.Chain
	number  int64     // of the epoch
	cursor  uint64    // last number that the hub has acknowledged
	safe    uint64    // last number that the hub has said, since the program started, to have in a backup too
	base    mark      // last number forgotten
	last    mark      // last number given out
	acked   time.Time // when the hub last acknowledged something; zero: never
	missing []gap     // in order; replaced, never changed
	rolled  uint64    // nothing up to here is left to be counted together; a hint
	handed  *handed   // what Read has handed out
}

func newChain(number int64, c envelope.Chain) *chainState {
	return &chainState{Chain: c, number: number, handed: new(handed)}
}

// snapshot returns a copy that does not change.
func (st *chainState) snapshot() *chainState {
	c := *st
	return &c
}

// lacking counts the numbers after one and up to another that are missing.
func (st *chainState) lacking(after, to uint64) (n uint64) {
	for _, g := range st.missing {
		if first, last := max(g.first, after+1), min(g.last, to); first <= last {
			n += last - first + 1
		}
	}
	return n
}

// queued returns how many events the hub has not acknowledged, kept how many are there although it has.
func (st *chainState) queued() int {
	from := max(st.cursor, st.base.seq)
	return int(st.last.seq - from - st.lacking(from, st.last.seq))
}

func (st *chainState) kept() int {
	if st.cursor <= st.base.seq {
		return 0
	}
	return int(st.cursor - st.base.seq - st.lacking(st.base.seq, st.cursor))
}

// sum is the checksum of a row: CRC-32C of its numbers and bytes.
func sum(numbers []uint64, texts ...[]byte) int64 {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, t := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	return int64(crc32.Checksum(b, castagnoli))
}

func (st *chainState) sum() int64 {
	return sum([]uint64{uint64(st.number), uint64(st.Stream), st.cursor, st.base.seq, st.last.seq}, st.base.hash[:], st.last.hash[:], []byte(when(st.acked)))
}

func (g gap) sum(number int64, s envelope.Stream) int64 {
	return sum([]uint64{uint64(number), uint64(s), g.first, g.last, uint64(g.reason)}, g.hash[:])
}

// when writes a time that may not have been yet.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

// saveChain writes the row of a chain, and what is missing of it that is new or gone.
func (w *work) saveChain(st *chainState) error {
	if st.number == w.number {
		st.last = w.heads[st.Stream]
	}
	return w.exec(saveChain, st.number, st.Stream, int64(st.cursor), int64(st.base.seq), st.base.hash[:], int64(st.last.seq), st.last.hash[:],
		when(st.acked), st.sum())
}

const saveChain = `INSERT INTO chain (epoch, stream, cursor, base, base_hash, high, head, acked, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (epoch, stream) DO UPDATE SET cursor = excluded.cursor, base = excluded.base, base_hash = excluded.base_hash,
	  high = excluded.high, head = excluded.head, acked = excluded.acked, sum = excluded.sum`

func (w *work) saveGap(st *chainState, g gap) error {
	return w.exec(`INSERT OR REPLACE INTO missing (epoch, stream, first, last, reason, hash, sum) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		st.number, st.Stream, int64(g.first), int64(g.last), g.reason, g.hash[:], g.sum(st.number, st.Stream))
}

// adopt makes a changed copy of a chain's state the one that counts, once it is committed.
func (w *work) adopt(st, changed *chainState) {
	w.after = append(w.after, func() {
		last := st.last
		*st = *changed
		if st.number == w.s.number { // it may have grown in the same transaction
			st.last = last
		}
	})
}

// with returns the stretches with one more.
func with(gaps []gap, g gap) []gap {
	i, _ := slices.BinarySearchFunc(gaps, g.first, func(a gap, first uint64) int { return int(int64(a.first) - int64(first)) })
	return slices.Insert(slices.Clone(gaps), i, g)
}

// readChain reads what the database says of a chain, in the transaction q. sound says that its checksum fits.
func readChain(ctx context.Context, q querier, number int64, c envelope.Chain) (st *chainState, sound bool, err error) {
	st = newChain(number, c)
	var cursor, base, high, check int64
	var baseHash, head []byte
	var acked string
	err = q.QueryRowContext(ctx, `SELECT cursor, base, base_hash, high, head, acked, sum FROM chain WHERE epoch = ? AND stream = ?`,
		number, c.Stream).Scan(&cursor, &base, &baseHash, &high, &head, &acked, &check)
	if err != nil {
		return nil, false, fmt.Errorf("chain %s: %w", c, err)
	}
	st.cursor, st.base.seq, st.last.seq = uint64(cursor), uint64(base), uint64(high)
	copy(st.base.hash[:], baseHash)
	copy(st.last.hash[:], head)
	if acked != "" {
		st.acked, err = time.Parse(time.RFC3339Nano, acked)
	}
	sound = err == nil && check == st.sum()
	if st.missing, err = readMissing(ctx, q, number, c); err != nil {
		return nil, false, err
	}
	return st, sound, nil
}

func readMissing(ctx context.Context, q querier, number int64, c envelope.Chain) (gaps []gap, err error) {
	rows, err := q.QueryContext(ctx, `SELECT first, last, reason, hash, sum FROM missing WHERE epoch = ? AND stream = ? ORDER BY first`, number, c.Stream)
	if err != nil {
		return nil, fmt.Errorf("chain %s: %w", c, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var first, last, reason, check int64
		var hash []byte
		if err := rows.Scan(&first, &last, &reason, &hash, &check); err != nil {
			return nil, fmt.Errorf("chain %s: %w", c, err)
		}
		g := gap{first: uint64(first), last: uint64(last), reason: envelope.Reason(reason)}
		copy(g.hash[:], hash)
		// What is said to be missing wrongly would be taken from the hub. Without this the rows are gone all the same,
		// and that is noticed.
		if check == g.sum(number, c.Stream) && g.first <= g.last && (len(gaps) == 0 || gaps[len(gaps)-1].last < g.first) {
			gaps = append(gaps, g)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("chain %s: %w", c, err)
	}
	return gaps, nil
}

// load reads all chains of all epochs. damaged says that the numbers of the present epoch cannot be relied on.
func (s *Store) load(ctx context.Context) (damaged bool, err error) {
	s.chains, s.current = map[envelope.Chain]*chainState{}, [streams]*chainState{}
	s.epochs, s.number, s.epoch = nil, 0, ""
	rows, err := s.conn.QueryContext(ctx, `SELECT number, name, begun, reason, sum FROM epoch ORDER BY number`)
	if err != nil {
		return false, fmt.Errorf("epochs: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var unsound []int64
	for rows.Next() {
		var e epochRow
		var check int64
		if err := rows.Scan(&e.number, &e.name, &e.begun, &e.reason, &check); err != nil {
			return false, fmt.Errorf("epochs: %w", err)
		}
		if check != e.sum() || !e.name.Valid() {
			unsound = append(unsound, e.number)
		}
		s.epochs = append(s.epochs, e)
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("epochs: %w", err)
	}
	present := -1
	for i, e := range s.epochs {
		if e.reason != ofFirstRelease && e.reason != ofOtherFile {
			present = i
		}
	}
	for i := range s.epochs {
		e, last := &s.epochs[i], i == present
		if slices.Contains(unsound, e.number) {
			name, err := s.nameFromRows(ctx, e.number)
			if err != nil {
				return false, err
			}
			s.log.ErrorContext(ctx, "the name of a numbering was damaged", "epoch", string(name))
			damaged = damaged || last && name != e.name
			if name == "" {
				continue // nothing of it is there
			}
			e.name = name
		}
		for _, stream := range envelope.Streams() {
			bad, err := s.loadChain(ctx, e.number, envelope.Chain{Epoch: e.name, Stream: stream}, last)
			if err != nil {
				return false, err
			}
			damaged = damaged || bad && last
		}
		if last {
			s.number, s.epoch = e.number, e.name
		}
	}
	for i, st := range s.current {
		s.heads[i] = mark{}
		if st != nil {
			s.heads[i] = st.last
		}
	}
	return damaged, nil
}

// nameFromRows finds the name of an epoch in one of its events.
func (s *Store) nameFromRows(ctx context.Context, number int64) (envelope.Epoch, error) {
	for _, stream := range envelope.Streams() {
		var b []byte
		err := s.conn.QueryRowContext(ctx, "SELECT envelope FROM "+table(stream)+" WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", id(number, 0), id(number+1, 0)).Scan(&b)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		} else if err != nil {
			return "", fmt.Errorf("epochs: %w", err)
		}
		if e, err := envelope.Parse(b); err == nil {
			return e.Chain.Epoch, nil
		}
	}
	return "", nil
}

// loadChain reads one chain, if there is one.
func (s *Store) loadChain(ctx context.Context, number int64, c envelope.Chain, current bool) (damaged bool, err error) {
	st, sound, err := readChain(ctx, s.conn, number, c)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	first, last, err := s.ends(ctx, number, c.Stream)
	if err != nil {
		return false, err
	}
	if !sound {
		// Sent from the start, to the end of what is there, nothing can be left out.
		s.log.ErrorContext(ctx, "what was known of a chain was damaged: it is sent from the start", "chain", c.String())
		if st.base = (mark{0, envelope.Genesis(c)}); first.seq > 1 {
			st.base.seq = first.seq - 1
			copy(st.base.hash[:], make([]byte, envelope.HashSize))
		}
		st.cursor, st.last = st.base.seq, st.base
	}
	// Of an older epoch too: events may have gone on there when nobody knew yet that the next one had begun.
	if last.seq > st.last.seq {
		st.last = last
	}
	if n := len(st.missing); n > 0 && st.missing[n-1].last > st.last.seq {
		st.last = mark{st.missing[n-1].last, st.missing[n-1].hash}
	}
	st.cursor = min(max(st.cursor, st.base.seq), st.last.seq)
	s.chains[c] = st
	if current {
		s.current[c.Stream] = st
	}
	return !sound, nil
}

// ends returns the first and the last row of a chain.
func (s *Store) ends(ctx context.Context, number int64, stream envelope.Stream) (first, last mark, err error) {
	for _, e := range []struct {
		order string
		m     *mark
	}{{"ASC", &first}, {"DESC", &last}} {
		var key int64
		var hash []byte
		err := s.conn.QueryRowContext(ctx, "SELECT id, hash FROM "+table(stream)+" WHERE id > ? AND id < ? ORDER BY id "+e.order+" LIMIT 1",
			id(number, 0), id(number+1, 0)).Scan(&key, &hash)
		if errors.Is(err, sql.ErrNoRows) {
			return mark{}, mark{}, nil
		} else if err != nil {
			return mark{}, mark{}, fmt.Errorf("epoch %d: %w", number, err)
		}
		e.m.seq = seqOf(key)
		copy(e.m.hash[:], hash)
	}
	return first, last, nil
}
