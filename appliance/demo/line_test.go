package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echoes starts a server that sends every line back.
func echoes(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return ln.Addr().String()
}

func testLine(t *testing.T) *line {
	t.Helper()
	l, err := newLine(echoes(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// call dials, says something, and returns what comes back and how long that took.
func call(t *testing.T, addr string) (time.Duration, error) {
	t.Helper()
	start := time.Now()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintln(c, "ciao"); err != nil {
		return 0, err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && got != "ciao\n" {
		err = fmt.Errorf("got %q", got)
	}
	return time.Since(start), err
}

func TestLine(t *testing.T) {
	t.Run("carries both ways", func(t *testing.T) {
		if _, err := call(t, testLine(t).addr); err != nil {
			t.Error(err)
		}
	})
	t.Run("cut, it refuses new calls", func(t *testing.T) {
		l := testLine(t)
		if err := l.Set(lineCut); err != nil {
			t.Fatal(err)
		}
		if _, err := call(t, l.addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want connection refused", err)
		}
	})
	t.Run("cut, it resets calls that are under way", func(t *testing.T) {
		l := testLine(t)
		c, err := net.Dial("tcp", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		_, _ = fmt.Fprintln(c, "ciao")
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := l.Set(lineCut); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := r.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	})
	t.Run("mended, it is where it was", func(t *testing.T) {
		l := testLine(t)
		for _, s := range []lineState{lineCut, lineUp, lineCut, lineSlow, lineUp} {
			if err := l.Set(s); err != nil {
				t.Fatal(err)
			}
			if l.State() != s {
				t.Errorf("got %s, want %s", l.State(), s)
			}
		}
		if _, err := call(t, l.addr); err != nil {
			t.Error(err)
		}
	})
	t.Run("slow, an answer takes 800 ms longer", func(t *testing.T) {
		l := testLine(t)
		if err := l.Set(lineSlow); err != nil {
			t.Fatal(err)
		}
		if took, err := call(t, l.addr); err != nil || took < 2*slowDelay {
			t.Errorf("got %s, %v, want at least %s", took, err, 2*slowDelay)
		}
	})
	t.Run("knows no other state", func(t *testing.T) {
		if err := testLine(t).Set("wet"); !errors.Is(err, errUnknown) {
			t.Errorf("got %v, want errUnknown", err)
		}
	})
	t.Run("resets the box when the hub is not there", func(t *testing.T) {
		l, err := newLine("127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if _, err := call(t, l.addr); err == nil {
			t.Error("got an answer from nobody")
		}
	})
}
