package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// shell is a part that runs a script.
func shell(t *testing.T, script string) *part {
	t.Helper()
	l := newLauncher()
	p := &part{name: "shell", launcher: l, program: "/bin/sh", args: []string{"-c", script}, env: os.Environ(), logDir: t.TempDir(), now: time.Now}
	t.Cleanup(func() {
		p.Kill()
		l.Close()
	})
	return p
}

func TestPart(t *testing.T) {
	never := func(context.Context) bool { return false }
	t.Run("runs until it is told to end", func(t *testing.T) {
		p := shell(t, "exec sleep 60")
		for range 2 { // it can be started again
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			if st := p.Status(); !st.Running || st.PID == 0 {
				t.Fatalf("got %+v", st)
			}
			p.Stop()
			if st := p.Status(); st.Running || st.Fell != 0 {
				t.Fatalf("got %+v", st)
			}
		}
	})
	t.Run("starting it twice starts one", func(t *testing.T) {
		p := shell(t, "exec sleep 60")
		if err := errors.Join(p.Start()); err != nil {
			t.Fatal(err)
		}
		pid := p.Status().PID
		if err := p.Start(); err != nil || p.Status().PID != pid {
			t.Errorf("got %v, pid %d, want %d", err, p.Status().PID, pid)
		}
	})
	t.Run("one that falls over is noticed, with its last words", func(t *testing.T) {
		p := shell(t, "echo addio; exit 3")
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		err := p.Ready(t.Context(), 10*time.Second, never)
		if !errors.Is(err, errPart) || !strings.Contains(err.Error(), "addio") {
			t.Errorf("got %v", err)
		}
		if st := p.Status(); st.Running || st.Fell != 1 {
			t.Errorf("got %+v", st)
		}
	})
	t.Run("one that is never ready is given up", func(t *testing.T) {
		p := shell(t, "exec sleep 60")
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.Ready(t.Context(), 200*time.Millisecond, never); !errors.Is(err, errPart) {
			t.Errorf("got %v, want errPart", err)
		}
	})
	t.Run("a program that is not there is an error", func(t *testing.T) {
		p := shell(t, "")
		p.program = "/nonexistent/program"
		if err := p.Start(); err == nil {
			t.Error("it started")
		}
	})
}

func TestPrefixed(t *testing.T) {
	var out bytes.Buffer
	w := &prefixed{w: &out, prefix: "box: "}
	for _, s := range []string{"un", "o\ndue\n", "tre"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	if want := "box: uno\nbox: due\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
