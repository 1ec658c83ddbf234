package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
)

const (
	listIssued = `SELECT box, version, highest, rollback, core, issued, expires FROM desired WHERE box = ANY ($1::bigint[])`
	findSigned = `SELECT version, highest, rollback, core, issued, expires, body, sig FROM desired WHERE box = $1`
	saveIssued = `
INSERT INTO desired (box, version, highest, rollback, core, issued, expires, body, sig) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (box) DO UPDATE SET version = excluded.version, highest = excluded.highest, rollback = excluded.rollback, core = excluded.core,
  issued = excluded.issued, expires = excluded.expires, body = excluded.body, sig = excluded.sig`
	saveVersion = `
INSERT INTO desired_version (box, version, issued, content) VALUES ($1, $2, $3, $4)
ON CONFLICT (box, version) DO UPDATE SET issued = excluded.issued, content = excluded.content`
	dropVersions = `
DELETE FROM desired_version WHERE box = $1 AND version NOT IN
(SELECT version FROM desired_version WHERE box = $1 ORDER BY issued DESC, version DESC LIMIT $2)`
	listVersions = `SELECT version, issued, content FROM desired_version WHERE box = $1 ORDER BY issued DESC, version DESC`
	findVersion  = `SELECT content FROM desired_version WHERE box = $1 AND version = $2`
	goingBack    = `SELECT box, version FROM go_back WHERE box = ANY ($1::bigint[])`
	saveGoBack   = `INSERT INTO go_back (box, version) VALUES ($1, $2) ON CONFLICT (box) DO UPDATE SET version = excluded.version`
	dropGoBack   = `DELETE FROM go_back WHERE box = $1`
)

// Issue implements content.Store.
func (s *Store) Issue(ctx context.Context, boxes []uint32, decide func(content.Issued, uint64) (content.Issued, bool, error)) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		numbers := make([]int64, len(boxes))
		for i, box := range boxes {
			numbers[i] = int64(box)
		}
		// Nobody else issues, or gives leave to go back, until this is over.
		if _, err := tx.Exec(ctx, holdChanges); err != nil {
			return err
		}
		last, back := map[uint32]content.Issued{}, map[uint32]uint64{}
		_, err := collect(ctx, tx, func(row pgx.CollectableRow) (struct{}, error) {
			var is content.Issued
			err := row.Scan(&is.Box, &is.Version, &is.Highest, &is.Rollback, &is.Core, &is.Issued, &is.Expires)
			is.Issued, is.Expires = is.Issued.UTC(), is.Expires.UTC()
			last[is.Box] = is
			return struct{}{}, err
		}, listIssued, numbers)
		if err != nil {
			return err
		}
		_, err = collect(ctx, tx, func(row pgx.CollectableRow) (struct{}, error) {
			var box uint32
			var version uint64
			err := row.Scan(&box, &version)
			back[box] = version
			return struct{}{}, err
		}, goingBack, numbers)
		if err != nil {
			return err
		}
		b, used := &pgx.Batch{}, false
		for _, box := range boxes {
			is, ok := last[box]
			if !ok {
				is.Box = box
			}
			next, issued, err := decide(is, back[box])
			if err != nil {
				return err
			}
			if back[box] != 0 && (issued || back[box] >= is.Highest) { // used, or of no use
				used = true
				b.Queue(dropGoBack, box)
			}
			if !issued {
				continue
			}
			if err := queueDesired(b, next); err != nil {
				return fmt.Errorf("document of box %d: %w", box, err)
			}
		}
		if used {
			b.Queue(raiseChanges)
		}
		if b.Len() == 0 {
			return nil
		}
		return tx.SendBatch(ctx, b).Close()
	})
}

// queueDesired adds to b what stores a document.
func queueDesired(b *pgx.Batch, n content.Issued) error {
	files, err := json.Marshal(n.Content)
	if err != nil {
		return err
	}
	b.Queue(saveIssued, n.Box, n.Version, n.Highest, n.Rollback, n.Core, stamp(n.Issued), stamp(n.Expires), n.Signed.Body, n.Signed.Sig)
	b.Queue(saveVersion, n.Box, n.Version, stamp(n.Issued), files)
	b.Queue(dropVersions, n.Box, content.KeepVersions)
	return nil
}

// Signed implements content.Store.
func (s *Store) Signed(ctx context.Context, box uint32) (is content.Issued, err error) {
	err = again(ctx, func() error {
		is = content.Issued{Box: box}
		err := s.pool.QueryRow(ctx, findSigned, box).Scan(&is.Version, &is.Highest, &is.Rollback, &is.Core, &is.Issued, &is.Expires, &is.Signed.Body, &is.Signed.Sig)
		is.Issued, is.Expires = is.Issued.UTC(), is.Expires.UTC()
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = content.ErrNoVersion
	}
	if err != nil {
		return content.Issued{}, fmt.Errorf("document of box %d: %w", box, err)
	}
	return is, nil
}

// Versions implements content.Store.
func (s *Store) Versions(ctx context.Context, box uint32) (out []content.Version, err error) {
	err = s.within(ctx, func(tx pgx.Tx) (err error) {
		out, err = collect(ctx, tx, func(row pgx.CollectableRow) (v content.Version, err error) {
			var files []byte
			if err := row.Scan(&v.Number, &v.Issued, &files); err != nil {
				return v, err
			}
			v.Issued = v.Issued.UTC()
			return v, json.Unmarshal(files, &v.Content)
		}, listVersions, box)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("documents of box %d: %w", box, err)
	}
	return out, nil
}

// GoBack implements content.Store.
func (s *Store) GoBack(ctx context.Context, box uint32, version uint64, now time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) error {
		var text []byte
		err := tx.QueryRow(ctx, findVersion, box, version).Scan(&text)
		if errors.Is(err, pgx.ErrNoRows) {
			return content.ErrNoVersion
		}
		if err != nil {
			return err
		}
		var files []desired.Blob
		if err := json.Unmarshal(text, &files); err != nil {
			return err
		}
		items, err := collect(ctx, tx, scanItem, listItems)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, removeItems, box); err != nil {
			return err
		}
		for _, i := range content.Pinned(box, files, items, now) {
			if err := whole(ctx, tx, i.SHA256, i.Size); err != nil {
				return fmt.Errorf("file %s: %w", i.Name, err)
			}
			if _, err := tx.Exec(ctx, putItem, i.Name, i.Box, i.SHA256, i.Size, stamp(i.Created)); err != nil {
				return err
			}
		}
		if err := tidy(ctx, tx, now); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, saveGoBack, box, version)
		return err
	})
}
