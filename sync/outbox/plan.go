package outbox

import (
	"context"
	"fmt"

	"sportello.example/sync/envelope"
)

const (
	maxBytes = 4 << 20 // one batch, before it is compressed
	maxLane  = 12      // runs of one stream in a batch: all streams have room in envelope.MaxRuns
)

// part is a run of a batch, and the chain it is of as it was when the batch was made.
type part struct {
	chain Chain
	run   envelope.Run
}

// batch is what is delivered at once.
type batch struct {
	parts   []part
	entries int
	more    bool // more is there than fits
	asked   int  // parts that only ask
}

// lane is a stream with a backlog.
type lane struct {
	stream envelope.Stream
	chains []Chain // oldest epoch first
	queued uint64  // at most: entries may stand for many numbers
}

// room is what there is room for in a batch.
type room struct{ entries, bytes int }

// plan reads a batch of up to n entries out of the queue. The most urgent stream goes first and takes what it needs, but
// for what is reserved for those behind it: half of the batch for legal, a tenth for every other stream. So nothing
// stands before what somebody may have to prove, and nothing starves. Of one stream, older epochs go first.
func (r *Relay) plan(ctx context.Context, n int) (batch, error) {
	chains, err := r.queue.Chains(ctx)
	if err != nil {
		return batch{}, fmt.Errorf("read queue: %w", err)
	}
	lanes := r.lanes(chains, n)
	// A line that does not carry many events does not carry large ones either.
	whole := room{n, max(envelope.MaxEncoded, maxBytes/envelope.MaxEvents*n)}
	left := whole
	var b batch
	for i, l := range lanes {
		mine := left
		for _, behind := range lanes[i+1:] {
			if n < 2*len(lanes) {
				break // too small a batch to share
			}
			reserved := whole.share(behind)
			mine.entries -= reserved.entries
			mine.bytes -= reserved.bytes
		}
		for j, c := range l.chains {
			if j == maxLane || mine.entries <= 0 || mine.bytes <= 0 {
				b.more = true
				break
			}
			run, err := r.queue.Read(ctx, c.Chain, c.Cursor, mine.entries, mine.bytes)
			if err != nil {
				if ctx.Err() != nil {
					return batch{}, err
				}
				// The others must not suffer from it.
				r.watch(c.Chain).strikes = maxStrikes
				r.o.Log.ErrorContext(ctx, "events cannot be read and wait on the box", "chain", c.String(), "after", c.Cursor, "err", err)
				continue
			}
			if len(run.Entries) == 0 {
				continue
			}
			used := size(run)
			mine.entries, mine.bytes = mine.entries-used.entries, mine.bytes-used.bytes
			left.entries, left.bytes = left.entries-used.entries, left.bytes-used.bytes
			b.entries += used.entries
			b.more = b.more || run.Last() < c.Last
			b.parts = append(b.parts, part{c, run})
		}
	}
	return b, nil
}

// share returns what a lane can count on, whoever stands before it.
func (whole room) share(l lane) room {
	parts := 10
	if l.stream == envelope.Legal {
		parts = 2
	}
	entries := max(1, whole.entries/parts)
	if l.queued < uint64(entries) { //nolint:gosec // positive
		entries = int(l.queued) //nolint:gosec // less than the line above
	}
	return room{entries, whole.bytes / parts}
}

// size returns what of a batch a run takes.
func size(run envelope.Run) room {
	out := room{len(run.Entries), 0}
	for _, e := range run.Entries {
		out.bytes += len(e.Encoded) + perEntry
	}
	return out
}

// perEntry is the most that an entry takes besides its envelope.
const perEntry = 48

// lanes sorts chains by stream, without those that wait for the next look. A batch that is smaller than the number of
// lanes begins with each in turn, so that an event that nobody can deliver does not stand before all others.
func (r *Relay) lanes(chains []Chain, n int) []lane {
	var out []lane
	listed := map[envelope.Chain]bool{}
	for _, c := range chains {
		listed[c.Chain] = true
		if r.held(c.Chain) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].stream != c.Stream {
			out = append(out, lane{stream: c.Stream})
		}
		l := &out[len(out)-1]
		l.chains = append(l.chains, c)
		l.queued += c.Last - min(c.Cursor, c.Last)
	}
	for c := range r.watched {
		if !listed[c] {
			delete(r.watched, c)
		}
	}
	if n < len(out) {
		first := r.turn % len(out)
		out = append(out[first:len(out):len(out)], out[:first]...)
	}
	return out
}
