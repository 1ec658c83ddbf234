package health_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/health"
)

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.FixedZone("CET", 3600))
	b := health.New(func() time.Time { return now })
	if got := b.Status(health.Hub); got.State != health.Unknown || !got.Since.IsZero() {
		t.Errorf("never set: got %+v", got)
	}
	for _, tt := range []struct {
		state  health.State
		detail string
		since  time.Duration // after 8:00 UTC
	}{
		{health.Down, "refused", 0},
		{health.Down, "refused", 0},
		{health.Down, "timeout", 0}, // another reason, the same outage
		{health.Up, "", 3 * time.Minute},
		{health.Up, "", 3 * time.Minute},
		{health.Slow, "", 5 * time.Minute},
	} {
		b.Set(health.Hub, tt.state, tt.detail)
		want := health.Status{State: tt.state, Detail: tt.detail, Since: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).Add(tt.since)}
		if got := b.Snapshot()[health.Hub]; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		now = now.Add(time.Minute)
	}
	if n := len(b.Snapshot()); n != len(health.Lights()) {
		t.Errorf("snapshot has %d lights, want all %d", n, len(health.Lights()))
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := health.New(time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		w := b.Watch(ctx)
		quiet := func(why string) {
			t.Helper()
			select {
			case <-w:
				t.Errorf("told of a change: %s", why)
			default:
			}
		}
		quiet("nothing happened")
		for range 100 { // nobody is looking: the setter must not wait
			b.Set(health.Printer, health.Down, "jam")
			b.Set(health.Printer, health.Up, "")
		}
		<-w
		quiet("it was told once already")
		b.Set(health.Printer, health.Up, "")
		quiet("nothing changed")
		b.Set(health.Printer, health.Up, "low_toner")
		<-w
		cancel()
		synctest.Wait()
		b.Set(health.Printer, health.Down, "")
		quiet("the watcher has gone")
	})
}

func TestConcurrent(t *testing.T) {
	b := health.New(time.Now)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := b.Watch(ctx)
			for i := range 100 {
				b.Set(health.Disk, []health.State{health.Up, health.Down}[i%2], "")
				b.Snapshot()
			}
			<-w
		})
	}
	wg.Wait()
}
