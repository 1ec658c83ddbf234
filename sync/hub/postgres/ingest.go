package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/ingest"
)

const (
	addNumberings = `
INSERT INTO numbering (box, epoch) SELECT box, epoch FROM unnest($1::bigint[], $2::text[]) AS n (box, epoch)
ORDER BY box, epoch ON CONFLICT (box, epoch) DO NOTHING`
	findNumberings = `
SELECT n.id, n.box, n.epoch FROM unnest($1::bigint[], $2::text[]) AS k (box, epoch)
JOIN numbering AS n ON n.box = k.box AND n.epoch = k.epoch`
	holdNumberings = `SELECT id, box, epoch FROM numbering WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE`
	heldBranches   = `
SELECT b.numbering, b.stream, b.number, b.parent, b.first, b.seq, b.head, b.safe, b.dated
FROM unnest($1::bigint[], $2::smallint[]) AS c (numbering, stream)
JOIN branch AS b ON b.numbering = c.numbering AND b.stream = c.stream
ORDER BY b.numbering, b.stream, b.number`
	heldDatings = `SELECT numbering, boot, mono, new FROM dating WHERE numbering = ANY ($1::bigint[]) ORDER BY numbering, boot, mono`
	countEpochs = `SELECT count(*) FROM (SELECT 1 FROM numbering WHERE box = $1 LIMIT $2) AS n`
	// Every partition has an index that ends with the number, so this is one step into each of them.
	rowBefore = `
SELECT hash, seq + count - 1 FROM event
WHERE numbering = $1 AND stream = $2 AND branch = $3 AND seq <= $4
ORDER BY seq DESC LIMIT 1`
	rowsBetween = `
SELECT seq, count, reason, hash, encoded FROM event
WHERE numbering = $1 AND stream = $2 AND branch = $3 AND seq >= $4 AND seq <= $5
ORDER BY seq`
)

// numbering names one numbering of a box.
type numbering struct {
	box   uint32
	epoch envelope.Epoch
}

// maxNumberings bounds the memory for numberings seen lately; beyond it they are looked up again.
const maxNumberings = 200_000

// errStale means that what this hub remembers of the database is not so any more: somebody has restored a backup.
var errStale = errors.New("database is another one than before")

// Ingest implements ingest.Store.
func (s *Store) Ingest(ctx context.Context, ids []ingest.ChainID, do func(ingest.Tx) error) error {
	err := again(ctx, func() error {
		for stale := false; ; stale = true {
			nums, err := s.numbered(ctx, ids)
			if err != nil {
				return err
			}
			err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
				t, err := hold(ctx, tx, ids, nums)
				if err != nil {
					return err
				}
				return do(t)
			})
			if !errors.Is(err, errStale) || stale {
				return err
			}
			s.mu.Lock()
			clear(s.numberings)
			s.mu.Unlock()
		}
	})
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return nil
}

