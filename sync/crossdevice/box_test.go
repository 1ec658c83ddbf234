package crossdevice_test

import (
	"bytes"
	"errors"
	"testing"
	"time"
	"unsafe"

	"sportello.example/sync/crossdevice"
)

// clock is a wall clock that can be set, over a monotonic clock that only goes forward, as in a machine.
type clock struct {
	start time.Time
	mono  time.Duration
	set   time.Duration // how far the wall clock was moved without time passing
}

// now returns a time whose two readings disagree, as they do after the wall clock was set. The time package offers no
// way to make one, so this writes the wall reading in place.
func (c *clock) now() time.Time {
	t := c.start.Add(c.mono)
	layout := (*struct {
		wall uint64 // 1 bit "has monotonic", 33 bits seconds, 30 bits nanoseconds
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	layout.wall += uint64(int64(c.set/time.Second)) << 30
	return t
}

func newBox(t *testing.T) (*crossdevice.Box, crossdevice.Keys, *clock) {
	t.Helper()
	k := crossdevice.Derive(bytes.Repeat([]byte{7}, 32), 0xA1, 1)
	c := &clock{start: time.Now()}
	return crossdevice.NewBox(crossdevice.BoxConfig{Number: 0xA1, Epoch: 1, Keys: k, Now: c.now}), k, c
}

func challengeAt(t *testing.T, b *crossdevice.Box, kiosk uint8) crossdevice.Challenge {
	t.Helper()
	c, _, err := b.New(kiosk)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wrongCode(k crossdevice.Keys, c crossdevice.Challenge) string {
	for _, s := range []string{"00000000", "11111111", "22222222"} {
		if s != crossdevice.Code(k, c, 2) && s != crossdevice.Code(k, c, 3) {
			return s
		}
	}
	return ""
}

func TestEnter(t *testing.T) {
	type env struct {
		b *crossdevice.Box
		k crossdevice.Keys
		c *clock
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, e env) error
		want error
	}{
		{"right code", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			level, got, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			if level != 2 || got != c {
				t.Errorf("got level %d of %+v, want 2 of %+v", level, got, c)
			}
			if v, ok := e.b.Verified(2); !ok || v != c {
				t.Errorf("verified: %+v, %v", v, ok)
			}
			return err
		}, nil},
		{"code of a login of level 3", func(t *testing.T, e env) error {
			level, _, err := e.b.Enter(2, crossdevice.Code(e.k, challengeAt(t, e.b, 2), 3))
			if level != 3 {
				t.Errorf("got level %d, want 3", level)
			}
			return err
		}, nil},
		{"code typed with spaces", func(t *testing.T, e env) error {
			code := crossdevice.Spaced(crossdevice.Code(e.k, challengeAt(t, e.b, 2), 2))
			_, _, err := e.b.Enter(2, " "+code+" ")
			return err
		}, nil},
		{"code of a login of level 1", func(t *testing.T, e env) error {
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, challengeAt(t, e.b, 2), 1))
			return err
		}, crossdevice.ErrWrong},
		{"second use", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, crossdevice.ErrNone},
		{"another kiosk", func(t *testing.T, e env) error {
			_, _, err := e.b.Enter(1, crossdevice.Code(e.k, challengeAt(t, e.b, 2), 2))
			return err
		}, crossdevice.ErrNone},
		{"another kiosk with a challenge of its own", func(t *testing.T, e env) error {
			challengeAt(t, e.b, 1)
			_, _, err := e.b.Enter(1, crossdevice.Code(e.k, challengeAt(t, e.b, 2), 2))
			return err
		}, crossdevice.ErrWrong},
		{"the challenge before", func(t *testing.T, e env) error {
			old := challengeAt(t, e.b, 2)
			challengeAt(t, e.b, 2)
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, old, 2))
			return err
		}, crossdevice.ErrWrong},
		{"another box", func(t *testing.T, e env) error {
			other := crossdevice.Derive(bytes.Repeat([]byte{7}, 32), 0xA2, 1)
			_, _, err := e.b.Enter(2, crossdevice.Code(other, challengeAt(t, e.b, 2), 2))
			return err
		}, crossdevice.ErrWrong},
		{"another epoch", func(t *testing.T, e env) error {
			other := crossdevice.Derive(bytes.Repeat([]byte{7}, 32), 0xA1, 2)
			_, _, err := e.b.Enter(2, crossdevice.Code(other, challengeAt(t, e.b, 2), 2))
			return err
		}, crossdevice.ErrWrong},
		{"after a change of epoch", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.b.Rekey(2, crossdevice.Derive(bytes.Repeat([]byte{7}, 32), 0xA1, 2))
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, crossdevice.ErrNone},
		{"just before it expires", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.c.mono += crossdevice.TTL - time.Second
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, nil},
		{"expired", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.c.mono += crossdevice.TTL
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, crossdevice.ErrExpired},
		{"clock set one day on", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.c.set += 24 * time.Hour
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, nil},
		{"clock set one day back", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.c.set -= 24 * time.Hour
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, nil},
		{"expired although the clock was set back", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.c.mono, e.c.set = e.c.mono+crossdevice.TTL, -24*time.Hour
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, crossdevice.ErrExpired},
		{"cancelled", func(t *testing.T, e env) error {
			c := challengeAt(t, e.b, 2)
			e.b.Cancel(2)
			_, _, err := e.b.Enter(2, crossdevice.Code(e.k, c, 2))
			return err
		}, crossdevice.ErrNone},
		{"never asked for", func(t *testing.T, e env) error {
			_, _, err := e.b.Enter(2, "12345678")
			return err
		}, crossdevice.ErrNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, k, c := newBox(t)
			if err := tt.do(t, env{b, k, c}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestThreeWrongCodesKillTheChallenge(t *testing.T) {
	b, k, _ := newBox(t)
	c := challengeAt(t, b, 2)
	for _, left := range []int{2, 1} {
		var wrong *crossdevice.WrongError
		if _, _, err := b.Enter(2, wrongCode(k, c)); !errors.As(err, &wrong) || wrong.Left != left {
			t.Fatalf("got %v, want %d tries left", err, left)
		}
		if _, _, err := b.Enter(2, "123"); !errors.As(err, &wrong) || wrong.Left != left {
			t.Fatalf("a code cut short uses up a try: %v", err)
		}
	}
	if _, _, err := b.Enter(2, wrongCode(k, c)); !errors.Is(err, crossdevice.ErrDead) {
		t.Fatalf("third: got %v, want ErrDead", err)
	}
	if _, _, err := b.Enter(2, crossdevice.Code(k, c, 2)); !errors.Is(err, crossdevice.ErrDead) {
		t.Fatalf("right code too late: got %v, want ErrDead", err)
	}
}

func TestNineWrongCodesLockTheKiosk(t *testing.T) {
	b, k, clk := newBox(t)
	tries := 0
	for range 20 {
		c, _, err := b.New(3)
		if err != nil {
			break
		}
		for range 5 {
			if _, _, err := b.Enter(3, wrongCode(k, c)); errors.Is(err, crossdevice.ErrWrong) {
				tries++
			} else if errors.Is(err, crossdevice.ErrDead) || errors.Is(err, crossdevice.ErrLocked) {
				tries++
				break
			}
			clk.mono += time.Second
		}
	}
	if tries != 9 || !b.Locked(3) {
		t.Fatalf("%d tries, locked %v; want 9, true", tries, b.Locked(3))
	}
	if _, _, err := b.New(3); !errors.Is(err, crossdevice.ErrLocked) {
		t.Errorf("new challenge: got %v, want ErrLocked", err)
	}
	if _, _, err := b.New(4); err != nil {
		t.Errorf("another kiosk: %v", err)
	}
	clk.set = 24 * time.Hour
	if !b.Locked(3) {
		t.Error("setting the clock unlocks the kiosk")
	}
	t.Run("time unlocks it", func(t *testing.T) {
		clk.mono += 30 * time.Minute
		if _, _, err := b.New(3); err != nil {
			t.Error(err)
		}
	})
}

func TestStaffUnlocksTheKiosk(t *testing.T) {
	b, k, _ := newBox(t)
	for range 3 {
		c := challengeAt(t, b, 1)
		for range 3 {
			b.Enter(1, wrongCode(k, c))
		}
	}
	if !b.Locked(1) {
		t.Fatal("not locked")
	}
	b.Unlock(1)
	c := challengeAt(t, b, 1)
	if _, _, err := b.Enter(1, crossdevice.Code(k, c, 2)); err != nil {
		t.Error(err)
	}
}

func TestChallengeCarriesNoTimeWhenTheClockIsNotBelieved(t *testing.T) {
	k := crossdevice.Derive(bytes.Repeat([]byte{7}, 32), 1, 1)
	b := crossdevice.NewBox(crossdevice.BoxConfig{Number: 1, Epoch: 1, Keys: k, Now: time.Now, ClockOK: func() bool { return false }})
	if c := challengeAt(t, b, 1); c.T != 0 {
		t.Errorf("T is %d", c.T)
	}
	if left := b.Left(1); left <= crossdevice.TTL-time.Minute || left > crossdevice.TTL {
		t.Errorf("%v left", left)
	}
}
