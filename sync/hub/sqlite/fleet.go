package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/provisioning/enroll"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/wire"
)

const (
	addBox    = `INSERT INTO box (branch, kiosks, login_epoch, created) VALUES (?, ?, ?, ?)`
	addToken  = `INSERT INTO token (hash, box, expires) VALUES (?, ?, ?)`
	findToken = `SELECT box, expires, used_by FROM token WHERE hash = ?`
	takeToken = `UPDATE token SET used_by = ? WHERE hash = ?`
	enrolBox  = `UPDATE box SET key_id = ?, token_key = ?, enrolled = ? WHERE number = ?`
	revokeBox = `UPDATE box SET revoked = CASE revoked WHEN '' THEN ? ELSE revoked END WHERE number = ?`
	// What was received last is right.
	contactBox = `
UPDATE box SET contact = max(contact, ?1), pending = CASE WHEN contact > ?1 THEN pending ELSE ?2 END,
  report = CASE WHEN ?3 = '' OR reported > ?4 THEN report ELSE ?3 END,
  drift = CASE WHEN ?3 = '' OR reported > ?4 THEN drift ELSE ?5 END,
  reported = CASE WHEN ?3 = '' OR reported > ?4 THEN reported ELSE ?4 END
WHERE number = ?6`
	boxFields = `SELECT number, branch, kiosks, login_epoch, key_id, token_key, created, enrolled, revoked, contact, pending, report, reported, drift, `
	listBoxes = boxFields + `
       (SELECT COUNT(*) FROM alarm AS a WHERE a.box = box.number AND a.done = 0),
       (SELECT COUNT(*) FROM chain AS c CROSS JOIN entry AS e ON e.chain = c.id WHERE c.box = box.number AND e.judged <> '' AND e.judged = 'absent'),
       (SELECT COUNT(*) FROM chain AS c CROSS JOIN branch AS b ON b.chain = c.id WHERE c.box = box.number AND b.number > 0)
FROM box ORDER BY number`
	findBox = boxFields + `0, 0, 0 FROM box WHERE number = ?` // with every request: what is counted is for lists
)

// AddBox implements fleet.Store.
func (s *Store) AddBox(ctx context.Context, b fleet.Box, tokenHash [32]byte, expires time.Time) (number uint32, err error) {
	err = s.within(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, addBox, b.Branch, b.Kiosks, b.LoginEpoch, stamp(b.Created))
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		number = uint32(id)
		_, err = tx.ExecContext(ctx, addToken, tokenHash[:], number, stamp(expires))
		return err
	})
	return number, err
}

// AddToken implements fleet.Store.
func (s *Store) AddToken(ctx context.Context, number uint32, tokenHash [32]byte, expires time.Time) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		if _, err := scanBox(tx.QueryRowContext(ctx, findBox, number)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, addToken, tokenHash[:], number, stamp(expires))
		return err
	})
}

// UseToken implements fleet.Store.
func (s *Store) UseToken(ctx context.Context, tokenHash [32]byte, k enroll.Key, now time.Time) (b fleet.Box, err error) {
	err = s.within(ctx, func(tx *sql.Tx) error {
		var number uint32
		var expires, usedBy string
		err := tx.QueryRowContext(ctx, findToken, tokenHash[:]).Scan(&number, &expires, &usedBy)
		if errors.Is(err, sql.ErrNoRows) {
			return enroll.ErrToken
		}
		if err != nil {
			return err
		}
		if b, err = scanBox(tx.QueryRowContext(ctx, findBox, number)); err != nil {
			return err
		}
		switch {
		case !b.Revoked.IsZero():
			return enroll.ErrRevoked
		case usedBy == "" && stamp(now) > expires:
			return enroll.ErrToken
		case usedBy != "" && (usedBy != k.ID || b.KeyID != k.ID): // another box, or its place was taken since
			return enroll.ErrToken
		}
		if _, err := tx.ExecContext(ctx, takeToken, k.ID, tokenHash[:]); err != nil {
			return err
		}
		b.KeyID, b.TokenKey, b.Enrolled = k.ID, k.TokenKey, now
		_, err = tx.ExecContext(ctx, enrolBox, b.KeyID, b.TokenKey, stamp(now), number)
		return err
	})
	if err != nil {
		return fleet.Box{}, err
	}
	return b, nil
}

// Box implements fleet.Store.
func (s *Store) Box(ctx context.Context, number uint32) (fleet.Box, error) {
	if err := ctx.Err(); err != nil {
		return fleet.Box{}, err
	}
	// Every request asks, and to watch a context costs as much as to read the row.
	return scanBox(s.findBox.QueryRowContext(context.WithoutCancel(ctx), number))
}

// Boxes implements fleet.Store.
func (s *Store) Boxes(ctx context.Context) ([]fleet.Box, error) {
	rows, err := s.read.QueryContext(ctx, listBoxes)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []fleet.Box
	for rows.Next() {
		b, err := scanBox(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

// scanBox reads a row of listBoxes or findBox.
func scanBox(row interface{ Scan(...any) error }) (fleet.Box, error) {
	var b fleet.Box
	var created, enrolled, revoked, contact, reported string
	var drift int64
	var report []byte
	err := row.Scan(&b.Number, &b.Branch, &b.Kiosks, &b.LoginEpoch, &b.KeyID, &b.TokenKey, &created, &enrolled, &revoked, &contact, &b.Pending,
		&report, &reported, &drift, &b.Alarms, &b.Gaps, &b.Forks)
	if errors.Is(err, sql.ErrNoRows) {
		return fleet.Box{}, fleet.ErrUnknown
	}
	if err != nil {
		return fleet.Box{}, err
	}
	for _, f := range []struct {
		to   *time.Time
		from string
	}{{&b.Created, created}, {&b.Enrolled, enrolled}, {&b.Revoked, revoked}, {&b.Contact, contact}, {&b.Reported, reported}} {
		if *f.to, err = parseStamp(f.from); err != nil {
			return fleet.Box{}, err
		}
	}
	b.Drift = time.Duration(drift) * time.Millisecond
	if len(report) > 0 {
		b.Report = &wire.Report{}
		if err := json.Unmarshal(report, b.Report); err != nil {
			return fleet.Box{}, fmt.Errorf("stored report of box %d: %w", b.Number, err)
		}
	}
	return b, nil
}

// RevokeBox implements fleet.Store.
func (s *Store) RevokeBox(ctx context.Context, number uint32, at time.Time) error {
	res, err := s.write.ExecContext(ctx, revokeBox, stamp(at), number)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fleet.ErrUnknown)
	}
	return nil
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
	_, err := s.write.ExecContext(ctx, contactBox, stamp(c.At), c.Pending, string(report), stamp(c.Reported), c.Drift.Milliseconds(), number)
	return err
}
