package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// built is the program, as "go build" makes it.
func built(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// anyPorts are flags that take free ports.
var anyPorts = []string{"-kiosk", "127.0.0.1:0", "-hub=127.0.0.1:0", "--console", "127.0.0.1:0"}

// TestCheck runs the check twice in the same folder: the second time the box is a member already and the hub has counted.
func TestCheck(t *testing.T) {
	t.Parallel()
	bin, dir := built(t), t.TempDir()
	// What others leave in the temporary folder of this machine is not the demo's.
	env := append(os.Environ(), "TMPDIR="+t.TempDir())
	check := func(t *testing.T, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, append([]string{"-check", "-dir", dir}, append(anyPorts, args...)...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if want := 2 * min(1, len(args)); cmd.ProcessState.ExitCode() != want { // what is added to the command line is wrong
			t.Errorf("got %v, want exit code %d", err, want)
		}
		return string(out)
	}
	for _, name := range []string{"in a new folder", "in the same folder again"} {
		t.Run(name, func(t *testing.T) {
			if out := check(t); !strings.Contains(out, "all is well") {
				t.Error("the check does not say that all is well")
			}
		})
	}
	t.Run("not with the hub elsewhere than the box knows", func(t *testing.T) {
		if out := check(t, "-hub=127.0.0.2:0"); !strings.Contains(out, "say -hub 127.0.0.1:") {
			t.Error("the demo does not say what to do")
		}
	})
}

// started is a demo that shows its addresses.
type started struct {
	cmd *exec.Cmd
	out *bytes.Buffer
	tmp string // its temporary folder
}

// start runs the demo in a process group of its own until it shows its addresses.
func start(t *testing.T, bin string, args ...string) *started {
	t.Helper()
	s := &started{cmd: exec.Command(bin, append(args, anyPorts...)...), out: &bytes.Buffer{}, tmp: t.TempDir()}
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.tmp)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w := io.Pipe()
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	ready := make(chan struct{})
	go func() {
		buf := make([]byte, 4096)
		for said := false; ; {
			n, err := r.Read(buf)
			s.out.Write(buf[:n])
			if !said && bytes.Contains(s.out.Bytes(), []byte("Ctrl-C")) {
				said = true
				close(ready)
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(90 * time.Second):
		t.Fatal("the demo does not start")
	}
	return s
}

// alone waits until no process of the demo's group is left.
func (s *started) alone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := syscall.Kill(-s.cmd.Process.Pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
	}
	out, _ := exec.Command("ps", "-eo", "pid,ppid,pgid,stat,args").Output()
	t.Errorf("a part is left:\n%s", out)
}

func TestEnd(t *testing.T) {
	bin := built(t)
	t.Run("SIGINT stops every part and removes the folder", func(t *testing.T) {
		s := start(t, bin)
		if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("exit: %v\n%s", err, s.out)
		}
		s.alone(t)
		if left, _ := os.ReadDir(s.tmp); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("a terminal's Ctrl-C reaches all of them at once", func(t *testing.T) {
		s := start(t, bin)
		if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("exit: %v\n%s", err, s.out)
		}
		s.alone(t)
	})
	t.Run("no part outlives a demo that is killed", func(t *testing.T) {
		s := start(t, bin)
		if err := s.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = s.cmd.Wait()
		s.alone(t)
	})
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"-h"}, 0, "-kiosk"},
		{"help names no part", []string{"-help"}, 0, `^(?s:.*)Usage:(?s:.*)$`},
		{"an unknown flag", []string{"-ring"}, 2, "demo: error: .*ring"},
		{"an unknown word", []string{"please"}, 2, "please"},
		{"an address without a port", []string{"-kiosk", "127.0.0.1"}, 2, "-kiosk"},
		{"a port that is none", []string{"-hub=127.0.0.1:http"}, 2, "port"},
		{"a crowd without a check", []string{"-sessions", "10"}, 2, "-sessions"},
		{"an address of the network without -lan", []string{"-kiosk", "0.0.0.0:8080"}, 2, "-lan"},
		{"a name that may be anywhere", []string{"-hub", "example.org:80", "-lan"}, 2, "IP address"},
		{"the console on the network", []string{"-console", "192.0.2.1:80", "-lan"}, 2, "stays on this machine"},
		{"the hub on the network", []string{"-hub", "0.0.0.0:80", "-lan"}, 2, "TLS"},
		{"an address that this machine has not", []string{"-kiosk", "192.0.2.1:80", "-lan"}, 1, "demo: error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), tt.args, &out, &out)
			if code != tt.code || !regexp.MustCompile(tt.says).MatchString(out.String()) {
				t.Errorf("got %d, %s\nwant %d, %s", code, out.String(), tt.code, tt.says)
			}
			for _, part := range []string{"registry ", "raster"} {
				if tt.code == 0 && strings.Contains(out.String(), "\n  "+part) {
					t.Errorf("the help names the part %s", part)
				}
			}
		})
	}
}
