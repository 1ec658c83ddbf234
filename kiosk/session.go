package kiosk

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/citizen"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// Person is who has proved who they are. The names print as "***" wherever they are printed.
type Person struct {
	name, familyName citizen.Name
}

// NewPerson returns the person of that name.
func NewPerson(name, familyName citizen.Name) Person { return Person{name, familyName} }

// Name returns the given name, as the registry of the identity provider writes it.
func (p Person) Name() string { return p.name.Reveal() }

// FamilyName returns the family name.
func (p Person) FamilyName() string { return p.familyName.Reveal() }

// Masked returns the initials, enough for somebody to know themselves and too little for who looks over their
// shoulder: "M**** R***".
func (p Person) Masked() string { return p.name.Masked() + " " + p.familyName.Masked() }

// Session is one person's visit at one kiosk, from the first touch to the wipe. It lives in RAM and is safe for
// concurrent use. Only the Desk changes it.
type Session struct {
	ID    string // random UUID; the only thing about a session that is ever stored, logged or sent
	Key   string // random; whoever shows it at this kiosk is this visitor. It is never stored, logged or sent
	Kiosk int    // 1, 2 …

	ctx    context.Context //nolint:containedctx // the visit's own life: ends with goodbye, and with it every wait it began
	cancel context.CancelFunc
	done   chan struct{} // closed when the session has ended

	mu       sync.Mutex // guards the fields that follow
	language string
	mode     Mode
	answers  Answers
	started  time.Time
	touched  time.Time
	ended    bool
	changed  chan struct{} // closed and replaced at every change

	login    login
	person   *Person
	accepted bool // "yes, that is me"
	family   []wire.Member
	doc      *document
	stage    Stage
	problem  *Problem
	progress PrintProgress
	since    time.Time // when the stage began
	slip     string    // pick-up code of the request that was left
	busy     bool      // a press of a button is being dealt with that must not be dealt with twice
	printer  string    // UUID of the printer that was chosen for the document last made, "" for the one that would print next
	waiting  string    // journal's ID of the uncertain print that staff have yet to decide about; the document is kept for it
	stopped  time.Time // since when the job waits for somebody to help the printer, zero while it does not
	printing context.CancelFunc
	events   int // stored so far
}

// login is the state of proving who one is.
type login struct {
	url      string    // what the QR holds
	nonce    string    // names the challenge at the hub, 20 hexadecimal digits
	shown    time.Time // when the QR was drawn
	verified bool      // the box checked the typed code: somebody with SPID authorised this challenge (no identity yet)
	token    []byte    // sealed identity, as the hub sent it
	failed   string    // cancelled | refused | expired: how the phone's side ended, "" while it has not
	left     int       // tries left after a wrong code
	stop     context.CancelFunc
}

// document is a PDF on its way to paper.
type document struct {
	kind    string // certificate | declaration | slip
	pdf     []byte
	sha     [32]byte
	pages   [][]byte        // PNG, one a sheet
	slip    *paper.SlipForm // of a slip: what a receipt printer prints
	reprint *Reprint        // staff decided that it is printed again
}

// destroy overwrites the document. Nothing may read it any more.
func (doc *document) destroy() {
	clear(doc.pdf)
	for _, page := range doc.pages {
		clear(page)
	}
}

// drop destroys the document in hand. One that is at the printer is destroyed by who prints it, when the printer is done
// with it. The caller holds the lock.
func (s *Session) drop() {
	if s.doc != nil && s.printing == nil {
		s.doc.destroy()
	}
	s.doc, s.waiting = nil, ""
}

// Stage says what a session is busy with. While it is StageAsking the citizen moves freely between questions; in every
// other stage one page is the right one.
type Stage string

// The stages of a session, in order.
const (
	StageAsking    Stage = "asking"
	StageLogin     Stage = "login"     // from "log in" to "yes, that is me"
	StageConfirmed Stage = "confirmed" // known who it is; member and review
	StagePreparing Stage = "preparing"
	StagePreview   Stage = "preview"
	StagePrinting  Stage = "printing"
	StageTake      Stage = "take"
	StageProblem   Stage = "problem"
	StageGoodbye   Stage = "goodbye"
)

// ProblemKind names what went wrong, for the page that says it and for the event.
type ProblemKind string

// The problems of a session. Each has a text in every language: what happened, and what to do now.
const (
	ProblemOffline        ProblemKind = "offline"         // the line went down on the way
	ProblemRegistryDown   ProblemKind = "registry_down"   // the hub answers, ANPR does not
	ProblemNotRegistered  ProblemKind = "not_registered"  //
	ProblemNotCertifiable ProblemKind = "not_certifiable" //
	ProblemLoginOver      ProblemKind = "login_over"      // the hub no longer knows the login
	ProblemDocument       ProblemKind = "document"        // what arrived is not the document that was announced
	ProblemDiskFull       ProblemKind = "disk_full"       //
	ProblemPrinter        ProblemKind = "printer"         // nothing was printed: see Trouble
	ProblemUncertain      ProblemKind = "uncertain"       // paper may have come out
	ProblemNoted          ProblemKind = "noted"           // … and staff have looked: not all of it is there, and it is not printed again
	ProblemInternal       ProblemKind = "internal"        //
)

