package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
)

// Issue implements content.Store.
func (s *Store) Issue(ctx context.Context, boxes []uint32, decide func(content.Issued, uint64) (content.Issued, bool, error)) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		used := false
		for _, box := range boxes {
			last, err := scanIssued(tx.QueryRowContext(ctx, findIssued, box), box)
			if err != nil {
				return err
			}
			var back uint64
			if err := tx.QueryRowContext(ctx, findGoBack, box).Scan(&back); err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			next, issued, err := decide(last, back)
			if err != nil {
				return err
			}
			if back != 0 && (issued || back >= last.Highest) { // used, or of no use
				used = true
				if _, err := tx.ExecContext(ctx, dropGoBack, box); err != nil {
					return err
				}
			}
			if !issued {
				continue
			}
			if err := saveDesired(ctx, tx, next); err != nil {
				return fmt.Errorf("document of box %d: %w", box, err)
			}
		}
		if !used {
			return nil
		}
		_, err := tx.ExecContext(ctx, raiseChanges)
		return err
	})
}

func saveDesired(ctx context.Context, tx *sql.Tx, n content.Issued) error {
	files, err := json.Marshal(n.Content)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, saveIssued, n.Box, n.Version, n.Highest, n.Rollback, n.Core, stamp(n.Issued), stamp(n.Expires),
		n.Signed.Body, n.Signed.Sig); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, saveVersion, n.Box, n.Version, stamp(n.Issued), string(files)); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, dropVersions, n.Box, n.Box, content.KeepVersions)
	return err
}

// scanIssued reads a row of findIssued; when there is none, the box was never given a document.
func scanIssued(row *sql.Row, box uint32, more ...any) (content.Issued, error) {
	is := content.Issued{Box: box}
	var issued, expires string
	err := row.Scan(append([]any{&is.Version, &is.Highest, &is.Rollback, &is.Core, &issued, &expires}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return is, nil
	}
	if err != nil {
		return content.Issued{}, err
	}
	return is, parseStamps(stored{&is.Issued, issued}, stored{&is.Expires, expires})
}

// Signed implements content.Store.
func (s *Store) Signed(ctx context.Context, box uint32) (content.Issued, error) {
	var signed desired.Signed
	is, err := scanIssued(s.read.QueryRowContext(ctx, findSigned, box), box, &signed.Body, &signed.Sig)
	if err != nil {
		return content.Issued{}, fmt.Errorf("document of box %d: %w", box, err)
	}
	if is.Version == 0 {
		return content.Issued{}, fmt.Errorf("document of box %d: %w", box, content.ErrNoVersion)
	}
	is.Signed = signed
	return is, nil
}

// Versions implements content.Store.
func (s *Store) Versions(ctx context.Context, box uint32) ([]content.Version, error) {
	rows, err := s.read.QueryContext(ctx, listVersions, box)
	if err != nil {
		return nil, fmt.Errorf("documents of box %d: %w", box, err)
	}
	defer func() { _ = rows.Close() }()
	var out []content.Version
	for rows.Next() {
		var v content.Version
		var issued, files string
		if err := rows.Scan(&v.Number, &issued, &files); err != nil {
			return nil, fmt.Errorf("documents of box %d: %w", box, err)
		}
		if err := errors.Join(parseStamps(stored{&v.Issued, issued}), json.Unmarshal([]byte(files), &v.Content)); err != nil {
			return nil, fmt.Errorf("documents of box %d: %w", box, err)
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// GoBack implements content.Store.
func (s *Store) GoBack(ctx context.Context, box uint32, version uint64, now time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		var text string
		err := tx.QueryRowContext(ctx, findVersion, box, version).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return content.ErrNoVersion
		}
		if err != nil {
			return err
		}
		var files []desired.Blob
		if err := json.Unmarshal([]byte(text), &files); err != nil {
			return err
		}
		var items []content.Item
		if err := each(ctx, tx, func(rows *sql.Rows) error {
			i, err := scanItem(rows)
			items = append(items, i)
			return err
		}, listItems); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, removeItems, box); err != nil {
			return err
		}
		for _, i := range content.Pinned(box, files, items, now) {
			if err := whole(ctx, tx, i.SHA256, i.Size); err != nil {
				return fmt.Errorf("file %s: %w", i.Name, err)
			}
			if _, err := tx.ExecContext(ctx, putItem, i.Name, i.Box, i.SHA256, i.Size, stamp(i.Created)); err != nil {
				return err
			}
		}
		if err := tidy(ctx, tx, now); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, saveGoBack, box, version)
		return err
	})
}

// AddKey implements content.Store.
func (s *Store) AddKey(ctx context.Context, public []byte, now time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, addKey, public, stamp(now))
		return err
	})
}

// RetireKey implements content.Store.
func (s *Store) RetireKey(ctx context.Context, public []byte, now time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		return one(content.ErrNoKey)(tx.ExecContext(ctx, retireKey, stamp(now), public))
	})
}

// Keys implements content.Store.
func (s *Store) Keys(ctx context.Context) ([]content.Key, error) {
	rows, err := s.read.QueryContext(ctx, listKeys)
	if err != nil {
		return nil, fmt.Errorf("keys to seal to: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []content.Key
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, fmt.Errorf("keys to seal to: %w", err)
		}
		out = append(out, k)
	}
	return out, rows.Err()
}
