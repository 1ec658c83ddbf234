package box

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/provisioning/durable"
	"sportello.example/sync/event"
)

// timeFile holds the latest time that the hub has said, about: when the box starts without a battery, it knows at least
// that it is later.
const timeFile = "time"

// readTime returns what writeTime has written, the zero time when there is nothing that can be read.
func readTime(dir string) time.Time {
	b, err := os.ReadFile(filepath.Join(dir, timeFile))
	if err != nil || len(b) > 100 {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil {
		return time.Time{}
	}
	return t
}

func writeTime(dir string, t time.Time) error {
	return durable.Write(filepath.Join(dir, timeFile), []byte(t.UTC().Format(time.RFC3339)+"\n"))
}

// hubSaid takes up what the hub says of the time.
func (q *queue) hubSaid(ctx context.Context, t time.Time, took time.Duration) {
	q.contact.Store(q.now().Unix())
	set, changed := q.clock.HubSaid(t, took)
	if changed {
		if d := set.New.Sub(set.Old); d.Abs() > clock.Believable {
			q.log.WarnContext(ctx, "the clock was wrong: events are dated by the hub's", "was", set.Old, "is", set.New)
		}
		q.untold.Store(true)
	}
	if q.untold.Load() {
		q.tellTime(ctx)
	}
}

// tellTime stores what the clock has learned: the hub dates by it what was stored before. The queue says it again to
// every new epoch by itself.
func (q *queue) tellTime(ctx context.Context) {
	set, known := q.clock.Last()
	if !known {
		return
	}
	set.Boot = q.Boot()
	if err := q.Enqueue(ctx, event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &set}}); err != nil {
		if !q.said.Swap(true) { // it is tried again with every word of the hub
			q.log.ErrorContext(ctx, "event not stored", "kind", event.ClockSet, "err", err)
		}
		return
	}
	q.untold.Store(false)
	q.said.Store(false)
	q.waits()
}
