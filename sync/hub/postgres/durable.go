package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotDurable means that the database confirms what is not on its disk: boxes would forget what it then loses.
	ErrNotDurable = errors.New("database does not wait for its disk")
	// ErrClock means that this machine's clock and the database's are too far apart for hubs to work together.
	ErrClock = errors.New("clocks of hub and database disagree")
)

// maxClockError is how far the clock of a hub may be from the database's: logins live for minutes, by every hub's clock.
const maxClockError = 30 * time.Second

const (
	readDurability = `SELECT current_setting('fsync'), current_setting('synchronous_commit')`
	readClock      = `SELECT clock_timestamp()`
)

// checkDurable fails with ErrNotDurable when a commit of this hub's may be lost by a crash.
func (s *Store) checkDurable(ctx context.Context) error {
	var fsync, commit string
	if err := s.pool.QueryRow(ctx, readDurability).Scan(&fsync, &commit); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if fsync == "off" || commit == "off" {
		return fmt.Errorf("%w: fsync is %s, synchronous_commit is %s", ErrNotDurable, fsync, commit)
	}
	return nil
}

// checkClock fails with ErrClock when this hub's clock is not the database's, as far as the time that the question took
// allows to tell.
func (s *Store) checkClock(ctx context.Context) error {
	begin := s.now()
	var theirs time.Time
	if err := s.pool.QueryRow(ctx, readClock).Scan(&theirs); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	end := s.now()
	off := begin.Sub(theirs) // of this hub's clock, at least
	if off < 0 {
		off = min(0, end.Sub(theirs))
	}
	if off.Abs() > maxClockError {
		return fmt.Errorf("%w: this hub's is %v off", ErrClock, off.Round(time.Second))
	}
	return nil
}
