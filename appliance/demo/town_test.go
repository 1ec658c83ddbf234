package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sportello.example/appliance/raster"
)

// TestMain lets the test binary be every part of the demo: the stage starts os.Executable with the name of a part.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"box", "hub", "idp", "registry", "printer", "raster"}, os.Args[1]) {
		main()
		return
	}
	code := m.Run()
	if dir, err := engine(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// engine compiles the PDF engine once for all towns: with the race detector that takes half a minute of a busy machine,
// and it is not what the tests are about.
var engine = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sportello-engine-")
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return dir, (&raster.Rasteriser{Command: []string{self, "raster"}, CacheDir: dir}).Warm(ctx)
})

// town starts a whole demo on free ports, and stops it when the test ends.
func town(t testing.TB) *stage {
	t.Helper()
	o := options{kiosk: "127.0.0.1:0", hub: "127.0.0.1:0", console: "127.0.0.1:0", stdout: io.Discard, stderr: os.Stderr}
	s, err := newStage(o, t.TempDir(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	for _, cache := range []string{filepath.Join(s.dir, "box", "cache", "pdf"), filepath.Join(s.dir, "tray")} {
		if err := os.CopyFS(cache, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	con, err := newConsole(s, s.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		close(done)
		t.Fatal(err)
	}
	go func() {
		done <- together(ctx,
			func(ctx context.Context) error { return serveOn(ctx, s.kioskLn, s.tap) },
			func(ctx context.Context) error { return serveOn(ctx, s.consoleLn, con.Handler()) },
			s.watch)
	}()
	if err := s.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// turn turns a switch of the console and turns it back when the test ends.
func turn(t *testing.T, s *stage, name, to string) {
	t.Helper()
	if err := s.Switch(t.Context(), name, to); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("%s did not come within %s", what, limit)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lineIs waits until the box has noticed how the line is.
func lineIs(t *testing.T, s *stage, want string) {
	t.Helper()
	eventually(t, 20*time.Second, "the box noticing that the line is "+want, func() bool {
		return string(s.State(t.Context()).Box.Lights["hub"].State) == want
	})
}

// citizen returns the first citizen that ok picks.
func citizen1(t *testing.T, ok func(person) bool) person {
	t.Helper()
	all := citizens()
	i := slices.IndexFunc(all, ok)
	if i < 0 {
		t.Fatal("no such citizen")
	}
	return all[i]
}
