package sqlite

import (
	"context"
	"fmt"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/event"
)

// Record stores row and e in one transaction (kiosk.Journal). A row without ID stores the event alone. For the event all
// of Enqueue holds.
func (s *Store) Record(ctx context.Context, row kiosk.SessionRow, e event.Event) error {
	it, err := s.item(e)
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *work) error {
		// The event first: what is wrong with it is seen before anything is written.
		if err := w.append(it); err != nil || row.ID == "" {
			return err
		}
		err := w.exec(saveSession, row.ID, row.Kiosk, string(row.Mode), row.Language, string(row.Service), string(row.Stage),
			stamp(row.Started), stamp(s.cfg.Now()), row.Ended)
		if err != nil {
			return fmt.Errorf("session %s: %w", row.ID, err)
		}
		return nil
	})
}

const saveSession = `INSERT INTO session (id, kiosk, mode, language, service, stage, started, updated, ended)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, language = excluded.language, service = excluded.service,
	  stage = excluded.stage, updated = excluded.updated, ended = excluded.ended`

// visit is a session that was open when the program ended.
type visit struct {
	id    string
	kiosk int
}

// closeOpen ends the sessions that a crash left open.
func (w *work) closeOpen() error {
	open, err := w.openVisits()
	if err != nil || len(open) == 0 {
		return err
	}
	for _, v := range open {
		it, err := w.s.item(event.Event{Kind: event.SessionEnded, Session: v.id, Kiosk: v.kiosk, Detail: event.Detail{Outcome: "crashed"}})
		if err != nil {
			return err
		}
		if err := w.append(it); err != nil {
			return err
		}
	}
	return w.exec(`UPDATE session SET ended = 1 WHERE ended = 0`)
}

func (w *work) openVisits() (open []visit, err error) {
	if err := w.start(); err != nil {
		return nil, err
	}
	rows, err := w.s.conn.QueryContext(w.ctx, `SELECT id, kiosk FROM session WHERE ended = 0`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var v visit
		if err := rows.Scan(&v.id, &v.kiosk); err != nil {
			return nil, err
		}
		open = append(open, v)
	}
	return open, rows.Err()
}

// keepSessions is how long the row of an ended visit stays: long enough to look into what somebody complains about.
const keepSessions = 24 * time.Hour

// Prune deletes the rows of visits that ended longer than a day ago, of jobs that ended longer than two days ago and that
// nobody must decide about, and events that the hub has had for longer than they are kept. Call it now and then.
func (s *Store) Prune(ctx context.Context) error {
	err := s.write(ctx, func(w *work) error { return w.prune() })
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if s.behind.Load() {
		if err := s.takeOver(ctx, func(do func(*work) error) error { return s.writeAlone(ctx, do) }); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	s.mu.RLock()
	var chains []*chainState
	for _, st := range s.chains {
		if st.cursor > st.base.seq {
			chains = append(chains, st.snapshot())
		}
	}
	s.mu.RUnlock()
	for _, st := range chains {
		if err := s.forgetOld(ctx, st.Chain); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

func (w *work) prune() error {
	old := stamp(w.s.cfg.Now().Add(-keepSessions))
	if err := w.exec(`DELETE FROM session WHERE ended = 1 AND updated < ?`, old); err != nil {
		return err
	}
	return w.prunePrints()
}
