package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// The write-ahead log cannot shrink while somebody reads. Who reads from this store is interrupted; who reads from outside
// is not, so what can wait does: the hub has the events, and they are deleted when the log is short again.

// logLimit is when the write-ahead log is cut: it is twice as long as it gets when nobody is in its way.
const logLimit = 8 << 20

// trimLog cuts the write-ahead log when it has grown because somebody was reading. Who still reads from this store is
// interrupted: a log that is not cut fills the disk.
func (s *Store) trimLog() {
	if size := s.logSize(); size > logLimit {
		s.cutLog(size)
	}
}

// logSize returns how many bytes the write-ahead log has; 0 when that is not known.
func (s *Store) logSize() int64 {
	info, err := os.Stat(s.cfg.Path + "-wal")
	if err == nil {
		return info.Size()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("size of the write-ahead log not known", "err", err)
	}
	return 0
}

// logHeld says that the write-ahead log is too long and cannot be cut now: what can wait should not make it longer. Who reads
// from this store is interrupted for that once a second at most, not at every acknowledgement. No transaction may have begun.
func (s *Store) logHeld(ctx context.Context) bool {
	size := s.logSize()
	if size <= logLimit {
		return false
	}
	if s.broken {
		return true
	}
	if s.cutRests.CompareAndSwap(false, true) {
		time.AfterFunc(time.Second, func() { s.cutRests.Store(false) })
	} else if all, err := s.moveLog(ctx); err != nil || !all {
		return true
	}
	s.cutLog(size)
	return s.logSize() > logLimit
}

// moveLog moves what is in the write-ahead log into the database, as far as nobody reads, and says whether that was all.
func (s *Store) moveLog(ctx context.Context) (all bool, err error) {
	var busy, logged, moved int
	err = s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &logged, &moved)
	return busy == 0 && moved == logged, err
}

// cutLog cuts the write-ahead log, which has so many bytes.
func (s *Store) cutLog(size int64) {
	s.interruptReaders()
	s.gate.Lock() // until they have gone, which takes no time, and keeps others from coming in between
	defer s.gate.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	if all, err := s.moveLog(ctx); err != nil || !all {
		s.log.Warn("write-ahead log not cut: somebody is reading", "bytes", size, "err", err)
		return
	}
	var busy, logged, moved int
	var err error
	// Who reads from another process is not waited for: what was written last may be what they see.
	if _, err = s.conn.ExecContext(ctx, "PRAGMA busy_timeout = 20"); err == nil {
		err = s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &logged, &moved)
	}
	after, done := context.WithTimeout(context.Background(), writeLimit)
	defer done()
	if _, back := s.conn.ExecContext(after, "PRAGMA busy_timeout = 5000"); back != nil {
		s.broken = true // who writes would wait for no lock
		err = errors.Join(err, back)
	}
	if err != nil || busy != 0 {
		s.log.Warn("write-ahead log not cut: somebody is reading", "bytes", size, "err", err)
	}
}

func (s *Store) interruptReaders() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt()
	s.readers, s.interrupt = context.WithCancel(context.Background())
}
