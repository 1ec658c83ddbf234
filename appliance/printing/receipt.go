package printing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// printSlip prints a slip on the receipt printer a, and nothing else. It is journalled like any print, in fewer steps: there
// is no job at such a printer. An error with NothingPrinted means that not a byte of the slip was taken, so that it may go
// on A4. One print at a time goes to a printer: the caller sees to it.
func (s *Spooler) printSlip(ctx context.Context, a staff.Adopted, job kiosk.PrintJob, report func(kiosk.PrintProgress)) error {
	if job.Slip == nil || job.Kind != kindSlip || !a.Receipt {
		return fail(kiosk.TroubleFormat, kiosk.NothingPrinted, errors.New("only slips go to a receipt printer, and only to one"))
	}
	b, err := escpos.Slip(*job.Slip)
	if err != nil {
		return fail(kiosk.TroubleFormat, kiosk.NothingPrinted, err)
	}
	row := Row{
		ID: newID(), Session: job.Session, Kiosk: job.Kiosk, Kind: job.Kind, SHA256: hex.EncodeToString(job.SHA256[:]),
		Pages: 1, Bytes: len(b), PrinterUUID: a.UUID, PrinterURI: a.URI,
	}
	if job.Reprint != nil {
		row.Of, row.Number = job.Reprint.Of, job.Reprint.Number
	}
	s.note(&row, Queued)
	if err := ctx.Err(); err != nil {
		return s.endSlip(&row, Cancelled, a, &kiosk.PrintError{Outcome: kiosk.NothingPrinted, Err: err})
	}
	// From here on bytes may leave. Asking the printer first is part of it.
	s.note(&row, Sending)
	report(kiosk.PrintProgress{State: kiosk.PrintSending})
	p := escpos.Printer{
		URI: a.URI, Dial: s.receiptDial(a),
		Sent: func() {
			s.note(&row, Sent)
			report(kiosk.PrintProgress{State: kiosk.PrintPrinting})
		},
		Trouble: func(t kiosk.Trouble) {
			if t == kiosk.TroubleNone {
				report(kiosk.PrintProgress{State: kiosk.PrintPrinting})
				return
			}
			report(kiosk.PrintProgress{State: kiosk.PrintStopped, Trouble: t})
		},
	}
	err = p.Print(ctx, b)
	if err == nil {
		s.note(&row, Done)
		return nil
	}
	pe := kiosk.AsPrintError(err)
	switch {
	case pe.Outcome != kiosk.NothingPrinted:
		return s.endSlip(&row, Uncertain, a, pe)
	case ctx.Err() != nil:
		return s.endSlip(&row, Cancelled, a, pe)
	}
	return s.endSlip(&row, Failed, a, pe)
}

// receiptDial makes the connections to a receipt printer: who has a port of the box for itself is looked for there only.
func (s *Spooler) receiptDial(a staff.Adopted) func(context.Context, string, string) (net.Conn, error) {
	if s.cfg.Dial == nil && a.Link == staff.LinkDedicated {
		return ipp.DialBy(a.Interface)
	}
	return s.cfg.Dial
}

// kindSlip is the Kind of a slip.
const kindSlip = "slip"

// endSlip writes how a slip ended that is not known to have come out, and returns why.
func (s *Spooler) endSlip(row *Row, state State, a staff.Adopted, why *kiosk.PrintError) error {
	if state == Uncertain {
		// It may be any number of bytes that came out of the printer, none included.
		row.Sent, row.Sheets, row.Why = row.Bytes, unknownSheets, fmt.Sprintf("%.*s", maxWhy, why.Error())
	}
	s.note(row, state)
	if state == Uncertain {
		s.raise(staff.AlarmUncertain, a.UUID, a.Name, "", "")
	}
	return &kiosk.PrintError{Trouble: why.Trouble, Outcome: why.Outcome, Print: row.ID, Err: why.Err}
}

// note writes the row before the step that state names. A slip is printed also when it cannot be written: it may exist
// twice, and the person has nothing else to come back with.
func (s *Spooler) note(row *Row, state State) {
	row.State = state
	if err := s.write(*row); err != nil {
		s.cfg.Log.Error("print not journalled", "print", row.ID, "state", state, "err", err)
	}
}
