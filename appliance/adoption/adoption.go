// Package adoption says to which printers a citizen's documents may go.
//
// Discovery only proposes: anybody on a branch's network can announce a printer. A printer is adopted when a person
// types the code that stands on a page it printed, so that what answers on the network is what stands in the room; from
// then on its TLS keys say that it is the same one.
package adoption

import (
	"context"
	"log/slog"
	"net"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk/staff"
)

// Store keeps the adopted printers. Package sqlite implements it.
type Store interface {
	// SavePrinter stores a, over one with the same UUID. When it returns nil it is on the disk.
	SavePrinter(ctx context.Context, a staff.Adopted) error
	// Printers returns every printer that was ever adopted, retired ones too, oldest first.
	Printers(ctx context.Context) ([]staff.Adopted, error)
}

// Config is what adoptions need.
type Config struct {
	Store   Store
	Printer Printer                     // prints the adoption page
	Adopt   func([]staff.Adopted) error // told which printers count now; see printing.Spooler.Adopt
	Branch  func() string               // for the page
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Cleared func(staff.AlarmKind, string)
	Alarm   func(staff.Alarm)
	Log     *slog.Logger
	Now     func() time.Time
}

// Printer prints a document on a printer that is not adopted. Package printing implements it.
type Printer interface {
	// Trial prints pdf on the printer described by a, once, and returns when it is out. raster has it sent as a picture.
	// It returns the format it was sent in; its error is a *kiosk.PrintError.
	Trial(ctx context.Context, a staff.Adopted, pdf []byte, raster bool) (format string, err error)
}

// Service is who says where documents may go. It implements staff.Adoptions.
type Service struct{ cfg Config }

// Configured is a printer that the configuration or provisioning file names.
type Configured struct {
	UUID, URI string
	Keys      []string
	Interface string
	Risk      *staff.Risk
}

// Found says what DNS-SD knows.
func (s *Service) Found(services []dnssd.Service) {}
