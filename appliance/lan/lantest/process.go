//go:build linux

package lantest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// cmd is a program that is run to its end.
type cmd struct {
	*exec.Cmd
	out bytes.Buffer
}

func command(args ...string) *cmd {
	c := &cmd{Cmd: exec.Command(args[0], args[1:]...)}
	c.Stdout, c.Stderr = &c.out, &c.out
	return c
}

func (c *cmd) run() error {
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, c.out.String())
	}
	return nil
}

// process is a daemon. Its children are in its process group.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// background starts a program whose output goes to the file log, which begins empty.
func background(log string, env, args []string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	p := &process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // that it was killed is no news
		close(p.done)
	}()
	return p, nil
}

func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) { _ = syscall.Kill(p.cmd.Process.Pid, s) }

// kill ends the program and its children at once.
func (p *process) kill() {
	if p.alive() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// end asks the program to end, and waits until it has.
func (p *process) end() {
	if !p.alive() {
		return
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

// startLimit is how long a daemon may take to be ready on a busy machine.
const startLimit = 30 * time.Second

// await waits until ok, for as long as p runs.
func (p *process) await(what, log string, ok func() bool) error {
	for end := time.Now().Add(startLimit); !ok(); time.Sleep(10 * time.Millisecond) {
		if p.alive() && time.Now().Before(end) {
			continue
		}
		said, err := os.ReadFile(log)
		return errors.Join(fmt.Errorf("%s is not ready: %s", what, said), err)
	}
	return nil
}
