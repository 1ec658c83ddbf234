// Package staff shows the pages of those who work in the branch: how the printers are and what waits in them, prints of
// which nobody knows what came out, and the adoption of a printer by the code on a page it printed.
//
// The pages are for facilitators and technicians, behind the branch's staff code. They name no citizen: a print is a
// code and an age. What they show is asked of the interfaces below; nothing is decided here.
package staff

import (
	"context"
	"errors"
	"time"

	"sportello.example/kiosk"
)

// Presence is what is known of a printer by asking it (IPP), not by what is announced of it: printers vanish from DNS-SD
// when they sleep.
type Presence string

// The presences of a printer.
const (
	Online        Presence = "online"
	Asleep        Presence = "asleep"         // not announced any more, but its port is open: it wakes for a job
	Unreachable   Presence = "unreachable"    //
	WrongIdentity Presence = "wrong_identity" // another machine, or another key, answers
)

// Device is how an adopted printer is.
type Device struct {
	UUID       string
	Name       string // as the printer calls itself, cleaned for display
	URI        string // where it last answered
	Presence   Presence
	State      kiosk.PrinterState
	Trouble    kiosk.Trouble
	Reasons    []Reason // every one, the blocking first
	Message    string   // printer-state-message, cleaned
	Trays      []Tray
	Supplies   []Supply
	Queue      []Job  // ours, oldest first
	Others     int    // jobs of others that the printer says it has
	PagesToday int    // sheets of ours since midnight
	Format     string // application/pdf | image/urf | image/pwg-raster: what a document would go as; "" for none
	Blocked    string // ID of the print whose sheet may still come out; "" for none
	Fault      string // fingerprint of the key that answered instead of the adopted ones; "" for none
	Since      time.Time
}

// Reason is one printer-state-reason. Keyword has no severity ("media-empty"); a text for it is
// staff.reason.<keyword>, or staff.reason.other when we know none.
type Reason struct {
	Keyword  string
	Severity string // error | warning | report, after looking at printer-state
}

// Tray is a tray of paper.
type Tray struct {
	Name  string
	Media string // PWG 5101.1 name, "iso_a4_210x297mm"; "" when it does not say
	Level int    // sheets; -1 when it does not say
	Max   int    // sheets; -1 when it does not say
}

// Supply is a toner, a drum, a bottle of waste.
type Supply struct {
	Name  string
	Kind  string // marker-types keyword: toner, waste-toner …
	Level int    // percent; -1 when it does not say
}

// Job is a print of ours that has not ended.
type Job struct {
	ID    string // of the journal
	Kiosk int
	Kind  string // certificate | declaration | slip | test
	State string // of the journal
	Since time.Time
}

// Print is a print of which nobody knows what came out, with all that is known.
type Print struct {
	ID      string
	Kiosk   int
	Kind    string
	Printer string // UUID
	Name    string // of the printer
	Pages   int
	At      time.Time
	// Evidence.
	Bytes     int    // of the document
	Sent      int    // bytes that may have left
	JobState  string // what the printer last said of the job, "" for nothing
	Sheets    int    // job-impressions-completed, -1 when it does not say
	Restarted bool   // the printer was switched off and on since
	Why       string // what happened, in English, for technicians
	Number    int    // 0 for a first print, 1 for the first reprint …
}

// Spool is what the adopted printers do.
type Spool interface {
	// Devices says how every adopted printer is, in order of preference. It does not block.
	Devices() []Device
	// TestPage prints a page that says nothing of anybody. It returns when it is out; its error is a *kiosk.PrintError.
	TestPage(ctx context.Context, uuid string) error
	// Undecided returns the prints that wait for somebody to look at the tray, oldest first.
	Undecided(ctx context.Context) ([]Print, error)
	// Decide writes what somebody found in the tray. ErrGone when it is decided already.
	Decide(ctx context.Context, id string, v kiosk.Verdict, by string) error
	// Free lets documents go to a printer again from which somebody's sheet might still have come: staff has looked.
	Free(ctx context.Context, uuid, by string) error
}

// Link is how the box knows that it talks to the printer it adopted.
type Link string

// The links.
const (
	LinkTLS       Link = "tls"       // the printer's keys are pinned
	LinkUSB       Link = "usb"       // ipp-usb on the box's own loopback
	LinkDedicated Link = "dedicated" // a network port of the box that leads to this printer only
	LinkRisk      Link = "risk"      // in the clear: somebody accepted that, see Risk
)

