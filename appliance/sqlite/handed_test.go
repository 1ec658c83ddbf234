package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestHandedOut fills the room while a stick and the relay have both read a part of the queue: what they have may be
// counted by the hub, so it is not counted together, and where they ended the hub may acknowledge.
func TestHandedOut(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now, MaxPages: 200})
	chain := present(s, envelope.Stats)
	stats(t, s, 100)
	stats(t, s, 130)
	c.pass(2 * time.Hour)
	for _, n := range []int{envelope.MaxEvents, 20, 50} { // the stick, and the relay, which comes after it
		if _, err := s.Read(t.Context(), chain, 0, n, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	rolled := func() (first uint64) {
		for _, e := range all(t, s, chain, 700) {
			if e.missing != nil && (first == 0 || e.Seq < first) {
				first = e.Seq
			}
		}
		return first
	}
	for i := 0; i < 100 && s.DiskState() == "ok"; i++ {
		stats(t, s, 100)
		c.pass(20 * time.Minute)
	}
	settledDisk(t, s)
	if first := rolled(); first != 231 {
		t.Errorf("counted together from number %d on, want 231", first)
	}
	for _, seq := range []uint64{20, 50, 230} {
		if _, known, err := s.HashAt(t.Context(), chain, seq); err != nil || !known {
			t.Errorf("hash at %d: %v, %v", seq, known, err)
		}
	}
	// Once the hub has all of it, the rest may be counted together as before.
	if err := s.Acked(t.Context(), chain, 230, 0); err != nil {
		t.Fatal(err)
	}
	if st := s.chain(chain); st.handed.last() <= 230 || st.handed.ended(230) {
		t.Errorf("what the hub has still counts as handed out: %v", st.handed.ends)
	}
	if n := len(ofKind(everything(t, s), event.StatsRolled)); n == 0 {
		t.Error("nothing says what is gone")
	}
}
