package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

// TestFlipInTheFile flips bits all over the database. Whatever comes of it, the box starts, nothing is delivered that was
// not enqueued, and no number is given out again.
func TestFlipInTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.SessionStarted, 60)
	put(t, s, event.PrintDone, 60)
	if err := s.Acked(t.Context(), present(s, envelope.Legal), 20, 10); err != nil {
		t.Fatal(err)
	}
	sound := map[string]string{}
	for _, e := range everything(t, s) {
		sound[fmt.Sprint(e.Chain, e.Seq)] = string(e.Body)
	}
	shut(t, s)
	file, said := contents(t, path), contents(t, path+".witness")
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			hit := filepath.Join(t.TempDir(), "hit.db")
			luck := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // no secret
			var asides, losses int
			for range 40 {
				at, bit := luck.IntN(len(file)), byte(1)<<luck.IntN(8)
				b := bytes.Clone(file)
				b[at] ^= bit
				write(t, hit, b)
				write(t, hit+".witness", said)
				what := fmt.Sprintf("byte %d, bit %d", at, bit)
				es, aside := survive(t, hit, what)
				left := compare(t, what, es, sound)
				if aside {
					asides++
				} else if left < len(sound) {
					if losses++; len(ofKind(es, event.EventDead)) == 0 {
						t.Errorf("%s: %d of %d events are left, and nobody says so", what, left, len(sound))
					}
				}
			}
			t.Logf("%d set aside, %d with events lost", asides, losses)
		})
	}
}

// compare checks that events are what was enqueued, or are of the queue's own or the survivor's, under numbers of their
// own. It returns how many are what was enqueued.
func compare(t *testing.T, what string, es []entry, sound map[string]string) (left int) {
	t.Helper()
	for _, e := range es {
		body, taken := sound[fmt.Sprint(e.Chain, e.Seq)]
		switch {
		case e.missing != nil:
		case e.body.Detail.Reason == "survivor", e.Kind == string(event.EpochBegun), e.Kind == string(event.Gap), e.Kind == string(event.EventDead),
			e.Kind == string(event.DatabaseSetAside):
			if taken {
				t.Errorf("%s: number %d of %s given out twice", what, e.Seq, e.Chain)
			}
		case !taken || body != string(e.Body):
			t.Errorf("%s: delivered as %s, %d: %s", what, e.Chain, e.Seq, e.Body)
		default:
			left++
		}
	}
	return left
}

// survive opens a file that was damaged, enqueues an event, and reads everything. A file whose damage shows only then is
// opened once more.
func survive(t *testing.T, path, what string) (es []entry, aside bool) {
	t.Helper()
	for try := range 2 {
		s, moved, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if moved != "" {
			aside = true
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(moved + suffix)
			}
		}
		es, err = tryAll(t, s)
		_ = s.Close()
		if err == nil {
			return es, aside
		}
		if try == 1 || !sqldb.Corrupt(err) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	return es, aside
}

func tryAll(t *testing.T, s *Store) (es []entry, err error) {
	t.Helper()
	for _, k := range []event.Kind{event.SessionStarted, event.PrintDone} {
		if err := s.Enqueue(context.Background(), event.Event{Kind: k, Detail: event.Detail{Reason: "survivor"}}); err != nil {
			return nil, err
		}
	}
	for range 2 { // what the first reading finds is reported in the second
		chains, err := s.Chains(context.Background())
		if err != nil {
			return nil, err
		}
		es = nil
		for _, c := range chains {
			if _, err := s.Read(context.Background(), c.Chain, 0, 1000, 1<<20); err != nil {
				return nil, err
			}
			es = append(es, all(t, s, c.Chain, 1000)...)
		}
	}
	return es, nil
}
