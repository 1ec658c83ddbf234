package ingest

import (
	"context"
	"fmt"
	"slices"
)

const rejudgePage = 500 // rows read and written at once

// Rejudge looks again at what an older hub could not understand, or could not open, and returns how many events it
// understands now. Call it at every start. Hubs beside the same database may do so at the same time.
func (in *Ingest) Rejudge(ctx context.Context) (understood int, err error) {
	for _, j := range []Judgement{Quarantined, NotOpened} {
		var after Row
		for {
			rows, err := in.Store.Judged(ctx, j, after, rejudgePage)
			if err != nil {
				return understood, fmt.Errorf("judge again: %w", err)
			}
			if len(rows) == 0 {
				break
			}
			after = rows[len(rows)-1]
			n, err := in.rejudge(ctx, rows)
			if err != nil {
				return understood, fmt.Errorf("judge again: %w", err)
			}
			understood += n
		}
	}
	return understood, nil
}

// rejudge judges stored rows and writes those of which something else is known now.
func (in *Ingest) rejudge(ctx context.Context, rows []Row) (int, error) {
	c := Changes{Received: in.Now().UTC()}
	var ids []ChainID
	understood := 0
	for _, old := range rows {
		it := decode(in.ring(), old.ID, old.Seq, old.Encoded)
		if old.hashless() {
			it = decodeV1(in.ring(), old.ID, old.Seq, old.Encoded)
		}
		row := it.row
		if row.Judged == old.Judged {
			continue
		}
		row.Branch, row.Hash, row.Happened, row.Certain = old.Branch, old.Hash, old.Happened, old.Certain
		c.Judged = append(c.Judged, row)
		ids = append(ids, row.ID)
		if it.request != nil {
			c.Requests = append(c.Requests, Request{Box: row.ID.Box, Request: *it.request})
		}
		if d := it.dating; d != nil && believable(d.New, c.Received) {
			c.Datings = append(c.Datings, *d)
			ids = append(ids, d.ID)
		}
		if it.alarm != nil {
			a := *it.alarm
			a.Box, a.At = row.ID.Box, c.Received
			c.Alarms = append(c.Alarms, a)
		}
		if row.Judged == Understood {
			understood++
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	slices.SortFunc(ids, compareIDs)
	ids = slices.Compact(ids)
	return understood, in.Store.Ingest(ctx, ids, func(tx Tx) error { return tx.Write(ctx, c) })
}
