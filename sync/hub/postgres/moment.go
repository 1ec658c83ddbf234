package postgres

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/hub/moment"
)

const (
	momentFields = `SELECT key, part, value, until, secret, secret_until FROM moment`
	readMoment   = momentFields + ` WHERE space = $1 AND key = $2 AND until > $3`
	holdMoment   = momentFields + ` WHERE space = $1 AND key = $2 FOR UPDATE`
	partMoments  = momentFields + ` WHERE space = $1 AND part = $2 AND until > $3 ORDER BY made`
	lockPart     = `SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))`
	countPart    = `SELECT count(*) FROM (SELECT FROM moment WHERE space = $1 AND part = $2 AND until > $3 LIMIT $4) AS m`
	countSpace   = `SELECT count(*) FROM (SELECT FROM moment WHERE space = $1 AND until > $2 LIMIT $3) AS m`
	addMoment    = `
INSERT INTO moment (space, key, part, value, until, secret, secret_until) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (space, key) DO NOTHING`
	changeMoment = `UPDATE moment SET value = $3, until = $4, secret = $5, secret_until = $6 WHERE space = $1 AND key = $2`
	dropMoments  = `DELETE FROM moment WHERE space = $1 AND key = ANY ($2::bytea[])`
	// By the database's clock and a little later: a hub whose clock is ahead must not end what the others began.
	sweepMoments = `DELETE FROM moment WHERE until <= now() - interval '1 minute'`
	sweepSecrets = `
UPDATE moment SET secret = NULL, secret_until = NULL WHERE secret IS NOT NULL AND secret_until <= now() - interval '1 minute'`
	tellMoment   = `SELECT pg_notify('moment', $1)`
	listenMoment = `LISTEN moment`
)

// pollEvery is how often who waits looks even when nobody said anything: the word of another hub may be lost.
const pollEvery = 2 * time.Second

// Moments keeps entries in the database, for all hubs beside it. What is in them is closed with a key made from the
// hub's master key, and their names are hashed: whoever reads the database learns nothing and cannot act as anybody.
// Make one with Store.Moments.
type Moments struct {
	store *Store
	aead  cipher.AEAD

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by what is notified
}

var _ moment.Store = (*Moments)(nil)

// Moments returns what all hubs with this master key know of what is under way. Its Run should run, so that a hub
// hears at once what another has done; else it takes two seconds.
func (s *Store) Moments(master []byte) (*Moments, error) {
	key, err := hkdf.Key(sha256.New, master, nil, "sportello/moment/v1", 32)
	if err != nil {
		return nil, fmt.Errorf("key of what is under way: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key of what is under way: %w", err)
	}
	m := &Moments{store: s, waiting: map[string]map[chan struct{}]bool{}}
	if m.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("key of what is under way: %w", err)
	}
	return m, nil
}

// hashed is how a name is stored.
func hashed(s moment.Space, key string) []byte {
	h := sha256.Sum256([]byte(s.Name + "\x00" + key))
	return h[:]
}

// closed are the columns of an entry.
type closed struct {
	value, secret      []byte
	until, secretUntil *time.Time
}

func (m *Moments) close(s moment.Space, key string, e moment.Entry) (c closed) {
	aad := hashed(s, key)
	plain := append(binary.AppendUvarint(nil, uint64(len(key))), key...)
	c.value, c.until = m.aead.Seal(nil, nil, append(plain, e.Value...), aad), stamp(e.Until)
	if e.Secret != nil {
		c.secret, c.secretUntil = m.aead.Seal(nil, nil, e.Secret, append(aad, "secret"...)), stamp(e.SecretUntil)
	}
	return c
}

// scan reads a row of momentFields.
func (m *Moments) scan(row pgx.Row) (e moment.Named, err error) {
	var hash, value, secret []byte
	var until time.Time
	var secretUntil *time.Time
	if err := row.Scan(&hash, &e.Part, &value, &until, &secret, &secretUntil); err != nil {
		return moment.Named{}, err
	}
	plain, err := m.aead.Open(nil, nil, value, hash)
	if err != nil {
		return moment.Named{}, errors.New("an entry does not open: do all hubs have the same master.key?")
	}
	n, used := binary.Uvarint(plain)
	if used <= 0 || n > uint64(len(plain)-used) {
		return moment.Named{}, errors.New("an entry has no name")
	}
	plain = plain[used:]
	e.Key, e.Value, e.Until = string(plain[:n]), plain[n:], until.UTC()
	if secret != nil {
		if e.Secret, err = m.aead.Open([]byte{}, nil, secret, append(slices.Clone(hash), "secret"...)); err != nil {
			return moment.Named{}, errors.New("an entry's secret does not open")
		}
		e.SecretUntil = unstamp(secretUntil)
	}
	return e, nil
}

// Read implements moment.Store.
func (m *Moments) Read(ctx context.Context, s moment.Space, key string) (e moment.Entry, err error) {
	now := m.store.now()
	err = again(ctx, func() error {
		n, err := m.scan(m.store.pool.QueryRow(ctx, readMoment, s.Name, hashed(s, key), now.UTC()))
		if errors.Is(err, pgx.ErrNoRows) {
			return moment.ErrNone
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", s.Name, err)
		}
		var ok bool
		if e, ok = n.Live(now); !ok {
			return moment.ErrNone
		}
		return nil
	})
	return e, err
}

