package web_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/hub/web"
)

// slow is a database that counts how often it is made to count, and takes its time when told to.
type slow struct {
	stats.Counter
	counts atomic.Int32
	began  chan struct{} // gets a value when counting begins, nil: nobody waits for that
	gate   chan struct{} // counting ends when it is closed, nil: at once
}

func (s *slow) Counts(ctx context.Context, from time.Time) ([]stats.Count, error) {
	s.counts.Add(1)
	if s.gate != nil {
		s.began <- struct{}{}
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Counter.Counts(ctx, from)
}

func TestFiguresAreNotCountedForEverybody(t *testing.T) {
	serve := func(t *testing.T, db *slow) (*hub, string) {
		h := start(t)
		db.Counter = h.store
		srv := httptest.NewUnstartedServer(nil)
		public := &url.URL{Scheme: "http", Host: srv.Listener.Addr().String()}
		s, err := web.New(web.Config{
			Log: slog.New(slog.DiscardHandler), Now: h.clock, PublicURL: public, Place: time.UTC, Municipality: "Comune di Prova",
			Reports: &stats.Reports{Counter: db, Boxes: fleet.New(h.store, h.clock), Now: h.clock, Place: time.UTC},
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Config.Handler = s.PublicHandler()
		srv.Start()
		t.Cleanup(srv.Close)
		return h, public.String()
	}
	get := func(ctx context.Context, address string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = res.Body.Close() }()
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode, err
	}
	ask := func(t *testing.T, address string) {
		t.Helper()
		if status, err := get(t.Context(), address); err != nil || status != http.StatusOK {
			t.Errorf("got %d, %v", status, err)
		}
	}

	t.Run("again and again", func(t *testing.T) {
		db := &slow{}
		h, address := serve(t, db)
		for i, tt := range []struct {
			after time.Duration
			want  int32
		}{{0, 1}, {0, 1}, {499 * time.Millisecond, 1}, {time.Millisecond, 2}, {time.Second, 3}, {-time.Hour, 4}} {
			h.set(func() { h.now = h.now.Add(tt.after) })
			ask(t, address+"/")
			ask(t, address+"/?lang=en")
			ask(t, address+"/api/summary")
			if n := db.counts.Load(); n != tt.want {
				t.Errorf("%d: counted %d times, want %d", i, n, tt.want)
			}
		}
	})
	t.Run("all at once, and the first one leaves", func(t *testing.T) {
		db := &slow{began: make(chan struct{}, 1), gate: make(chan struct{})}
		_, address := serve(t, db)
		ctx, leave := context.WithCancel(t.Context())
		var first, others sync.WaitGroup
		first.Go(func() {
			if status, err := get(ctx, address+"/"); err == nil {
				t.Errorf("who left got %d", status)
			}
		})
		<-db.began
		for range 20 {
			others.Go(func() { ask(t, address+"/api/summary") })
		}
		leave()
		first.Wait()
		close(db.gate)
		others.Wait()
		if n := db.counts.Load(); n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}
