package kiosk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"sportello.example/kiosk/paper"
)

// Printer puts documents on paper. Package printing implements it.
type Printer interface {
	// Print sends job to the branch's printer and follows it until the last sheet is out; it returns nil then. It blocks
	// for as long as the printer needs (paper may have to be loaded first) and calls report, from the same goroutine,
	// at every change. A printer that needs a hand is reported, not returned: the job waits. When ctx ends the job is
	// cancelled at the printer before Print returns; if all sheets were out by then, that is nil too. An error is a
	// *PrintError, also after a cancel: its Outcome says what is known of the paper, never who ended the job.
	Print(ctx context.Context, job PrintJob, report func(PrintProgress)) error
	// Status says how the branch's printer is now: of several, the one that would print next. It does not block.
	Status() PrinterStatus
	// Printers says how every adopted printer is that documents may go to, in order of preference. It does not block.
	Printers() []PrinterStatus
}

// PrintJob is a document on its way to paper. It lives in RAM only.
type PrintJob struct {
	Session string            // random UUID of the visit that pressed "Stampa"
	Kiosk   int               //
	Kind    string            // certificate | declaration | slip: for the journal, nothing of it reaches the printer
	PDF     []byte            //
	SHA256  [sha256.Size]byte // of PDF, as it was checked when it arrived
	Pages   int               // sheets, printed on one side
	Printer string            // UUID of the adopted printer that the citizen chose; "" means the one that would print next
	Slip    *paper.SlipForm   // of Kind slip: what a receipt printer prints instead of PDF, where the branch has one
	Reprint *Reprint          // staff decided that an uncertain print is printed again; nil for a first print
}

// Reprint says of which print a print is the repetition: it is never the machine that decides so.
type Reprint struct {
	Of     string // the journal's ID of the first print
	Number int    // 1 for the first reprint
}

// Verdict is what staff found in the tray after an uncertain print.
type Verdict string

// The verdicts.
const (
	VerdictOut     Verdict = "out"     // every sheet is there
	VerdictNothing Verdict = "nothing" // no sheet, or not all; what there was is destroyed, and nothing is printed again
	VerdictReprint Verdict = "reprint" // no sheet, or not all; what there was is destroyed, and it is printed again
)

// PrintProgress is what can be said of a job that has not ended.
type PrintProgress struct {
	State   PrintState
	Page    int     // sheets the printer says are out, 0 when it does not say
	Trouble Trouble // what keeps the printer from going on, "" when nothing does
}

// PrintState is where a job has got to (RFC 8011 §5.3.7 in the kiosk's words).
type PrintState string

// The states a citizen can see.
const (
	PrintWaiting  PrintState = "waiting"  // the printer is busy with somebody else's job
	PrintSending  PrintState = "sending"  //
	PrintPrinting PrintState = "printing" //
	PrintStopped  PrintState = "stopped"  // see Trouble
)

// Trouble is what is wrong with a printer, in one word that has a text in every language.
type Trouble string

// The troubles of a printer (from printer-state-reasons, RFC 8011 §5.4.12, and from not reaching it).
const (
	TroubleNone        Trouble = ""
	TroublePaper       Trouble = "paper"       // media-empty, media-needed
	TroubleJam         Trouble = "jam"         // media-jam
	TroubleCover       Trouble = "cover"       // cover-open, door-open, interlock-open
	TroubleTray        Trouble = "tray"        // input-tray-missing
	TroubleToner       Trouble = "toner"       // toner-empty, marker-supply-empty
	TroubleOutputFull  Trouble = "output_full" // output-area-full
	TroublePaused      Trouble = "paused"      // paused, moving-to-paused
	TroubleUnreachable Trouble = "unreachable" // no answer
	TroubleBusy        Trouble = "busy"        // server-error-busy and the like, for longer than a citizen waits
	TroubleFormat      Trouble = "format"      // the printer does not take PDF
	TroubleMedia       Trouble = "media"       // no A4 in the printer
	TroubleWaste       Trouble = "waste"       // marker-waste-full
	TroubleHot         Trouble = "hot"         // fuser-over-temp
	TroubleIdentity    Trouble = "identity"    // another machine, or another key, answers at the printer's address
	TroubleAuth        Trouble = "auth"        // the printer asks for a user and a password
	TroubleBlocked     Trouble = "blocked"     // a sheet of somebody before may still come out: staff must look first
	TroubleOther       Trouble = "other"       // a reason we have no word for
	TroubleNoPrinter   Trouble = "none"        // the branch has adopted no printer
)

// PrinterState is how a printer is between jobs.
type PrinterState string

// The states of a printer as the lights show them.
const (
	PrinterReady     PrinterState = "ready"
	PrinterBusy      PrinterState = "busy"
	PrinterAttention PrinterState = "attention" // reachable, but it needs a hand: see Trouble
	PrinterOffline   PrinterState = "offline"
	PrinterNone      PrinterState = "none"
)

// PrinterStatus is what the branch's printer last said.
type PrinterStatus struct {
	UUID    string // printer-uuid, lower case, without "urn:uuid:"; "" without a printer
	State   PrinterState
	Trouble Trouble
	Name    string // as the printer calls itself, cleaned for display
	Since   time.Time
}

// PrintOutcome says what is known of the paper when a job has failed.
type PrintOutcome string

// What may have come out of the printer. Only NothingPrinted allows another try without a person's judgement, else paper
// that must not exist twice is doubled.
const (
	// NothingPrinted means that it is known that no sheet came out: nothing of the document reached the printer, or a
	// printer that is known to count its sheets ended the job, cancelled or not, and counted none.
	NothingPrinted PrintOutcome = "nothing_printed"
	// PartlyPrinted means that the printer ended the job, cancelled or not, and counted some of its sheets, not all.
	PartlyPrinted PrintOutcome = "partly_printed"
	// Uncertain is everything else: nobody can say without looking at the tray.
	Uncertain PrintOutcome = "uncertain"
)

// PrintError is why a job ended without the last sheet.
type PrintError struct {
	Trouble Trouble
	Outcome PrintOutcome
	Print   string // the journal's ID of the print, by which staff decide about an uncertain one; "" if it has no row
	Err     error  // for the log: never holds a name or a document
}

func (e *PrintError) Error() string {
	return fmt.Sprintf("print (%s, %s): %v", e.Trouble, e.Outcome, e.Err)
}

func (e *PrintError) Unwrap() error { return e.Err }

// AsPrintError returns err as a *PrintError; an error that is none becomes an uncertain one, the careful reading.
func AsPrintError(err error) *PrintError {
	var pe *PrintError
	if errors.As(err, &pe) {
		return pe
	}
	return &PrintError{Trouble: TroubleOther, Outcome: Uncertain, Err: err}
}
