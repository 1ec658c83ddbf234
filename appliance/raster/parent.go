package raster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// child starts a child process, hands it req and pdf, and takes its answer. When it returns the child is gone.
func (r *Rasteriser) child(ctx context.Context, req request, lim Limits, pdf []byte) (answer, [][]byte, error) {
	req.Bytes, req.CPU = len(pdf), int(max(1, lim.CPU/time.Second))
	head, err := json.Marshal(req)
	if err != nil {
		return answer{}, nil, fmt.Errorf("%w: %w", ErrEngine, err)
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, lim.Wall, ErrLimits)
	defer cancel()

	p, err := r.start(ctx, io.MultiReader(bytes.NewReader(append(head, '\n')), bytes.NewReader(pdf)))
	if err != nil {
		return answer{}, nil, fmt.Errorf("%w: start the child: %w", ErrEngine, err)
	}
	tooFat := p.watch(lim.Memory)
	read := readAnswer
	if req.Op == opPrint {
		read = readPrinted
	}
	ans, pages, readErr := read(p.out)
	ended := errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF)
	if !ended {
		cancel() // whatever else it may be doing, it is not needed any more: this kills it
	}
	waitErr := p.cmd.Wait()
	late := errors.Is(context.Cause(ctx), ErrLimits)
	fat := tooFat()
	switch {
	case readErr == nil:
		return ans, pages, ans.err()
	case whole.Err() != nil:
		return answer{}, nil, whole.Err()
	case fat || late:
		return answer{}, nil, ErrLimits
	case !ended:
		return answer{}, nil, fmt.Errorf("%w: %w", ErrEngine, readErr)
	}
	return answer{}, nil, postMortem(waitErr, p.err.String(), readErr)
}

// process is a running child.
type process struct {
	cmd *exec.Cmd
	out io.Reader
	err *capped
}

// start runs Command with no environment, no open files but three pipes, and, where the kernel allows, no network.
func (r *Rasteriser) start(ctx context.Context, in io.Reader) (*process, error) {
	argv := r.Command
	if len(argv) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		argv = []string{self, "raster"}
	}
	var last error
	for _, attr := range confinements() {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) // CommandContext's end is SIGKILL
		cmd.Env = []string{}
		cmd.Dir = "/"
		cmd.SysProcAttr = attr
		cmd.WaitDelay = time.Second
		cmd.Stdin = in
		errs := &capped{left: 8 << 10}
		cmd.Stderr = errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if last = cmd.Start(); last == nil {
			return &process{cmd: cmd, out: out, err: errs}, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// watch kills the child when it holds more than limit bytes of memory. The function it returns ends the watch and says
// whether that happened.
func (p *process) watch(limit int64) func() bool {
	stop, done := make(chan struct{}), make(chan bool, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				done <- false
				return
			case <-tick.C:
				if resident(p.cmd.Process.Pid) > limit {
					_ = p.cmd.Process.Kill()
					done <- true
					return
				}
			}
		}
	}()
	return func() bool { close(stop); return <-done }
}

// postMortem says why a child died without an answer. Its words may hold something of the document, so they are read
// here and go no further.
func postMortem(wait error, words string, read error) error {
	switch {
	case strings.Contains(words, "out of memory"), strings.Contains(words, "cannot allocate memory"),
		strings.Contains(words, "cpu limit exceeded"), strings.Contains(words, "SIGXCPU"), killed(wait):
		return ErrLimits
	}
	return fmt.Errorf("%w: child ended (%w) without an answer: %w", ErrEngine, orDone(wait), read)
}

func orDone(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// capped keeps the first bytes that are written to it.
type capped struct {
	bytes.Buffer
	left int
}

func (c *capped) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	c.Buffer.Write(b[:n])
	return len(b), nil
}
