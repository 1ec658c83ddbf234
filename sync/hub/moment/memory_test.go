package moment_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Moments(t, func(_ *testing.T, now func() time.Time) moment.Store { return moment.New(now) })
}

// A space of many entries without parts, all of which come, change and go: each must cost the same.
func TestManyEntries(t *testing.T) {
	const n = 20_000
	at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	m, sp := moment.New(func() time.Time { return at }), moment.Space{Name: "spid", Total: n}
	set := func(i int, until time.Time) error {
		return m.Change(t.Context(), sp, strconv.Itoa(i), func(e *moment.Entry, _ bool) error {
			e.Until = until
			return nil
		})
	}
	begin := time.Now()
	for i := range n {
		if err := set(i, at.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n { // a flood that there is no room for
		if err := set(n+i, at.Add(time.Minute)); !errors.Is(err, moment.ErrFull) {
			t.Fatalf("one too many: %v", err)
		}
	}
	for i := range n {
		if err := set(i, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	for i := range n {
		if err := set(i, at.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	at = at.Add(time.Minute)
	if err := set(n, at.Add(time.Minute)); err != nil {
		t.Errorf("when the others are over: %v", err)
	}
}
