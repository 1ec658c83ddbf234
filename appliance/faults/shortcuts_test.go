package faults_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestShortcuts makes three tempting mistakes, each with one word of the hub changed on its way to the box, and sees that
// the machine of TestMachine finds every one of them.
func TestShortcuts(t *testing.T) {
	if raced {
		t.Log("not tested under the race detector, but in the run without it: this is about the machine, not about races")
		return
	}
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s", "rapid.checks": "2000"} {
		setFlag(t, name, value)
	}
	for _, cut := range []shortcut{ackHighest, deleteAtAck, numbersAlone} {
		t.Run(string(cut), func(t *testing.T) {
			root := fastDir(t)
			r := &recorder{T: t}
			var wg sync.WaitGroup
			wg.Go(func() { rapid.Check(r, func(rt *rapid.T) { schedule(t, rt, root, cut) }) })
			wg.Wait()
			if !r.failed {
				t.Errorf("nobody notices when %s", cut)
			}
			t.Logf("%.300s", r.said)
		})
	}
}

// recorder is a test that is expected to fail.
type recorder struct {
	*testing.T
	failed bool
	said   string
}

func (r *recorder) Fail()        { r.failed = true }
func (r *recorder) Failed() bool { return r.failed }
func (r *recorder) FailNow() {
	r.failed = true
	runtime.Goexit()
}
func (r *recorder) Log(args ...any)              { r.said += fmt.Sprintln(args...) }
func (r *recorder) Logf(f string, args ...any)   { r.said += fmt.Sprintf(f, args...) + "\n" }
func (r *recorder) Error(args ...any)            { r.Log(args...); r.Fail() }
func (r *recorder) Errorf(f string, args ...any) { r.Logf(f, args...); r.Fail() }
func (r *recorder) Fatal(args ...any)            { r.Log(args...); r.FailNow() }
func (r *recorder) Fatalf(f string, args ...any) { r.Logf(f, args...); r.FailNow() }
