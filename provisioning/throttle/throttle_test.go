package throttle

import (
	"fmt"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	f := &Failures{Now: func() time.Time { return now }, Max: 3, Window: time.Minute}
	for i := range 3 {
		if f.Blocked("a") {
			t.Errorf("blocked after %d failures", i)
		}
		f.Add("a")
	}
	if !f.Blocked("a") || f.Blocked("b") {
		t.Errorf("after 3 failures of a: a blocked %v, b blocked %v", f.Blocked("a"), f.Blocked("b"))
	}
	now = now.Add(time.Minute)
	if f.Blocked("a") {
		t.Error("still blocked after the window")
	}
	f.Add("a")
	if f.Blocked("a") {
		t.Error("old failures count")
	}
	f.Add("a")
	f.Add("a")
	now = now.AddDate(-56, 0, 0)
	if f.Blocked("a") {
		t.Error("blocked for 56 years because the clock was set back")
	}
	for i := range 3 * maxKeys {
		f.Add(fmt.Sprint(i))
	}
	if len(f.keys) > maxKeys {
		t.Errorf("%d keys in memory", len(f.keys))
	}
	now = now.Add(time.Hour)
	f.Add("x")
	if len(f.keys) != 1 {
		t.Errorf("%d keys in memory after the window, want 1", len(f.keys))
	}
}
