package faults_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mountsVar is set in the process that has mounts of its own, to a directory of its parent's.
	mountsVar = "SPORTELLO_TEST_MOUNTS"
	// mountsLast is how long that process may last.
	mountsLast = 5 * time.Minute
)

// ownMounts runs the test again in a process that has mounts of its own, and reports whether this is that process. The
// test must return at once when it is not. With other processes that hold the same mounts, a file system that was cut
// off lives on in theirs.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountsVar) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("cutting the power of a disk needs root")
	}
	// The directory is ours, so that it goes when that process is killed.
	dir := fastDir(t)
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private",
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+mountsLast.String())
	cmd.Env = append(os.Environ(), mountsVar+"="+dir)
	// Killed with us, it lets go of its mounts, and with them of the images in memory.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second // for what it has started itself
	// The signal is sent when the thread ends that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// disk is a file system of its own, on a file.
type disk struct {
	t     *testing.T
	dir   string // where it is mounted
	image string
}

// newDisk makes an ext4 of so many MiB and mounts it, both in the parent's directory. The image is in memory when it can
// be: what is measured is what was synced, not how fast.
func newDisk(t *testing.T, mib int) *disk {
	t.Helper()
	root := os.Getenv(mountsVar)
	d := &disk{t: t, dir: filepath.Join(root, "disk"), image: filepath.Join(root, imageFile)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", d.image)
	d.mount()
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "loop", d.image, d.dir)
}

// unmount waits until those that were killed have let go of it.
func (d *disk) unmount() {
	d.t.Helper()
	var out []byte
	for range 100 {
		var err error
		if out, err = exec.Command("umount", d.dir).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.t.Fatalf("umount: %s", out)
}

// cut cuts the power: whatever is not on the disk now never gets there, not even the journal of the file system
// (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH). Whoever has files open gets errors from now on.
func (d *disk) cut() error {
	const (
		shutdown   = 0x8004587d
		noLogFlush = 2
	)
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	return nil
}

// TestCut shows that the other tests of this kind would notice a queue that does not sync.
func TestCut(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	d := newDisk(t, 64)
	synced, lost := filepath.Join(d.dir, "synced"), filepath.Join(d.dir, "lost")
	for _, path := range []string{synced, lost} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("an event"); err != nil {
			t.Fatal(err)
		}
		if path == synced {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		_ = f.Close()
	}
	if err := d.cut(); err != nil {
		t.Fatal(err)
	}
	d.unmount()
	d.mount()
	if b, err := os.ReadFile(synced); err != nil || string(b) != "an event" {
		t.Errorf("what was synced is gone: %q, %v", b, err)
	}
	if b, err := os.ReadFile(lost); err == nil && len(b) > 0 {
		t.Errorf("what was never synced is there: %q", b)
	}
}
