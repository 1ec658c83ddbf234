package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

// What column undecided of a print says.
const (
	decided          = -1 // somebody has said what came out
	certain          = 0  // nobody need say it
	undecided        = 1
	undatedUndecided = 2 // stored when the time was not certain
)

// SavePrint stores row, over one with the same ID (printing.Journal). When a job that was open at the start of the
// program closes, the event that the crash swallowed is stored with it. A Verdict is stored over an undecided row only,
// with the event that says so; over one that is decided otherwise, or gone, it is staff.ErrGone. A row that is decided
// stays as it is whatever else is learned of the job.
func (s *Store) SavePrint(ctx context.Context, row printing.Row) error {
	body, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("print %s: %w", row.ID, err)
	}
	if row.State == printing.Uncertain && row.Verdict != "" {
		if err := s.decide(ctx, row, string(body)); err != nil {
			return fmt.Errorf("print %s: %w", row.ID, err)
		}
		return nil
	}
	waits := certain
	if row.State == printing.Uncertain {
		waits = undatedUndecided
		if believed(s.cfg.Stamp(s.boot)) {
			waits = undecided
		}
	}
	now := stamp(s.cfg.Now())
	it, err := s.item(event.Event{
		Kind: settled(row.State), Session: row.Session, Kiosk: row.Kiosk,
		Detail: event.Detail{Service: row.Kind, Pages: row.Pages, Reason: "restart"},
	})
	if err != nil {
		return fmt.Errorf("print %s: %w", row.ID, err)
	}
	// A page without a visit, such as a test page, is nobody's: there is nothing to report of it.
	crashed := !row.State.Open() && row.Session != "" && s.crashed(row.ID)
	err = s.write(ctx, func(w *work) error {
		err := w.exec(`
			INSERT INTO print (id, body, closed, updated, undecided) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET body = excluded.body, closed = excluded.closed, updated = excluded.updated,
			  undecided = excluded.undecided
			WHERE print.undecided >= 0`,
			row.ID, string(body), !row.State.Open(), now, waits)
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

// decide stores what somebody found in the tray.
func (s *Store) decide(ctx context.Context, row printing.Row, body string) error {
	now := stamp(s.cfg.Now())
	it, err := s.item(event.Event{
		Kind: event.PrintDecided, Session: row.Session, Kiosk: row.Kiosk,
		Detail: event.Detail{Service: row.Kind, Pages: row.Pages, Outcome: string(row.Verdict)},
	})
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *work) error {
		if err := w.start(); err != nil {
			return err
		}
		var before string
		var waits int
		err := w.s.conn.QueryRowContext(w.ctx, `SELECT body, undecided FROM print WHERE id = ?`, row.ID).Scan(&before, &waits)
		if errors.Is(err, sql.ErrNoRows) {
			return staff.ErrGone
		}
		if err != nil {
			return err
		}
		if waits <= certain {
			var old printing.Row
			if err := json.Unmarshal([]byte(before), &old); err == nil && old.Verdict == row.Verdict && old.DecidedBy == row.DecidedBy {
				return nil // whoever was not told that it is stored stores it again
			}
			return staff.ErrGone
		}
		err = w.exec(`UPDATE print SET body = ?, closed = 1, updated = ?, undecided = ? WHERE id = ?`, body, now, decided, row.ID)
		if err != nil {
			return err
		}
		return w.append(it)
	})
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
	rows, err := stored[printing.Row](ctx, s, `SELECT body FROM print WHERE closed = 0 ORDER BY updated`)
	if err != nil {
		return nil, fmt.Errorf("open prints: %w", err)
	}
	return rows, nil
}

// UndecidedPrints returns the uncertain prints that nobody has decided about, oldest first (printing.Journal). A print
// waits for 30 days, and as long as the box does not know what day it is.
func (s *Store) UndecidedPrints(ctx context.Context) ([]printing.Row, error) {
	rows, err := stored[printing.Row](ctx, s, `SELECT body FROM print WHERE undecided > 0 ORDER BY updated`)
	if err != nil {
		return nil, fmt.Errorf("undecided prints: %w", err)
	}
	return rows, nil
}

// SheetsSince counts the sheets of prints that were done at t or later, by printer (printing.Journal). What was done
// longer than two days ago is forgotten.
func (s *Store) SheetsSince(ctx context.Context, t time.Time) (map[string]int, error) {
	rows, err := stored[printing.Row](ctx, s, `SELECT body FROM print WHERE closed = 1 AND updated >= ?`, stamp(t))
	if err != nil {
		return nil, fmt.Errorf("sheets since %s: %w", stamp(t), err)
	}
	sheets := map[string]int{}
	for _, row := range rows {
		if row.State == printing.Done {
			sheets[row.PrinterUUID] += row.Pages
		}
	}
	return sheets, nil
}

// stored reads what a query finds: bodies in JSON.
func stored[T any](ctx context.Context, s *Store, query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		var one T
		if err := json.Unmarshal([]byte(body), &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

const (
	// keepPrints is how long the row of a job stays that has ended: the sheets of a day are counted, and one has 25 hours.
	keepPrints = 48 * time.Hour
	// keepUndecided is how long a print waits for somebody to look at the tray.
	keepUndecided = 30 * 24 * time.Hour
)

// prunePrints deletes the rows of jobs that ended long enough ago.
func (w *work) prunePrints() error {
	now := w.s.cfg.Now()
	if err := w.exec(`DELETE FROM print WHERE closed = 1 AND undecided <= 0 AND updated < ?`, stamp(now.Add(-keepPrints))); err != nil {
		return err
	}
	t := w.s.cfg.Stamp(w.s.boot)
	if !believed(t) {
		return nil
	}
	// What was stored before the box knew the time waits from now on.
	if err := w.exec(`UPDATE print SET undecided = 1, updated = ? WHERE undecided = 2`, stamp(t.Wall)); err != nil {
		return err
	}
	return w.exec(`DELETE FROM print WHERE undecided = 1 AND updated < ?`, stamp(t.Wall.Add(-keepUndecided)))
}
