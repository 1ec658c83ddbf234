package kiosk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// RegistryError says why the registry issues no certificate: Code is one of the Problem codes of package wire.
type RegistryError struct{ Code string }

func (e *RegistryError) Error() string { return "registry: " + e.Code }

// Is makes every RegistryError match ErrNotIssued.
func (e *RegistryError) Is(target error) bool { return target == ErrNotIssued }

// problemOf chooses what a session says about err, and which ways out it offers.
func problemOf(err error) Problem {
	var re *RegistryError
	switch {
	case errors.As(err, &re) && re.Code == wire.ProblemNotRegistered:
		return Problem{Kind: ProblemNotRegistered}
	case errors.As(err, &re):
		return Problem{Kind: ProblemNotCertifiable}
	case errors.Is(err, ErrOffline), errors.Is(err, context.DeadlineExceeded):
		return Problem{Kind: ProblemOffline, CanRetry: true, CanLeave: true}
	case errors.Is(err, ErrRegistryDown):
		return Problem{Kind: ProblemRegistryDown, CanRetry: true, CanLeave: true}
	case errors.Is(err, ErrLoginOver):
		return Problem{Kind: ProblemLoginOver}
	case errors.Is(err, ErrDocument):
		return Problem{Kind: ProblemDocument, CanRetry: true}
	case errors.Is(err, ErrDiskFull):
		return Problem{Kind: ProblemDiskFull}
	default:
		return Problem{Kind: ProblemInternal, CanRetry: true}
	}
}

// stop shows a problem. A cause that nobody foresaw is logged by the caller, never shown.
func (d *Desk) stop(s *Session, p Problem) {
	s.update(func() bool {
		s.problem, s.waiting = &p, ""
		s.enter(StageProblem, d.cfg.Now())
		return true
	})
}

// Prepare begins to make the document the answers ask for and returns; the session is at StagePreparing until it is
// at StagePreview or StageProblem. ErrNotNow when something is missing: an answer, the login, the member. A declaration
// is not made without room to journal it.
func (d *Desk) Prepare(ctx context.Context, s *Session) error {
	var (
		a     Answers
		nonce string
		lang  string
		ok    bool
	)
	s.update(func() bool {
		if _, open := s.answers.Open(); open || s.busy {
			return false
		}
		switch s.stage {
		case StageAsking, StagePreview:
			ok = s.answers.Service == SelfDeclaration
		case StageConfirmed:
			ok = s.answers.Service != SelfDeclaration && s.accepted && (s.answers.Holder != Family || s.answers.Member != "")
		case StageProblem:
			ok = s.problem.CanRetry && (s.answers.Service == SelfDeclaration || s.accepted)
		}
		if !ok {
			return false
		}
		a, nonce, lang = s.answers.clone(), s.login.nonce, s.language
		s.drop()
		s.enter(StagePreparing, d.cfg.Now())
		return true
	})
	if !ok {
		return ErrNotNow
	}
	if a.Service != SelfDeclaration {
		d.note(ctx, s, event.StepAnswered, event.Detail{Step: string(StepReview), Certificates: a.Certificates})
	}
	d.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, prepareLimit+drawLimit)
		defer cancel()
		start := d.cfg.Now()
		doc, err := d.make(ctx, a, nonce, lang)
		if s.ctx.Err() != nil { // the citizen has gone
			if err == nil {
				doc.destroy()
			}
			return
		}
		if err != nil {
			p := problemOf(err)
			if p.Kind == ProblemInternal {
				d.log(s).Error("document not made", "err", err)
			}
			d.note(ctx, s, event.DocumentRefused, event.Detail{Service: string(a.Service), Reason: string(p.Kind)})
			d.stop(s, p)
			return
		}
		made := event.Detail{
			Service: string(a.Service), Certificates: a.Certificates, Pages: len(doc.pages), Milliseconds: d.cfg.Now().Sub(start).Milliseconds(),
		}
		if a.Service != SelfDeclaration {
			d.note(ctx, s, event.DocumentReceived, made)
		} else if err := d.record(ctx, s, event.DeclarationMade, made, nil); err != nil {
			d.log(s).Error("declaration not made", "err", err)
			doc.destroy()
			d.stop(s, problemOf(err))
			return
		}
		shown := s.update(func() bool {
			if s.stage != StagePreparing {
				return false
			}
			s.doc, s.printer = doc, ""
			s.enter(StagePreview, d.cfg.Now())
			return true
		})
		if !shown {
			doc.destroy()
		}
	})
	return nil
}

