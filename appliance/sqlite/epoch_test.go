package sqlite

import (
	"path/filepath"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestEpochBegunUnnoticed begins an epoch in a transaction whose commit says that it failed, and has not.
func TestEpochBegunUnnoticed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 5)
	old := s.Epoch()
	err := s.writeAlone(t.Context(), func(w *work) error {
		if err := w.beginEpoch("forked", w.epoch, nil); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		return w.run("COMMIT") // the next one finds no transaction
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Epoch() == old {
		t.Error("the new epoch is not known")
	}
	put(t, s, event.PrintDone, 5)
	epoch := s.Epoch()
	shut(t, s)
	s = openAt(t, path)
	if got := len(ofKind(everything(t, s), event.PrintDone)); got != 10 || s.Epoch() != epoch {
		t.Errorf("%d of 10 events are left, epoch %s, want %s", got, s.Epoch(), epoch)
	}
}

// TestEventsAfterTheLastEpoch has events in an epoch after the next one has begun.
func TestEventsAfterTheLastEpoch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 5)
	old := present(s, envelope.Legal)
	if err := s.Renew(t.Context(), old, "forked"); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	// What its chain would say, had it gone on unnoticed.
	st := newChain(1, old)
	st.base = mark{0, envelope.Genesis(old)}
	st.last = st.base
	tamper(t, path, `UPDATE chain SET high = 0, head = ?, sum = ? WHERE epoch = 1 AND stream = ?`, st.last.hash[:], st.sum(), old.Stream)
	s = openAt(t, path)
	if got := len(all(t, s, old, 100)); got != 5 {
		t.Errorf("%d of 5 events are left", got)
	}
}

// TestDamageBehindTheWitness kills the box before the witness has heard of a new epoch, and damages what is known of that.
func TestDamageBehindTheWitness(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 5)
	shut(t, s)
	before := contents(t, path+".witness")
	s = openAt(t, path)
	if err := s.Renew(t.Context(), present(s, envelope.Legal), "forked"); err != nil {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	shut(t, s)
	write(t, path+".witness", before)
	s = openAt(t, path)
	if s.Epoch() != epoch {
		t.Errorf("a new epoch without damage")
	}
	shut(t, s)
	write(t, path+".witness", before)
	tamper(t, path, `UPDATE chain SET sum = sum + 1 WHERE epoch = 2`)
	if s = openAt(t, path); s.Epoch() == epoch {
		t.Error("numbers that cannot be relied on go on")
	}
}
