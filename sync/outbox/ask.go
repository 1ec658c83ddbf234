package outbox

import (
	"context"
	"fmt"
	"time"

	"sportello.example/sync/envelope"
)

// A hub that was restored from a backup may lack what it has acknowledged, and a chain without new events would never
// learn of it: the epoch before, the consent of last week. So the relay asks about chains that have nothing to deliver
// too, with runs that have no entries, whenever the line comes back and once an hour. The answer is an acknowledgement
// as for any run: the cursor may go back, and what has got into a backup meanwhile may be forgotten.

// askEvery is how often the relay asks while the line is up.
const askEvery = time.Hour

// ask adds to b runs without entries, of chains that have nothing to deliver.
func (r *Relay) ask(ctx context.Context, b *batch) error {
	idle, err := r.queue.Idle(ctx)
	if err != nil {
		return fmt.Errorf("read queue: %w", err)
	}
	for i := range idle {
		if len(b.parts) >= envelope.MaxRuns {
			return nil
		}
		c := idle[(r.asked+i)%len(idle)] // when there are very many, others have their turn the next time
		head, known, err := r.queue.HashAt(ctx, c.Chain, c.Cursor)
		if err != nil {
			return fmt.Errorf("read queue: %w", err)
		}
		if known {
			b.parts = append(b.parts, part{c, envelope.Run{Chain: c.Chain, First: c.Cursor + 1, Prev: head, Head: head}})
			b.asked++
		}
	}
	return nil
}

// asks reports whether the part only asks.
func (p part) asks() bool { return len(p.run.Entries) == 0 }
