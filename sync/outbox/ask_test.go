package outbox_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// A hub that is put back to a backup lacks what it has acknowledged. Chains that get no new event tell it all the same.
func TestAsk(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(g *rig)
	}{
		{"when the line comes back", func(g *rig) { g.relay.LineUp() }},
		{"within the hour", func(*rig) { time.Sleep(65 * time.Minute) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relaying(t, func(t *testing.T, g *rig) {
				backup := g.hub.Backup()
				g.Add(envelope.Legal, "consent")
				old := g.Epoch()
				g.relay.LineUp()
				synctest.Wait()
				g.drained(t, 1)
				// The epoch of the consent never gets another event.
				if err := g.Renew(t.Context(), chainOf(old, envelope.Legal), "forked"); err != nil {
					t.Fatal(err)
				}
				g.hub.Restore(backup)
				tt.then(g)
				synctest.Wait()
				g.drained(t, 1)
			})
		})
	}
}

// Something before the hub refuses whatever it is sent, and then only the questions.
func TestRefusedQuestions(t *testing.T) {
	refused := fmt.Errorf("hub answers with status 413: %w", envelope.ErrMalformed)
	t.Run("are not asked all the time", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			for i := range 10 {
				g.Add(envelope.Legal, fmt.Sprint(i))
			}
			g.relay.LineUp()
			synctest.Wait()
			before := g.line.tally()
			g.line.set(func(envelope.Batch, func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				return wire.Reply{}, refused
			})
			g.relay.LineUp()
			time.Sleep(2 * time.Hour)
			if n := g.line.tally() - before; n < 1 || n > 10 {
				t.Errorf("%d requests in two hours", n)
			}
		})
	})
	t.Run("do not hold up events, or make batches small", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			g.Add(envelope.Legal, "before")
			g.relay.LineUp()
			synctest.Wait()
			largest := 0
			g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				for _, run := range b.Runs {
					if len(run.Entries) == 0 {
						return wire.Reply{}, refused
					}
				}
				largest = max(largest, entries(b))
				return next(b), nil
			})
			g.relay.LineUp()
			time.Sleep(time.Minute)
			for i := range 15 {
				g.Add(envelope.Session, fmt.Sprint(i))
			}
			g.relay.Kick()
			time.Sleep(time.Minute)
			g.drained(t, 16)
			if largest != 15 {
				t.Errorf("at most %d events in a batch, want all 15", largest)
			}
		})
	})
	t.Run("nor is one event asked for all the time", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			g.line.set(func(envelope.Batch, func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				return wire.Reply{}, refused
			})
			for i, s := range envelope.Streams() {
				g.Add(s, fmt.Sprint(i))
			}
			before := g.line.tally()
			g.relay.LineUp()
			time.Sleep(2 * time.Hour)
			if n := g.line.tally() - before; n < 5 || n > 250 {
				t.Errorf("%d requests in two hours", n)
			}
		})
	})
}
