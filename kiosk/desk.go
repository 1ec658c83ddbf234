package kiosk

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// Errors that people see. The pages choose the words.
var (
	ErrNoSession    = errors.New("no session at this kiosk")
	ErrKioskBusy    = errors.New("somebody else's session is open at this kiosk")
	ErrNoKiosk      = errors.New("no such kiosk in this branch")
	ErrOffline      = errors.New("the municipality cannot be reached")
	ErrRegistryDown = errors.New("the registry does not answer")
	ErrDiskFull     = errors.New("no room on the box's disk")
	ErrNotNow       = errors.New("the session is elsewhere") // the page that was posted is not where the session is
	ErrUnknown      = errors.New("unknown choice")
	ErrNothing      = errors.New("nothing was chosen")
	ErrLoginLocked  = errors.New("too many wrong codes at this kiosk")
	ErrLoginDead    = errors.New("this challenge is over") // three wrong codes
	ErrLoginExpired = errors.New("the time for this login is over")
	ErrCodeWrong    = errors.New("wrong code")
	ErrNoRequest    = errors.New("no request under this code")
	ErrTooMany      = errors.New("too many wrong pick-up codes")
	ErrLoginOver    = errors.New("the hub does not know this login any more")
	ErrNotIssued    = errors.New("the registry issues no certificate")                  // see RegistryError
	ErrDocument     = errors.New("what arrived is not the document that was announced") //
)

// ConflictError says that two chosen certificates cannot stand on one sheet.
type ConflictError struct{ Conflict Conflict }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("certificates %s and %s: %s", e.Conflict.A.Slug, e.Conflict.B.Slug, e.Conflict.Reason)
}

// Login says how far the phone's side of a login has got.
type Login struct {
	State wire.LoginState
	Token []byte // sealed identity, with wire.LoginDone
}

// Hub is the municipality's server, as the kiosk needs it. Every method blocks for at most 15 seconds (Login: wait and
// five more) and returns an error that matches ErrOffline when the hub cannot be reached or makes no sense.
type Hub interface {
	// Login returns the state of the login named nonce as soon as it is not "waiting", or after wait.
	Login(ctx context.Context, nonce string, wait time.Duration) (Login, error)
	// Family returns whom the person logged in may ask a certificate for. ErrRegistryDown, ErrLoginOver, or an error
	// with a Problem method.
	Family(ctx context.Context, nonce string) ([]wire.Member, error)
	// Certificate returns the PDF, whole and with the hash the hub announced (else ErrDocument).
	Certificate(ctx context.Context, req wire.CertificateRequest) ([]byte, error)
	// Collect returns the request left under a pick-up code: ErrNoRequest, ErrTooMany.
	Collect(ctx context.Context, code string) (wire.Request, error)
}

// Challenge is what the box asks a phone to answer.
type Challenge struct {
	URL   string // what the QR holds
	Nonce string // names the challenge at the hub
}

// Logins makes challenges and checks the codes typed at this branch's kiosks, without a line.
type Logins interface {
	// Begin makes a challenge for the kiosk; the one before it dies. ErrLoginLocked.
	Begin(kiosk int) (Challenge, error)
	// Enter checks a typed code: nil when it is right; ErrCodeWrong with the tries left, ErrLoginDead, ErrLoginExpired,
	// ErrLoginLocked.
	Enter(kiosk int, code string) (left int, err error)
	// Open opens the sealed identity for the challenge whose code was right.
	Open(kiosk int, nonce string, token []byte) (Person, error)
	// Cancel ends the kiosk's challenge.
	Cancel(kiosk int)
}

// Viewer looks at PDFs in a process of their own.
type Viewer interface {
	// Draw returns a picture (PNG) of every sheet. With strict the PDF must also be what a certificate is: A4, at most
	// wire.MaxDocument, nothing active inside; else ErrDocument.
	Draw(ctx context.Context, pdf []byte, strict bool) ([][]byte, error)
}

// Papers draws the sheets the box makes itself.
type Papers interface {
	Declaration(form paper.DeclarationForm) ([]byte, error)
	Slip(form paper.SlipForm) ([]byte, error)
}

// Config is what a Desk works with.
type Config struct {
	Place     func() (branch string, kiosks int) // kiosks are numbered from 1; both may change when the hub says so
	Catalogue *Catalogue
	Journal   Journal
	Hub       Hub
	Logins    Logins
	Printer   Printer
	Viewer    Viewer
	Papers    Papers
	LineUp    func() bool           // whether the hub could be reached just now
	Disk      func(full bool)       // told when the disk has no room, and when it has again
	Kick      func()                // told that an event waits for the hub
	Drain     func(context.Context) // waits, a few seconds at most, until the hub has every event of this box
	Now       func() time.Time      //
	Log       *slog.Logger          //
	Idle      time.Duration         // a session without a touch ends after this; 0: DefaultIdle
	Languages func(tag string) bool // whether the kiosk speaks it
}

