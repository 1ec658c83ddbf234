// Package stats stores the events of all branches, once each, and counts them.
//
// What is well-framed is accepted first and judged later: an event of a kind this hub does not know is stored as it
// came, so that one new box never blocks its own line. Figures are computed from the stored events, never incremented.
package stats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

var (
	// ErrGap means that a batch does not continue where the last one ended. The Ack that goes with it says where.
	ErrGap = errors.New("gap in event numbers")
	// ErrMalformed means that bytes are not a batch.
	ErrMalformed = errors.New("not a batch of events")
)

// Batch is a wire.Batch whose events are kept as they came.
type Batch struct {
	Epoch string
	Rows  []Row // numbers without gaps
}

// Row is one event as it is stored. All but Seq and Body are zero when the event cannot be understood.
type Row struct {
	Seq     uint64
	At      time.Time // by the box's clock, UTC
	ClockOK bool
	Kind    event.Kind
	Session string
	Mode    string
	Pages   int
	Sealed  []byte
	Body    []byte // the event in JSON as it came
}

// maxEpoch is the longest name of an epoch, in bytes.
const maxEpoch = 64

// DecodeBatch reads a batch as a box sends it. It fails with ErrMalformed.
func DecodeBatch(b []byte) (Batch, error) {
	var raw struct {
		Version int               `json:"version"`
		Epoch   string            `json:"epoch"`
		Events  []json.RawMessage `json:"events"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case raw.Version < 1:
		return Batch{}, fmt.Errorf("%w: version %d", ErrMalformed, raw.Version)
	case raw.Epoch == "" || len(raw.Epoch) > maxEpoch:
		return Batch{}, fmt.Errorf("%w: epoch of %d bytes", ErrMalformed, len(raw.Epoch))
	case len(raw.Events) == 0 || len(raw.Events) > wire.MaxBatch:
		return Batch{}, fmt.Errorf("%w: %d events", ErrMalformed, len(raw.Events))
	}
	out := Batch{Epoch: raw.Epoch, Rows: make([]Row, len(raw.Events))}
	for i, body := range raw.Events {
		r, err := decodeRow(body)
		if err != nil {
			return Batch{}, err
		}
		if i > 0 && r.Seq != out.Rows[i-1].Seq+1 {
			return Batch{}, fmt.Errorf("%w: event %d follows %d", ErrMalformed, r.Seq, out.Rows[i-1].Seq)
		}
		out.Rows[i] = r
	}
	return out, nil
}

// decodeRow reads one event. Only its number must be right.
func decodeRow(body []byte) (Row, error) {
	var e event.Event
	if err := json.Unmarshal(body, &e); err == nil && inRange(e.Seq) {
		return Row{
			Seq: e.Seq, At: e.At.UTC(), ClockOK: e.ClockOK, Kind: e.Kind, Session: e.Session,
			Mode: e.Detail.Mode, Pages: e.Detail.Pages, Sealed: e.Sealed, Body: body,
		}, nil
	}
	var head struct {
		Seq uint64 `json:"seq"`
	}
	if err := json.Unmarshal(body, &head); err != nil || !inRange(head.Seq) {
		return Row{}, fmt.Errorf("%w: event without a number", ErrMalformed)
	}
	return Row{Seq: head.Seq, Body: body}, nil
}

func inRange(seq uint64) bool { return seq > 0 && seq < math.MaxInt64 }

// Store keeps events.
type Store interface {
	// Ingest runs do in a transaction, which is on the disk when Ingest returns nil. Other deliveries wait.
	Ingest(ctx context.Context, do func(Tx) error) error
}

// Tx is one transaction of a Store.
type Tx interface {
	// LastSeq returns the highest number stored of a box and epoch, 0 when there is none.
	LastSeq(ctx context.Context, box uint32, epoch string) (uint64, error)
	// AppendEvents stores rows, whose numbers follow LastSeq.
	AppendEvents(ctx context.Context, box uint32, epoch string, received time.Time, rows []Row) error
	// PutRequest stores what a citizen left at a branch.
	PutRequest(ctx context.Context, box uint32, received time.Time, r wire.Request) error
}

// Ingest accepts batches from boxes. All fields are needed.
type Ingest struct {
	Store Store
	Key   seal.PrivateKey // opens what boxes seal
	Now   func() time.Time
	Log   *slog.Logger
}

// Deliver stores the events of b that are new, and with them the requests that citizens left, in one transaction. It
// returns what the hub has of that box and epoch from the first event on without a gap. Delivering a batch again is
// harmless. A batch that begins after the next expected number fails with ErrGap; the Ack is valid then too.
func (in *Ingest) Deliver(ctx context.Context, box uint32, b Batch) (wire.Ack, error) {
	ack := wire.Ack{Epoch: b.Epoch}
	if len(b.Rows) == 0 {
		return ack, fmt.Errorf("box %d: %w: no events", box, ErrMalformed)
	}
	now := in.Now().UTC()
	err := in.Store.Ingest(ctx, func(tx Tx) error {
		last, err := tx.LastSeq(ctx, box, b.Epoch)
		if err != nil {
			return err
		}
		ack.Seq = last
		rows := b.Rows
		for len(rows) > 0 && rows[0].Seq <= last {
			rows = rows[1:]
		}
		if len(rows) == 0 {
			return nil
		}
		if rows[0].Seq != last+1 {
			return fmt.Errorf("event %d after %d: %w", rows[0].Seq, last, ErrGap)
		}
		if err := tx.AppendEvents(ctx, box, b.Epoch, now, rows); err != nil {
			return err
		}
		for _, r := range rows {
			if r.Kind != event.RequestLeft {
				continue
			}
			q, err := in.open(r)
			if err != nil { // kept with its event, for somebody to look at
				in.Log.ErrorContext(ctx, "request left at a branch cannot be read", "err", err, "box", box, "seq", r.Seq)
				continue
			}
			if err := tx.PutRequest(ctx, box, now, q); err != nil {
				return err
			}
		}
		ack.Seq = rows[len(rows)-1].Seq
		return nil
	})
	if errors.Is(err, ErrGap) {
		return ack, fmt.Errorf("box %d: %w", box, err)
	}
	if err != nil {
		return wire.Ack{}, fmt.Errorf("store events of box %d: %w", box, err)
	}
	return ack, nil
}

// open reads the request that an event carries sealed.
func (in *Ingest) open(r Row) (wire.Request, error) {
	plain, err := seal.Open(in.Key, seal.InfoRequest, r.Sealed)
	if err != nil {
		return wire.Request{}, err
	}
	var q wire.Request
	if err := json.Unmarshal(plain, &q); err != nil {
		return wire.Request{}, errors.New("not a request") // the cause might quote what was sealed
	}
	if !pickup.Valid(q.Code) {
		return wire.Request{}, errors.New("pick-up code is not valid")
	}
	return q, nil
}
