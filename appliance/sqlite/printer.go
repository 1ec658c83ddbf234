package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"sportello.example/kiosk/staff"
)

// SavePrinter stores what is known of an adopted printer, over what was known of it (adoption.Store).
func (s *Store) SavePrinter(ctx context.Context, a staff.Adopted) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("printer %s: %w", a.UUID, err)
	}
	now := stamp(s.cfg.Now())
	err = s.write(ctx, func(w *work) error {
		return w.exec(`INSERT INTO printer (uuid, body, updated) VALUES (?, ?, ?)
			ON CONFLICT (uuid) DO UPDATE SET body = excluded.body, updated = excluded.updated`, a.UUID, string(body), now)
	})
	if err != nil {
		return fmt.Errorf("printer %s: %w", a.UUID, err)
	}
	return nil
}

// Printers returns every printer that was ever adopted, retired ones too, oldest first (adoption.Store).
func (s *Store) Printers(ctx context.Context) ([]staff.Adopted, error) {
	all, err := stored[staff.Adopted](ctx, s, `SELECT body FROM printer`)
	if err != nil {
		return nil, fmt.Errorf("adopted printers: %w", err)
	}
	slices.SortFunc(all, func(a, b staff.Adopted) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.UUID, b.UUID)) })
	return all, nil
}
