package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
	"sportello.example/sync/sqldb"
	"sportello.example/sync/wire"
)

// queue is a durable queue in a SQLite file, as small as one can be.
type queue struct {
	db    *sql.DB
	epoch string
}

func openQueue(t *testing.T, path string) *queue {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, fstest.MapFS{"1.sql": &fstest.MapFile{
		Data: []byte(`CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT`),
	}}, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &queue{db: db, epoch: "e1"}
}

func (q *queue) append(t *testing.T, e event.Event) {
	t.Helper()
	b, err := json.Marshal(e)
	if err == nil {
		_, err = q.db.ExecContext(t.Context(), `INSERT INTO event (body) VALUES (?)`, string(b))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (q *queue) Epoch(context.Context) (string, error) { return q.epoch, nil }

func (q *queue) Pending(ctx context.Context, n int) ([]event.Event, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT seq, body FROM event ORDER BY seq LIMIT ?`, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var evs []event.Event
	for rows.Next() {
		var seq uint64
		var body []byte
		if err := rows.Scan(&seq, &body); err != nil {
			return nil, err
		}
		var e event.Event
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, err
		}
		e.Seq = seq
		evs = append(evs, e)
	}
	return evs, rows.Err()
}

func (q *queue) Acked(ctx context.Context, seq uint64) error {
	_, err := q.db.ExecContext(ctx, `DELETE FROM event WHERE seq <= ?`, seq)
	return err
}

func (q *queue) len(t *testing.T) (n int) {
	t.Helper()
	if err := q.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM event`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// hub stores events as a hub must, behind a line that can be cut, lose answers, or answer nonsense.
type hub struct {
	mu      sync.Mutex
	up      bool
	lose    int // how many answers get lost
	answer  func(wire.Batch, wire.Ack) (wire.Ack, error)
	stored  map[uint64]event.Event
	last    uint64
	calls   int
	largest int
}

func newHub() *hub { return &hub{up: true, stored: map[uint64]event.Event{}} }

func (h *hub) Deliver(ctx context.Context, b wire.Batch) (wire.Ack, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if !h.up {
		return wire.Ack{}, &net.OpError{Op: "dial", Err: errors.New("no route to host")}
	}
	h.largest = max(h.largest, len(b.Events))
	for _, e := range b.Events {
		if e.Seq == h.last+1 {
			h.last = e.Seq
			h.stored[e.Seq] = e
		}
	}
	ack := wire.Ack{Epoch: b.Epoch, Seq: h.last}
	if h.lose > 0 {
		h.lose--
		return wire.Ack{}, errors.New("connection reset")
	}
	if h.answer != nil {
		return h.answer(b, ack)
	}
	return ack, nil
}

// tally returns how often the hub was called and how many events it has.
func (h *hub) tally() (calls, stored, largest int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls, len(h.stored), h.largest
}

func (h *hub) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// relaying runs do in fake time beside a relay from a real SQLite file to h.
func relaying(t *testing.T, h *hub, do func(*testing.T, *queue, *outbox.Relay)) {
	path := filepath.Join(t.TempDir(), "box.db")
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, path)
		r := outbox.New(q, h, outbox.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		do(t, q, r)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := q.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWeekOffline(t *testing.T) {
	h := newHub()
	h.up = false
	relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
		for day := range 7 {
			for n := range 60 {
				q.append(t, event.Event{Kind: event.SessionStarted, Session: fmt.Sprintf("%d-%d", day, n), At: time.Now().UTC()})
				r.Kick()
				time.Sleep(time.Minute)
			}
			time.Sleep(24*time.Hour - 60*time.Minute)
		}
		offline, _, _ := h.tally()
		h.set(func() { h.up, h.lose = true, 3 })
		r.LineUp()
		time.Sleep(time.Minute)
		calls, stored, _ := h.tally()
		if n := q.len(t); n != 0 || stored != 420 {
			t.Errorf("%d events left on the box, %d at the hub, want 0 and 420", n, stored)
		}
		h.set(func() {
			for seq, e := range h.stored {
				if want := fmt.Sprintf("%d-%d", (seq-1)/60, (seq-1)%60); e.Session != want {
					t.Errorf("event %d is of session %s, want %s", seq, e.Session, want)
				}
			}
		})
		// Kicked once a minute by day, on its own at night: it neither gives up nor hammers.
		if offline < 7*60 || offline > 7*24*60 {
			t.Errorf("%d attempts in a week", offline)
		}
		t.Logf("%d attempts while offline, %d after", offline, calls-offline)
	})
}

func TestLineReturnsUnnoticed(t *testing.T) {
	h := newHub()
	h.up = false
	relaying(t, h, func(t *testing.T, q *queue, _ *outbox.Relay) {
		q.append(t, event.Event{})
		time.Sleep(48 * time.Hour)
		h.set(func() { h.up = true })
		time.Sleep(5*time.Minute + time.Second) // nobody kicks
		if n := q.len(t); n != 0 {
			t.Errorf("%d events left on the box", n)
		}
	})
}

func TestKickDeliversAtOnce(t *testing.T) {
	h := newHub()
	relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
		time.Sleep(time.Hour)
		q.append(t, event.Event{})
		start := time.Now()
		r.Kick()
		synctest.Wait()
		if n := q.len(t); n != 0 || time.Since(start) != 0 {
			t.Errorf("%d events left after %v", n, time.Since(start))
		}
	})
}

