package printing

import (
	"context"
	"errors"

	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// printSlip prints a slip on a receipt printer.
func (s *Spooler) printSlip(ctx context.Context, a staff.Adopted, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
	return errors.ErrUnsupported
}
