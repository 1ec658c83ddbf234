package clock_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/sync/envelope"
	"sportello.example/sync/health"
)

var built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// machine is a machine whose wall clock somebody else sets. Fake time begins in 2000.
type machine struct{ moved time.Duration }

func (m *machine) now() time.Time { return time.Now().Add(m.moved).Round(0) }

func (m *machine) set(t time.Time) { m.moved = time.Until(t) }

// run gives f a clock in fake time, of a machine that shows t.
func run(t *testing.T, at time.Time, f func(t *testing.T, m *machine, c *clock.Clock, board *health.Board)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		m.set(at)
		board := health.New(m.now)
		f(t, m, clock.New(clock.Config{Now: m.now, Machine: time.Now, Floor: built, Board: board}), board)
	})
}

func TestQuality(t *testing.T) {
	today := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		at   time.Time
		do   func(m *machine, c *clock.Clock)
		want envelope.Quality
		wall time.Time
	}{
		{"plausible", today, func(*machine, *clock.Clock) {}, envelope.Free, today},
		{"wakes up in 1970", time.Unix(0, 0), func(*machine, *clock.Clock) {}, envelope.Unknown, time.Unix(0, 0)},
		{"before something the hub signed", today, func(_ *machine, c *clock.Clock) { c.Passed(today.Add(time.Hour)) }, envelope.Unknown, today},
		{"an older signature changes nothing", today, func(_ *machine, c *clock.Clock) { c.Passed(built.Add(-time.Hour)) }, envelope.Free, today},
		{"confirmed", today, func(_ *machine, c *clock.Clock) { c.HubSaid(today, 0) }, envelope.Synced, today},
		{"corrected", time.Unix(0, 0), func(_ *machine, c *clock.Clock) { c.HubSaid(today, 0) }, envelope.Synced, today},
		{"set wrong after it was confirmed", today, func(m *machine, c *clock.Clock) {
			c.HubSaid(today, 0)
			m.set(today.Add(-24 * time.Hour))
		}, envelope.Synced, today},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.at, func(t *testing.T, m *machine, c *clock.Clock, _ *health.Board) {
				tt.do(m, c)
				time.Sleep(90 * time.Second)
				s := c.Stamp(7)
				want := envelope.Stamp{Wall: tt.wall.UTC().Add(90 * time.Second), Boot: 7, Mono: 90 * time.Second, Quality: tt.want}
				if s != want {
					t.Errorf("got %+v, want %+v", s, want)
				}
			})
		})
	}
}

func TestHubSetsTheClock(t *testing.T) {
	run(t, time.Unix(0, 0), func(t *testing.T, _ *machine, c *clock.Clock, board *health.Board) {
		hub := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
		time.Sleep(5 * time.Second)
		if _, ok := c.Last(); ok {
			t.Error("something was learned before anybody said anything")
		}
		set, changed := c.HubSaid(hub, 0)
		if !changed || set.Mono != 5000 || !set.Old.Equal(time.Unix(5, 0)) || !set.New.Equal(hub) {
			t.Errorf("first word: %+v, %v", set, changed)
		}
		time.Sleep(time.Minute)
		for _, tt := range []struct {
			name    string
			off     time.Duration // of what the hub says
			took    time.Duration
			changed bool
		}{
			{"the same", 0, 0, false},
			{"a second off", time.Second, 0, false},
			{"a slow line", -4 * time.Second, 8 * time.Second, false}, // said at once, eight seconds on the way back
			{"off by more than the line can explain", 7 * time.Second, 4 * time.Second, true},
			{"back again", -9 * time.Second, 0, true},
		} {
			_, changed := c.HubSaid(c.Stamp(1).Wall.Add(tt.off-tt.took/2), tt.took)
			if changed != tt.changed {
				t.Errorf("%s: changed %v", tt.name, changed)
			}
		}
		if last, ok := c.Last(); !ok || last.New.Sub(last.Old) != -9*time.Second {
			t.Errorf("last %+v, %v", last, ok)
		}
		if s := board.Status(health.Clock); s.State != health.Down || c.OK() {
			t.Errorf("the machine's clock shows 1970: light %+v, ok %v", s, c.OK())
		}
	})
}