func TestKicksDoNotHammer(t *testing.T) {
	h := newHub()
	h.up = false
	relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
		q.append(t, event.Event{})
		for range 10_000 {
			r.Kick()
			time.Sleep(time.Millisecond)
		}
		if calls, _, _ := h.tally(); calls > 11 {
			t.Errorf("%d attempts in 10 s", calls)
		}
	})
}

func TestBatchesGrow(t *testing.T) {
	h := newHub()
	relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
		q.append(t, event.Event{})
		if _, err := q.db.ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 8000)
			INSERT INTO event (body) SELECT '{}' FROM n`); err != nil {
			t.Fatal(err)
		}
		r.Kick()
		synctest.Wait()
		calls, _, largest := h.tally()
		if n := q.len(t); n != 0 || largest > wire.MaxBatch || largest < 1000 || calls > 30 {
			t.Errorf("%d left, %d calls, largest batch %d", n, calls, largest)
		}
	})
	t.Run("but a message stays within its limit", func(t *testing.T) {
		h := newHub()
		h.answer = func(b wire.Batch, a wire.Ack) (wire.Ack, error) {
			text, err := json.Marshal(b)
			if err != nil || len(text) > wire.MaxJSON {
				t.Errorf("%d events are %d bytes (%v)", len(b.Events), len(text), err)
			}
			return a, nil
		}
		relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
			for range 300 {
				q.append(t, event.Event{Kind: event.RequestLeft, Sealed: make([]byte, 20<<10)})
			}
			r.Kick()
			synctest.Wait()
			if n := q.len(t); n != 0 {
				t.Errorf("%d left", n)
			}
		})
	})
}

func TestAckThatDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(wire.Batch, wire.Ack) (wire.Ack, error)
		left   int
	}{
		{"of another epoch", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { a.Epoch = "e0"; return a, nil }, 30},
		{"of no epoch", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { a.Epoch = ""; return a, nil }, 30},
		{"above what was sent", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { a.Seq = 1 << 40; return a, nil }, 30},
		{"one above what was sent", func(b wire.Batch, a wire.Ack) (wire.Ack, error) {
			a.Seq = b.Events[len(b.Events)-1].Seq + 1
			return a, nil
		}, 30},
		{"of nothing", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { a.Seq = 0; return a, nil }, 30},
		{"zero", func(wire.Batch, wire.Ack) (wire.Ack, error) { return wire.Ack{}, nil }, 30},
		{"of a part", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { a.Seq = min(a.Seq, 7); return a, nil }, 23},
		{"with an error", func(_ wire.Batch, a wire.Ack) (wire.Ack, error) { return a, errors.New("500") }, 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub()
			h.answer = tt.answer
			relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
				for range 30 {
					q.append(t, event.Event{})
				}
				r.Kick()
				time.Sleep(time.Hour)
				if n := q.len(t); n != tt.left {
					t.Errorf("%d events left on the box, want %d", n, tt.left)
				}
				h.set(func() { h.answer = nil })
				time.Sleep(10 * time.Minute)
				if _, stored, _ := h.tally(); q.len(t) != 0 || stored != 30 {
					t.Errorf("after recovery %d events are left and %d arrived, want 0 and 30", q.len(t), stored)
				}
			})
		})
	}
}

func TestHubThatForgot(t *testing.T) {
	h := newHub()
	relaying(t, h, func(t *testing.T, q *queue, r *outbox.Relay) {
		for range 5 {
			q.append(t, event.Event{})
		}
		r.Kick()
		synctest.Wait()
		h.set(func() { h.last = 2 }) // restored from a backup
		q.append(t, event.Event{})
		r.Kick()
		time.Sleep(time.Hour)
		if n := q.len(t); n != 1 {
			t.Errorf("%d events left on the box, want the one that the hub refuses", n)
		}
	})
	if got := slices.Sorted(maps.Keys(h.stored)); !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("hub stored %v", got)
	}
}
