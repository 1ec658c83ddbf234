package ingest

import (
	"encoding/json"
	"errors"
	"fmt"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// ErrMalformed means that bytes are not a batch, or that it is another box's.
var ErrMalformed = errors.New("not a batch of events")

// BatchV1 is a wire.BatchV1 whose events are kept as they came.
type BatchV1 struct {
	Epoch  envelope.Epoch
	First  uint64            // number of the first event
	Events []json.RawMessage // with numbers without gaps
}

// DecodeV1 reads a batch as a box of the first release sends it. It fails with ErrMalformed. Of an event only its number
// must be right.
func DecodeV1(b []byte) (BatchV1, error) {
	var raw struct {
		Version int               `json:"version"`
		Epoch   envelope.Epoch    `json:"epoch"`
		Events  []json.RawMessage `json:"events"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return BatchV1{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case raw.Version < 1:
		return BatchV1{}, fmt.Errorf("%w: version %d", ErrMalformed, raw.Version)
	case !raw.Epoch.Valid():
		return BatchV1{}, fmt.Errorf("%w: epoch of %d bytes", ErrMalformed, len(raw.Epoch))
	case len(raw.Events) == 0 || len(raw.Events) > wire.MaxBatch1:
		return BatchV1{}, fmt.Errorf("%w: %d events", ErrMalformed, len(raw.Events))
	}
	m := BatchV1{Epoch: raw.Epoch, Events: raw.Events}
	for i, body := range raw.Events {
		var head struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(body, &head); err != nil || head.Seq == 0 || head.Seq > envelope.MaxSeq {
			return BatchV1{}, fmt.Errorf("%w: event without a number", ErrMalformed)
		}
		if i == 0 {
			m.First = head.Seq
		}
		if head.Seq != m.First+uint64(i) {
			return BatchV1{}, fmt.Errorf("%w: event %d is not number %d", ErrMalformed, head.Seq, m.First+uint64(i))
		}
	}
	return m, nil
}
