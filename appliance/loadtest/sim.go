package loadtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

// SimBox is a box without a disk: it only knows how to write batches that follow each other.
type SimBox struct {
	Number uint32
	Epoch  envelope.Epoch
	chains map[envelope.Stream]*simChain
	at     time.Time
}

type simChain struct {
	seq  uint64
	head envelope.Hash
}

// NewSimBox returns a box with an epoch of its own that has sent nothing.
func NewSimBox(number uint32) *SimBox {
	return &SimBox{Number: number, Epoch: envelope.NewEpoch(), chains: map[envelope.Stream]*simChain{}, at: Begin}
}

// Seqs returns the last number of each chain.
func (s *SimBox) Seqs() map[envelope.Chain]uint64 {
	seqs := make(map[envelope.Chain]uint64, len(s.chains))
	for st, c := range s.chains {
		seqs[envelope.Chain{Epoch: s.Epoch, Stream: st}] = c.seq
	}
	return seqs
}

// Batch returns the next batch, with these events.
func (s *SimBox) Batch(samples []Sample, sealer *seal.Sealer) (envelope.Batch, error) {
	b := envelope.Batch{Box: s.Number}
	runs := map[envelope.Stream]int{}
	for _, sample := range samples {
		st := sample.Event.Kind.Stream()
		id := envelope.Chain{Epoch: s.Epoch, Stream: st}
		c := s.chains[st]
		if c == nil {
			c = &simChain{head: envelope.Genesis(id)}
			s.chains[st] = c
		}
		i, ok := runs[st]
		if !ok {
			i, runs[st] = len(b.Runs), len(b.Runs)
			b.Runs = append(b.Runs, envelope.Run{Chain: id, First: c.seq + 1, Prev: c.head})
		}
		c.seq++
		s.at = s.at.Add(700 * time.Millisecond)
		e, err := s.envelope(id, c.seq, sample.Event, sealer)
		if err != nil {
			return b, err
		}
		c.head = c.head.Next(e)
		r := &b.Runs[i]
		r.Entries, r.Head = append(r.Entries, envelope.Entry{Encoded: e}), c.head
	}
	return b, nil
}

func (s *SimBox) envelope(id envelope.Chain, seq uint64, e event.Event, sealer *seal.Sealer) ([]byte, error) {
	body, err := json.Marshal(event.Body{Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail})
	if err != nil {
		return nil, err
	}
	env := envelope.Envelope{
		Box: s.Number, Chain: id, Seq: seq, Kind: string(e.Kind), Schema: event.SchemaBody, Body: body,
		At: envelope.Stamp{Wall: s.at, Boot: 17, Mono: s.at.Sub(Begin), Quality: envelope.Synced},
	}
	if e.Private != nil {
		if env.Sealed, err = sealer.Seal(env.AAD(), e.Private); err != nil {
			return nil, err
		}
	}
	return env.Append(nil)
}

// Flood is what a flood of requests came to.
type Flood struct {
	Took      time.Duration
	Latencies []time.Duration // of each request, in no order
	Errors    int64
	First     error // one of the errors
}

// P99 returns the time within which 99 of 100 requests were answered.
func (f Flood) P99() time.Duration { return Quantile(f.Latencies, 0.99) }

// Run calls send for 0 … n-1, conns of them at a time.
func Run(n, conns int, send func(i int) error) Flood {
	var (
		next atomic.Int64
		mu   sync.Mutex
		wg   sync.WaitGroup
		f    Flood
	)
	start := time.Now()
	for range conns {
		wg.Go(func() {
			var mine []time.Duration
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					break
				}
				at := time.Now()
				if err := send(i); err != nil {
					mu.Lock()
					f.Errors++
					f.First = fmt.Errorf("request %d: %w", i, err)
					mu.Unlock()
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			f.Latencies = append(f.Latencies, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	f.Took = time.Since(start)
	return f
}
