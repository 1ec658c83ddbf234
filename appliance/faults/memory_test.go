package faults_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	memory    = "/dev/shm"
	memoryDir = "sportello-faults-" // how names of directories in memory begin
	imageFile = "disk.img"
	leftAfter = time.Hour // longer than a test uses such a directory without a change in it
)

// fastDir returns a directory in memory, if there is one: what is tested is what is written, not how fast. It goes with
// the test. A process with mounts of its own gets one within its parent's.
func fastDir(t testing.TB) string {
	t.Helper()
	root := os.Getenv(mountsVar)
	if root == "" {
		root = memory
		sweep()
	}
	if dir, err := os.MkdirTemp(root, memoryDir); err == nil { //nolint:usetesting // that is not in memory
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

// sweep removes what tests that were killed have left in memory.
var sweep = sync.OnceFunc(func() { sweepBefore(memory, time.Now().Add(-leftAfter)) })

// sweepBefore removes the directories of tests in root that nobody has changed since then. A loop device that holds on to
// an image in one is let go first: its memory would not be free before.
func sweepBefore(root string, then time.Time) {
	dirs, _ := filepath.Glob(filepath.Join(root, memoryDir+"*")) // the pattern is sound
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || info.ModTime().After(then) {
			continue // somebody else has removed it, or uses it
		}
		image := filepath.Join(dir, imageFile)
		if _, err := os.Stat(image); err == nil {
			out, _ := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", image).Output()
			for _, device := range strings.Fields(string(out)) {
				_ = exec.Command("umount", "--all-targets", device).Run()
				_ = exec.Command("losetup", "--detach", device).Run()
			}
		}
		_ = os.RemoveAll(dir)
	}
}

// TestSweep sees that what is old goes, and nothing else does.
func TestSweep(t *testing.T) {
	root, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{memoryDir + "old": 2 * leftAfter, memoryDir + "new": 0, "else": 2 * leftAfter} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, imageFile), []byte("image"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	sweepBefore(root, now.Add(-leftAfter))
	left, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 || left[0].Name() != "else" || left[1].Name() != memoryDir+"new" {
		t.Errorf("left: %v", left)
	}
}
