package box

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sportello.example/firmware/program"
)

// lock keeps a second box from using the same data folder. The kernel lets go of it when the process ends, however it
// ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &program.UsageError{
			Err:  fmt.Errorf("data folder %s: another box is running on it", dir),
			Hint: "stop the other one, or name another folder with --data",
		}
	}
	return func() { _ = f.Close() }, nil
}

// noCoreDumps keeps what is in memory out of files, should the program crash.
func noCoreDumps() error {
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