// How long things last.
const (
	DefaultIdle  = 150 * time.Second   // the page warns after 90 s and counts 20 s; the rest is for a page without script
	QRLife       = 2 * time.Minute     // how long the QR is on the screen
	loginLife    = 8 * time.Minute     // how long its code is good
	sessionLife  = 30 * time.Minute    // how long a visit may last in all
	maxEvents    = 1000                // stored of one visit: nobody presses that many buttons
	takeLife     = time.Minute         // how long "take your sheets" stays
	stoppedLife  = 2 * time.Minute     // how long a job waits for somebody to help the printer
	printLife    = 10 * time.Minute    // how long a job may take in all
	waitLife     = 10 * time.Minute    // how long the document of an uncertain print waits for staff to look at the tray
	goodbyeLife  = 6 * time.Second     // how long goodbye stays
	recordLimit  = 5 * time.Second     // how long storing an event may take
	drawLimit    = 30 * time.Second    // how long drawing a document may take
	tokenPoll    = 25 * time.Second    // one long poll for the identity
	tokenRetry   = time.Second         // between polls while the hub is away
	prepareLimit = 20 * time.Second    // how long fetching a document may take
	requestLife  = 30 * 24 * time.Hour // how long the slip says a request is kept
)

// Desk serves the kiosks of one branch.
type Desk struct {
	cfg Config

	wg sync.WaitGroup // every goroutine a session began

	mu       sync.Mutex // guards the fields that follow
	sessions map[int]*Session
	lost     int // events that could not be stored and were not reported yet
	closed   bool
}

// NewDesk returns a desk. Run must run while it is used.
func NewDesk(cfg Config) *Desk {
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	return &Desk{cfg: cfg, sessions: map[int]*Session{}}
}

// Catalogue returns what the branch issues.
func (d *Desk) Catalogue() *Catalogue { return d.cfg.Catalogue }

// Branch returns the branch's name.
func (d *Desk) Branch() string { branch, _ := d.cfg.Place(); return branch }

// Kiosks returns how many kiosks the branch has.
func (d *Desk) Kiosks() int { _, n := d.cfg.Place(); return max(n, 1) }

// Run ends sessions that nobody touches any more. When ctx ends it ends all sessions, waits for what they began (a
// print in flight is cancelled at the printer or finished, and journalled either way) and returns nil.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.mu.Lock()
			d.closed = true
			d.mu.Unlock()
			for _, s := range d.open() {
				d.End(context.WithoutCancel(ctx), s, OutcomeStopped)
			}
			d.wg.Wait()
			return nil
		case <-tick.C:
			for _, s := range d.open() {
				d.expire(ctx, s)
			}
		}
	}
}

func (d *Desk) open() []*Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	var open []*Session
	for _, s := range d.sessions {
		open = append(open, s)
	}
	return open
}

// expire ends or moves on a session whose time is over.
func (d *Desk) expire(ctx context.Context, s *Session) {
	now := d.cfg.Now()
	s.mu.Lock()
	stage, idle, login, waiting := s.stage, now.Sub(s.touched), s.login, s.waiting != ""
	age, life := now.Sub(s.since), now.Sub(s.started)
	helpless := !s.stopped.IsZero() && now.Sub(s.stopped) >= stoppedLife
	s.mu.Unlock()
	if life >= sessionLife && stage != StagePrinting && stage != StageGoodbye && !waiting {
		d.End(ctx, s, OutcomeAbandoned)
		return
	}
	switch stage {
	case StageGoodbye:
		if age >= goodbyeLife {
			d.End(ctx, s, OutcomeEnded)
		}
	case StageTake:
		if age >= takeLife {
			d.Goodbye(ctx, s)
		}
	case StagePrinting:
		if helpless || age >= printLife {
			d.giveUp(s)
		}
	case StageLogin:
		if login.url != "" && !login.verified && now.Sub(login.shown) < loginLife {
			return // a citizen who logs in on the phone does not touch the kiosk
		}
		if idle >= d.cfg.Idle {
			d.End(ctx, s, OutcomeAbandoned)
		}
	case StagePreparing:
		return // has its own end
	case StageProblem:
		switch {
		case waiting && age >= waitLife:
			d.stopWaiting(s)
		case waiting && idle >= d.cfg.Idle:
			d.keepDocument(s)
		case !waiting && idle >= d.cfg.Idle:
			d.End(ctx, s, OutcomeAbandoned)
		}
	default:
		if idle >= d.cfg.Idle {
			d.End(ctx, s, OutcomeAbandoned)
		}
	}
}

