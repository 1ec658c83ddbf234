package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/hub/ingest"
)

const (
	putBranches = `
INSERT INTO branch (numbering, stream, number, parent, first, seq, head, safe, dated)
SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::integer[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bigint[], $9::bigint[])
ON CONFLICT (numbering, stream, number) DO UPDATE
SET parent = excluded.parent, first = excluded.first, seq = excluded.seq, head = excluded.head, safe = greatest(branch.safe, excluded.safe), dated = excluded.dated`
	putDatings = `
INSERT INTO dating (numbering, boot, mono, new) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
ON CONFLICT (numbering, boot, mono) DO UPDATE SET new = excluded.new`
	// What is dated leaves the index event_undated, so nothing is dated twice.
	dateEvents = `
UPDATE event AS e SET happened = d.new - (d.mono - e.mono), certain = true
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS d (numbering, box, boot, mono, new)
WHERE e.box = d.box AND e.boot = d.boot AND NOT e.certain AND e.encoded IS NOT NULL AND e.numbering = d.numbering`
	judgeAnew = `
UPDATE event AS e SET boot = j.boot, mono = j.mono, wall = j.wall, quality = j.quality, happened = j.happened, certain = j.certain,
  kind = j.kind, schema = j.schema, session = j.session, mode = j.mode, pages = j.pages, judged = j.judged
FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::smallint[], $9::bigint[],
  $10::boolean[], $11::text[], $12::smallint[], $13::text[], $14::text[], $15::integer[], $16::text[])
  AS j (numbering, stream, branch, seq, boot, mono, wall, quality, happened, certain, kind, schema, session, mode, pages, judged)
WHERE e.numbering = j.numbering AND e.stream = j.stream AND e.branch = j.branch AND e.seq = j.seq`
	// A key of its own is for so many of a box and kind only.
	raiseAlarms = `
WITH raised AS (
  SELECT r.*, count(*) FILTER (WHERE a.id IS NULL) OVER (PARTITION BY r.box, r.kind ORDER BY r.key) AS fresh, a.id IS NOT NULL AS there
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[])
    AS r (box, kind, key, text, first, at, n)
  LEFT JOIN alarm AS a ON a.box = r.box AND a.kind = r.kind AND a.key = r.key
), keyed AS (
  SELECT box, kind, text, first, at, n, CASE
    WHEN there OR fresh + (SELECT count(*) FROM alarm AS a WHERE a.box = raised.box AND a.kind = raised.kind) <= $8 THEN key
    ELSE $9 END AS key
  FROM raised
)
INSERT INTO alarm (box, kind, key, text, first, at, n)
SELECT box, kind, key, max(text), min(first), max(at), sum(n)::bigint FROM keyed GROUP BY box, kind, key ORDER BY box, kind, key
ON CONFLICT (box, kind, key) DO UPDATE
SET text = excluded.text, at = greatest(alarm.at, excluded.at), n = alarm.n + excluded.n, done = NULL`
)

// Write implements ingest.Tx. Events go by COPY: there is nothing to collide with, because the transaction holds their
// numberings. All else follows in one round trip.
func (t *ingestTx) Write(ctx context.Context, c ingest.Changes) error {
	if err := t.copyEvents(ctx, c.Received.UTC(), c.Rows); err != nil {
		return fmt.Errorf("write %d events: %w", len(c.Rows), err)
	}
	b := &pgx.Batch{}
	t.queueJudged(b, c.Judged)
	t.queueBranches(b, c.Branches)
	t.queueDatings(b, c.Datings)
	if len(c.Requests) > 0 {
		if err := queueRequests(b, c.Received.UTC(), c.Requests); err != nil {
			return err
		}
	}
	queueAlarms(b, c.Alarms)
	if b.Len() == 0 {
		return nil
	}
	if err := t.tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write what follows from %d events: %w", len(c.Rows), err)
	}
	return nil
}

func (t *ingestTx) num(id ingest.ChainID) int64 { return t.nums[numbering{id.Box, id.Chain.Epoch}] }

// eventColumns are the columns of event in the order in which copyEvents hands them over.
func eventColumns() []string {
	return []string{
		"received", "numbering", "stream", "branch", "seq", "count", "reason", "hash", "encoded", "box",
		"boot", "mono", "wall", "quality", "happened", "certain", "kind", "schema", "session", "mode", "pages", "judged",
	}
}

func (t *ingestTx) copyEvents(ctx context.Context, received time.Time, rows []ingest.Row) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := t.tx.CopyFrom(ctx, pgx.Identifier{"event"}, eventColumns(), pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		r := &rows[i]
		count, reason := int64(1), int16(0)
		if r.Missing != nil {
			count, reason = int64(r.Missing.Count), int16(r.Missing.Reason) //nolint:gosec // at most envelope.MaxSeq
		}
		return []any{
			received, t.num(r.ID), int16(r.ID.Chain.Stream), r.Branch, int64(r.Seq), count, reason, bytesOf(&r.Hash), r.Encoded, int64(r.ID.Box), //nolint:gosec // at most envelope.MaxSeq
			int64(r.Boot), r.Mono.Milliseconds(), r.Wall.UnixMilli(), int16(r.Quality), r.Happened.UnixMilli(), r.Certain,
			clean(string(r.Kind)), int16(r.Schema), clean(r.Session), clean(r.Mode), pages(r), string(r.Judged),
		}, nil
	}))
	return err
}

