package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

// TestConnectionBreaks leaves a transaction open, as when not even ROLLBACK works.
func TestConnectionBreaks(t *testing.T) {
	t.Parallel()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), MaxPages: 5000})
	put(t, s, event.PrintDone, 3)
	broken := errors.New("broken")
	err := s.writeAlone(t.Context(), func(w *work) error {
		if err := w.queueEvent(event.PrintFailed, event.Detail{}); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		w.began, s.broken = false, true // as undo leaves it
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	put(t, s, event.PrintDone, 3)
	if es := everything(t, s); len(es) != 6 || len(ofKind(es, event.PrintDone)) != 6 {
		t.Errorf("got %+v, want six", es)
	}
	var most int
	if err := s.writeAlone(t.Context(), func(w *work) error {
		return s.conn.QueryRowContext(w.ctx, "PRAGMA max_page_count").Scan(&most)
	}); err != nil || most != 5000 {
		t.Errorf("the new connection lets the database grow to %d pages, %v", most, err)
	}
}

// TestWhoWaitsMayLeave has the disk hang: who waits for it with a deadline gets away.
func TestWhoWaitsMayLeave(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	hangs, on := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.writeAlone(context.Background(), func(*work) error { close(hangs); <-on; return nil })
	}()
	<-hangs
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Enqueue(ctx, event.Event{Kind: event.PrintDone}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(on)
	if err := <-first; err != nil {
		t.Error(err)
	}
	put(t, s, event.PrintDone, 1)
	if es := everything(t, s); len(es) != 1 {
		t.Errorf("%d events, want one: the other had not begun", len(es))
	}
}

// TestTheLogIsCutWithTheSameTimeout looks at what is left of what trimLog sets.
func TestTheLogIsCutWithTheSameTimeout(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, event.PrintDone, 1)
	var timeout int
	if err := s.writeAlone(t.Context(), func(w *work) error {
		s.cutLog(0)
		return s.conn.QueryRowContext(w.ctx, "PRAGMA busy_timeout").Scan(&timeout)
	}); err != nil || timeout != 5000 || s.broken {
		t.Errorf("%d ms, broken %v, %v", timeout, s.broken, err)
	}
}

// TestKeysOfTheDead buries what is closed to a key: the hub must not throw that away.
func TestKeysOfTheDead(t *testing.T) {
	t.Parallel()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(key.Public()); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), Seal: sealer.Seal})
	if err := s.Enqueue(t.Context(), event.Event{Kind: event.RequestLeft, Private: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	put(t, s, event.PrintDone, 1)
	keys := func(want int) {
		t.Helper()
		r, err := s.Report(t.Context())
		if err != nil || len(r.SealKeys) != want {
			t.Errorf("keys %v, %v, want %d", r.SealKeys, err, want)
		}
	}
	keys(1)
	c := present(s, envelope.Legal)
	if err := s.Bury(t.Context(), c, 1, "refused"); err != nil {
		t.Fatal(err)
	}
	keys(1)
	if err := s.Acked(t.Context(), c, 3, 3); err != nil { // all that waits is gone
		t.Fatal(err)
	}
	keys(1)
	keys(1)
}
