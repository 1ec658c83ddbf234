package interleave_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/kiosk"
)

// wrapped is a spooler with another Print.
type wrapped struct {
	kiosk.Printer
	print func(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error
}

func (w wrapped) Print(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
	return w.print(ctx, job, report)
}

// TestShortcuts takes short cuts that tempt, one after the other, and sees that each of them is found out.
func TestShortcuts(t *testing.T) {
	if !shortcuts {
		t.Log("not tested under the race detector, but in the run without it: this is about the ledger, not about races")
		return
	}
	for _, tt := range []struct {
		name string
		how  how
	}{
		{"a print whose end is not known is printed again", how{wrap: func(p kiosk.Printer) kiosk.Printer {
			return wrapped{p, func(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
				err := p.Print(ctx, job, report)
				if err != nil && kiosk.AsPrintError(err).Outcome == kiosk.Uncertain && ctx.Err() == nil {
					err = p.Print(ctx, job, report)
				}
				return err
			}}
		}}},
		{"a print whose end is not known is called printed", how{wrap: func(p kiosk.Printer) kiosk.Printer {
			return wrapped{p, func(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
				err := p.Print(ctx, job, report)
				if err != nil && kiosk.AsPrintError(err).Outcome == kiosk.Uncertain {
					err = nil
				}
				return err
			}}
		}}},
		{"a job goes on after its visit", how{wrap: func(p kiosk.Printer) kiosk.Printer {
			return wrapped{p, func(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
				return p.Print(context.WithoutCancel(ctx), job, report)
			}}
		}}},
		{"a printer is free again before anybody has looked", how{beside: func(ctx context.Context, b *box) {
			for pause(time.Second, ctx.Done()) {
				for _, d := range b.spool.Devices() {
					if d.Blocked != "" {
						_ = b.spool.Free(ctx, d.UUID, "nobody")
					}
				}
			}
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			prints := 0
			tt.how.rough = true
			for seed := range uint64(40) {
				var faults []string
				synctest.Test(t, func(t *testing.T) {
					var figures map[string]int
					faults, figures = live(t, seed, 250, tt.how)
					prints += figures["presses"]
				})
				if len(faults) > 0 {
					t.Logf("found out after %d prints: %s", prints, faults[0])
					return
				}
			}
			t.Errorf("nobody noticed in %d prints", prints)
		})
	}
}