// pages is how many pages fit into a column.
func pages(r *ingest.Row) int32 {
	return int32(max(math.MinInt32, min(math.MaxInt32, r.Pages))) //nolint:gosec // within limits
}

func (t *ingestTx) queueJudged(b *pgx.Batch, rows []ingest.Row) {
	n := len(rows)
	if n == 0 {
		return
	}
	num, stream, branch, seq := make([]int64, n), make([]int16, n), make([]int32, n), make([]int64, n)
	boot, mono, wall, quality := make([]int64, n), make([]int64, n), make([]int64, n), make([]int16, n)
	happened, certain, kind, schema := make([]int64, n), make([]bool, n), make([]string, n), make([]int16, n)
	session, mode, papers, judged := make([]string, n), make([]string, n), make([]int32, n), make([]string, n)
	for i := range rows {
		r := &rows[i]
		num[i], stream[i], branch[i], seq[i] = t.num(r.ID), int16(r.ID.Chain.Stream), int32(r.Branch), int64(r.Seq) //nolint:gosec // at most envelope.MaxSeq
		boot[i], mono[i], wall[i], quality[i] = int64(r.Boot), r.Mono.Milliseconds(), r.Wall.UnixMilli(), int16(r.Quality)
		happened[i], certain[i], kind[i], schema[i] = r.Happened.UnixMilli(), r.Certain, clean(string(r.Kind)), int16(r.Schema)
		session[i], mode[i], papers[i], judged[i] = clean(r.Session), clean(r.Mode), pages(r), string(r.Judged)
	}
	b.Queue(judgeAnew, num, stream, branch, seq, boot, mono, wall, quality, happened, certain, kind, schema, session, mode, papers, judged)
}

func (t *ingestTx) queueBranches(b *pgx.Batch, branches []ingest.Branch) {
	type key struct {
		id     ingest.ChainID
		number int
	}
	last := map[key]int{}
	for i, r := range branches {
		last[key{r.ID, r.Number}] = i
	}
	var num, first, seq, safe []int64
	var dated []*int64
	var stream []int16
	var number, parent []int32
	var head [][]byte
	for i, r := range branches {
		if last[key{r.ID, r.Number}] != i {
			continue
		}
		num, stream = append(num, t.num(r.ID)), append(stream, int16(r.ID.Chain.Stream))
		number, parent = append(number, int32(r.Number)), append(parent, int32(r.Parent))                       //nolint:gosec // branches are few
		first, seq, safe = append(first, int64(r.From)), append(seq, int64(r.Seq)), append(safe, int64(r.Safe)) //nolint:gosec // at most envelope.MaxSeq
		head = append(head, bytesOf(&branches[i].Head))
		var at *int64
		if !r.Dated.IsZero() {
			at = new(r.Dated.UnixMilli())
		}
		dated = append(dated, at)
	}
	if len(num) > 0 {
		b.Queue(putBranches, num, stream, number, parent, first, seq, head, safe, dated)
	}
}

func (t *ingestTx) queueDatings(b *pgx.Batch, datings []ingest.Dating) {
	type key struct {
		num, boot, mono int64
	}
	last := map[key]int{}
	of := func(d ingest.Dating) key { return key{t.num(d.ID), int64(d.Boot), d.Mono.Milliseconds()} }
	for i, d := range datings {
		last[of(d)] = i
	}
	var num, box, boot, mono, at []int64
	for i, d := range datings {
		k := of(d)
		if last[k] != i {
			continue
		}
		num, box, boot, mono, at = append(num, k.num), append(box, int64(d.ID.Box)), append(boot, k.boot), append(mono, k.mono), append(at, d.New.UnixMilli())
	}
	if len(num) > 0 {
		b.Queue(putDatings, num, boot, mono, at)
		b.Queue(dateEvents, num, box, boot, mono, at)
	}
}

func queueAlarms(b *pgx.Batch, alarms []ingest.Alarm) {
	type key struct {
		box       uint32
		kind, key string
	}
	at := map[key]int{}
	var box, n []int64
	var kind, keys, text []string
	var first, when []time.Time
	for _, a := range alarms {
		k := key{a.Box, clean(a.Kind), clean(a.Key)}
		i, ok := at[k]
		if !ok {
			i = len(box)
			at[k] = i
			box, kind, keys, text = append(box, int64(k.box)), append(kind, k.kind), append(keys, k.key), append(text, "")
			first, when, n = append(first, a.At.UTC()), append(when, a.At.UTC()), append(n, 0)
		}
		n[i]++
		text[i] = cleanText(a.Text)
		if a.At.Before(first[i]) {
			first[i] = a.At.UTC()
		}
		if a.At.After(when[i]) {
			when[i] = a.At.UTC()
		}
	}
	if len(box) > 0 {
		b.Queue(raiseAlarms, box, kind, keys, text, first, when, n, ingest.MaxAlarms, ingest.MoreAlarms)
	}
}
