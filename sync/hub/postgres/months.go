package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Months of events that lie in event_other, because nobody made their partition in time.
	otherMonths = `
SELECT DISTINCT date_trunc('month', received AT TIME ZONE 'UTC') FROM event_other
WHERE received < $1 AND received >= $2 ORDER BY 1 LIMIT 12`
	makeMonth  = `CREATE TABLE %s (LIKE event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`
	fillMonth  = `WITH old AS (DELETE FROM event_other WHERE received >= '%s' AND received < '%s' RETURNING *) INSERT INTO %s SELECT * FROM old`
	boundMonth = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (received >= '%s' AND received < '%s')`
	// Who waits for a lock holds up all who come after, and there is no hurry: a copy of the database may be under way.
	patience    = `SET LOCAL lock_timeout = 2000; SET LOCAL statement_timeout = 0`
	attachMonth = `ALTER TABLE event ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`
	unboundMon  = `ALTER TABLE %s DROP CONSTRAINT %s`
)

// monthsAhead is how many partitions there are beside the one of the present month.
const monthsAhead = 2

// prepareMonths makes the partitions of this month and the next ones, and of those months that already have events in
// event_other: a hub whose clock was wrong, or which nobody restarted for long, has stored them there.
func (s *Store) prepareMonths(ctx context.Context) error {
	now := s.now().UTC()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	var months []time.Time
	for i := range monthsAhead + 1 {
		months = append(months, this.AddDate(0, i, 0))
	}
	rows, err := s.pool.Query(ctx, otherMonths, this, this.AddDate(-10, 0, 0))
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	late, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	for _, m := range append(months, late...) {
		if err := s.prepareMonth(ctx, m.UTC()); err != nil {
			return fmt.Errorf("partition of %s: %w", m.Format("2006-01"), err)
		}
	}
	return nil
}

func (s *Store) prepareMonth(ctx context.Context, m time.Time) error {
	name := "event_" + m.Format("200601")
	there := false
	if err := s.pool.QueryRow(ctx, haveTable, name).Scan(&there); err != nil || there {
		return err
	}
	from, to := m.Format(time.RFC3339), m.AddDate(0, 1, 0).Format(time.RFC3339)
	return s.within(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, patience); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, takeLock, int64(lockSchema)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, haveTable, name).Scan(&there); err != nil || there {
			return err // another hub was faster
		}
		// Made beside the table and attached: that holds up nobody who writes events. The constraint spares ATTACH from
		// reading the rows again.
		bound := name + "_bound"
		for _, q := range []string{
			fmt.Sprintf(makeMonth, name),
			fmt.Sprintf(fillMonth, from, to, name),
			fmt.Sprintf(boundMonth, name, bound, from, to),
			fmt.Sprintf(attachMonth, name, from, to),
			fmt.Sprintf(unboundMon, name, bound),
		} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}