// errRace means that another hub made the same entry at the same moment.
var errRace = errors.New("two at once")

// Change implements moment.Store.
func (m *Moments) Change(ctx context.Context, s moment.Space, key string, do func(e *moment.Entry, there bool) error) error {
	for {
		var mine error // of do
		err := m.store.within(ctx, func(tx pgx.Tx) error {
			mine = nil
			return m.change(ctx, tx, s, key, func(e *moment.Entry, there bool) error {
				mine = do(e, there)
				return mine
			})
		})
		switch {
		case err == nil:
			return nil
		case mine != nil:
			return mine
		case errors.Is(err, errRace):
			continue
		}
		return fmt.Errorf("change in %s: %w", s.Name, err)
	}
}

func (m *Moments) change(ctx context.Context, tx pgx.Tx, s moment.Space, key string, do func(e *moment.Entry, there bool) error) error {
	now, hash := m.store.now(), hashed(s, key)
	old, err := m.scan(tx.QueryRow(ctx, holdMoment, s.Name, hash))
	row := !errors.Is(err, pgx.ErrNoRows)
	if err != nil && row {
		return err
	}
	e, there := old.Live(now)
	before := e
	before.Value, before.Secret = slices.Clone(e.Value), slices.Clone(e.Secret)
	if err := do(&e, there); err != nil {
		return err
	}
	e, keep := e.Live(now)
	if keep == there && e.Until.Equal(before.Until) && e.SecretUntil.Equal(before.SecretUntil) &&
		string(e.Value) == string(before.Value) && string(e.Secret) == string(before.Secret) {
		return nil
	}
	b := &pgx.Batch{}
	switch c := m.close(s, key, e); {
	case there && keep:
		b.Queue(changeMoment, s.Name, hash, c.value, c.until, c.secret, c.secretUntil)
	case keep:
		if err := m.count(ctx, tx, s, e.Part, now); err != nil {
			return err
		}
		if row { // one that is over
			b.Queue(dropMoments, s.Name, [][]byte{hash})
		}
		b.Queue(addMoment, s.Name, hash, e.Part, c.value, c.until, c.secret, c.secretUntil).Exec(one)
	case row:
		b.Queue(dropMoments, s.Name, [][]byte{hash})
	}
	if b.Len() == 0 {
		return nil
	}
	b.Queue(tellMoment, hex.EncodeToString(hash))
	return tx.SendBatch(ctx, b).Close()
}

// Add implements moment.Store.
func (m *Moments) Add(ctx context.Context, s moment.Space, key string, e moment.Entry, room func([]moment.Named) ([]string, error)) error {
	var mine error // of room
	err := m.store.within(ctx, func(tx pgx.Tx) (err error) {
		now := m.store.now()
		if _, err := tx.Exec(ctx, lockPart, s.Name, e.Part); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, partMoments, s.Name, e.Part, now.UTC())
		if err != nil {
			return err
		}
		others, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (moment.Named, error) { return m.scan(row) })
		if err != nil {
			return err
		}
		drop, err := room(others)
		if mine = err; err != nil {
			return err
		}
		hashes := [][]byte{hashed(s, key)}
		for _, k := range drop {
			hashes = append(hashes, hashed(s, k))
		}
		if _, err := tx.Exec(ctx, dropMoments, s.Name, hashes); err != nil {
			return err
		}
		if err := m.count(ctx, tx, s, e.Part, now); err != nil {
			return err
		}
		c, b := m.close(s, key, e), &pgx.Batch{}
		b.Queue(addMoment, s.Name, hashes[0], e.Part, c.value, c.until, c.secret, c.secretUntil).Exec(one)
		for _, h := range hashes {
			b.Queue(tellMoment, hex.EncodeToString(h))
		}
		return tx.SendBatch(ctx, b).Close()
	})
	switch {
	case err == nil:
		return nil
	case mine != nil:
		return mine
	}
	return fmt.Errorf("add to %s: %w", s.Name, err)
}

// count fails with moment.ErrFull when there is no room for one more.
func (m *Moments) count(ctx context.Context, tx pgx.Tx, s moment.Space, part string, now time.Time) error {
	now = now.UTC()
	var n int
	if s.PerPart > 0 {
		if err := tx.QueryRow(ctx, countPart, s.Name, part, now, s.PerPart).Scan(&n); err != nil {
			return err
		}
		if n >= s.PerPart {
			return moment.ErrFull
		}
	}
	if s.Total > 0 {
		if err := tx.QueryRow(ctx, countSpace, s.Name, now, s.Total).Scan(&n); err != nil {
			return err
		}
		if n >= s.Total {
			return moment.ErrFull
		}
	}
	return nil
}

// Sweep implements moment.Store.
func (m *Moments) Sweep(ctx context.Context) error {
	return again(ctx, func() error {
		_, err := m.store.pool.Exec(ctx, sweepMoments)
		if err == nil {
			_, err = m.store.pool.Exec(ctx, sweepSecrets)
		}
		if err != nil {
			return fmt.Errorf("forget what is over: %w", err)
		}
		return nil
	})
}