// Outcome says how a session ended.
type Outcome string

// The outcomes of a session.
const (
	OutcomePrinted   Outcome = "printed"
	OutcomeLeft      Outcome = "request_left"
	OutcomeEnded     Outcome = "ended"     // the citizen pressed "Esci"
	OutcomeAbandoned Outcome = "abandoned" // nobody touched the screen any more
	OutcomeStopped   Outcome = "stopped"   // the box was stopped
)

// Start begins a session at a kiosk. An open session there is ErrKioskBusy unless it has said goodbye already.
func (d *Desk) Start(ctx context.Context, kiosk int, language string, mode Mode) (*Session, error) {
	if kiosk < 1 || kiosk > d.Kiosks() {
		return nil, ErrNoKiosk
	}
	if !d.cfg.Languages(language) || (mode != SelfService && mode != Assisted) {
		return nil, ErrUnknown
	}
	if old, err := d.Session(kiosk, ""); err == nil {
		if old.View().Stage != StageGoodbye {
			return nil, ErrKioskBusy
		}
		d.End(ctx, old, OutcomeEnded)
	}
	now := d.cfg.Now()
	s := &Session{
		ID: uuid.NewString(), Key: rand.Text(), Kiosk: kiosk, done: make(chan struct{}), language: language, mode: mode, started: now, touched: now, since: now,
		stage: StageAsking, changed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background()) // outlives the request that began it
	d.mu.Lock()
	if d.closed || d.sessions[kiosk] != nil {
		d.mu.Unlock()
		s.cancel()
		return nil, ErrKioskBusy
	}
	d.sessions[kiosk] = s
	d.mu.Unlock()
	d.note(ctx, s, event.SessionStarted, event.Detail{Mode: string(mode), Language: language})
	return s, nil
}

// Session returns the session open at a kiosk. With a key that is not "" it must be that visitor's: else ErrNoSession.
func (d *Desk) Session(kiosk int, key string) (*Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[kiosk]
	if s == nil || (key != "" && subtle.ConstantTimeCompare([]byte(s.Key), []byte(key)) != 1) {
		return nil, ErrNoSession
	}
	return s, nil
}

// Busy says whether anybody's session is open in the branch.
func (d *Desk) Busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions) > 0
}

// Touch says that somebody is at the kiosk.
func (d *Desk) Touch(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = d.cfg.Now()
}

// Goodbye shows the last page: everything personal is gone before it is shown, whatever was under way is cancelled, a
// job at the printer too, and nothing that comes late brings any of it back. Saying goodbye twice is harmless.
func (d *Desk) Goodbye(ctx context.Context, s *Session) {
	outcome := OutcomeEnded
	said := s.update(func() bool {
		switch {
		case s.slip != "":
			outcome = OutcomeLeft
		case s.stage == StageTake:
			outcome = OutcomePrinted
		}
		s.wipe()
		s.enter(StageGoodbye, d.cfg.Now())
		return true
	})
	if !said {
		return
	}
	s.cancel()
	d.cfg.Logins.Cancel(s.Kiosk)
	d.note(ctx, s, event.SessionEnded, event.Detail{Outcome: string(outcome), Milliseconds: d.cfg.Now().Sub(s.started).Milliseconds()})
}

// End ends a session: whatever it waits for is cancelled, a job at the printer too, and everything personal is gone
// when End returns. Ending a session twice is harmless.
func (d *Desk) End(ctx context.Context, s *Session, outcome Outcome) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	said := s.stage == StageGoodbye // the event was stored then, and the challenge cancelled
	s.wipe()
	s.ended = true
	s.wake()
	close(s.done)
	s.mu.Unlock()
	s.cancel()
	if !said {
		d.cfg.Logins.Cancel(s.Kiosk)
	}
	d.mu.Lock()
	if d.sessions[s.Kiosk] == s {
		delete(d.sessions, s.Kiosk) // only now can another visit begin, and with it another challenge
	}
	d.mu.Unlock()
	if !said {
		d.note(ctx, s, event.SessionEnded, event.Detail{Outcome: string(outcome), Milliseconds: d.cfg.Now().Sub(s.started).Milliseconds()})
	}
}

// wipe forgets everything about the person. The caller holds the lock.
func (s *Session) wipe() {
	if s.login.stop != nil {
		s.login.stop()
	}
	if s.printing != nil {
		s.printing()
	}
	s.drop()
	s.answers = Answers{Service: s.answers.Service}
	s.login, s.person, s.accepted, s.family, s.problem = login{}, nil, false, nil, nil
	s.progress, s.slip, s.printing, s.printer = PrintProgress{}, "", nil, ""
}
