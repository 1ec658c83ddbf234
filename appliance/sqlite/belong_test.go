package sqlite

import (
	"path/filepath"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestEnrolledAnew gives a queue that the hub has in part to a box of another number.
func TestEnrolledAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 3) // before there is any number
	belong := func(box uint32, want bool) {
		t.Helper()
		if changed, err := s.Belong(t.Context(), box); err != nil || changed != want {
			t.Errorf("box %d: %v, %v, want %v", box, changed, err, want)
		}
	}
	belong(7, false)
	put(t, s, event.PrintDone, 597)
	put(t, s, event.SessionStarted, 20)
	first := s.Epoch()
	legal, session := present(s, envelope.Legal), present(s, envelope.Session)
	if err := s.Renew(t.Context(), legal, "forked"); err != nil {
		t.Fatal(err)
	}
	second := s.Epoch()
	put(t, s, event.PrintDone, 10)
	// The hub has 550 of the first epoch, one of them damaged since, all sessions, and 4 of the second; none in a backup.
	for _, a := range []struct {
		c   envelope.Chain
		seq uint64
	}{{legal, 550}, {session, 20}, {present(s, envelope.Legal), 4}} {
		if err := s.Acked(t.Context(), a.c, a.seq, 0); err != nil {
			t.Fatal(err)
		}
	}
	belong(7, false)
	shut(t, s)
	tamper(t, path, `UPDATE queue_legal SET envelope = zeroblob(20) WHERE id = ?`, id(1, 300))
	s = openAt(t, path)
	belong(7, false)
	if s.Epoch() != second {
		t.Fatal("a new epoch under the same number")
	}
	belong(8, true)
	for _, when := range []string{"", " after a restart"} {
		belong(8, false)
		if s.Epoch() == second {
			t.Errorf("still in the same epoch%s", when)
		}
		es := everything(t, s)
		begun := ofKind(es, event.EpochBegun)
		if n := len(begun); n == 0 || begun[n-1].body.Detail.Reason != otherBox || begun[n-1].body.Detail.Epoch != second || begun[n-1].Chain.Epoch != s.Epoch() {
			t.Errorf("got %+v%s", begun, when)
		}
		got := map[envelope.Epoch]int{}
		for _, e := range ofKind(es, event.PrintDone) {
			got[e.Chain.Epoch]++
		}
		if got[first] != 50 || got[second] != 10-4+1 || len(ofKind(es, event.SessionStarted)) != 0 {
			t.Errorf("%d of the first epoch wait, %d of the second, %d sessions%s", got[first], got[second], len(ofKind(es, event.SessionStarted)), when)
		}
		// The hub says that it has nothing under the new number.
		for _, c := range []envelope.Chain{legal, session, {Epoch: second, Stream: envelope.Legal}} {
			if err := s.Acked(t.Context(), c, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		if again := everything(t, s); len(again) != len(es) {
			t.Errorf("%d events wait then%s, want %d", len(again), when, len(es))
		}
		shut(t, s)
		s = openAt(t, path)
	}
}
