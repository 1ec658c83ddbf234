package clock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Variable is the environment variable that moves a program's clock, for tests of the program from outside. It names a
// file: see File. Only a program built with "-tags clockhook" obeys it; any other refuses to start, so that nobody can
// turn back the time of a box at work by its environment.
const Variable = "SPORTELLO_CLOCK_FILE"

// ErrRefused means that Variable is set and this program was not built to obey it.
var ErrRefused = errors.New(Variable + " is set, and this program was not built for tests")

// ErrSyntax means that a clock file says neither a duration nor a time.
var ErrSyntax = errors.New(`a clock file says how far to move the clock ("+24h", "-10y3h") or what time it is ("2026-11-25T10:00:00Z")`)

// FromEnvironment returns now, moved as the file in value, which is that of Variable, says; "" does not move it. It
// fails with ErrRefused in a program that is not built with the tag clockhook, and with ErrSyntax.
func FromEnvironment(value string, now func() time.Time) (func() time.Time, error) {
	if value == "" {
		return now, nil
	}
	if !hooked {
		return nil, ErrRefused
	}
	return File(value, now)
}

// maxFile bounds what is read of a clock file, in bytes.
const maxFile = 100

// File returns now, moved as a file says. The file holds a distance, in years (of 365 days), weeks, days, hours,
// minutes, seconds and milliseconds: "+24h", "-10y3h", "1w2d"; or a time (RFC 3339), which the clock showed when the
// file was last changed and has counted on from since. Without a file, or with an empty one, the clock is not moved. The
// file is looked at again with every question: a change counts at once, and one that cannot be understood does not
// count. What cannot be understood from the beginning is an error that matches ErrSyntax.
func File(path string, now func() time.Time) (func() time.Time, error) {
	f := &file{path: path, now: now}
	if err := f.look(); err != nil {
		return nil, err
	}
	return f.time, nil
}

type file struct {
	path string
	now  func() time.Time

	mu    sync.Mutex // guards the fields that follow
	seen  time.Time  // when the file was last changed, zero when there was none
	size  int64
	moved time.Duration
}

func (f *file) time() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.look() // the clock stays where it was
	return f.now().Add(f.moved)
}

// look reads the file when it has changed. The caller holds the lock, or is the only one.
func (f *file) look() error {
	st, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.seen, f.size, f.moved = time.Time{}, 0, 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("clock file: %w", err)
	}
	if st.ModTime().Equal(f.seen) && st.Size() == f.size {
		return nil
	}
	b, err := read(f.path)
	if err != nil {
		return fmt.Errorf("clock file: %w", err)
	}
	moved, err := parse(b, st.ModTime())
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.seen, f.size, f.moved = st.ModTime(), st.Size(), moved
	return nil
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(b) > maxFile {
		return "", ErrSyntax
	}
	return string(b), err
}

// units of a distance, longest name first where one begins with another.
var units = []struct {
	name string
	unit time.Duration
}{
	{"ms", time.Millisecond},
	{"y", 365 * 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
}

// maxMove is how far a clock can be moved: as far as a time.Duration goes, with room to count on.
const maxMove = 250 * 365 * 24 * time.Hour

// parse returns how far a clock is to be moved; changed is when the file was.
func parse(text string, changed time.Time) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		d := t.Sub(changed)
		if d.Abs() > maxMove {
			return 0, fmt.Errorf("%w: %q is too far away", ErrSyntax, text)
		}
		return d, nil
	}
	rest, sign := strings.TrimPrefix(text, "+"), 1.0
	if after, ok := strings.CutPrefix(text, "-"); ok {
		rest, sign = after, -1
	}
	sum := 0.0
	for first := true; first || rest != ""; first = false {
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end <= 0 {
			return 0, fmt.Errorf("%w, not %q", ErrSyntax, text)
		}
		n, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, fmt.Errorf("%w, not %q", ErrSyntax, text)
		}
		unit, after, ok := cutUnit(rest[end:])
		if !ok {
			return 0, fmt.Errorf("%w, not %q", ErrSyntax, text)
		}
		sum, rest = sum+n*float64(unit), after
		if sum > float64(maxMove) || math.IsNaN(sum) {
			return 0, fmt.Errorf("%w: %q is too far", ErrSyntax, text)
		}
	}
	return time.Duration(sign * sum), nil
}

func cutUnit(s string) (unit time.Duration, rest string, ok bool) {
	for _, u := range units {
		if rest, ok = strings.CutPrefix(s, u.name); ok {
			return u.unit, rest, true
		}
	}
	return 0, s, false
}
