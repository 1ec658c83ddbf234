package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sportello.example/appliance/box"
	"sportello.example/appliance/clock"
)

// build builds the program as a release is built, or with more.
func build(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "appliance")
	out, err := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", path}, args...), ".")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestClockHookIsRefused(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), build(t), "version")
	cmd.Env = append(os.Environ(), clock.Variable+"="+filepath.Join(t.TempDir(), "clock"))
	var said bytes.Buffer
	cmd.Stderr = &said
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("got %v, want exit code 2", err)
	}
	if !bytes.Contains(said.Bytes(), []byte("appliance: error: "+clock.Variable)) || !bytes.Contains(said.Bytes(), []byte("appliance: hint: ")) {
		t.Errorf("it says %q", said.String())
	}
}

func TestClockHook(t *testing.T) {
	program := build(t, "-tags", "clockhook")
	dir := t.TempDir()
	file := filepath.Join(dir, "clock")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--data", filepath.Join(dir, "box"), "--listen", "127.0.0.1:0")...)
		cmd.Env = append(os.Environ(), clock.Variable+"="+file)
		return cmd
	}
	write("yesterday")
	var exit *exec.ExitError
	if err := run("serve").Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("a file that says nothing: %v, want exit code 2", err)
	}
	write("+24h")
	serve := run("serve")
	said, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = serve.Process.Signal(os.Interrupt)
		_ = serve.Wait()
	}()
	for lines := bufio.NewScanner(said); lines.Scan() && !bytes.Contains(lines.Bytes(), []byte("msg=serving")); {
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // or the box would wait for a reader
	ask := func() box.SyncStatus {
		t.Helper()
		out, err := run("sync", "status", "--json").Output()
		var s box.SyncStatus
		if bad := json.Unmarshal(out, &s); bad != nil {
			t.Fatalf("%v, %v: %s", err, bad, out)
		}
		return s
	}
	if off := ask().Time.Sub(time.Now().Add(24 * time.Hour)); off.Abs() > time.Minute {
		t.Errorf("the box is %s off", off)
	}
	write("-56y") // it wakes up in 1970, without having slept
	if s := ask(); time.Until(s.Time.AddDate(56, 0, 0)).Abs() > 30*24*time.Hour || s.Clock == "synced" {
		t.Errorf("the box says %s, %s", s.Time, s.Clock)
	}
}
