package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
)

// How much of its disk the queue leaves to others, and to the write-ahead log: a twentieth, but no less and no more than
// this, in bytes.
const leastReserve, mostReserve = 16 << 20, 64 << 20

// startReserve is how much larger than else the database may get while the program starts, in pages: what a start writes
// is little, and without it there would be no box that could say that the disk is full.
const startReserve = 64

// fewestPages is the least that the queue may take, however little room there is: a database that is empty has as many.
const fewestPages = 64

// diskRoom returns how large the disk is that a file is on, and how much of it is free, in bytes.
func diskRoom(path string) (total, free int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &fs); err != nil {
		return 0, 0, fmt.Errorf("room on the disk: %w", err)
	}
	block := int64(fs.Bsize)                                       //nolint:unconvert // of another size on other machines
	return int64(fs.Blocks) * block, int64(fs.Bavail) * block, nil //nolint:gosec // of a disk
}

// pageLimit returns how large a database of so many pages may grow: as the configuration has it, but no further than the
// disk has room.
func pageLimit(path string, pages, most int) (int, error) {
	if most <= 0 {
		return most, nil
	}
	total, free, err := diskRoom(path)
	if err != nil {
		return 0, err
	}
	left := max(0, free-min(max(total/20, leastReserve), mostReserve)) / pageSize
	return int(min(int64(most), max(fewestPages, int64(pages)+left))), nil
}

// limitTo has the database grow to so many pages at most. One that is larger stays as large as it is.
func (s *Store) limitTo(ctx context.Context, pages int) error {
	if s.cfg.MaxPages <= 0 {
		return nil
	}
	var got int
	err := s.conn.QueryRowContext(ctx, "PRAGMA max_page_count = "+strconv.Itoa(pages)).Scan(&got)
	if err != nil {
		return fmt.Errorf("room for the queue: %w", err)
	}
	return nil
}

// adjust finds out anew how much room there is: others fill the same disk, or make room on it.
func (s *Store) adjust(ctx context.Context, pages int) {
	limit, err := pageLimit(s.cfg.Path, pages, s.cfg.MaxPages)
	if err == nil && limit != int(s.limit.Load()) && !s.starting && s.db != nil {
		err = s.limitTo(ctx, limit)
	}
	if err != nil {
		s.log.Error("room on the disk not known", "err", err)
		return
	}
	s.limit.Store(int64(limit))
}

// HasRoom says whether the next event can be stored: the database is not full, and the disk takes what is written. To find
// that out something is written that changes nothing. It is as precise as the last Look.
func (s *Store) HasRoom(ctx context.Context) bool {
	if s.state.Load() == diskFull {
		return false
	}
	return s.writeAlone(ctx, func(w *work) error {
		w.probe = true
		if err := w.exec(countSQL, 1, "refused"); err != nil {
			return err
		}
		return w.exec(countSQL, -1, "refused")
	}) == nil
}
