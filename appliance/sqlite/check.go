package sqlite

import (
	"context"
	"errors"
	"fmt"
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
var smallTables = []string{"meta", "epoch", "chain", "ack", "missing", "sealed", "counter", "session", "print", "printer"}

// probes use each column of each table: one whose name has changed is found at the start, not when it is needed.
var probes = []string{
	`SELECT name, value FROM meta LIMIT 0`,
	`SELECT id, kiosk, mode, language, service, stage, started, updated, ended FROM session LIMIT 0`,
	`SELECT seq, at, clock_ok, kind, session, kiosk, detail, sealed FROM event LIMIT 0`,
	`SELECT id, body, closed, updated, undecided FROM print LIMIT 0`,
	`SELECT uuid, body, updated FROM printer LIMIT 0`,
	`SELECT number, name, begun, reason, sum FROM epoch LIMIT 0`,
	`SELECT epoch, stream, cursor, base, base_hash, high, head, acked, sum FROM chain LIMIT 0`,
	`SELECT epoch, stream, day, seq, at FROM ack LIMIT 0`,
	`SELECT id, envelope, hash FROM queue_all LIMIT 0`,
	`SELECT id, envelope, hash FROM queue_legal LIMIT 0`,
	`SELECT id, envelope, hash FROM queue_session LIMIT 0`,
	`SELECT id, envelope, hash FROM queue_stats LIMIT 0`,
	`SELECT id, envelope, hash FROM queue_diag LIMIT 0`,
	`SELECT epoch, stream, first, last, reason, hash, sum FROM missing LIMIT 0`,
	`SELECT id, epoch, stream, seq, reason, at, envelope FROM dead LIMIT 0`,
	`SELECT epoch, stream, key, last FROM sealed LIMIT 0`,
	`SELECT name, value FROM counter LIMIT 0`,
}

func (s *Store) checkStructure(ctx context.Context, large bool) error {
	for _, q := range probes {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("check tables: %w", err)
		}
	}
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

// checkLimit is how long the check of one table may take: one of a gigabyte takes seconds, on a slow card minutes.
const checkLimit = 30 * time.Minute

// checkQueues checks the structure of the queues' tables, one after the other, until ctx ends.
func (s *Store) checkQueues(ctx context.Context) {
	for _, stream := range envelope.Streams() {
		for {
			err := s.checkQueue(ctx, stream)
			s.noticeDamage(err)
			if err == nil || ctx.Err() != nil || sqldb.Corrupt(err) {
				break
			}
			s.log.Warn("structure of the queue not checked yet", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(checkAgain):
			}
		}
	}
}

func (s *Store) checkQueue(ctx context.Context, stream envelope.Stream) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.RLock()
	generation := s.readers
	s.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	defer context.AfterFunc(generation, cancel)()
	return sqldb.CheckTable(ctx, s.read, table(stream))
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
