package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/provisioning/enroll"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/wire"
)

const (
	addBox    = `INSERT INTO box (branch, kiosks, login_epoch, created) VALUES ($1, $2, $3, $4) RETURNING number`
	addToken  = `INSERT INTO token (hash, box, expires) VALUES ($1, $2, $3)`
	findToken = `SELECT box, expires, used_by FROM token WHERE hash = $1 FOR UPDATE`
	takeToken = `UPDATE token SET used_by = $1 WHERE hash = $2`
	enrolBox  = `UPDATE box SET key_id = $1, token_key = $2, enrolled = $3 WHERE number = $4`
	revokeBox = `UPDATE box SET revoked = coalesce(revoked, $1) WHERE number = $2`
	// Whichever hub heard of a box last is right. No replica is waited for: one that is missing would stop every hub, for
	// something that the next contact says again.
	contactBox = `
UPDATE box SET contact = greatest(contact, $1), pending = CASE WHEN contact > $1 THEN pending ELSE $2 END,
  report = CASE WHEN $3::bytea IS NULL OR reported > $4 THEN report ELSE $3 END,
  drift = CASE WHEN $3::bytea IS NULL OR reported > $4 THEN drift ELSE $5 END,
  reported = CASE WHEN $3::bytea IS NULL OR reported > $4 THEN reported ELSE $4::timestamptz END
FROM (SELECT set_config('synchronous_commit', 'local', true)) AS s WHERE number = $6`
	holdBox   = `SELECT FROM box WHERE number = $1 FOR UPDATE`
	boxFields = `SELECT number, branch, kiosks, login_epoch, key_id, token_key, created, enrolled, revoked, contact, pending, drift, report, reported, `
	listBoxes = boxFields + `
       (SELECT count(*) FROM alarm AS a WHERE a.box = box.number AND a.done IS NULL),
       (SELECT count(*) FROM event AS e WHERE e.box = box.number AND e.judged = 'absent'),
       (SELECT count(*) FROM numbering AS n JOIN branch AS b ON b.numbering = n.id WHERE n.box = box.number AND b.number > 0)
FROM box ORDER BY number`
	// Asked for with every request of a box: nothing is counted.
	findBox = boxFields + `0, 0, 0 FROM box WHERE number = $1`
)

// AddBox implements fleet.Store.
func (s *Store) AddBox(ctx context.Context, b fleet.Box, tokenHash [32]byte, expires time.Time) (number uint32, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, addBox, b.Branch, b.Kiosks, b.LoginEpoch, stamp(b.Created)).Scan(&number); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, addToken, tokenHash[:], number, expires)
		return err
	})
	return number, err
}

// AddToken implements fleet.Store.
func (s *Store) AddToken(ctx context.Context, number uint32, tokenHash [32]byte, expires time.Time) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		if _, err := scanBox(tx.QueryRow(ctx, findBox, number)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, addToken, tokenHash[:], number, expires)
		return err
	})
}

// UseToken implements fleet.Store.
func (s *Store) UseToken(ctx context.Context, tokenHash [32]byte, k enroll.Key, now time.Time) (b fleet.Box, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		var number uint32
		var expires time.Time
		var usedBy string
		err := tx.QueryRow(ctx, findToken, tokenHash[:]).Scan(&number, &expires, &usedBy)
		if errors.Is(err, pgx.ErrNoRows) {
			return enroll.ErrToken
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, holdBox, number); err != nil {
			return err
		}
		if b, err = scanBox(tx.QueryRow(ctx, findBox, number)); err != nil {
			return err
		}
		switch {
		case !b.Revoked.IsZero():
			return enroll.ErrRevoked
		case usedBy == "" && now.After(expires):
			return enroll.ErrToken
		case usedBy != "" && (usedBy != k.ID || b.KeyID != k.ID): // another box, or its place was taken since
			return enroll.ErrToken
		}
		if _, err := tx.Exec(ctx, takeToken, k.ID, tokenHash[:]); err != nil {
			return err
		}
		b.KeyID, b.TokenKey, b.Enrolled = k.ID, k.TokenKey, now
		_, err = tx.Exec(ctx, enrolBox, b.KeyID, b.TokenKey, stamp(now), number)
		return err
	})
	if err != nil {
		return fleet.Box{}, err
	}
	return b, nil
}

// Box implements fleet.Store.
func (s *Store) Box(ctx context.Context, number uint32) (b fleet.Box, err error) {
	err = again(ctx, func() error {
		b, err = scanBox(s.pool.QueryRow(ctx, findBox, number))
		return err
	})
	return b, err
}

// Boxes implements fleet.Store.
func (s *Store) Boxes(ctx context.Context) (bs []fleet.Box, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, listBoxes)
		if err != nil {
			return err
		}
		bs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (fleet.Box, error) { return scanBox(row) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return bs, nil
}

// scanBox reads a row of boxFields.
func scanBox(row pgx.Row) (fleet.Box, error) {
	var b fleet.Box
	var created, enrolled, revoked, contact, reported *time.Time
	var drift int64
	var report []byte
	err := row.Scan(&b.Number, &b.Branch, &b.Kiosks, &b.LoginEpoch, &b.KeyID, &b.TokenKey, &created, &enrolled, &revoked, &contact,
		&b.Pending, &drift, &report, &reported, &b.Alarms, &b.Gaps, &b.Forks)
	if errors.Is(err, pgx.ErrNoRows) {
		return fleet.Box{}, fleet.ErrUnknown
	}
	if err != nil {
		return fleet.Box{}, fmt.Errorf("box: %w", err)
	}
	b.Created, b.Enrolled, b.Revoked, b.Contact = unstamp(created), unstamp(enrolled), unstamp(revoked), unstamp(contact)
	b.Reported, b.Drift = unstamp(reported), time.Duration(drift)*time.Millisecond
	if report != nil {
		b.Report = &wire.Report{}
		if err := json.Unmarshal(report, b.Report); err != nil {
			return fleet.Box{}, fmt.Errorf("report of box %d: %w", b.Number, err)
		}
	}
	return b, nil
}

// RevokeBox implements fleet.Store.
func (s *Store) RevokeBox(ctx context.Context, number uint32, at time.Time) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, revokeBox, stamp(at), number)
		if err == nil && tag.RowsAffected() == 0 {
			return fleet.ErrUnknown
		}
		return err
	})
}

// SaveContact implements fleet.Store.
func (s *Store) SaveContact(ctx context.Context, number uint32, c fleet.Contact) error {
	var report []byte
	if c.Report != nil {
		var err error
		if report, err = json.Marshal(c.Report); err != nil {
			return fmt.Errorf("report of box %d: %w", number, err)
		}
	}
	return again(ctx, func() error {
		_, err := s.pool.Exec(ctx, contactBox, stamp(c.At.Truncate(time.Second)), c.Pending, report, stamp(c.Reported), c.Drift.Milliseconds(), number)
		return err
	})
}
