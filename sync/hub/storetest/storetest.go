// Package storetest is what every store of the hub must do, as one suite of tests: a store that passes it can stand in
// for any other.
package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/stats"
)

// Store is all that a hub asks of its database.
type Store interface {
	fleet.Store
	pickup.Store
	stats.Counter
	ingest.Store
	content.Store
	// Backup writes a copy of the database to a new file. What is in it is safe from then on: see ingest.Branch.
	Backup(ctx context.Context, file string) error
}

// Run tests the stores that open makes, each empty.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, s Store)
	}{
		{"boxes", boxes},
		{"a box that replaces another", replaced},
		{"one of many uses a token", tokenOnce},
		{"contact", contact},
		{"requests", requests},
		{"branches come back as they were written", branches},
		{"what fails is not written", rolledBack},
		{"hashes", hashes},
		{"hashes of a branch are found at its parents", parents},
		{"rows", rows},
		{"years apart", yearsApart},
		{"what is no text", noText},
		{"odd numbers", oddNumbers},
		{"alarms", alarms},
		{"more alarms than are kept", manyAlarms},
		{"epochs", epochs},
		{"judged anew", judged},
		{"clocks", clocks},
		{"counts", counts},
		{"latest events", lastEvents},
		{"figures of a box", boxFigures},
		{"a large delivery", large},
		{"one chain, many deliveries at once", oneChain},
		{"many chains in any order", manyChains},
		{"a backup makes safe", backup},
		{"notices", notices},
		{"files", files},
		{"documents", documents},
		{"documents of many hubs at once", documentsAtOnce},
		{"a box goes back", goingBack},
		{"keys to seal to", sealKeys},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// now is when everything happens, unless a test says otherwise.
var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const epoch = envelope.Epoch("00112233445566778899aabbccddeeff")

func chain(box uint32, s envelope.Stream) ingest.ChainID {
	return ingest.ChainID{Box: box, Chain: envelope.Chain{Epoch: epoch, Stream: s}}
}

// addBox adds a box with a token of its own.
func addBox(t *testing.T, s Store, branch string) uint32 {
	t.Helper()
	var hash [32]byte
	binary.BigEndian.PutUint64(hash[:], uint64(time.Now().UnixNano()))
	n, err := s.AddBox(t.Context(), fleet.Box{Branch: branch, Kiosks: 2, LoginEpoch: 1, Created: now, Pending: fleet.PendingUnknown}, hash, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// encoded is what stands for an event's bytes.
func encoded(id ingest.ChainID, seq uint64, salt string) []byte {
	return fmt.Appendf(nil, "%d %s %d %s", id.Box, id.Chain, seq, salt)
}

// follow makes n rows that follow b, and b after them.
func follow(b ingest.Branch, n int, salt string, change func(*ingest.Row)) ([]ingest.Row, ingest.Branch) {
	out := make([]ingest.Row, n)
	for i := range out {
		r := ingest.Row{
			ID: b.ID, Branch: b.Number, Seq: b.Seq + 1, Encoded: encoded(b.ID, b.Seq+1, salt),
			Kind: event.LineUp, Schema: 2, Wall: now, Happened: now, Certain: true,
		}
		r.Hash = b.Head.Next(r.Encoded)
		if change != nil {
			change(&r)
		}
		b.Seq, b.Head = r.Seq, r.Hash
		if r.Missing != nil {
			b.Seq = r.Seq + r.Missing.Count - 1
		}
		if r.Certain && r.Missing == nil && r.Happened.After(b.Dated) {
			b.Dated = r.Happened
		}
		out[i] = r
	}
	return out, b
}

// first is the branch that every chain begins with.
func first(id ingest.ChainID) ingest.Branch {
	return ingest.Branch{ID: id, From: 1, Head: envelope.Genesis(id.Chain)}
}

// branch returns one branch of those that a transaction holds, first when there is none.
func branch(ctx context.Context, tx ingest.Tx, id ingest.ChainID, number int) (ingest.Branch, error) {
	bs, err := tx.Branches(ctx)
	if err != nil {
		return ingest.Branch{}, err
	}
	for _, b := range bs {
		if b.ID == id && b.Number == number {
			return b, nil
		}
	}
	if number != 0 {
		return ingest.Branch{}, fmt.Errorf("no branch %d", number)
	}
	return first(id), nil
}

// grow appends n events to branch 0 of a chain, received at a time, and returns the branch after them.
func grow(t *testing.T, s Store, id ingest.ChainID, n int, received time.Time, change func(*ingest.Row)) (b ingest.Branch) {
	t.Helper()
	err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error {
		var err error
		if b, err = branch(t.Context(), tx, id, 0); err != nil {
			return err
		}
		var rows []ingest.Row
		rows, b = follow(b, n, "", change)
		return tx.Write(t.Context(), ingest.Changes{Received: received, Rows: rows, Branches: []ingest.Branch{b}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// within looks at a chain within a transaction that writes nothing.
func within(t *testing.T, s Store, id ingest.ChainID, do func(tx ingest.Tx)) {
	t.Helper()
	if err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error { do(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

// write writes changes within a transaction that holds a chain.
func write(t *testing.T, s Store, id ingest.ChainID, c ingest.Changes) {
	t.Helper()
	err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error { return tx.Write(t.Context(), c) })
	if err != nil {
		t.Fatal(err)
	}
}

// held returns the branches of a chain, by number.
func held(t *testing.T, s Store, ids ...ingest.ChainID) (bs []ingest.Branch) {
	t.Helper()
	err := s.Ingest(t.Context(), ids, func(tx ingest.Tx) (err error) {
		bs, err = tx.Branches(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(bs, func(a, b ingest.Branch) int {
		return 1000*int(a.ID.Box) - 1000*int(b.ID.Box) + 100*int(a.ID.Chain.Stream) - 100*int(b.ID.Chain.Stream) + a.Number - b.Number
	})
	return bs
}

// backup tests that what a backup holds is safe, and what came after it is not.
func backup(t *testing.T, s Store) {
	a, b := chain(1, envelope.Legal), chain(1, envelope.Stats)
	grow(t, s, a, 5, now, nil)
	file := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	grow(t, s, a, 2, now, nil)
	grow(t, s, b, 2, now, nil)
	bs := held(t, s, a, b)
	if len(bs) != 2 || bs[0].Safe != 5 || bs[0].Seq != 7 || bs[1].Safe != 0 {
		t.Errorf("got %+v, want 5 of 7 and 0 of 2 safe", bs)
	}
	if err := s.Backup(t.Context(), file); err == nil {
		t.Error("wrote over an older backup")
	}
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("wrote a backup where there is no folder")
	}
	if bs := held(t, s, a); bs[0].Safe != 5 {
		t.Errorf("after backups that failed %d are safe, want 5", bs[0].Safe)
	}
	if err := s.Backup(t.Context(), file+"2"); err != nil {
		t.Fatal(err)
	}
	if bs := held(t, s, a, b); bs[0].Safe != 7 || bs[1].Safe != 2 {
		t.Errorf("after the second backup: got %+v", bs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, file+"3"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
