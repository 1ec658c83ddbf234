// Package event is what a branch reports to the municipality: what happened and how often, never to whom.
//
// An event has no field that could hold a name, a fiscal code or free text: every string in it comes from a
// closed vocabulary or is a random identifier that dies with the session.
package event

import "time"

// Kind says what happened. The dotted names are stored and sent, so they are never renamed.
type Kind string

// What a box reports.
const (
	SessionStarted   Kind = "session.started"    // language, mode
	SessionEnded     Kind = "session.ended"      // outcome, milliseconds
	StepAnswered     Kind = "step.answered"      // step, and what was chosen
	AnswerRefused    Kind = "answer.refused"     // step, reason
	LoginShown       Kind = "login.shown"        // a QR was drawn
	LoginCodeOK      Kind = "login.code_ok"      // the box verified the typed code
	LoginCodeWrong   Kind = "login.code_wrong"   // reason: wrong | dead
	LoginExpired     Kind = "login.expired"      // reason: expired | cancelled | refused
	LoginLocked      Kind = "login.locked"       // too many wrong codes at this kiosk
	LoginIdentified  Kind = "login.identified"   // the sealed identity arrived and opened
	LoginRejected    Kind = "login.rejected"     // "that is not me", or an identity that does not open
	DocumentReceived Kind = "document.received"  // milliseconds, pages
	DocumentRefused  Kind = "document.refused"   // reason
	DeclarationMade  Kind = "declaration.made"   // service, pages
	RequestLeft      Kind = "request.left"       // Sealed holds the request, closed to the hub's key
	RequestCollected Kind = "request.collected"  //
	PrintStarted     Kind = "print.started"      // pages
	PrintDone        Kind = "print.done"         // pages, milliseconds
	PrintFailed      Kind = "print.failed"       // reason
	PrintUncertain   Kind = "print.uncertain"    // nobody can say whether paper came out
	SheetsMissing    Kind = "print.missing"      // the citizen says a sheet is missing
	LineDown         Kind = "line.down"          // the hub cannot be reached
	LineUp           Kind = "line.up"            // milliseconds it was down
	DatabaseSetAside Kind = "database.set_aside" // the file was corrupt; a new one was begun
	EventsLost       Kind = "events.lost"        // count of events that a full disk kept from being stored
	BoxStarted       Kind = "box.started"        //
)

// Event is one row of what happened.
type Event struct {
	Seq     uint64    `json:"seq"`               // 1, 2, 3 … within (box, epoch): no holes, never used twice
	At      time.Time `json:"at"`                // UTC by the box's clock
	ClockOK bool      `json:"clock_ok"`          // whether the box believes its clock
	Kind    Kind      `json:"kind"`              //
	Session string    `json:"session,omitempty"` // random UUID of one visit, "" outside of one
	Kiosk   int       `json:"kiosk,omitempty"`   // 1, 2 … within the branch, 0 for the box itself
	Detail  Detail    `json:"detail,omitzero"`   //
	Sealed  []byte    `json:"sealed,omitempty"`  // HPKE ciphertext that only the hub opens; RequestLeft only
}

// Detail is what else an event may say. Every string is from a closed vocabulary.
type Detail struct {
	Mode         string   `json:"mode,omitempty"`         // self | assisted
	Language     string   `json:"language,omitempty"`     // BCP 47
	Step         string   `json:"step,omitempty"`         // the name of a page of the kiosk
	Service      string   `json:"service,omitempty"`      // certificate | declaration | collect; of a print also slip
	Recipient    string   `json:"recipient,omitempty"`    // public | utility | private | abroad | court
	Certificates []string `json:"certificates,omitempty"` // slugs of the catalogue
	Holder       string   `json:"holder,omitempty"`       // self | family
	Stamp        string   `json:"stamp,omitempty"`        // due | exempt
	Exemption    int      `json:"exemption,omitempty"`    // ANPR table 39
	Outcome      string   `json:"outcome,omitempty"`      // printed | request_left | abandoned | ended | stopped | crashed
	Reason       string   `json:"reason,omitempty"`       // a word from the list of the package that reports it
	Pages        int      `json:"pages,omitempty"`        // sheets of A4
	Count        int      `json:"count,omitempty"`        //
	Milliseconds int64    `json:"milliseconds,omitempty"` //
}
