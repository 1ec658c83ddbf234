package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Role is what a child process does. Its args come from the parent, lines of commands too; commands ends when the
// parent has closed them or has died, and the child should end then. What it writes to out the parent reads line by
// line.
type Role func(ctx context.Context, args []string, commands <-chan string, out io.Writer) error

const (
	roleVar = "SPORTELLO_TEST_ROLE"
	mark    = "|" // before each line that is for the parent: the testing package writes others
)

// BeChild is the body of a test named TestChild, which a package must have that uses StartChild: a child is the test's
// own program, started again with that one test. It does nothing in a process that is no child.
func BeChild(t *testing.T, roles map[string]Role) {
	name := os.Getenv(roleVar)
	if name == "" {
		return
	}
	role, ok := roles[name]
	if !ok {
		t.Fatalf("no role %q", name)
	}
	commands := make(chan string)
	go func() {
		defer close(commands)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			commands <- in.Text()
		}
	}()
	args := strings.Split(os.Getenv(roleVar+"_ARGS"), "\n")
	if err := role(t.Context(), args, commands, &marked{w: os.Stdout}); err != nil {
		t.Fatal(err)
	}
}

// marked marks whole lines.
type marked struct {
	mu sync.Mutex
	w  io.Writer
}

func (m *marked) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.w.Write(append([]byte(mark), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Child is a child process.
type Child struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	other strings.Builder // what it said that was not for us
	read  chan struct{}   // closed when all that it said has been read
	ended sync.Once
	err   error
}

// StartChild starts a child in a role of the test's package. It is killed when the test ends, or when the test's process
// is killed.
func StartChild(t testing.TB, role string, args ...string) *Child {
	t.Helper()
	return startChild(t, exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=0"), role, args)
}

func startChild(t testing.TB, cmd *exec.Cmd, role string, args []string) *Child {
	t.Helper()
	c := &Child{t: t, cmd: cmd, lines: make(chan string, 1<<20), read: make(chan struct{})}
	cmd.Env = append(os.Environ(), roleVar+"="+role, roleVar+"_ARGS="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // sent when the thread ends that starts it, which are all kept
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.read)
		defer close(c.lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			if line, ok := strings.CutPrefix(r.Text(), mark); ok {
				c.lines <- line
			} else {
				c.other.WriteString(r.Text() + "\n")
			}
		}
	}()
	t.Cleanup(c.Kill)
	return c
}

// PID returns the number of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Next returns the child's next line, false when it has ended.
func (c *Child) Next() (string, bool) {
	line, ok := <-c.lines
	return line, ok
}

// Line returns the child's next line, which must come.
func (c *Child) Line() string {
	c.t.Helper()
	line, ok := <-c.lines
	if !ok {
		c.t.Fatalf("child has ended: %s", c.other.String())
	}
	return line
}

// Ask sends a command and returns the line that answers it.
func (c *Child) Ask(command string) string {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		c.t.Fatalf("child: %v: %s", err, c.other.String())
	}
	return c.Line()
}

// Stop lets the child end and returns with what it failed. Lines that nobody has read can still be read.
func (c *Child) Stop() error {
	c.ended.Do(func() {
		_ = c.in.Close()
		<-c.read
		c.err = c.cmd.Wait()
		if c.err != nil {
			c.err = fmt.Errorf("%w: %s", c.err, c.other.String())
		}
	})
	return c.err
}

// Kill ends the child as a pulled plug would, but for what the system still writes. Lines that nobody has read can
// still be read.
func (c *Child) Kill() {
	c.ended.Do(func() {
		_ = c.cmd.Process.Kill()
		<-c.read // Wait would close the pipe before
		_ = c.cmd.Wait()
	})
}