// numbered returns the database's numbers of the numberings that ids are of, and makes those that are missing, in a
// transaction of their own and in one order for all hubs, so that nobody waits for somebody who waits for them.
func (s *Store) numbered(ctx context.Context, ids []ingest.ChainID) (map[numbering]int64, error) {
	out := make(map[numbering]int64, len(ids))
	var missing []numbering
	s.mu.Lock()
	for _, id := range ids {
		n := numbering{id.Box, id.Chain.Epoch}
		if _, ok := out[n]; ok {
			continue
		}
		num, ok := s.numberings[n]
		if out[n] = num; !ok {
			missing = append(missing, n)
		}
	}
	s.mu.Unlock()
	if len(missing) == 0 {
		return out, nil
	}
	boxes, epochs := make([]int64, len(missing)), make([]string, len(missing))
	for i, n := range missing {
		boxes[i], epochs[i] = int64(n.box), string(n.epoch)
	}
	// Looked for first: a number of the sequence would be used up for every conflict.
	found, err := s.findNumberings(ctx, boxes, epochs)
	if err == nil && len(found) < len(missing) {
		if _, err = s.pool.Exec(ctx, addNumberings, boxes, epochs); err == nil {
			found, err = s.findNumberings(ctx, boxes, epochs)
		}
	}
	if err == nil && len(found) < len(missing) {
		err = fmt.Errorf("%d of %d numberings", len(found), len(missing))
	}
	if err != nil {
		return nil, fmt.Errorf("numberings: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.numberings)+len(found) > maxNumberings {
		clear(s.numberings)
	}
	for n, num := range found {
		out[n], s.numberings[n] = num, num
	}
	return out, nil
}

func (s *Store) findNumberings(ctx context.Context, boxes []int64, epochs []string) (map[numbering]int64, error) {
	rows, err := s.pool.Query(ctx, findNumberings, boxes, epochs)
	if err != nil {
		return nil, err
	}
	found := map[numbering]int64{}
	var num int64
	var n numbering
	_, err = pgx.ForEachRow(rows, []any{&num, &n.box, &n.epoch}, func() error {
		found[n] = num
		return nil
	})
	return found, err
}

// ingestTx is one transaction that holds numberings.
type ingestTx struct {
	tx         pgx.Tx
	nums       map[numbering]int64
	ids        map[int64]numbering
	branches   []ingest.Branch
	replicated bool
}

// hold locks the numberings of ids and reads their branches, in one round trip. The branches are read by a statement of
// its own, after the lock was had: it sees what the holder before has committed.
func hold(ctx context.Context, tx pgx.Tx, ids []ingest.ChainID, nums map[numbering]int64) (*ingestTx, error) {
	t := &ingestTx{tx: tx, nums: nums, ids: make(map[int64]numbering, len(nums))}
	lock := make([]int64, 0, len(nums))
	for n, num := range nums {
		lock = append(lock, num)
		t.ids[num] = n
	}
	slices.Sort(lock)
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compareChains)
	ids = slices.Compact(ids)
	chains, streams := make([]int64, len(ids)), make([]int16, len(ids))
	for i, id := range ids {
		chains[i], streams[i] = nums[numbering{id.Box, id.Chain.Epoch}], int16(id.Chain.Stream)
	}

	b := &pgx.Batch{}
	held := 0
	b.Queue(holdNumberings, lock).Query(func(rows pgx.Rows) error {
		var num int64
		var n numbering
		_, err := pgx.ForEachRow(rows, []any{&num, &n.box, &n.epoch}, func() error {
			if t.ids[num] != n {
				return errStale
			}
			held++
			return nil
		})
		return err
	})
	b.Queue(heldBranches, chains, streams).Query(func(rows pgx.Rows) error {
		var num int64
		var stream uint8
		var r ingest.Branch
		var head []byte
		var dated *int64
		_, err := pgx.ForEachRow(rows, []any{&num, &stream, &r.Number, &r.Parent, &r.From, &r.Seq, &head, &r.Safe, &dated}, func() (err error) {
			n := t.ids[num]
			r.ID = ingest.ChainID{Box: n.box, Chain: envelope.Chain{Epoch: n.epoch, Stream: envelope.Stream(stream)}}
			if r.Head, err = hashOf(head); err != nil {
				return err
			}
			if r.Dated = (time.Time{}); dated != nil {
				r.Dated = time.UnixMilli(*dated).UTC()
			}
			t.branches = append(t.branches, r)
			return nil
		})
		return err
	})
	b.Queue(replicated).QueryRow(func(row pgx.Row) error { return row.Scan(&t.replicated) })
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("hold chains: %w", err)
	}
	if held != len(lock) {
		return nil, errStale
	}
	if t.replicated { // What is written now is safe when the next transaction finds it so.
		for i := range t.branches {
			t.branches[i].Safe = t.branches[i].Seq
		}
	}
	return t, nil
}

func compareChains(a, b ingest.ChainID) int {
	return cmp.Or(cmp.Compare(a.Box, b.Box), cmp.Compare(a.Chain.Epoch, b.Chain.Epoch), cmp.Compare(a.Chain.Stream, b.Chain.Stream))
}

// Branches implements ingest.Tx.
func (t *ingestTx) Branches(context.Context) ([]ingest.Branch, error) {
	return slices.Clone(t.branches), nil
}

