package desired

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory, for fake time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	down bool
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, errors.New("no route to host")
	}
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// inMemory runs test in fake time, with a follower at a hub in memory.
func inMemory(t *testing.T, test func(t *testing.T, h *hub, line *pipes, f *Follower)) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "desired")
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.publish(Document{Version: 1, Expires: time.Now().AddDate(1, 0, 0)})
		line := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{Handler: h}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(line) }()
		transport := &http.Transport{DialContext: line.dial}
		o := h.options(&HTTP{Client: &http.Client{Transport: transport}, Base: "http://hub"})
		o.Dir, o.Log = dir, nil
		r := rand.New(rand.NewPCG(1, 2))
		o.jitter = r.Int64N
		f, stop := follow(t, o)
		test(t, h, line, f)
		stop()
		transport.CloseIdleConnections()
		_ = srv.Close()
		<-served
	})
}

func (h *hub) askedAt() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]time.Time(nil), h.asked...)
}

func TestHeldRequestsFollowEachOther(t *testing.T) {
	inMemory(t, func(t *testing.T, h *hub, _ *pipes, _ *Follower) {
		time.Sleep(24 * time.Hour)
		asked := h.askedAt()
		if n := len(asked); n < 24*3600/55-2 || n > 24*3600/55+10 {
			t.Errorf("%d requests in a day", n)
		}
	})
}

func TestPollsWhenRequestsAreNotHeld(t *testing.T) {
	inMemory(t, func(t *testing.T, h *hub, _ *pipes, f *Follower) {
		h.set(func() { h.hold = false })
		time.Sleep(time.Hour)
		asked := h.askedAt()
		for i, at := range asked[3:] {
			if pause := at.Sub(asked[i+2]); pause < 47*time.Second || pause > 73*time.Second {
				t.Errorf("pause of %v", pause)
			}
		}
		if len(asked) < 45 {
			t.Errorf("%d requests in an hour", len(asked))
		}
		h.publish(Document{Version: 2})
		time.Sleep(73 * time.Second)
		if f.Version() != 2 {
			t.Errorf("at version %d after a poll", f.Version())
		}
	})
}

func TestOutage(t *testing.T) {
	inMemory(t, func(t *testing.T, h *hub, line *pipes, f *Follower) {
		time.Sleep(time.Minute)
		h.set(func() { h.down = true })
		time.Sleep(time.Hour)
		first := len(h.askedAt())
		line.set(true)
		time.Sleep(7 * 24 * time.Hour)
		if got, _, fresh := f.Current(); got.Version != 1 || !fresh {
			t.Errorf("after a week: %+v, %v", got, fresh)
		}
		h.publish(Document{Version: 2})
		h.set(func() { h.down = false })
		line.set(false)
		time.Sleep(5*time.Minute + time.Second) // the longest pause
		if f.Version() != 2 {
			t.Errorf("at version %d, 5 minutes after the line is back", f.Version())
		}
		line.set(true)
		h.set(func() { h.down = true; close(h.changed); h.changed = make(chan struct{}) })
		time.Sleep(time.Hour)
		h.publish(Document{Version: 3})
		h.set(func() { h.down = false })
		line.set(false)
		f.LineUp()
		time.Sleep(time.Second)
		if f.Version() != 3 {
			t.Errorf("at version %d, a second after the box heard that the line is back", f.Version())
		}
		if len(h.askedAt()) > first+60 {
			t.Errorf("%d requests", len(h.askedAt()))
		}
	})
}

// TestLineUpGivesUpOldRequests has a request that hangs in a line which swallows packets.
func TestLineUpGivesUpOldRequests(t *testing.T) {
	inMemory(t, func(t *testing.T, h *hub, _ *pipes, f *Follower) {
		time.Sleep(time.Second)
		before := len(h.askedAt())
		f.LineUp()
		time.Sleep(time.Second)
		if n := len(h.askedAt()); n != before+1 {
			t.Errorf("%d requests, not %d", n, before+1)
		}
	})
}