// Problem is what a session stopped at.
type Problem struct {
	Kind     ProblemKind
	Trouble  Trouble // with ProblemPrinter and ProblemUncertain
	CanRetry bool    // trying again makes sense and is safe
	CanLeave bool    // the request can be left for when the line is back
	Waiting  bool    // with ProblemUncertain: staff have been told, and the document is kept until they have looked at the tray
}

// View is a copy of a session for a page to show. It shares nothing with the session.
type View struct {
	ID       string
	Kiosk    int
	Language string
	Mode     Mode
	Stage    Stage
	Answers  Answers
	Since    time.Time // when the stage began

	QR         string    // what the QR holds, "" when none is live
	QRShown    time.Time //
	Verified   bool      // the code was right
	LoginEnded string    // cancelled | refused | expired, "" while the phone's side is open
	TriesLeft  int       // after a wrong code
	Masked     string    // "M**** R****", "" while it is not known who it is
	FirstName  string    // after "yes, that is me"
	Family     []wire.Member

	Document string // kind of the document in hand, "" when there is none
	Pages    int
	Progress PrintProgress
	Problem  *Problem
	Slip     string // pick-up code
	Printer  string // UUID of the printer that was chosen for the document, "" for the one that would print next
}

// View returns what a page needs to show of the session.
func (s *Session) View() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := View{
		ID: s.ID, Kiosk: s.Kiosk, Language: s.language, Mode: s.mode, Stage: s.stage, Answers: s.answers.clone(), Since: s.since,
		QR: s.login.url, QRShown: s.login.shown, Verified: s.login.verified, LoginEnded: s.login.failed, TriesLeft: s.login.left,
		Family: slices.Clone(s.family), Progress: s.progress, Slip: s.slip, Printer: s.printer,
	}
	if s.person != nil {
		v.Masked = s.person.Masked()
		if s.accepted {
			v.FirstName = s.person.Name()
		}
	}
	if s.doc != nil {
		v.Document, v.Pages = s.doc.kind, len(s.doc.pages)
	}
	if s.problem != nil {
		p := *s.problem
		v.Problem = &p
	}
	return v
}

func (a Answers) clone() Answers {
	a.Certificates = slices.Clone(a.Certificates)
	a.Facts = slices.Clone(a.Facts)
	a.Filled = slices.Clone(a.Filled)
	a.Form = cloneForm(a.Form)
	return a
}

func cloneForm(f paper.DeclarationForm) paper.DeclarationForm {
	f.Family = slices.Clone(f.Family)
	if f.Residence != nil {
		r := *f.Residence
		f.Residence = &r
	}
	if f.Civil != nil {
		c := *f.Civil
		f.Civil = &c
	}
	return f
}

// Page returns picture n (1 …) of the document in hand, as PNG; nil when there is none.
func (s *Session) Page(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil || n < 1 || n > len(s.doc.pages) {
		return nil
	}
	return bytes.Clone(s.doc.pages[n-1]) // the document may be destroyed while the picture is sent
}

// Changed returns a channel that is closed at the next change.
func (s *Session) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Done returns a channel that is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// update changes the session under its lock and wakes whoever waits for a change. f reports false to say that nothing
// changed. Nothing changes any more once goodbye was said: what comes late, comes to nobody.
func (s *Session) update(f func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.stage == StageGoodbye || !f() {
		return false
	}
	s.wake()
	return true
}

// wake tells whoever waits for a change. The caller holds the lock.
func (s *Session) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// reserve says that one press of a button is being dealt with while ok; a second one gets false. release ends it.
func (s *Session) reserve(ok func() bool) bool {
	return s.update(func() bool {
		if s.busy || !ok() {
			return false
		}
		s.busy = true
		return true
	})
}

func (s *Session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// enter moves to a stage. The caller holds the lock.
func (s *Session) enter(stage Stage, now time.Time) {
	s.stage, s.since, s.touched = stage, now, now
	if stage != StageProblem {
		s.problem = nil
	}
}

// row is what is stored of the session.
func (s *Session) row() SessionRow {
	return SessionRow{
		ID: s.ID, Kiosk: s.Kiosk, Mode: s.mode, Language: s.language, Service: s.answers.Service,
		Stage: s.stage, Started: s.started, Ended: s.ended || s.stage == StageGoodbye,
	}
}

// SessionRow is what a database keeps of a session: no answer that could tell who it was.
type SessionRow struct {
	ID       string
	Kiosk    int
	Mode     Mode
	Language string
	Service  Service
	Stage    Stage
	Started  time.Time
	Ended    bool
}

// Journal keeps sessions and the events that report them.
type Journal interface {
	// Record stores row and e in one transaction and returns when both survive a pulled plug. e gets its number and its
	// time there, and e.Private is closed to the hub's key. It returns ErrDiskFull when there is no room.
	Record(ctx context.Context, row SessionRow, e event.Event) error
}