func (d *Desk) make(ctx context.Context, a Answers, nonce, lang string) (*document, error) {
	if a.Service == SelfDeclaration {
		pdf, err := d.cfg.Papers.Declaration(declarationForm(a))
		if err != nil {
			return nil, err
		}
		return d.draw(ctx, "declaration", pdf, false)
	}
	fetch, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	pdf, err := d.cfg.Hub.Certificate(fetch, wire.CertificateRequest{
		Nonce: nonce, Certificates: a.Certificates, Member: a.Member, Recipient: string(a.Recipient), Exemption: a.Exemption, Language: lang,
		Pickup: a.PickupCode,
	})
	if err != nil {
		return nil, err
	}
	return d.draw(ctx, "certificate", pdf, true)
}

// draw looks at a PDF before anybody may print it.
func (d *Desk) draw(ctx context.Context, kind string, pdf []byte, strict bool) (*document, error) {
	ctx, cancel := context.WithTimeout(ctx, drawLimit)
	defer cancel()
	pages, err := d.cfg.Viewer.Draw(ctx, pdf, strict)
	if err != nil {
		clear(pdf)
		return nil, fmt.Errorf("draw %s: %w", kind, err)
	}
	return &document{kind: kind, pdf: pdf, sha: sha256.Sum256(pdf), pages: pages}, nil
}

// LeaveRequest queues what was chosen, which the journal closes to the hub's key, and makes the slip with its pick-up
// code. Nobody's identity is in it. The slip is at StagePreview when LeaveRequest returns. ErrDiskFull: nothing was queued.
func (d *Desk) LeaveRequest(ctx context.Context, s *Session) error {
	ok := s.reserve(func() bool {
		_, open := s.answers.Open()
		return !open && s.answers.Service == Certificates && s.slip == "" && s.stage != StagePreparing && s.stage != StagePrinting
	})
	if !ok {
		return ErrNotNow // a second press of the same button, too
	}
	defer s.release()
	v := s.View()
	code, err := newPickupCode()
	if err != nil {
		return err
	}
	now := d.cfg.Now()
	plain, err := json.Marshal(wire.Request{
		Code: code, Left: now.UTC().Truncate(time.Second), Certificates: v.Answers.Certificates, Recipient: string(v.Answers.Recipient),
		Holder: string(v.Answers.Holder), Exemption: v.Answers.Exemption, Language: v.Language,
	})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	var names []string
	for _, slug := range v.Answers.Certificates {
		cert, _ := d.cfg.Catalogue.Certificate(slug)
		names = append(names, "Certificato "+cert.Name)
	}
	form := paper.SlipForm{
		Code: code, Branch: d.Branch(), Left: now, Expires: now.Add(requestLife), Certificates: names, Language: v.Language,
	}
	pdf, err := d.cfg.Papers.Slip(form)
	if err != nil {
		return fmt.Errorf("slip: %w", err)
	}
	doc, err := d.draw(ctx, "slip", pdf, false)
	if err != nil {
		return err
	}
	doc.slip = &form
	if s.ctx.Err() != nil {
		doc.destroy()
		return ErrNoSession // gone meanwhile: nothing is queued that nobody has a code for
	}
	err = d.record(ctx, s, event.RequestLeft, event.Detail{Certificates: v.Answers.Certificates, Holder: string(v.Answers.Holder)}, plain)
	clear(plain)
	if err != nil {
		doc.destroy()
		return err
	}
	d.cfg.Logins.Cancel(s.Kiosk)
	shown := s.update(func() bool {
		d.dropLogin(s)
		s.drop()
		s.doc, s.slip, s.printer = doc, code, ""
		s.enter(StagePreview, now)
		return true
	})
	if !shown {
		doc.destroy()
	}
	return nil
}

func newPickupCode() (string, error) {
	b := make([]byte, PickupDigits)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(wire.PickupAlphabet))))
		if err != nil {
			return "", fmt.Errorf("pick-up code: %w", err)
		}
		b[i] = wire.PickupAlphabet[n.Int64()]
	}
	return string(b), nil
}
