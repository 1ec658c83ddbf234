package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/sync/hub/content"
)

var _ content.Store = (*Store)(nil)

const (
	readChanges  = `SELECT n FROM content_change`
	raiseChanges = `UPDATE content_change SET n = n + 1`
	readAtOnce   = `SELECT n, min_program FROM content_change`
	saveProgram  = `UPDATE content_change SET min_program = ?`
	addNotice    = `INSERT INTO notice (id, severity, box, branch, begins, until, text, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	removeNotice = `UPDATE notice SET removed = ? WHERE id = ? AND removed = ''`
	listNotices  = `SELECT id, severity, box, branch, begins, until, text, created FROM notice WHERE removed = '' ORDER BY created, id`
	listItems    = `SELECT name, box, sha256, size, created FROM item ORDER BY name, box`
	listGoBack   = `SELECT box, version FROM go_back`
	listKeys     = `SELECT public, added, retired FROM seal_key ORDER BY place DESC`

	addBlob    = `INSERT INTO blob (sha256, released) VALUES (?, ?) ON CONFLICT (sha256) DO NOTHING`
	addPart    = `INSERT INTO blob_part (sha256, n, body) VALUES (?, ?, ?) ON CONFLICT (sha256, n) DO UPDATE SET body = excluded.body`
	findPart   = `SELECT body FROM blob_part WHERE sha256 = ? AND n = ?`
	blobLength = `SELECT coalesce(sum(length(body)), -1) FROM blob_part WHERE sha256 = ?`
	putItem    = `INSERT INTO item (name, box, sha256, size, created) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name, box) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size, created = excluded.created`
	removeItem  = `DELETE FROM item WHERE name = ? AND box = ?`
	removeItems = `DELETE FROM item WHERE box = ?`
	claimBlobs  = `UPDATE blob SET released = '' WHERE released <> '' AND sha256 IN (SELECT sha256 FROM item)`
	leaveBlobs  = `UPDATE blob SET released = ? WHERE released = '' AND sha256 NOT IN (SELECT sha256 FROM item)`
	dropParts   = `DELETE FROM blob_part WHERE sha256 IN (SELECT sha256 FROM blob WHERE released <> '' AND released < ?)`
	dropBlobs   = `DELETE FROM blob WHERE released <> '' AND released < ?`

	findIssued   = `SELECT version, highest, rollback, core, issued, expires FROM desired WHERE box = ?`
	findSigned   = `SELECT version, highest, rollback, core, issued, expires, body, sig FROM desired WHERE box = ?`
	findGoBack   = `SELECT version FROM go_back WHERE box = ?`
	saveIssued   = `INSERT OR REPLACE INTO desired (box, version, highest, rollback, core, issued, expires, body, sig) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	saveVersion  = `INSERT OR REPLACE INTO desired_version (box, version, issued, content) VALUES (?, ?, ?, ?)`
	dropVersions = `DELETE FROM desired_version WHERE box = ? AND version NOT IN
(SELECT version FROM desired_version WHERE box = ? ORDER BY issued DESC, version DESC LIMIT ?)`
	dropGoBack   = `DELETE FROM go_back WHERE box = ?`
	saveGoBack   = `INSERT OR REPLACE INTO go_back (box, version) VALUES (?, ?)`
	listVersions = `SELECT version, issued, content FROM desired_version WHERE box = ? ORDER BY issued DESC, version DESC`
	findVersion  = `SELECT content FROM desired_version WHERE box = ? AND version = ?`

	addKey    = `INSERT INTO seal_key (public, added) VALUES (?, ?)`
	retireKey = `UPDATE seal_key SET retired = ? WHERE public = ? AND retired = ''`
)

// change runs do in a transaction that others notice.
func (s *Store) change(ctx context.Context, do func(*sql.Tx) error) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, raiseChanges)
		return err
	})
}

// Changes implements content.Store.
func (s *Store) Changes(ctx context.Context) (n uint64, err error) {
	if err := s.read.QueryRowContext(ctx, readChanges).Scan(&n); err != nil {
		return 0, fmt.Errorf("counter of changes: %w", err)
	}
	return n, nil
}

