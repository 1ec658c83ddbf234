package loadtest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Rounds is how many times every comparison is repeated; what counts is the median.
const Rounds = 5

// Ratio is the outcome of a comparison. All but Min and Max are medians.
type Ratio struct {
	X, Min, Max     float64 // ours by reference, in each round by the mean of the two runs around ours
	Ours, Reference float64 // as measured
}

// String returns the ratio as people read it.
func (r Ratio) String() string {
	return fmt.Sprintf("%.2f (%.2f–%.2f): %.5g against %.5g", r.X, r.Min, r.Max, r.Ours, r.Reference)
}

// Sandwich measures reference, ours and reference again, Rounds times, so that a machine which is slower for some
// seconds is slower for both.
func Sandwich(reference, ours func() float64) Ratio {
	var xs, os, rs []float64
	for range Rounds {
		before := reference()
		o := ours()
		after := reference()
		r := (before + after) / 2
		xs, os, rs = append(xs, o/r), append(os, o), append(rs, before, after)
	}
	return Ratio{X: Median(xs), Min: slices.Min(xs), Max: slices.Max(xs), Ours: Median(os), Reference: Median(rs)}
}

// Median returns the middle of vs, which it sorts.
func Median[T cmp.Ordered](vs []T) T { return Quantile(vs, 0.5) }

// Quantile returns the value below which the part q of vs lies. It sorts vs, which must not be empty.
func Quantile[T cmp.Ordered](vs []T, q float64) T {
	slices.Sort(vs)
	return vs[min(len(vs)-1, int(q*float64(len(vs))))]
}

// Rate returns how many of n a second do does.
func Rate(n int, do func()) float64 {
	start := time.Now()
	do()
	return float64(n) / time.Since(start).Seconds()
}

// WrittenBytes returns how many bytes this process has caused to be written to disks, -1 when the system does not say.
func WrittenBytes() int64 { return field("/proc/self/io", "write_bytes:") }

// RSS returns how much memory a process has, in bytes, -1 when the system does not say.
func RSS(pid string) int64 {
	kb := field("/proc/"+pid+"/status", "VmRSS:")
	return max(-1, kb*1024)
}

func field(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return -1
			}
			return n
		}
	}
	return -1
}

// CPU returns how much processor time the process pid and those it has started have used so far. Those are counted that
// still run or that were waited for.
func CPU(pid int) time.Duration {
	sum := stat(strconv.Itoa(pid), true)
	all, err := os.ReadDir("/proc")
	if err != nil {
		return sum
	}
	for _, d := range all {
		if f := fields(d.Name()); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			sum += stat(d.Name(), false)
		}
	}
	return sum
}

// fields returns what /proc says of a process, after its name.
func fields(pid string) []string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// tick is the unit of /proc/…/stat: USER_HZ is 100 on every platform of ours.
const tick = 10 * time.Millisecond

func stat(pid string, children bool) (sum time.Duration) {
	f := fields(pid)
	to := 13
	if children {
		to = 15
	}
	for i := 11; i < to && i < len(f); i++ {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err == nil {
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// Size returns how many bytes the files under dir hold.
func Size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that has just gone takes no room
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// Monotonic returns a time that all processes of the machine share and nobody sets.
func Monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: the clock is there and the memory is ours
	return ts.Nano()
}
