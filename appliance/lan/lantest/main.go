//go:build linux

package lantest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// packages has, for each program that is needed, the Debian package it is in.
var packages = map[string]string{
	"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "mount": "mount", "dbus-daemon": "dbus",
	"avahi-daemon": "avahi-daemon", "avahi-browse": "avahi-utils", "ipptool": "cups-ipp-utils",
	"ippeveprinter": "cups-ipp-utils", "ippfind": "cups-ipp-utils",
}

const (
	inside = "SPORTELLO_TEST_LAN"
	// runDir is a memory file system that nobody outside sees.
	runDir = "/run"
)

// Main runs the tests of m on a machine of their own and returns the exit code. It is called by TestMain and by nobody
// else. Without root or one of the programs it says so and returns 1.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" && os.Getpid() != 1 {
		return m.Run() // a child of a test
	}
	do := again
	if os.Getenv(inside) != "" {
		do = func() (int, error) {
			if err := prepare(); err != nil {
				return 1, err
			}
			return m.Run(), nil
		}
	}
	code, err := do()
	if err != nil {
		_, _ = io.WriteString(os.Stderr, "a network of printers: "+err.Error()+"\n")
	}
	return code
}

// again runs this program again as the first process of its own namespaces: when it ends, or the one that waits for it
// here is killed, the kernel ends everything in them.
func again() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests need root: they make network namespaces with real printers in them")
	}
	// Debian keeps the daemons where not everybody's PATH leads.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return 1, err
	}
	var missing []string
	for program, pkg := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program+" (Debian package "+pkg+")")
		}
	}
	if len(missing) > 0 {
		return 1, fmt.Errorf("not installed: %s", strings.Join(missing, ", "))
	}
	runtime.LockOSThread() // Pdeathsig is sent when the thread dies that made the child
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 1, err
}

// prepare makes a machine of the namespaces.
func prepare() error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"private mounts", func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") }},
		{"/proc", func() error { return syscall.Mount("proc", "/proc", "proc", 0, "") }},
		{runDir, func() error { return syscall.Mount("tmpfs", runDir, "tmpfs", 0, "mode=755") }},
		{"/run/dbus", func() error { return os.MkdirAll(runDir+"/dbus", 0o755) }},
		{"/run/avahi-daemon", func() error { return os.MkdirAll(runDir+"/avahi-daemon", 0o755) }},
		{"host name", func() error { return syscall.Sethostname([]byte("box")) }},
		{"loopback", func() error { return command("ip", "link", "set", "lo", "up").run() }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
