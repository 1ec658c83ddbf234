package sqlite

import (
	"context"
	"errors"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/sqldb"
)

// checkAtOnce is up to which size the structure of the whole file is checked before the box takes its first event, which
// takes a tenth of a second. Of a larger one, after weeks without a line, only the small tables are, and the queues'
// while the box works: a citizen waits for a start, and what the check is for is rare. What a damaged structure could do
// in between is limited: each event's hash is compared when it leaves, and the ends of the chains were compared with
// the witness at the start.
const checkAtOnce = 32 << 20

// smallTables are those that do not grow with the queue.
var smallTables = []string{"meta", "epoch", "chain", "ack", "missing", "sealed", "counter", "session", "print"}

func (s *Store) checkStructure(ctx context.Context, large bool) error {
	if !large {
		return sqldb.Check(ctx, s.db)
	}
	for _, t := range smallTables {
		if err := sqldb.CheckTable(ctx, s.db, t); err != nil {
			return err
		}
	}
	return nil
}

// checkAgain is how long a check that was interrupted waits: it was because it kept the log from shrinking.
const checkAgain = 10 * time.Minute

// checkQueues checks the structure of the queues' tables, one after the other, until ctx ends.
func (s *Store) checkQueues(ctx context.Context) {
	for _, stream := range envelope.Streams() {
		for {
			s.mu.RLock()
			generation := s.readers
			s.mu.RUnlock()
			one, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(generation, cancel)
			err := sqldb.CheckTable(one, s.read, table(stream))
			stop()
			cancel()
			s.noticeDamage(err)
			if err == nil || ctx.Err() != nil || sqldb.Corrupt(err) {
				break
			}
			if generation.Err() == nil {
				s.log.Warn("structure of the queue not checked", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(checkAgain):
			}
		}
	}
}

// noticeDamage remembers for the next start, which checks everything and sets the file aside, that something was found.
// Until then the box goes on with what can be read.
func (s *Store) noticeDamage(err error) {
	if err == nil || !sqldb.Corrupt(err) || errors.Is(err, context.Canceled) || s.suspect.Swap(true) {
		return
	}
	s.log.Error("the structure of the queue's database is damaged: restart the box, which sets the file aside", "err", err)
	_ = s.writeAlone(context.Background(), func(*work) error { return nil }) // tells the witness
}
