package printing

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"sportello.example/kiosk"
)

// State is how far a print had got when its row was written. A row is written before the step it names is taken, so
// that after a power cut the row says what may have happened, never less.
type State string

// The states of a row. The stored words are never renamed.
const (
	Queued    State = "queued"          // nothing was said to the printer
	Creating  State = "creating"        // Create-Job may have been sent
	Created   State = "created"         // the job exists without a document and keeps everybody else from printing
	Sending   State = "sending"         // some of the document may have arrived
	Sent      State = "sent"            // the document arrived whole
	Printing  State = "printing"        // the printer said that it prints
	Done      State = "done"            // the printer said that the last sheet is out
	Failed    State = "nothing-printed" // ended, and no sheet came out
	Cancelled State = "cancelled"       // ended before the last sheet: given up, or printed in part
	Uncertain State = "uncertain"       // ended, and nobody can say what came out without looking
)

// failedBefore is what older programs wrote for Failed.
const failedBefore State = "failed"

// Open reports whether the print has not ended: such rows are settled with the printer after a restart.
func (s State) Open() bool {
	switch s {
	case Done, Failed, failedBefore, Cancelled, Uncertain:
		return false
	}
	return true
}

// Row is what is stored of a print: enough to ask the printer about it after a power cut, nothing of whose it was.
type Row struct {
	missed time.Time // since when the printer says that it has no such job, though it may have been asked for one

	ID          string    // random; also the job-name, by which the job is found when its id was never heard
	Session     string    // of the visit
	Kiosk       int       //
	Kind        string    // certificate | declaration | slip | test
	SHA256      string    // of the PDF, hex
	Pages       int       //
	Bytes       int       // of the document, as it is sent
	State       State     //
	JobID       int       // 0 until the job is known
	JobUUID     string    // "" when the printer gives none
	PrinterUUID string    //
	PrinterURI  string    // where the printer was
	UpTime      int       // the printer's, in seconds, when the job was made: job ids mean nothing after it fell
	Updated     time.Time // UTC

	// Of a reprint.
	Of     string `json:",omitempty"` // ID of the first print
	Number int    `json:",omitempty"` // 1 for the first reprint

	// What is known of the paper when the print is Uncertain: see staff.Print.
	Sent      int    `json:",omitempty"`
	JobState  string `json:",omitempty"`
	Sheets    int    `json:",omitempty"`
	Restarted bool   `json:",omitempty"`
	Why       string `json:",omitempty"`

	// Pursue says that the printer has not said that the job has ended: its sheet may still come out.
	Pursue bool `json:",omitempty"`
	// FreedBy is who let the printer be used again although it has not.
	FreedBy string `json:",omitempty"`
	told    bool   // not stored: its job was told to end, in vain so far

	// What somebody found in the tray. Only an Uncertain row has it, and only once.
	Verdict   kiosk.Verdict `json:",omitempty"`
	DecidedBy string        `json:",omitempty"`
	DecidedAt time.Time     `json:",omitzero"`
}

// Journal keeps rows so that they survive a power cut.
type Journal interface {
	// SavePrint stores the row, over one with the same ID. When it returns nil the row is on the disk.
	SavePrint(ctx context.Context, row Row) error
	// OpenPrints returns the rows whose State is Open, oldest first.
	OpenPrints(ctx context.Context) ([]Row, error)
	// UndecidedPrints returns the rows that are Uncertain and have no Verdict, oldest first.
	UndecidedPrints(ctx context.Context) ([]Row, error)
	// SheetsSince counts the pages of the rows that were Done at t or later, by PrinterUUID.
	SheetsSince(ctx context.Context, t time.Time) (map[string]int, error)
}

// newID returns a random UUID (RFC 9562 §5.4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
