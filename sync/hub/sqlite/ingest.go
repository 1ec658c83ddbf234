package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
)

const (
	findChain = `
SELECT c.id, b.number, b.parent, b.since, b.seq, b.head, b.safe, b.dated
FROM chain AS c JOIN branch AS b ON b.chain = c.id
WHERE c.box = ? AND c.epoch = ? AND c.stream = ? ORDER BY b.number`
	addChain  = `INSERT INTO chain (box, epoch, stream) VALUES (?, ?, ?)`
	putBranch = `
INSERT INTO branch (chain, number, parent, since, seq, head, safe, dated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (chain, number) DO UPDATE SET seq = excluded.seq, head = excluded.head, safe = excluded.safe, dated = excluded.dated`
	// The row that holds a number is the last one that begins no later.
	hashAt   = `SELECT seq, missing, hash FROM entry WHERE chain = ? AND branch = ? AND seq <= ? ORDER BY seq DESC LIMIT 1`
	listRows = `SELECT seq, missing, reason, hash, encoded FROM entry WHERE chain = ? AND branch = ? AND seq BETWEEN ? AND ? ORDER BY seq`
	addEntry = `
INSERT INTO entry (chain, branch, seq, missing, reason, hash, encoded, received, kind, schema, session, mode, pages, boot, mono, wall, quality, happened, certain, judged)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	// Nearly all events need no more than this, and each value costs something.
	addPlain = `
INSERT INTO entry (chain, branch, seq, missing, reason, hash, encoded, received, kind, schema, session, mode, pages, boot, mono, wall, quality, happened, certain, judged)
VALUES (?, 0, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, '')`
	judgeEntry = `
UPDATE entry SET kind = ?, schema = ?, session = ?, mode = ?, pages = ?, boot = ?, mono = ?, wall = ?, quality = ?, happened = ?, certain = ?, judged = ?
WHERE chain = ? AND branch = ? AND seq = ?`
	listDatings = `SELECT boot, mono, new FROM dating WHERE box = ? AND epoch = ?`
	putDating   = `
INSERT INTO dating (box, epoch, boot, mono, new) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (box, epoch, boot, mono) DO UPDATE SET new = excluded.new`
	// As ingest.Dating.Happened.
	dateEntries = `
UPDATE entry SET certain = 1, happened = min(?1 + mono - ?2, received)
WHERE certain = 0 AND boot > 0 AND boot = ?3 AND judged NOT IN ('unreadable', 'absent')
AND chain IN (SELECT id FROM chain WHERE box = ?4 AND epoch = ?5)`
	countEpochs = `SELECT count(*) FROM (SELECT DISTINCT epoch FROM chain WHERE box = ?1 LIMIT ?2)`
	hasEpoch    = `SELECT EXISTS (SELECT 1 FROM chain WHERE box = ? AND epoch = ?)`
	// A key of its own is for so many only.
	putAlarm = `
INSERT INTO alarm (box, kind, key, text, count, since, latest)
SELECT ?1, ?2, CASE
    WHEN EXISTS (SELECT 1 FROM alarm WHERE box = ?1 AND kind = ?2 AND key = ?3) THEN ?3
    WHEN (SELECT count(*) FROM alarm WHERE box = ?1 AND kind = ?2) < ?6 THEN ?3
    ELSE ?7 END, ?4, 1, ?5, ?5
WHERE true
ON CONFLICT (box, kind, key) DO UPDATE SET text = excluded.text, count = count + 1, latest = max(latest, excluded.latest), done = 0`
)

// Ingest implements ingest.Store.
func (s *Store) Ingest(ctx context.Context, ids []ingest.ChainID, do func(ingest.Tx) error) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		return do(&ingesting{s: s, tx: tx, ids: ids, chains: make(map[ingest.ChainID]int64, len(ids))})
	})
}

// ingesting is one transaction.
type ingesting struct {
	s      *Store
	tx     *sql.Tx
	ids    []ingest.ChainID
	chains map[ingest.ChainID]int64 // those that are there
	looked map[ingest.ChainID]bool  // those that were looked for
}

// Branches implements ingest.Tx.
func (t *ingesting) Branches(ctx context.Context) ([]ingest.Branch, error) {
	t.looked = make(map[ingest.ChainID]bool, len(t.ids))
	quick := context.WithoutCancel(ctx) // to watch a context costs as much as to find a chain
	find := t.tx.StmtContext(quick, t.s.findChain)
	defer func() { _ = find.Close() }()
	out := make([]ingest.Branch, 0, len(t.ids))
	for _, id := range t.ids {
		if t.looked[id] {
			continue
		}
		t.looked[id] = true
		err := ctx.Err()
		if err == nil {
			out, err = t.appendBranches(quick, find, out, id)
		}
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", id.Chain, err)
		}
	}
	return out, nil
}

func (t *ingesting) appendBranches(ctx context.Context, find *sql.Stmt, out []ingest.Branch, id ingest.ChainID) ([]ingest.Branch, error) {
	rows, err := find.QueryContext(ctx, id.Box, string(id.Chain.Epoch), id.Chain.Stream)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		b := ingest.Branch{ID: id}
		var chain, dated int64
		var head sql.RawBytes
		if err := rows.Scan(&chain, &b.Number, &b.Parent, &b.From, &b.Seq, &head, &b.Safe, &dated); err != nil {
			return nil, err
		}
		copy(b.Head[:], head)
		b.Dated = fromMillis(dated)
		t.chains[id] = chain
		out = append(out, b)
	}
	return out, rows.Err()
}

// chain returns the number under which a chain is stored, false when it is not.
func (t *ingesting) chain(ctx context.Context, id ingest.ChainID) (int64, bool, error) {
	if n, ok := t.chains[id]; ok {
		return n, true, nil
	}
	if t.looked[id] {
		return 0, false, nil
	}
	var n int64
	err := t.tx.QueryRowContext(ctx, `SELECT id FROM chain WHERE box = ? AND epoch = ? AND stream = ?`, id.Box, string(id.Chain.Epoch), id.Chain.Stream).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("chain %s: %w", id.Chain, err)
	}
	t.chains[id] = n
	return n, true, nil
}

// HashAt implements ingest.Tx.
func (t *ingesting) HashAt(ctx context.Context, id ingest.ChainID, branch int, seq uint64) (envelope.Hash, bool, error) {
	chain, ok, err := t.chain(ctx, id)
	if err != nil || !ok {
		return envelope.Hash{}, false, err
	}
	for {
		var parent int
		var since uint64
		err := t.tx.QueryRowContext(ctx, `SELECT parent, since FROM branch WHERE chain = ? AND number = ?`, chain, branch).Scan(&parent, &since)
		if errors.Is(err, sql.ErrNoRows) {
			return envelope.Hash{}, false, nil
		}
		if err != nil {
			return envelope.Hash{}, false, fmt.Errorf("branch %d of %s: %w", branch, id.Chain, err)
		}
		if seq >= since {
			break
		}
		if parent == branch {
			return envelope.Hash{}, false, nil
		}
		branch = parent
	}
	var at, missing uint64
	var hash []byte
	err = t.tx.QueryRowContext(ctx, hashAt, chain, branch, seq).Scan(&at, &missing, &hash)
	if errors.Is(err, sql.ErrNoRows) || err == nil && at+max(missing, 1)-1 != seq {
		return envelope.Hash{}, false, nil
	}
	if err != nil {
		return envelope.Hash{}, false, fmt.Errorf("hash of %s at %d: %w", id.Chain, seq, err)
	}
	var h envelope.Hash
	copy(h[:], hash)
	return h, true, nil
}

// Rows implements ingest.Tx.
func (t *ingesting) Rows(ctx context.Context, id ingest.ChainID, branch int, from, to uint64) ([]ingest.Row, error) {
	chain, ok, err := t.chain(ctx, id)
	if err != nil || !ok {
		return nil, err
	}
	rows, err := t.tx.QueryContext(ctx, listRows, chain, branch, from, to)
	if err != nil {
		return nil, fmt.Errorf("rows of %s: %w", id.Chain, err)
	}
	defer func() { _ = rows.Close() }()
	var out []ingest.Row
	for rows.Next() {
		r := ingest.Row{ID: id, Branch: branch}
		var missing uint64
		var reason uint8
		var hash []byte
		if err := rows.Scan(&r.Seq, &missing, &reason, &hash, &r.Encoded); err != nil {
			return nil, fmt.Errorf("rows of %s: %w", id.Chain, err)
		}
		identify(&r, missing, reason, hash)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("rows of %s: %w", id.Chain, err)
	}
	return out, nil
}

// identify fills in what columns say of a row's hash and length.
func identify(r *ingest.Row, missing uint64, reason uint8, hash []byte) {
	copy(r.Hash[:], hash)
	if missing > 0 {
		r.Encoded, r.Missing = nil, &envelope.Missing{Count: missing, Reason: envelope.Reason(reason), Hash: r.Hash}
	}
}

// Epochs implements ingest.Tx.
func (t *ingesting) Epochs(ctx context.Context, box uint32, most int) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	ctx = context.WithoutCancel(ctx) // as in Branches
	count, has := t.tx.StmtContext(ctx, t.s.countEpochs), t.tx.StmtContext(ctx, t.s.hasEpoch)
	defer func() { _, _ = count.Close(), has.Close() }()
	if err := count.QueryRowContext(ctx, box, most).Scan(&n); err != nil {
		return 0, fmt.Errorf("epochs of box %d: %w", box, err)
	}
	var held []envelope.Epoch // of these nothing may be stored yet
	for _, id := range t.ids {
		if _, stored := t.chains[id]; id.Box == box && !stored && !slices.Contains(held, id.Chain.Epoch) {
			held = append(held, id.Chain.Epoch)
		}
	}
	for _, e := range held {
		var there bool
		if err := has.QueryRowContext(ctx, box, string(e)).Scan(&there); err != nil {
			return 0, fmt.Errorf("epochs of box %d: %w", box, err)
		}
		if !there {
			n++
		}
	}
	return min(n, most), nil
}

// Datings implements ingest.Tx.
func (t *ingesting) Datings(ctx context.Context) ([]ingest.Dating, error) {
	type clock struct {
		box   uint32
		epoch envelope.Epoch
	}
	seen := map[clock]bool{}
	var out []ingest.Dating
	for _, id := range t.ids {
		k := clock{id.Box, id.Chain.Epoch}
		if seen[k] {
			continue
		}
		seen[k] = true
		var err error
		if out, err = t.appendDatings(ctx, out, id); err != nil {
			return nil, fmt.Errorf("clocks of box %d: %w", id.Box, err)
		}
	}
	return out, nil
}

func (t *ingesting) appendDatings(ctx context.Context, out []ingest.Dating, id ingest.ChainID) ([]ingest.Dating, error) {
	rows, err := t.tx.QueryContext(ctx, listDatings, id.Box, string(id.Chain.Epoch))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		d := ingest.Dating{ID: id}
		var mono, at int64
		if err := rows.Scan(&d.Boot, &mono, &at); err != nil {
			return nil, err
		}
		d.Mono, d.New = time.Duration(mono)*time.Millisecond, fromMillis(at)
		out = append(out, d)
	}
	return out, rows.Err()
}

// Write implements ingest.Tx.
func (t *ingesting) Write(ctx context.Context, c ingest.Changes) error {
	if err := t.putBranches(ctx, c); err != nil {
		return err
	}
	if err := t.addRows(ctx, c); err != nil {
		return err
	}
	for i := range c.Judged {
		r := &c.Judged[i]
		chain, _, err := t.chain(ctx, r.ID)
		if err == nil {
			_, err = t.tx.ExecContext(ctx, judgeEntry, string(r.Kind), r.Schema, r.Session, r.Mode, r.Pages, r.Boot, r.Mono.Milliseconds(), millis(r.Wall),
				r.Quality, millis(r.Happened), r.Certain, string(r.Judged), chain, r.Branch, r.Seq)
		}
		if err != nil {
			return fmt.Errorf("judge event %d of %s: %w", r.Seq, r.ID.Chain, err)
		}
	}
	for _, d := range c.Datings {
		_, err := t.tx.ExecContext(ctx, putDating, d.ID.Box, string(d.ID.Chain.Epoch), d.Boot, d.Mono.Milliseconds(), millis(d.New))
		if err == nil {
			_, err = t.tx.ExecContext(ctx, dateEntries, millis(d.New), d.Mono.Milliseconds(), d.Boot, d.ID.Box, string(d.ID.Chain.Epoch))
		}
		if err != nil {
			return fmt.Errorf("date events of box %d: %w", d.ID.Box, err)
		}
	}
	if err := t.putRequests(ctx, c); err != nil {
		return err
	}
	for _, a := range c.Alarms {
		if _, err := t.tx.ExecContext(ctx, putAlarm, a.Box, a.Kind, a.Key, a.Text, millis(a.At), ingest.MaxAlarms, ingest.MoreAlarms); err != nil {
			return fmt.Errorf("alarm of box %d: %w", a.Box, err)
		}
	}
	return nil
}

func (t *ingesting) putBranches(ctx context.Context, c ingest.Changes) error {
	add, put := t.tx.StmtContext(ctx, t.s.addChain), t.tx.StmtContext(ctx, t.s.putBranch)
	defer func() { _, _ = add.Close(), put.Close() }()
	quick := context.WithoutCancel(ctx) // to watch a context costs as much as an INSERT
	for _, b := range c.Branches {
		if err := ctx.Err(); err != nil {
			return err
		}
		chain, ok, err := t.chain(ctx, b.ID)
		if err == nil && !ok {
			chain, err = addOne(quick, add, b.ID)
			t.chains[b.ID] = chain
		}
		if err == nil {
			_, err = put.ExecContext(quick, chain, b.Number, b.Parent, b.From, b.Seq, hashBytes(&b.Head), b.Safe, millis(b.Dated))
		}
		if err != nil {
			return fmt.Errorf("branch %d of %s: %w", b.Number, b.ID.Chain, err)
		}
	}
	return nil
}

func addOne(ctx context.Context, add *sql.Stmt, id ingest.ChainID) (int64, error) {
	res, err := add.ExecContext(ctx, id.Box, string(id.Chain.Epoch), id.Chain.Stream)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (t *ingesting) addRows(ctx context.Context, c ingest.Changes) error {
	add, plain := t.tx.StmtContext(ctx, t.s.addEntry), t.tx.StmtContext(ctx, t.s.addPlain)
	defer func() { _, _ = add.Close(), plain.Close() }()
	received := millis(c.Received)
	quick := context.WithoutCancel(ctx)
	for i := range c.Rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := &c.Rows[i]
		chain, ok, err := t.chain(ctx, r.ID)
		if err == nil && !ok {
			err = errNoChain
		}
		if err != nil {
			return fmt.Errorf("event %d of %s: %w", r.Seq, r.ID.Chain, err)
		}
		if r.Missing == nil && r.Branch == 0 && r.Pages == 0 && r.Judged == ingest.Understood {
			_, err = plain.ExecContext(quick, chain, r.Seq, hashBytes(&r.Hash), r.Encoded, received, string(r.Kind), r.Schema, r.Session, r.Mode,
				r.Boot, r.Mono.Milliseconds(), millis(r.Wall), r.Quality, millis(r.Happened), r.Certain)
		} else {
			err = addRow(quick, add, chain, r, received)
		}
		if err != nil {
			return fmt.Errorf("event %d of %s: %w", r.Seq, r.ID.Chain, err)
		}
	}
	return nil
}

func addRow(ctx context.Context, add *sql.Stmt, chain int64, r *ingest.Row, received int64) error {
	var missing uint64
	var reason envelope.Reason
	encoded := r.Encoded
	if r.Missing != nil {
		missing, reason, encoded = r.Missing.Count, r.Missing.Reason, []byte{}
	}
	_, err := add.ExecContext(ctx, chain, r.Branch, r.Seq, missing, reason, hashBytes(&r.Hash), encoded, received,
		string(r.Kind), r.Schema, r.Session, r.Mode, r.Pages, r.Boot, r.Mono.Milliseconds(), millis(r.Wall), r.Quality,
		millis(r.Happened), r.Certain, string(r.Judged))
	return err
}

func (t *ingesting) putRequests(ctx context.Context, c ingest.Changes) error {
	if len(c.Requests) == 0 {
		return nil
	}
	if _, err := t.tx.ExecContext(ctx, forgetRequests, stamp(c.Received.Add(-pickup.Keep))); err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	put := t.tx.StmtContext(ctx, t.s.putRequest)
	defer func() { _ = put.Close() }()
	for _, r := range c.Requests {
		body, err := json.Marshal(r.Request)
		if err == nil {
			_, err = put.ExecContext(ctx, r.Code, r.Box, stamp(c.Received), string(body))
		}
		if err != nil {
			return fmt.Errorf("store request: %w", err)
		}
	}
	return nil
}

// errNoChain means that rows are to be written to a chain of which no branch was written.
var errNoChain = errors.New("no such chain")

// hashBytes returns what is stored of a hash.
func hashBytes(h *envelope.Hash) []byte {
	if *h == (envelope.Hash{}) {
		return []byte{}
	}
	return h[:]
}

// millis is how the times of events are stored.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
