package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var (
	errPart    = errors.New("a part does not run as it should")
	errUnknown = errors.New("there is no such thing to switch")
)

// stopGrace is how long a part may take to end by itself: a print in flight is finished or journalled first.
const stopGrace = 8 * time.Second

// A launcher starts processes that die with this one. Linux sends the signal for that (PR_SET_PDEATHSIG) when the
// thread that started the child ends, so one goroutine that keeps its thread starts them all.
type launcher struct {
	jobs chan func()
	done chan struct{}
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer close(l.done)
		for f := range l.jobs {
			f()
		}
	}()
	return l
}

func (l *launcher) start(cmd *exec.Cmd) error {
	result := make(chan error)
	l.jobs <- func() { result <- cmd.Start() }
	return <-result
}

// Close ends the launcher; what it started is dead then, or dies.
func (l *launcher) Close() {
	close(l.jobs)
	<-l.done
}

// A part is one of the processes of the demo. It may be stopped, killed and started again.
type part struct {
	name     string
	launcher *launcher
	program  string
	args     []string
	env      []string
	logDir   string
	echo     io.Writer // also gets what the part says; nil: nobody
	now      func() time.Time

	mu      sync.Mutex // guards the fields that follow
	cmd     *exec.Cmd
	done    chan struct{} // closed when cmd has ended
	ending  bool          // cmd ends because it was told to
	fell    int           // how often it ended without being told to
	started time.Time
}

// partStatus is what the console says of a part.
type partStatus struct {
	Name    string    `json:"name"`
	Running bool      `json:"running"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	RSSKiB  int       `json:"rss_kib,omitempty"` // resident memory, 0 when the system does not say
	Fell    int       `json:"fell"`              // how often it ended without being told to
}

// Start starts the part; one that runs already stays as it is. It does not wait until the part is ready.
func (p *part) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return nil
	}
	out, err := os.OpenFile(filepath.Join(p.logDir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	var w io.Writer = out
	if p.echo != nil {
		w = io.MultiWriter(out, &prefixed{w: p.echo, prefix: p.name + ": "})
	}
	cmd := exec.CommandContext(context.Background(), p.program, p.args...) // it lives longer than whoever starts it
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = dieWithParent()
	cmd.WaitDelay = 2 * time.Second // a grandchild may hold the pipe
	if err := p.launcher.start(cmd); err != nil {
		_ = out.Close()
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.ending, p.started = cmd, done, false, p.now()
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		_ = out.Close()
		p.mu.Lock()
		if !p.ending {
			p.fell++
		}
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

// running says whether the process lives. The caller holds the lock.
func (p *part) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the part to end and waits until it has; what does not end within stopGrace is killed.
func (p *part) Stop() { p.end(syscall.SIGTERM) }

// Kill ends the part as a pulled plug would.
func (p *part) Kill() { p.end(syscall.SIGKILL) }

func (p *part) end(sig syscall.Signal) {
	p.mu.Lock()
	if !p.running() {
		p.mu.Unlock()
		return
	}
	p.ending = true
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	select {
	case <-done:
	case <-time.After(stopGrace):
		_ = cmd.Process.Kill()
		<-done
	}
}

// Done returns a channel that is closed when the process that runs now has ended.
func (p *part) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Status says how the part is.
func (p *part) Status() partStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := partStatus{Name: p.name, Running: p.running(), Fell: p.fell}
	if s.Running {
		s.PID, s.Since = p.cmd.Process.Pid, p.started
		s.RSSKiB = rss(s.PID)
	}
	return s
}

// Ready waits until ok says so, for as long as limit. A part that ends before it is ready is an error that matches errPart.
func (p *part) Ready(ctx context.Context, limit time.Duration, ok func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := p.Done()
	for !ok(ctx) {
		select {
		case <-done:
			return fmt.Errorf("%w: %s has ended: %s", errPart, p.name, p.lastWords())
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return fmt.Errorf("%w: %s is not ready after %s: %s", errPart, p.name, limit, p.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// lastWords returns the end of the part's log, for an error message.
func (p *part) lastWords() string {
	b, err := os.ReadFile(filepath.Join(p.logDir, p.name+".log"))
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return "it said nothing"
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | ")))
}

// rss returns the resident memory of a process in KiB, as /proc says it; 0 elsewhere.
func rss(pid int) int {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return 0
	}
	return pages * os.Getpagesize() / 1024
}

// prefixed puts a name before every line.
type prefixed struct {
	w      io.Writer
	prefix string
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 && len(p.rest) < 64<<10 {
			return len(b), nil
		}
		if i < 0 {
			i = len(p.rest) - 1
		}
		if _, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, bytes.TrimRight(p.rest[:i+1], "\n")); err != nil {
			return 0, fmt.Errorf("log: %w", err)
		}
		p.rest = p.rest[i+1:]
	}
}
