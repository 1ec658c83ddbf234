// Package event is what a branch reports to the municipality: what happened and how often, never to whom.
//
// An event has no field that could hold a name, a fiscal code or free text: every string in it comes from a
// closed vocabulary or is a random identifier that dies with the session.
package event

import (
	"time"

	"sportello.example/sync/envelope"
)

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
	PrintDecided     Kind = "print.decided"      // staff looked after an uncertain print: outcome is out | nothing | reprint
	PrinterAdopted   Kind = "printer.adopted"    // documents may go to a printer from now on
	PrinterRetired   Kind = "printer.retired"    // … and not any more
	PrinterAlarm     Kind = "printer.alarm"      // reason: key | identity | duplicate | sheet | risk
	LineDown         Kind = "line.down"          // the hub cannot be reached
	LineUp           Kind = "line.up"            // milliseconds it was down
	DatabaseSetAside Kind = "database.set_aside" // the file was corrupt; a new one was begun
	EventsLost       Kind = "events.lost"        // count of events that a full disk kept from being stored
	BoxStarted       Kind = "box.started"        //

	// What the queue reports of itself.
	EpochBegun   Kind = "queue.epoch"   // reason, and the epoch before it
	Gap          Kind = "queue.gap"     // known to be lost: epoch, stream, from, to, count; reason
	QueueDropped Kind = "queue.dropped" // let go for want of room: epoch, stream, from, to, count; reason
	EventDead    Kind = "queue.dead"    // one that can never be delivered: epoch, stream, from; reason
	// StatsRolled is the count of events of one hour, kind, step and service that were let go singly: epoch, stream, from
	// and to say where they were. The hub may have got some of them singly before. So whoever sums up both takes of a
	// StatsRolled only Count less the events of that epoch and stream which it has with a number in From … To and the same
	// kind, step, service and hour, and nothing when these are more. Nothing of what the hub shows counts such kinds today.
	StatsRolled Kind = "stats.rolled"
	ClockSet    Kind = "clock.set" // the box learned the time: Clock; epoch, when it is about events of an older one
)

// Stream says in which part of the queue events of a kind wait. A kind that is not known waits with the least urgent.
func (k Kind) Stream() envelope.Stream {
	switch k {
	case RequestLeft, RequestCollected, DeclarationMade, PrintStarted, PrintDone, PrintFailed, PrintUncertain, SheetsMissing,
		PrintDecided, PrinterAdopted, PrinterRetired,
		DatabaseSetAside, EventsLost, EpochBegun, Gap, QueueDropped, EventDead, ClockSet:
		return envelope.Legal
	case SessionStarted, SessionEnded, LoginShown, LoginCodeOK, LoginCodeWrong, LoginExpired, LoginLocked, LoginIdentified,
		LoginRejected, DocumentReceived, DocumentRefused:
		return envelope.Session
	case StepAnswered, AnswerRefused, StatsRolled:
		return envelope.Stats
	default:
		return envelope.Diag
	}
}

// Versions of an envelope's body.
const (
	SchemaV1   = 1 // V1 in JSON
	SchemaBody = 2 // Body in JSON
)

// Event is one row of what happened. When and under which number is for the queue to say: see envelope.Envelope.
type Event struct {
	Kind    Kind
	Session string // random UUID of one visit, "" outside of one
	Kiosk   int    // 1, 2 … within the branch, 0 for the box itself
	Detail  Detail
	// Private is what only the hub may read. It is closed to the hub's key when the event is stored, and is in clear
	// nowhere but here. RequestLeft only: a wire.Request in JSON.
	Private []byte
}

// Body is an event as the body of an envelope with SchemaBody: what the header does not say.
type Body struct {
	Session string `json:"session,omitempty"`
	Kiosk   int    `json:"kiosk,omitempty"`
	Detail  Detail `json:"detail,omitzero"`
}

// V1 is an event as boxes of the first release queued and sent it. It is read for ever and never written.
type V1 struct {
	Seq     uint64    `json:"seq"`               // within (box, epoch)
	At      time.Time `json:"at"`                // UTC by the box's clock
	ClockOK bool      `json:"clock_ok"`          // whether the box believes its clock
	Kind    Kind      `json:"kind"`              //
	Session string    `json:"session,omitempty"` //
	Kiosk   int       `json:"kiosk,omitempty"`   //
	Detail  Detail    `json:"detail,omitzero"`   //
	Sealed  []byte    `json:"sealed,omitempty"`  // HPKE ciphertext: see seal.OpenRequestV1
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
	Outcome      string   `json:"outcome,omitempty"`      // printed | request_left | abandoned | ended | stopped | crashed; of PrintDecided out | nothing | reprint
	Reason       string   `json:"reason,omitempty"`       // a word from the list of the package that reports it
	Pages        int      `json:"pages,omitempty"`        // sheets of A4
	Count        int      `json:"count,omitempty"`        //
	Milliseconds int64    `json:"milliseconds,omitempty"` //

	// What the queue reports of itself.
	Epoch  envelope.Epoch `json:"epoch,omitempty"`
	Stream string         `json:"stream,omitempty"` // envelope.Stream
	From   uint64         `json:"from,omitempty"`   // first number meant
	To     uint64         `json:"to,omitempty"`     // last number meant
	Of     Kind           `json:"of,omitempty"`     // kind of the events that StatsRolled counts
	Hour   string         `json:"hour,omitempty"`   // 2006-01-02T15, UTC by the box's clock
	Clock  *Clock         `json:"clock,omitempty"`  // of ClockSet
}

// Clock is what a box learned of the time: at Mono after start number Boot its clock was set from Old to New.
type Clock struct {
	Boot uint32    `json:"boot"`
	Mono int64     `json:"mono"` // milliseconds
	Old  time.Time `json:"old"`
	New  time.Time `json:"new"` // by the hub's clock
}
