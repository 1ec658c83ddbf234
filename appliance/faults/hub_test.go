package faults_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// hub is a hub without its servers: what takes in events, on a real database.
type hub struct {
	dir   string
	store *sqlite.Store
	in    *ingest.Ingest
}

const hubDatabase = "hub.db"

func openHub(ctx context.Context, dir string, now func() time.Time, sign ed25519.PrivateKey, ring seal.Ring) (*hub, error) {
	s, err := sqlite.Open(ctx, filepath.Join(dir, hubDatabase))
	if err != nil {
		return nil, err
	}
	boxes, err := s.Boxes(ctx)
	if err == nil && len(boxes) == 0 {
		_, err = s.AddBox(ctx, fleet.Box{Branch: "Biblioteca", Kiosks: 1, LoginEpoch: 1, Created: now()}, [32]byte{}, now())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &hub{dir: dir, store: s, in: &ingest.Ingest{Store: s, Ring: ring, Key: sign, Now: now, Log: slog.New(slog.DiscardHandler)}}, nil
}

// receive takes a batch as it came over the line.
func (h *hub) receive(ctx context.Context, b []byte) (wire.Reply, error) {
	b, err := wire.Unzip(b, envelope.MaxBatch)
	if err != nil {
		return wire.Reply{}, err
	}
	batch, err := envelope.ParseBatch(b)
	if err != nil {
		return wire.Reply{}, err
	}
	return h.in.Deliver(ctx, boxNumber, batch)
}

// stored is what a hub has of a box.
type stored struct {
	count    map[int]int  // how often it has each event, by its ID
	named    map[key]bool // numbers that it knows will never come
	legal    int          // legal events that somebody let go
	refused  int          // events that a box says it did not store, for want of room
	forks    int          // numbers that stand for two events
	alarms   map[string]int
	branches map[envelope.Chain][]ingest.Branch
	rows     []ingest.Row
}

// stored reads all that the hub has of the given chains.
func (h *hub) stored(ctx context.Context, chains map[envelope.Chain]bool) (stored, error) {
	s := stored{count: map[int]int{}, named: map[key]bool{}, alarms: map[string]int{}, branches: map[envelope.Chain][]ingest.Branch{}}
	var ids []ingest.ChainID
	for c := range chains {
		ids = append(ids, ingest.ChainID{Box: boxNumber, Chain: c})
	}
	alarms, err := h.store.Alarms(ctx, true)
	if err != nil {
		return s, err
	}
	for _, a := range alarms {
		s.alarms[a.Kind] += a.Count
	}
	if len(ids) == 0 {
		return s, nil
	}
	err = h.store.Ingest(ctx, ids, func(tx ingest.Tx) error {
		bs, err := tx.Branches(ctx)
		if err != nil {
			return err
		}
		bodies := map[key]string{}
		for _, b := range bs {
			s.branches[b.ID.Chain] = append(s.branches[b.ID.Chain], b)
			rows, err := tx.Rows(ctx, b.ID, b.Number, 0, envelope.MaxSeq)
			if err != nil {
				return err
			}
			s.rows = append(s.rows, rows...)
			if err := s.add(b, rows, bodies); err != nil {
				return err
			}
		}
		return nil
	})
	return s, err
}

// add takes up the rows of one branch, which must follow each other without a hole.
func (s *stored) add(b ingest.Branch, rows []ingest.Row, bodies map[key]string) error {
	next, head := b.From, envelope.Hash{}
	for _, r := range rows {
		if r.Seq != next {
			return fmt.Errorf("%s, branch %d: after number %d comes %d", b.ID.Chain, b.Number, next-1, r.Seq)
		}
		head = r.Hash
		k := key{b.ID.Chain, r.Seq}
		if m := r.Missing; m != nil {
			for i := range m.Count {
				s.named[key{b.ID.Chain, r.Seq + i}] = true
			}
			if b.ID.Chain.Stream == envelope.Legal && (m.Reason == envelope.Dropped || m.Reason == envelope.RolledUp) {
				s.legal++
			}
			next += m.Count
			continue
		}
		next++
		if id, ok := idOf(r.Encoded); ok {
			s.count[id]++
		}
		if e, err := envelope.Parse(r.Encoded); err == nil && e.Kind == string(event.EventsLost) {
			var body event.Body
			if err := json.Unmarshal(e.Body, &body); err != nil {
				return err
			}
			s.refused += body.Detail.Count
		}
		if other, ok := bodies[k]; ok && other != string(r.Encoded) {
			s.forks++
		}
		bodies[k] = string(r.Encoded)
	}
	if next != b.Seq+1 || len(rows) > 0 && head != b.Head {
		return fmt.Errorf("%s, branch %d says that it ends with %d, %s; it ends with %d, %s", b.ID.Chain, b.Number, b.Seq, b.Head, next-1, head)
	}
	return nil
}
