package outbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
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
