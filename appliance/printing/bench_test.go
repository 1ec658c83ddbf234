package printing_test

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
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

// BenchmarkToProcessing measures from Print to the moment when the printer begins, and beside it the same three
// requests without anything around them.
func BenchmarkToProcessing(b *testing.B) {
	doc := pdf(1, 100_000)
	for _, journalled := range []bool{true, false} {
		name := "bare requests"
		if journalled {
			name = "Print"
		}
		b.Run(name, func(b *testing.B) {
			p := ipptest.New(ipptest.Config{PageTime: time.Nanosecond})
			if err := p.Start(); err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			p.SetPaper(1 << 30)
			var began time.Time
			p.OnState(func(_ int, state string) {
				if state == "processing" && began.IsZero() {
					began = time.Now()
				}
			})
			cfg := quick(p, &file{path: filepath.Join(b.TempDir(), "journal")})
			s, err := printing.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			var total time.Duration
			for i := range b.N {
				began = time.Time{}
				from := time.Now()
				if journalled {
					err = s.Print(b.Context(), jobOf(doc, 1), func(kiosk.PrintProgress) {})
				} else {
					err = bare(b.Context(), p.URI(), strconv.Itoa(i), doc)
				}
				if err != nil {
					b.Fatal(err)
				}
				total += began.Sub(from)
			}
			b.ReportMetric(float64(total.Microseconds())/float64(b.N)/1000, "ms-to-processing")
		})
	}
}