// Risk is who accepted that a printer without TLS is used, and until when.
type Risk struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"` // at most a year after At; then the printer is refused
}

// Adopted is what the box stores of a printer that documents may go to.
type Adopted struct {
	UUID      string    `json:"uuid"` // printer-uuid, lower case, without "urn:uuid:"; of a receipt printer a random one
	Name      string    `json:"name"`
	Make      string    `json:"make"`   // printer-make-and-model
	Serial    string    `json:"serial"` // "" when it does not say
	URI       string    `json:"uri"`    // where it last answered: ipp, ipps, or socket://host:9100 for a receipt printer
	Keys      []string  `json:"keys"`   // SHA-256 of the SubjectPublicKeyInfo of each of its TLS keys, hex
	Link      Link      `json:"link"`
	Interface string    `json:"interface,omitempty"` // of LinkDedicated
	Risk      *Risk     `json:"risk,omitempty"`      // of LinkRisk
	PDF       bool      `json:"pdf"`                 // its own drawing of the adoption page was judged right
	Raster    bool      `json:"raster"`              // raster always, whatever else it takes
	Receipt   bool      `json:"receipt"`             // prints slips only
	By        string    `json:"by"`                  // who adopted it: a name, or "configuration"
	At        time.Time `json:"at"`
	Retired   time.Time `json:"retired,omitzero"`
	RetiredBy string    `json:"retired_by,omitempty"`
}

// Candidate is a printer that could be adopted: announced, added by hand, or adopted and now with another key.
type Candidate struct {
	ID      string   // for this page; not the printer's
	UUID    string   // as it says; "" for a receipt printer
	Name    string   //
	Make    string   //
	URI     string   //
	Source  string   // dnssd | manual | usb
	TLS     bool     //
	Keys    []string // fingerprints it shows now
	Known   bool     // the UUID is adopted already: OldKeys says with which keys
	OldKeys []string //
	Refused string   // why it cannot be adopted as it is, "" when it can; a text for it is staff.refused.<word>
	Receipt bool     //
}

// Trial is an adoption that waits for the code on the paper.
type Trial struct {
	ID      string // of the candidate
	UUID    string
	Name    string
	Format  string // the page was sent as
	Started time.Time
	Ends    time.Time // then the code is worth nothing
	Left    int       // tries
}

// Errors of Adoptions. They are wrapped: use errors.Is.
var (
	ErrGone    = errors.New("it is not there any more")
	ErrAddress = errors.New("not the address of a printer") // want ipps://host/path, ipp://host/path, socket://host:9100
	ErrCode    = errors.New("wrong code")
	ErrOver    = errors.New("the time or the tries for this code are over")
	ErrRefused = errors.New("this printer cannot be adopted as it is") // see Candidate.Refused
	ErrRisk    = errors.New("a risk needs a name, a reason and a date within a year")
	ErrChanged = errors.New("the printer is not the one whose page was printed")
)

// Adoptions is who says where documents may go. Only a person can: by is a name that is stored.
type Adoptions interface {
	// Adopted returns the printers that documents may go to, in order of preference.
	Adopted(ctx context.Context) ([]Adopted, error)
	// Candidates returns what could be adopted now. It may block for two seconds to ask them how they are.
	Candidates(ctx context.Context) ([]Candidate, error)
	// Add makes a candidate of a URI that somebody typed. ErrAddress.
	Add(ctx context.Context, uri string) (Candidate, error)
	// Begin prints the adoption page with a random code on a candidate, as PDF or, with raster, as a picture. Printing is
	// over when it returns. A second Begin ends the first. risk is needed for a printer without TLS and nil for others.
	// ErrGone, ErrRefused, ErrRisk, or a *kiosk.PrintError.
	Begin(ctx context.Context, id string, raster bool, risk *Risk, by string) (Trial, error)
	// Confirm takes the code that a person read on the paper, and whether the page looked right: a printer whose page did
	// not is not adopted, and ErrRefused. One whose page was printed as a picture gets pictures always. ErrCode, ErrOver,
	// ErrChanged; ErrGone when it does not answer just now: the code stays good.
	Confirm(ctx context.Context, id, code string, right bool, by string) (Adopted, error)
	// Retire ends an adoption. Nothing more goes to that printer. ErrGone.
	Retire(ctx context.Context, uuid, by string) error
	// SetRaster has documents go to a printer as pictures always, or not. ErrGone.
	SetRaster(ctx context.Context, uuid string, always bool) error
}
