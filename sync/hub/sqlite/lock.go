package sqlite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked means that somebody else uses the database, and what was asked needs it alone; or that somebody needs it
// alone now.
var ErrLocked = errors.New("the database is in use")

// hold takes the lock that stands beside a database: shared by all that use it, alone by who replaces it. The lock is
// given back when the file is closed, or the process ends. It fails with ErrLocked at once.
func hold(path string, alone bool) (*os.File, error) {
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return f, nil
}
