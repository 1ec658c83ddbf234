package sqlite

import (
	"context"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
)

// Idle lists the chains with nothing to deliver of which events are kept all the same (outbox.Queue).
func (s *Store) Idle(context.Context) ([]outbox.Chain, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []outbox.Chain
	for _, stream := range envelope.Streams() {
		for _, e := range s.epochs {
			st := s.chains[envelope.Chain{Epoch: e.name, Stream: stream}]
			if st != nil && st.cursor == st.last.seq && st.base.seq < st.cursor {
				out = append(out, outbox.Chain{Chain: st.Chain, Cursor: st.cursor, Last: st.last.seq, Current: st.number == s.number})
			}
		}
	}
	return out, nil
}
