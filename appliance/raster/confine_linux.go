package raster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// addressSpace is RLIMIT_AS of a child. Go and wazero reserve far more than they touch: with 1.5 GB good documents fail.
const addressSpace = 2500 << 20

// confinements are the ways to start a child, best first. New user and network namespaces leave it without any network,
// not even loopback; kernels and container runtimes that forbid them get a child that merely has no use for a network.
func confinements() []*syscall.SysProcAttr {
	uid, gid := os.Getuid(), os.Getgid()
	return []*syscall.SysProcAttr{
		{
			Pdeathsig:   syscall.SIGKILL,
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		},
		{Pdeathsig: syscall.SIGKILL},
	}
}

// restrict gives up, for good, what drawing a document does not need. It runs before a byte of the document is read.
func restrict(req request) error {
	signal.Ignore(syscall.SIGXFSZ) // so that a write beyond RLIMIT_FSIZE is an error and not the end
	limits := []struct {
		what       int
		soft, hard uint64
	}{
		{unix.RLIMIT_CORE, 0, 0},
		// The first signal lets the Go runtime say what happened, the second one cannot be survived.
		{unix.RLIMIT_CPU, uint64(req.CPU), uint64(req.CPU) + 1},
		{unix.RLIMIT_NOFILE, 64, 64},
		{unix.RLIMIT_FSIZE, 0, 0},
		{unix.RLIMIT_AS, addressSpace, addressSpace},
	}
	for _, l := range limits {
		if l.what == unix.RLIMIT_FSIZE && req.Op == opWarm {
			continue // the one child that writes a file, and the one that gets no document
		}
		if l.what == unix.RLIMIT_AS && raceDetector {
			continue
		}
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.soft, Max: l.hard}); err != nil {
			return fmt.Errorf("limit %d: %w", l.what, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid dumps: %w", err)
	}
	// Of every thread; with cgo (race detector) Go cannot do that, and it is of this one and those it starts.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == unix.ENOTSUP {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("forbid new privileges: %w", errno)
	}
	return nil
}

// resident is how many bytes of memory process pid holds, 0 when it is gone.
func resident(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return n * int64(os.Getpagesize())
}

// killed reports whether a process ended by a signal that its limits send.
func killed(err error) bool {
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		return false
	}
	ws, ok := ee.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && (ws.Signal() == syscall.SIGKILL || ws.Signal() == syscall.SIGXCPU)
}

// isFileLimit reports whether err comes from RLIMIT_FSIZE: the child tried to write the cache.
func isFileLimit(err error) bool { return errors.Is(err, unix.EFBIG) }
