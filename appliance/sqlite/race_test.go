package sqlite

import (
	"sync"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestReadWhileTheEndMoves reads a chain while stretches at its end go missing: what is sound must not be taken for damaged.
func TestReadWhileTheEndMoves(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := present(s, envelope.Session)
	var reader sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reader.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Read(t.Context(), c, 0, envelope.MaxEvents, 1<<20); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	refused := 0
	for i := range 150 {
		put(t, s, event.SessionStarted, 3)
		if i%3 == 0 {
			if err := s.Bury(t.Context(), c, uint64(3*(i+1)), "refused"); err != nil {
				t.Fatal(err)
			}
			refused++
		}
	}
	close(done)
	reader.Wait()
	for _, e := range ofKind(all(t, s, present(s, envelope.Legal), 1000), event.EventDead) {
		if e.body.Detail.Reason == "damaged" {
			t.Fatalf("taken for damaged: %+v", e.body.Detail)
		}
	}
	if got := len(ofKind(all(t, s, c, 1000), event.SessionStarted)); got != 450-refused {
		t.Errorf("%d events are left, want %d", got, 450-refused)
	}
}
