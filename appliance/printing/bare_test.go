package printing_test

import (
	"context"
	"time"

	"sportello.example/appliance/ipp"
)

// bare prints doc with Create-Job and Send-Document, and waits for its end, as a program would that does not care.
func bare(ctx context.Context, uri, name string, doc []byte) error {
	c, err := ipp.New(ipp.Config{URI: uri})
	if err != nil {
		return err
	}
	defer c.Close()
	j, _, err := c.Create(ctx, ipp.Ticket{Name: name})
	if err != nil {
		return err
	}
	if err := c.Send(ctx, j.ID, ipp.PDF, doc); err != nil {
		return err
	}
	for {
		now, err := c.Job(ctx, j.ID)
		if err != nil || now.State.Ended() {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
