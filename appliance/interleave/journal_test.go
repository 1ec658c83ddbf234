package interleave_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

// journal is one in memory, with what matters of the real one: a row is stored when SavePrint returns, whatever is killed
// then, and a decision is taken once.
type journal struct {
	mu    sync.Mutex
	n     int
	order map[string]int
	wait  map[string]printing.Row // open, or uncertain and undecided
	done  []printing.Row
}

func newJournal() *journal { return &journal{order: map[string]int{}, wait: map[string]printing.Row{}} }

func (j *journal) SavePrint(_ context.Context, row printing.Row) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	before, ok := j.wait[row.ID]
	if row.Verdict != "" && (!ok || before.State != printing.Uncertain) {
		return staff.ErrGone
	}
	if !ok {
		j.n++
		j.order[row.ID] = j.n
	}
	if row.State.Open() || row.State == printing.Uncertain && row.Verdict == "" {
		j.wait[row.ID] = row
		return nil
	}
	delete(j.wait, row.ID)
	delete(j.order, row.ID)
	if row.State == printing.Done {
		j.done = append(j.done, row)
	}
	return nil
}

func (j *journal) waiting(f func(printing.Row) bool) []printing.Row {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := slices.DeleteFunc(slices.Collect(maps.Values(j.wait)), func(r printing.Row) bool { return !f(r) })
	slices.SortFunc(found, func(a, b printing.Row) int { return cmp.Compare(j.order[a.ID], j.order[b.ID]) })
	return found
}

func (j *journal) OpenPrints(context.Context) ([]printing.Row, error) {
	return j.waiting(func(r printing.Row) bool { return r.State.Open() }), nil
}

func (j *journal) UndecidedPrints(context.Context) ([]printing.Row, error) {
	return j.waiting(func(r printing.Row) bool { return !r.State.Open() }), nil
}

func (j *journal) SheetsSince(_ context.Context, t time.Time) (map[string]int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	sheets := map[string]int{}
	for _, r := range slices.Backward(j.done) {
		if r.Updated.Before(t) {
			break
		}
		sheets[r.PrinterUUID] += r.Pages
	}
	return sheets, nil
}

// Record implements kiosk.Journal: events are of no interest here.
func (j *journal) Record(context.Context, kiosk.SessionRow, event.Event) error { return nil }

func (j *journal) Close() error { return nil }
