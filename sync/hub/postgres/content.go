package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sportello.example/sync/hub/content"
)

var _ content.Store = (*Store)(nil)

const (
	readChanges  = `SELECT n FROM content_change`
	holdChanges  = `SELECT n FROM content_change FOR UPDATE`
	raiseChanges = `UPDATE content_change SET n = n + 1`
	readAtOnce   = `SELECT n, min_program FROM content_change`
	saveProgram  = `UPDATE content_change SET min_program = $1`
	addNotice    = `INSERT INTO notice (id, severity, box, branch, begins, until, text, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	removeNotice = `UPDATE notice SET removed = $1 WHERE id = $2 AND removed IS NULL`
	listNotices  = `SELECT id, severity, box, branch, begins, until, text, created FROM notice WHERE removed IS NULL ORDER BY created, id`
	listItems    = `SELECT name, box, sha256, size, created FROM item ORDER BY name COLLATE "C", box`
	listGoBack   = `SELECT box, version FROM go_back`
	listKeys     = `SELECT public, added, retired FROM seal_key ORDER BY place DESC`

	addBlob    = `INSERT INTO blob (sha256, released) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING`
	addPart    = `INSERT INTO blob_part (sha256, n, body) VALUES ($1, $2, $3) ON CONFLICT (sha256, n) DO UPDATE SET body = excluded.body`
	findPart   = `SELECT body FROM blob_part WHERE sha256 = $1 AND n = $2`
	blobLength = `SELECT coalesce(sum(length(body)), -1) FROM blob_part WHERE sha256 = $1`
	putItem    = `
INSERT INTO item (name, box, sha256, size, created) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name, box) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size, created = excluded.created`
	removeItem  = `DELETE FROM item WHERE name = $1 AND box = $2`
	removeItems = `DELETE FROM item WHERE box = $1`
	claimBlobs  = `UPDATE blob SET released = NULL WHERE released IS NOT NULL AND sha256 IN (SELECT sha256 FROM item)`
	leaveBlobs  = `UPDATE blob SET released = $1 WHERE released IS NULL AND sha256 NOT IN (SELECT sha256 FROM item)`
	dropBlobs   = `DELETE FROM blob WHERE released < $1`

	addKey    = `INSERT INTO seal_key (public, added) VALUES ($1, $2)`
	retireKey = `UPDATE seal_key SET retired = $1 WHERE public = $2 AND retired IS NULL`
)

// change runs do in a transaction that others notice, and that no other such transaction can come between.
func (s *Store) change(ctx context.Context, do func(pgx.Tx) error) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, raiseChanges); err != nil {
			return err
		}
		return do(tx)
	})
}

// Changes implements content.Store.
func (s *Store) Changes(ctx context.Context) (n uint64, err error) {
	err = again(ctx, func() error { return s.pool.QueryRow(ctx, readChanges).Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("counter of changes: %w", err)
	}
	return n, nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, tx pgx.Tx, scan func(pgx.CollectableRow) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, scan)
	if len(out) == 0 {
		return nil, err
	}
	return out, err
}

// Kept implements content.Store.
func (s *Store) Kept(ctx context.Context) (k content.Kept, err error) {
	o := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly} // one moment
	err = again(ctx, func() error {
		return pgx.BeginTxFunc(ctx, s.pool, o, func(tx pgx.Tx) error {
			k = content.Kept{GoBack: map[uint32]uint64{}}
			if err := tx.QueryRow(ctx, readAtOnce).Scan(&k.Changes, &k.MinProgram); err != nil {
				return err
			}
			var errs [4]error
			k.Notices, errs[0] = collect(ctx, tx, scanNotice, listNotices)
			k.Items, errs[1] = collect(ctx, tx, scanItem, listItems)
			keys, err := collect(ctx, tx, scanKey, listKeys)
			errs[2] = err
			for _, key := range keys {
				if key.Retired.IsZero() {
					k.Keys = append(k.Keys, key)
				}
			}
			_, errs[3] = collect(ctx, tx, func(row pgx.CollectableRow) (struct{}, error) {
				var box uint32
				var version uint64
				err := row.Scan(&box, &version)
				k.GoBack[box] = version
				return struct{}{}, err
			}, listGoBack)
			return errors.Join(errs[:]...)
		})
	})
	if err != nil {
		return content.Kept{}, fmt.Errorf("what boxes are to have: %w", err)
	}
	return k, nil
}

func scanNotice(row pgx.CollectableRow) (n content.Notice, err error) {
	var begins, until, created *time.Time
	var text []byte
	if err := row.Scan(&n.ID, &n.Severity, &n.Box, &n.Branch, &begins, &until, &text, &created); err != nil {
		return n, err
	}
	n.From, n.Until, n.Created = unstamp(begins), unstamp(until), unstamp(created)
	return n, json.Unmarshal(text, &n.Text)
}

func scanItem(row pgx.CollectableRow) (i content.Item, err error) {
	err = row.Scan(&i.Name, &i.Box, &i.SHA256, &i.Size, &i.Created)
	i.Created = i.Created.UTC()
	return i, err
}

func scanKey(row pgx.CollectableRow) (k content.Key, err error) {
	var retired *time.Time
	err = row.Scan(&k.Public, &k.Added, &retired)
	k.Added, k.Retired = k.Added.UTC(), unstamp(retired)
	return k, err
}

// AddNotice implements content.Store.
func (s *Store) AddNotice(ctx context.Context, n content.Notice) error {
	text, err := json.Marshal(n.Text)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, addNotice, n.ID, string(n.Severity), n.Box, n.Branch, stamp(n.From), stamp(n.Until), text, stamp(n.Created))
		return err
	})
}

// SetMinProgram implements content.Store.
func (s *Store) SetMinProgram(ctx context.Context, release string) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, saveProgram, release)
		return err
	})
}

// RemoveNotice implements content.Store.
func (s *Store) RemoveNotice(ctx context.Context, id string, now time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		return some(content.ErrNoNotice)(tx.Exec(ctx, removeNotice, stamp(now), id))
	})
}

// some returns none when a statement has changed no row.
func some(none error) func(pgconn.CommandTag, error) error {
	return func(tag pgconn.CommandTag, err error) error {
		if err == nil && tag.RowsAffected() == 0 {
			return none
		}
		return err
	}
}

// AddPart implements content.Store.
func (s *Store) AddPart(ctx context.Context, sha256 string, n int, b []byte, now time.Time) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, addBlob, sha256, stamp(now)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, addPart, sha256, n, b)
		return err
	})
}

// PutItem implements content.Store.
func (s *Store) PutItem(ctx context.Context, i content.Item) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		if err := whole(ctx, tx, i.SHA256, i.Size); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, putItem, i.Name, i.Box, i.SHA256, i.Size, stamp(i.Created)); err != nil {
			return err
		}
		return tidy(ctx, tx, i.Created)
	})
}

// whole fails with content.ErrNoItem unless all bytes of a file are stored.
func whole(ctx context.Context, tx pgx.Tx, sha256 string, size int64) error {
	if sha256 == "" || size == 0 {
		return nil
	}
	var n int64
	if err := tx.QueryRow(ctx, blobLength, sha256).Scan(&n); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d of %d bytes are stored: %w", max(n, 0), size, content.ErrNoItem)
	}
	return nil
}

// tidy notes which files are named by an item and forgets those that none has named for long.
func tidy(ctx context.Context, tx pgx.Tx, now time.Time) error {
	b := &pgx.Batch{}
	b.Queue(claimBlobs)
	b.Queue(leaveBlobs, stamp(now))
	b.Queue(dropBlobs, stamp(now.Add(-content.KeepBlobs)))
	return tx.SendBatch(ctx, b).Close()
}

// RemoveItem implements content.Store.
func (s *Store) RemoveItem(ctx context.Context, name string, box uint32, now time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		query, args := removeItem, []any{name, box}
		if name == "" {
			query, args = removeItems, []any{box}
		}
		if err := some(content.ErrNoItem)(tx.Exec(ctx, query, args...)); err != nil {
			return err
		}
		return tidy(ctx, tx, now)
	})
}

// Part implements content.Store.
func (s *Store) Part(ctx context.Context, sha256 string, n int) (b []byte, err error) {
	err = again(ctx, func() error { return s.pool.QueryRow(ctx, findPart, sha256, n).Scan(&b) })
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, content.ErrNoItem
	}
	return b, err
}

// AddKey implements content.Store.
func (s *Store) AddKey(ctx context.Context, public []byte, now time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, addKey, public, stamp(now))
		return err
	})
}

// RetireKey implements content.Store.
func (s *Store) RetireKey(ctx context.Context, public []byte, now time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		return some(content.ErrNoKey)(tx.Exec(ctx, retireKey, stamp(now), public))
	})
}

// Keys implements content.Store.
func (s *Store) Keys(ctx context.Context) (out []content.Key, err error) {
	err = s.within(ctx, func(tx pgx.Tx) (err error) {
		out, err = collect(ctx, tx, scanKey, listKeys)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keys to seal to: %w", err)
	}
	return out, nil
}