func TestMachinesClock(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	run(t, now, func(t *testing.T, m *machine, c *clock.Clock, board *health.Board) {
		if c.OK() {
			t.Error("believed before anybody has confirmed it")
		}
		if c.Look(); board.Status(health.Clock).State != health.Unknown {
			t.Errorf("light %+v before anybody said anything", board.Status(health.Clock))
		}
		c.HubSaid(now.Add(time.Minute), 0)
		if !c.OK() || !c.HubTime().Equal(now) || board.Status(health.Clock).State != health.Up {
			t.Errorf("a minute off: ok %v, hub's time %s, light %+v", c.OK(), c.HubTime(), board.Status(health.Clock))
		}
		m.set(now.Add(-24 * time.Hour))
		if c.Look(); c.OK() || !c.HubTime().Equal(now.Add(time.Minute)) || board.Status(health.Clock).State != health.Down {
			t.Errorf("a day off: ok %v, hub's time %s, light %+v", c.OK(), c.HubTime(), board.Status(health.Clock))
		}
		m.set(now)
		if c.Look(); !c.OK() || board.Status(health.Clock).State != health.Up {
			t.Errorf("right again: ok %v, light %+v", c.OK(), board.Status(health.Clock))
		}
	})
	run(t, time.Unix(0, 0), func(t *testing.T, m *machine, c *clock.Clock, board *health.Board) {
		if c.Look(); board.Status(health.Clock).State != health.Down || c.Plausible() {
			t.Errorf("light %+v in 1970, plausible %v", board.Status(health.Clock), c.Plausible())
		}
		m.set(now)
		if c.Look(); board.Status(health.Clock).State != health.Unknown || !c.Plausible() {
			t.Errorf("set since: light %+v, plausible %v", board.Status(health.Clock), c.Plausible())
		}
	})
}

func TestFile(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		text string
		want time.Duration
		err  error
	}{
		{"", 0, nil},
		{"+24h\n", 24 * time.Hour, nil},
		{"24h", 24 * time.Hour, nil},
		{"-10y3h", -(10*365*24 + 3) * time.Hour, nil},
		{"1w2d1.5m3s250ms", 9*24*time.Hour + 93*time.Second + 250*time.Millisecond, nil},
		{"2026-11-26T11:00:00+01:00", 24 * time.Hour, nil},
		{"tomorrow", 0, clock.ErrSyntax},
		{"+", 0, clock.ErrSyntax},
		{"24", 0, clock.ErrSyntax},
		{"--24h", 0, clock.ErrSyntax},
		{"1.2.3h", 0, clock.ErrSyntax},
		{"1000y", 0, clock.ErrSyntax},
		{"0001-01-01T00:00:00Z", 0, clock.ErrSyntax},
		{string(make([]byte, 200)), 0, clock.ErrSyntax},
	} {
		t.Run(tt.text, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "clock")
			write(t, path, tt.text, now)
			moved, err := clock.File(path, func() time.Time { return now })
			if !errors.Is(err, tt.err) {
				t.Fatalf("%q: %v, want %v", tt.text, err, tt.err)
			}
			if tt.err == nil && !moved().Equal(now.Add(tt.want)) {
				t.Errorf("%q: %s, want %s later", tt.text, moved(), tt.want)
			}
		})
	}
}

func TestFileIsReadAgain(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "clock")
	moved, err := clock.File(path, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		text string
		want time.Duration
	}{{"+1h", time.Hour}, {"-1h", -time.Hour}, {"rubbish", -time.Hour}, {"2h", 2 * time.Hour}} {
		write(t, path, tt.text, now.Add(time.Duration(i)*time.Second))
		if got := moved().Sub(now); got != tt.want {
			t.Errorf("after %q: %s, want %s", tt.text, got, tt.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !moved().Equal(now) {
		t.Error("moved by a file that is not there any more")
	}
}

func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"+24h", "-10y3h", "2026-11-25T10:00:00Z", "1.5d", "9999999999y", "+", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "clock")
		write(t, path, text, now)
		moved, err := clock.File(path, func() time.Time { return now })
		if err != nil {
			return
		}
		if d := moved().Sub(now); d.Abs() > 250*366*24*time.Hour {
			t.Errorf("%q moves by %s", text, d)
		}
	})
}