// each calls scan for every row of a query.
func each(ctx context.Context, tx *sql.Tx, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Kept implements content.Store.
func (s *Store) Kept(ctx context.Context) (k content.Kept, err error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return content.Kept{}, fmt.Errorf("what boxes are to have: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	k.GoBack = map[uint32]uint64{}
	err = errors.Join(
		tx.QueryRowContext(ctx, readAtOnce).Scan(&k.Changes, &k.MinProgram),
		each(ctx, tx, func(rows *sql.Rows) error {
			n, err := scanNotice(rows)
			k.Notices = append(k.Notices, n)
			return err
		}, listNotices),
		each(ctx, tx, func(rows *sql.Rows) error {
			i, err := scanItem(rows)
			k.Items = append(k.Items, i)
			return err
		}, listItems),
		each(ctx, tx, func(rows *sql.Rows) error {
			key, err := scanKey(rows)
			if key.Retired.IsZero() {
				k.Keys = append(k.Keys, key)
			}
			return err
		}, listKeys),
		each(ctx, tx, func(rows *sql.Rows) error {
			var box uint32
			var version uint64
			err := rows.Scan(&box, &version)
			k.GoBack[box] = version
			return err
		}, listGoBack),
	)
	if err != nil {
		return content.Kept{}, fmt.Errorf("what boxes are to have: %w", err)
	}
	return k, nil
}

func scanNotice(rows *sql.Rows) (n content.Notice, err error) {
	var begins, until, text, created string
	if err := rows.Scan(&n.ID, &n.Severity, &n.Box, &n.Branch, &begins, &until, &text, &created); err != nil {
		return n, err
	}
	return n, errors.Join(
		json.Unmarshal([]byte(text), &n.Text),
		parseStamps(stored{&n.From, begins}, stored{&n.Until, until}, stored{&n.Created, created}),
	)
}

func scanItem(rows *sql.Rows) (i content.Item, err error) {
	var created string
	if err := rows.Scan(&i.Name, &i.Box, &i.SHA256, &i.Size, &created); err != nil {
		return i, err
	}
	return i, parseStamps(stored{&i.Created, created})
}

func scanKey(rows *sql.Rows) (k content.Key, err error) {
	var added, retired string
	if err := rows.Scan(&k.Public, &added, &retired); err != nil {
		return k, err
	}
	return k, parseStamps(stored{&k.Added, added}, stored{&k.Retired, retired})
}

// stored is a time as it is stored, and where it goes.
type stored struct {
	to   *time.Time
	from string
}

func parseStamps(all ...stored) (err error) {
	for _, s := range all {
		if *s.to, err = parseStamp(s.from); err != nil {
			return err
		}
	}
	return nil
}

// AddNotice implements content.Store.
func (s *Store) AddNotice(ctx context.Context, n content.Notice) error {
	text, err := json.Marshal(n.Text)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, addNotice, n.ID, string(n.Severity), n.Box, n.Branch, stamp(n.From), stamp(n.Until), string(text), stamp(n.Created))
		return err
	})
}

// SetMinProgram implements content.Store.
func (s *Store) SetMinProgram(ctx context.Context, release string) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, saveProgram, release)
		return err
	})
}

// RemoveNotice implements content.Store.
func (s *Store) RemoveNotice(ctx context.Context, id string, now time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		return one(content.ErrNoNotice)(tx.ExecContext(ctx, removeNotice, stamp(now), id))
	})
}

// one returns none when a statement has changed no row.
func one(none error) func(sql.Result, error) error {
	return func(res sql.Result, err error) error {
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, none)
		}
		return nil
	}
}

// AddPart implements content.Store.
func (s *Store) AddPart(ctx context.Context, sha256 string, n int, b []byte, now time.Time) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, addBlob, sha256, stamp(now)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, addPart, sha256, n, b)
		return err
	})
}

// PutItem implements content.Store.
func (s *Store) PutItem(ctx context.Context, i content.Item) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		if err := whole(ctx, tx, i.SHA256, i.Size); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, putItem, i.Name, i.Box, i.SHA256, i.Size, stamp(i.Created)); err != nil {
			return err
		}
		return tidy(ctx, tx, i.Created)
	})
}

// whole fails with content.ErrNoItem unless all bytes of a file are stored.
func whole(ctx context.Context, tx *sql.Tx, sha256 string, size int64) error {
	if sha256 == "" || size == 0 {
		return nil
	}
	var n int64
	if err := tx.QueryRowContext(ctx, blobLength, sha256).Scan(&n); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d of %d bytes are stored: %w", max(n, 0), size, content.ErrNoItem)
	}
	return nil
}

// tidy notes which files are named by an item and forgets those that none has named for long.
func tidy(ctx context.Context, tx *sql.Tx, now time.Time) error {
	old := stamp(now.Add(-content.KeepBlobs))
	for _, q := range []struct {
		text string
		args []any
	}{{claimBlobs, nil}, {leaveBlobs, []any{stamp(now)}}, {dropParts, []any{old}}, {dropBlobs, []any{old}}} {
		if _, err := tx.ExecContext(ctx, q.text, q.args...); err != nil {
			return err
		}
	}
	return nil
}

// RemoveItem implements content.Store.
func (s *Store) RemoveItem(ctx context.Context, name string, box uint32, now time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		query, args := removeItem, []any{name, box}
		if name == "" {
			query, args = removeItems, []any{box}
		}
		if err := one(content.ErrNoItem)(tx.ExecContext(ctx, query, args...)); err != nil {
			return err
		}
		return tidy(ctx, tx, now)
	})
}

// Part implements content.Store.
func (s *Store) Part(ctx context.Context, sha256 string, n int) (b []byte, err error) {
	err = s.read.QueryRowContext(ctx, findPart, sha256, n).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, content.ErrNoItem
	}
	return b, err
}
