package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/sync/hub/moment"
)

// clock is a clock that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time        { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) later(d time.Duration) { c.offset.Add(int64(d)) }

// Moments tests the stores that open makes, each empty.
func Moments(t *testing.T, open func(t *testing.T, now func() time.Time) moment.Store) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, s moment.Store, c *clock)
	}{
		{"an entry is there until it is over", keptUntil},
		{"a secret is over earlier", secretUntil},
		{"what fails changes nothing", unchanged},
		{"taken once", takenOnce},
		{"changes are not lost", notLost},
		{"limits", limits},
		{"room for a new one", room},
		{"who waits is told", told},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &clock{}
			tt.test(t, open(t, c.now), c)
		})
	}
}

var shelf = moment.Space{Name: "shelf"}

func put(t *testing.T, s moment.Store, c *clock, sp moment.Space, key, part, value string) error {
	t.Helper()
	return s.Change(t.Context(), sp, key, func(e *moment.Entry, _ bool) error {
		e.Part, e.Value, e.Until = part, []byte(value), c.now().Add(time.Minute)
		return nil
	})
}

func keptUntil(t *testing.T, s moment.Store, c *clock) {
	read := func(sp moment.Space, key, want string) {
		t.Helper()
		e, err := s.Read(t.Context(), sp, key)
		if want == "" && !errors.Is(err, moment.ErrNone) || want != "" && (err != nil || string(e.Value) != want) {
			t.Errorf("%s: got %q, %v, want %q", key, e.Value, err, want)
		}
	}
	read(shelf, "a", "")
	if err := errors.Join(put(t, s, c, shelf, "a", "p", "1"), put(t, s, c, shelf, "b", "p", "2"), put(t, s, c, moment.Space{Name: "other"}, "a", "p", "3")); err != nil {
		t.Fatal(err)
	}
	read(shelf, "a", "1")
	read(shelf, "b", "2")
	read(moment.Space{Name: "other"}, "a", "3")
	c.later(30 * time.Second)
	if err := put(t, s, c, shelf, "a", "ignored", "4"); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Read(t.Context(), shelf, "a"); err != nil || e.Part != "p" {
		t.Errorf("part %q, %v, want the first", e.Part, err)
	}
	c.later(40 * time.Second)
	read(shelf, "a", "4")
	read(shelf, "b", "")
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(shelf, "a", "4")
	c.later(time.Minute)
	err := s.Change(t.Context(), shelf, "a", func(e *moment.Entry, there bool) error {
		if there || e.Value != nil {
			t.Errorf("one that is over is handed out: %+v", e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	read(shelf, "a", "")
}

func secretUntil(t *testing.T, s moment.Store, c *clock) {
	err := s.Change(t.Context(), shelf, "a", func(e *moment.Entry, _ bool) error {
		*e = moment.Entry{Value: []byte("v"), Until: c.now().Add(time.Hour), Secret: []byte("s"), SecretUntil: c.now().Add(time.Minute)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Read(t.Context(), shelf, "a"); err != nil || string(e.Secret) != "s" || string(e.Value) != "v" {
		t.Errorf("got %+v, %v", e, err)
	}
	c.later(2 * time.Minute)
	for range 2 {
		if e, err := s.Read(t.Context(), shelf, "a"); err != nil || e.Secret != nil || string(e.Value) != "v" {
			t.Errorf("later: got %+v, %v", e, err)
		}
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func unchanged(t *testing.T, s moment.Store, c *clock) {
	if err := put(t, s, c, shelf, "a", "", "1"); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := s.Change(t.Context(), shelf, "a", func(e *moment.Entry, _ bool) error {
		e.Value[0], e.Until = 'x', time.Time{}
		return boom
	})
	same(t, "Change", err, boom)
	err = s.Add(t.Context(), shelf, "b", moment.Entry{Value: []byte("2"), Until: c.now().Add(time.Minute)}, func(others []moment.Named) ([]string, error) {
		others[0].Value[0] = 'x'
		return []string{"a"}, boom
	})
	same(t, "Add", err, boom)
	if e, err := s.Read(t.Context(), shelf, "a"); err != nil || string(e.Value) != "1" {
		t.Errorf("got %q, %v", e.Value, err)
	}
	if _, err := s.Read(t.Context(), shelf, "b"); !errors.Is(err, moment.ErrNone) {
		t.Errorf("got %v", err)
	}
}

func takenOnce(t *testing.T, s moment.Store, c *clock) {
	if err := put(t, s, c, shelf, "a", "", "1"); err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			got := false
			err := s.Change(t.Context(), shelf, "a", func(e *moment.Entry, there bool) error {
				got = there
				*e = moment.Entry{}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if got {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("taken %d times", taken.Load())
	}
}

func notLost(t *testing.T, s moment.Store, c *clock) {
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Change(t.Context(), shelf, "n", func(e *moment.Entry, _ bool) error {
					e.Value, e.Until = append(e.Value, 'x'), c.now().Add(time.Hour)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if e, err := s.Read(t.Context(), shelf, "n"); err != nil || len(e.Value) != workers*each {
		t.Errorf("%d changes, %v, want %d", len(e.Value), err, workers*each)
	}
}

func limits(t *testing.T, s moment.Store, c *clock) {
	sp := moment.Space{Name: "small", PerPart: 2, Total: 3}
	same(t, "1", put(t, s, c, sp, "1", "a", "x"), nil)
	same(t, "2", put(t, s, c, sp, "2", "a", "x"), nil)
	same(t, "one too many of a part", put(t, s, c, sp, "3", "a", "x"), moment.ErrFull)
	same(t, "one that is there", put(t, s, c, sp, "2", "a", "y"), nil)
	same(t, "another part", put(t, s, c, sp, "3", "b", "x"), nil)
	same(t, "one too many in all", put(t, s, c, sp, "4", "c", "x"), moment.ErrFull)
	same(t, "in another space", put(t, s, c, shelf, "4", "a", "x"), nil)
	c.later(2 * time.Minute)
	same(t, "when the others are over", put(t, s, c, sp, "4", "a", "x"), nil)
}

func room(t *testing.T, s moment.Store, c *clock) {
	sp := moment.Space{Name: "flows", PerPart: 4, Total: 5}
	add := func(key, part string, want []string, drop ...string) error {
		t.Helper()
		return s.Add(t.Context(), sp, key, moment.Entry{Part: part, Value: []byte("v" + key), Until: c.now().Add(time.Minute)}, func(others []moment.Named) ([]string, error) {
			var got []string
			for _, o := range others {
				got = append(got, o.Key)
				if string(o.Value) != "v"+o.Key || o.Part != part {
					t.Errorf("others: got %+v", o)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: others %q, want %q", key, got, want)
			}
			return drop, nil
		})
	}
	same(t, "1", add("1", "a", nil), nil)
	same(t, "2", add("2", "a", []string{"1"}), nil)
	same(t, "3", add("3", "a", []string{"1", "2"}), nil)
	same(t, "4", add("4", "a", []string{"1", "2", "3"}), nil)
	same(t, "too many", add("5", "a", []string{"1", "2", "3", "4"}), moment.ErrFull)
	same(t, "5", add("5", "a", []string{"1", "2", "3", "4"}, "2", "not there"), nil)
	if _, err := s.Read(t.Context(), sp, "2"); !errors.Is(err, moment.ErrNone) {
		t.Errorf("2 is still there: %v", err)
	}
	same(t, "6", add("6", "b", nil), nil)
	same(t, "too many in all", add("7", "b", []string{"6"}), moment.ErrFull)
	c.later(2 * time.Minute)
	same(t, "when all are over", add("8", "a", nil), nil)
	var wg sync.WaitGroup
	var full atomic.Int32
	for i := range 10 {
		wg.Go(func() {
			err := s.Add(t.Context(), sp, fmt.Sprint("x", i), moment.Entry{Part: "c", Until: c.now().Add(time.Minute)}, func([]moment.Named) ([]string, error) { return nil, nil })
			if errors.Is(err, moment.ErrFull) {
				full.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if full.Load() != 6 {
		t.Errorf("%d of 10 found it full, want 6", full.Load())
	}
}

func told(t *testing.T, s moment.Store, c *clock) {
	if err := put(t, s, c, shelf, "a", "", "1"); err != nil {
		t.Fatal(err)
	}
	changed, stop := s.Watch(shelf, "a")
	defer stop()
	_, stopOther := s.Watch(shelf, "a")
	defer stopOther()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Change(context.WithoutCancel(t.Context()), shelf, "a", func(e *moment.Entry, _ bool) error { e.Value = []byte("2"); return nil }); err != nil {
			t.Error(err)
		}
	}()
	limit := time.After(20 * time.Second)
	for {
		e, err := s.Read(t.Context(), shelf, "a")
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Value) == "2" {
			break
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatal("nobody said that the entry had changed")
		}
	}
	<-done
}
