package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// ErrKeys means that another hub beside this database has other keys.
var ErrKeys = errors.New("another hub of this database has other keys")

const (
	putHubKey  = `INSERT INTO hub_key (name, fingerprint) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`
	readHubKey = `SELECT fingerprint FROM hub_key WHERE name = $1`
)

// CheckKeys compares what tells this hub's keys apart, by their names, with what the first hub beside this database has
// stored; what is not there yet is stored. It fails with ErrKeys: hubs with other keys refuse each other's boxes and
// logins. Nothing that is handed over may open anything.
func (s *Store) CheckKeys(ctx context.Context, fingerprints map[string][]byte) error {
	err := s.within(ctx, func(tx pgx.Tx) error {
		for _, name := range slices.Sorted(maps.Keys(fingerprints)) { // one order for all hubs
			if _, err := tx.Exec(ctx, putHubKey, name, fingerprints[name]); err != nil {
				return err
			}
			var have []byte
			if err := tx.QueryRow(ctx, readHubKey, name).Scan(&have); err != nil {
				return err
			}
			if !bytes.Equal(have, fingerprints[name]) {
				return fmt.Errorf("%w: %s", ErrKeys, name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare keys: %w", err)
	}
	return nil
}