// HashAt implements ingest.Tx.
func (t *ingestTx) HashAt(ctx context.Context, id ingest.ChainID, branch int, seq uint64) (envelope.Hash, bool, error) {
	num := t.nums[numbering{id.Box, id.Chain.Epoch}]
	for {
		i := slices.IndexFunc(t.branches, func(b ingest.Branch) bool { return b.ID == id && b.Number == branch })
		if i < 0 {
			return envelope.Hash{}, false, nil
		}
		b := t.branches[i]
		if seq >= b.From {
			return t.hashAt(ctx, num, id, branch, seq)
		}
		if b.Parent == branch {
			return envelope.Hash{}, false, nil
		}
		branch = b.Parent
	}
}

func (t *ingestTx) hashAt(ctx context.Context, num int64, id ingest.ChainID, branch int, seq uint64) (envelope.Hash, bool, error) {
	var hash []byte
	var last uint64
	err := t.tx.QueryRow(ctx, rowBefore, num, int16(id.Chain.Stream), branch, seq).Scan(&hash, &last)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && last != seq {
		return envelope.Hash{}, false, nil
	}
	var h envelope.Hash
	if err == nil {
		h, err = hashOf(hash)
	}
	if err != nil {
		return envelope.Hash{}, false, fmt.Errorf("event %d of %s: %w", seq, id.Chain, err)
	}
	return h, true, nil
}

// hashOf reads a stored hash; NULL is the zero one.
func hashOf(b []byte) (h envelope.Hash, err error) {
	if len(b) != 0 && len(b) != len(h) {
		return h, fmt.Errorf("hash of %d bytes", len(b))
	}
	copy(h[:], b)
	return h, nil
}

// bytesOf is how a hash is stored. It shares memory with h.
func bytesOf(h *envelope.Hash) []byte {
	if *h == (envelope.Hash{}) {
		return nil
	}
	return h[:]
}

// Rows implements ingest.Tx.
func (t *ingestTx) Rows(ctx context.Context, id ingest.ChainID, branch int, from, to uint64) ([]ingest.Row, error) {
	rows, err := t.tx.Query(ctx, rowsBetween, t.num(id), int16(id.Chain.Stream), branch, from, to)
	if err != nil {
		return nil, fmt.Errorf("events of %s: %w", id.Chain, err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ingest.Row, error) {
		r := ingest.Row{ID: id, Branch: branch}
		var count uint64
		var reason uint8
		var hash []byte
		err := row.Scan(&r.Seq, &count, &reason, &hash, &r.Encoded)
		if err == nil {
			err = identify(&r, count, reason, hash)
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("events of %s: %w", id.Chain, err)
	}
	return out, nil
}

// identify adds to a row what says which event it is.
func identify(r *ingest.Row, count uint64, reason uint8, hash []byte) (err error) {
	r.Hash, err = hashOf(hash)
	if reason != 0 {
		r.Missing = &envelope.Missing{Count: count, Reason: envelope.Reason(reason), Hash: r.Hash}
	}
	return err
}

// Epochs implements ingest.Tx.
func (t *ingestTx) Epochs(ctx context.Context, box uint32, most int) (n int, err error) {
	if err := t.tx.QueryRow(ctx, countEpochs, box, most).Scan(&n); err != nil {
		return 0, fmt.Errorf("epochs of box %d: %w", box, err)
	}
	return n, nil
}

// Datings implements ingest.Tx.
func (t *ingestTx) Datings(ctx context.Context) (out []ingest.Dating, err error) {
	nums := make([]int64, 0, len(t.ids))
	for num := range t.ids {
		nums = append(nums, num)
	}
	rows, err := t.tx.Query(ctx, heldDatings, nums)
	if err != nil {
		return nil, fmt.Errorf("clocks: %w", err)
	}
	var num, mono, at int64
	var boot uint32
	_, err = pgx.ForEachRow(rows, []any{&num, &boot, &mono, &at}, func() error {
		n := t.ids[num]
		out = append(out, ingest.Dating{
			ID: ingest.ChainID{Box: n.box, Chain: envelope.Chain{Epoch: n.epoch}}, Boot: boot,
			Mono: time.Duration(mono) * time.Millisecond, New: time.UnixMilli(at).UTC(),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("clocks: %w", err)
	}
	return out, nil
}
