// Package escpos prints slips on receipt printers: ESC/POS as Epson documents it, over TCP port 9100 or a device file.
//
// Such a printer says little of what became of a job: that it took the bytes does not mean that paper came out. So it
// gets slips only, which anybody may ask for again, and never a certificate.
package escpos

import (
	"context"
	"errors"

	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
)

// ErrUnreachable means that the printer does not answer.
var ErrUnreachable = errors.New("receipt printer does not answer")

// Printer is a receipt printer: "socket://host:9100", or "file:///dev/usb/lp0".
type Printer struct {
	URI string
}

// Slip makes the bytes of a slip with a pick-up code.
func Slip(form paper.SlipForm) ([]byte, error) { return nil, errors.ErrUnsupported }

// Adoption makes the bytes of the page by which a printer is adopted: four digits, accents, a QR.
func Adoption(code, branch string) ([]byte, error) { return nil, errors.ErrUnsupported }

// Status asks how the printer is: TroubleNone, TroublePaper, TroubleCover, TroubleOther, or TroubleUnreachable.
func (p Printer) Status(ctx context.Context) (kiosk.Trouble, error) {
	return kiosk.TroubleOther, errors.ErrUnsupported
}

// Print sends what Slip or Adoption made and waits until the printer says that it is well. Its error is a
// *kiosk.PrintError.
func (p Printer) Print(ctx context.Context, b []byte) error { return errors.ErrUnsupported }
