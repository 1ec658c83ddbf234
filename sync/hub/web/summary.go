package web

import (
	"context"
	"time"

	"sportello.example/sync/hub/stats"
)

const (
	// summaryFor is for how long the figures are shown again without counting.
	summaryFor = 500 * time.Millisecond
	// summaryWithin is how long counting may take.
	summaryWithin = 30 * time.Second
)

// figures counts for the municipality's page, which anybody may load as often as they like: one count at a time, and no
// more than two in a second.
type figures struct {
	reports *stats.Reports
	now     func() time.Time

	turn    chan struct{} // holds one value while somebody uses what follows
	counted bool          // whether there is a last
	at      time.Time     // when last was counted
	last    stats.Summary
}

func newFigures(r *stats.Reports, now func() time.Time) *figures {
	return &figures{reports: r, now: now, turn: make(chan struct{}, 1)}
}

// summary returns the figures of now, or of half a second ago at most. It blocks while they are being counted. Callers
// share what it returns and must not change it.
func (f *figures) summary(ctx context.Context) (stats.Summary, error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return stats.Summary{}, ctx.Err()
	}
	defer func() { <-f.turn }()
	if age := f.now().Sub(f.at); f.counted && age >= 0 && age < summaryFor {
		return f.last, nil
	}
	// Those who wait want the figures too: whose turn it is may leave, counting goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), summaryWithin)
	defer cancel()
	s, err := f.reports.Summary(ctx, summaryDays)
	if err != nil {
		return stats.Summary{}, err
	}
	// The time after counting: else those who waited longer than the figures last would count one after the other.
	f.at, f.last, f.counted = f.now(), s, true
	return s, nil
}
