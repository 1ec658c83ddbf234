package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestKeepTime lets the clock of a box jump about while the hub has ten events that are in no backup.
func TestKeepTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	type step struct {
		at      time.Time
		quality envelope.Quality
		ack     uint64 // 0: none
		kept    int
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"woke up in 1970", []step{
			{time.Unix(100, 0), envelope.Unknown, 10, 10},
			{now, envelope.Synced, 0, 10},
			{now.Add(29 * day), envelope.Synced, 0, 10},
			{now.Add(31 * day), envelope.Synced, 0, 0},
		}},
		{"woke up in 1970 and nobody said more than that it is later", []step{
			{time.Unix(100, 0), envelope.Unknown, 10, 10},
			{now, envelope.Free, 0, 10},
			{now.Add(90 * day), envelope.Free, 0, 10},
			{now.Add(90 * day), envelope.Synced, 0, 10},
			{now.Add(121 * day), envelope.Synced, 0, 0},
		}},
		{"somebody sets it to 2036 and back", []step{
			{now, envelope.Synced, 10, 10},
			{now.AddDate(10, 0, 0), envelope.Free, 0, 10},
			{time.Unix(100, 0), envelope.Unknown, 0, 10},
			{now.Add(2 * day), envelope.Synced, 0, 10},
			{now.Add(31 * day), envelope.Synced, 0, 0},
		}},
		{"acknowledged in 2036", []step{
			{now.AddDate(10, 0, 0), envelope.Free, 10, 10},
			{now, envelope.Synced, 0, 10},
			{now.Add(31 * day), envelope.Synced, 0, 0},
		}},
		{"the hub itself was in 2036", []step{
			{now.AddDate(10, 0, 0), envelope.Synced, 10, 10},
			{now, envelope.Synced, 0, 10},
			{now.Add(31 * day), envelope.Synced, 0, 0},
		}},
		{"a part when it was certain, a part when it was not", []step{
			{now, envelope.Synced, 4, 4},
			{time.Unix(100, 0), envelope.Unknown, 7, 7},
			{now.Add(40 * day), envelope.Unknown, 10, 10},
			{now.Add(10 * day), envelope.Synced, 0, 10},
			{now.Add(31 * day), envelope.Synced, 0, 6},
			{now.Add(41 * day), envelope.Synced, 0, 0},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, quality := newClock(), envelope.Unknown
			cfg := Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now, Stamp: func(boot uint32) envelope.Stamp {
				return c.stamp(quality)(boot)
			}}
			s := openWith(t, cfg)
			put(t, s, event.PrintDone, 10)
			for i, step := range tt.steps {
				c.pass(step.at.Sub(c.now()))
				quality = step.quality
				if step.ack > 0 {
					if err := s.Acked(t.Context(), present(s, envelope.Legal), step.ack, 0); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Prune(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, kept := numbers(t, s, envelope.Legal); kept != step.kept {
					t.Errorf("step %d: %d events are kept, want %d", i, kept, step.kept)
				}
				shut(t, s)
				s = openWith(t, cfg)
			}
		})
	}
}
