package dnssd

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs the tests in a network of their own: a loopback interface, and a cable that leads to another machine.
// What other programs on this machine ask and answer by multicast must not decide what these tests see.
func TestMain(m *testing.M) {
	const inside = "SPORTELLO_TEST_NETWORK"
	switch os.Getenv(inside) {
	case "":
		os.Exit(ownNetwork(inside))
	case "ready": // a worker of the fuzzer, which has the environment of the process that began it
		os.Exit(m.Run())
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "eth0", "type", "veth", "peer", "name", "far0"},
		{"addr", "add", "192.0.2.2/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := away.begin(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Tests that run side by side wait; they do not compute.
	flag.Parse()
	if err := errors.Join(os.Setenv(inside, "ready"), flag.Set("test.parallel", "16")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// ownNetwork runs this program again in a new network namespace and returns its exit code. Who is not root needs a user
// namespace for that.
func ownNetwork(inside string) int {
	runtime.LockOSThread() // Pdeathsig is sent when the thread ends, not the process
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=bare")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "a network of its own:", err)
		return 1
	}
}