func TestBackoff(t *testing.T) {
	f := &Follower{o: Options{MaxPause: 5 * time.Minute, jitter: rand.New(rand.NewPCG(3, 4)).Int64N}}
	for range 1000 {
		var pause time.Duration
		for n := range 30 {
			next := f.backoff(pause)
			if next < firstPause || next > 5*time.Minute || next > 3*max(pause, firstPause) {
				t.Fatalf("pause %d of %v after %v", n, next, pause)
			}
			pause = next
		}
	}
}

// What the process that is killed needs to know.
const (
	crashBase = "DESIRED_CRASH_BASE"
	crashDir  = "DESIRED_CRASH_DIR"
	crashKey  = "DESIRED_CRASH_KEY"
	crashStep = "DESIRED_CRASH_STEP"
)

// TestMain is a box that dies at a certain step, when it is told so.
func TestMain(m *testing.M) {
	base := os.Getenv(crashBase)
	if base == "" {
		os.Exit(m.Run())
	}
	key, err := hex.DecodeString(os.Getenv(crashKey))
	if err != nil {
		os.Exit(2)
	}
	f, err := New(Options{
		Dir: os.Getenv(crashDir), Box: boxNumber, Now: time.Now, jitter: func(int64) int64 { return 0 },
		Keys:   func() []ed25519.PublicKey { return []ed25519.PublicKey{key} },
		Source: &HTTP{Client: http.DefaultClient, Base: base},
		crash: func(step string) {
			if step == os.Getenv(crashStep) {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = f.Run(context.Background())
}

// TestKilled kills a box at each step of a switch, and at moments that nobody chose: what it has then is the old
// document or the new one, with its files.
func TestKilled(t *testing.T) {
	h := newHub(t)
	src := h.serve()
	plain := &http.Server{Handler: h}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = plain.Serve(ln) }()
	t.Cleanup(func() { _ = plain.Close() })
	o := h.options(src)
	o.Log = nil
	want := map[uint64]string{}
	bodies := map[uint64]string{}
	publish := func(v uint64) {
		body := random(200_000 + int(v))
		b := h.blob("a.bin", body)
		h.publish(Document{Version: v, Content: []Blob{b}, Notices: []Notice{{ID: fmt.Sprint(v), Text: text("Ciao")}}})
		want[v], bodies[v] = b.SHA256, string(body)
	}
	publish(1)
	f, stop := follow(t, o)
	at(t, f, 1)
	stop()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	luck := rand.New(rand.NewPCG(seed, 1))
	have := uint64(1)
	seen := map[string]int{}
	steps := []string{"pending", "fetched", "previous", "switched"}
	for n := range 40 {
		next := have + 1
		publish(next)
		step := "luck"
		if n%2 == 0 {
			step = steps[n/2%len(steps)]
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashBase+"=http://"+ln.Addr().String(), crashDir+"="+o.Dir,
			crashKey+"="+hex.EncodeToString(h.keys()[0]), crashStep+"="+step)
		var out strings.Builder
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if step == "luck" {
			time.Sleep(time.Duration(5+luck.IntN(60)) * time.Millisecond)
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); err == nil || out.Len() > 0 {
			t.Fatalf("step %s: %v: %s", step, err, out.String())
		}
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		got := f.Version()
		if got != have && got != next || len(f.Missing()) != 0 || read(t, f, "a.bin") != bodies[got] {
			t.Fatalf("killed at %s: version %d of %d → %d, missing %q", step, got, have, next, f.Missing())
		}
		if step == "switched" && got != next || (step == "pending" || step == "fetched" || step == "previous") && got != have {
			t.Errorf("killed at %s: version %d of %d → %d", step, got, have, next)
		}
		seen[step+map[bool]string{true: " new", false: " old"}[got == next]]++
		g, stop := follow(t, o) // it goes on
		at(t, g, next)
		stop()
		have = next
	}
	t.Logf("%v", seen)
}
