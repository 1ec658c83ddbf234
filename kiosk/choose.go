package kiosk

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sportello.example/kiosk/paper"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// answer changes the answers of a session that is still asking, and stores that the question of step was answered.
// An answer changed after the login keeps the login: the document is fetched anew.
func (d *Desk) answer(ctx context.Context, s *Session, step Step, detail event.Detail, f func(a *Answers) error) error {
	var failed error
	ok := s.update(func() bool {
		switch s.stage {
		case StageAsking, StageLogin, StageConfirmed, StagePreview, StageProblem:
			if s.busy { // another press is being dealt with: printing, leaving the request
				failed = ErrNotNow
				return false
			}
		default:
			failed = ErrNotNow
			return false
		}
		a := s.answers.clone()
		if failed = f(&a); failed != nil {
			return false
		}
		s.answers = a
		s.drop()
		switch {
		case s.accepted && a.Service != SelfDeclaration:
			s.enter(StageConfirmed, d.cfg.Now())
		default:
			d.dropLogin(s)
			s.enter(StageAsking, d.cfg.Now())
		}
		return true
	})
	if failed == nil && !ok {
		failed = ErrNoSession
	}
	detail.Step = string(step)
	var conflict *ConflictError
	if errors.As(failed, &conflict) {
		detail.Reason = conflict.Conflict.Reason
		d.note(ctx, s, event.AnswerRefused, detail)
	}
	if failed != nil {
		return failed
	}
	d.note(ctx, s, event.StepAnswered, detail)
	return nil
}

// SetLanguage changes the language; it keeps everything else.
func (d *Desk) SetLanguage(ctx context.Context, s *Session, language string) error {
	if !d.cfg.Languages(language) {
		return ErrUnknown
	}
	changed := s.update(func() bool {
		other := s.language != language
		s.language, s.touched = language, d.cfg.Now()
		return other
	})
	if changed {
		d.note(ctx, s, event.StepAnswered, event.Detail{Step: "language", Language: language})
	}
	return nil
}

// SetMode says that a facilitator has come to help, or has gone.
func (d *Desk) SetMode(ctx context.Context, s *Session, mode Mode) error {
	if mode != SelfService && mode != Assisted {
		return ErrUnknown
	}
	changed := s.update(func() bool {
		other := s.mode != mode
		s.mode, s.touched = mode, d.cfg.Now()
		return other
	})
	if changed {
		d.note(ctx, s, event.StepAnswered, event.Detail{Step: "mode", Mode: string(mode)})
	}
	return nil
}

// SetService answers "Di cosa ha bisogno?".
func (d *Desk) SetService(ctx context.Context, s *Session, service Service) error {
	return d.answer(ctx, s, StepNeed, event.Detail{Service: string(service)}, func(a *Answers) error {
		switch service {
		case Certificates, SelfDeclaration, Pickup:
		default:
			return ErrUnknown
		}
		if a.Service != service {
			a.PickupCode = ""
		}
		a.Service = service
		return nil
	})
}

// SetRecipient answers "A chi deve consegnarlo?".
func (d *Desk) SetRecipient(ctx context.Context, s *Session, to Recipient) error {
	return d.answer(ctx, s, StepRecipient, event.Detail{Recipient: string(to)}, func(a *Answers) error {
		if !slices.Contains(Recipients(), to) {
			return ErrUnknown
		}
		a.Recipient = to
		return nil
	})
}

// ToggleCertificate adds a certificate to the choice, or takes it off again. A certificate that cannot stand on one
// sheet with another one chosen is a *ConflictError, and the choice stays as it was.
func (d *Desk) ToggleCertificate(ctx context.Context, s *Session, slug string) error {
	return d.answer(ctx, s, StepCertificate, event.Detail{Certificates: []string{slug}}, func(a *Answers) error {
		if _, ok := d.cfg.Catalogue.Certificate(slug); !ok {
			return ErrUnknown
		}
		a.Chosen = false
		if i := slices.Index(a.Certificates, slug); i >= 0 {
			a.Certificates = slices.Delete(a.Certificates, i, i+1)
			return nil
		}
		with := append(slices.Clone(a.Certificates), slug)
		if c, ok := d.cfg.Catalogue.Combine(with); !ok {
			return &ConflictError{c}
		}
		a.Certificates = with
		return nil
	})
}

// ConfirmCertificates ends the choice of certificates: ErrNothing when there is none.
func (d *Desk) ConfirmCertificates(ctx context.Context, s *Session) error {
	chosen := s.View().Answers.Certificates
	return d.answer(ctx, s, StepCertificate, event.Detail{Certificates: chosen}, func(a *Answers) error {
		if len(a.Certificates) == 0 {
			return ErrNothing
		}
		a.Chosen = true
		return nil
	})
}

// SetHolder answers "Per chi?".
func (d *Desk) SetHolder(ctx context.Context, s *Session, h Holder) error {
	err := d.answer(ctx, s, StepHolder, event.Detail{Holder: string(h)}, func(a *Answers) error {
		if h != Self && h != Family {
			return ErrUnknown
		}
		if a.Holder != h {
			a.Member = ""
		}
		a.Holder = h
		return nil
	})
	if v := s.View(); err == nil && h == Family && v.Stage == StageConfirmed && len(v.Family) == 0 {
		return d.LoadFamily(ctx, s) // changed after the login
	}
	return err
}

// SetStamp answers whether stamp duty is due.
func (d *Desk) SetStamp(ctx context.Context, s *Session, stamp Stamp) error {
	return d.answer(ctx, s, StepStamp, event.Detail{Stamp: string(stamp)}, func(a *Answers) error {
		if stamp != StampDue && stamp != StampExempt {
			return ErrUnknown
		}
		a.Stamp = stamp
		if stamp == StampDue {
			a.Exemption = 0
		}
		return nil
	})
}

// SetExemption answers why no stamp duty is due.
func (d *Desk) SetExemption(ctx context.Context, s *Session, code int) error {
	return d.answer(ctx, s, StepExemption, event.Detail{Exemption: code}, func(a *Answers) error {
		if _, ok := d.cfg.Catalogue.Exemption(code); !ok {
			return ErrUnknown
		}
		a.Stamp, a.Exemption = StampExempt, code
		return nil
	})
}

// SetFacts answers what a self-declaration is to declare.
func (d *Desk) SetFacts(ctx context.Context, s *Session, facts []Fact) error {
	return d.answer(ctx, s, StepFacts, event.Detail{Service: string(SelfDeclaration)}, func(a *Answers) error {
		if len(facts) == 0 {
			return ErrNothing
		}
		a.Facts = nil
		for _, f := range AllFacts() {
			if slices.Contains(facts, f) {
				a.Facts = append(a.Facts, f)
			}
		}
		if len(a.Facts) != len(facts) {
			return ErrUnknown
		}
		return nil
	})
}

// SetFill answers whether the self-declaration is typed here or filled in by hand.
func (d *Desk) SetFill(ctx context.Context, s *Session, fill Fill) error {
	return d.answer(ctx, s, StepFill, event.Detail{}, func(a *Answers) error {
		if fill != Typed && fill != Blank {
			return ErrUnknown
		}
		a.Fill = fill
		if fill == Blank {
			a.Form, a.Filled = paper.DeclarationForm{}, nil
		}
		return nil
	})
}

// FillForm answers one page of the typed form: set writes what was typed into the form, or says what is wrong with it.
func (d *Desk) FillForm(ctx context.Context, s *Session, step Step, set func(*paper.DeclarationForm) error) error {
	return d.answer(ctx, s, step, event.Detail{}, func(a *Answers) error {
		if !slices.Contains(a.Questions(), step) {
			return ErrNotNow
		}
		if err := set(&a.Form); err != nil {
			return err
		}
		if !slices.Contains(a.Filled, step) {
			a.Filled = append(a.Filled, step)
		}
		return nil
	})
}

// EditForm changes the form without ending its page (adding and taking off members of the family).
func (d *Desk) EditForm(ctx context.Context, s *Session, step Step, set func(*paper.DeclarationForm) error) error {
	return d.answer(ctx, s, step, event.Detail{}, func(a *Answers) error { return set(&a.Form) })
}

// Collect looks up the request that was left under a pick-up code and takes over what was chosen then. It blocks for
// as long as the hub needs. ErrOffline, ErrNoRequest, ErrTooMany.
func (d *Desk) Collect(ctx context.Context, s *Session, code string) error {
	code = NormalisePickupCode(code)
	if len(code) != PickupDigits {
		return ErrNoRequest
	}
	if !d.cfg.LineUp() {
		return ErrOffline
	}
	d.cfg.Drain(ctx) // the request may still wait in the queue of this very box
	req, err := d.cfg.Hub.Collect(ctx, code)
	if err != nil {
		return err
	}
	err = d.answer(ctx, s, StepCollect, event.Detail{Service: string(Pickup)}, func(a *Answers) error {
		if c, ok := d.cfg.Catalogue.Combine(req.Certificates); !ok {
			return &ConflictError{c}
		}
		*a = Answers{
			Service: Pickup, PickupCode: code, Certificates: req.Certificates, Chosen: true,
			Recipient: Recipient(req.Recipient), Holder: Holder(req.Holder), Stamp: StampDue, Exemption: req.Exemption,
		}
		if req.Exemption != 0 {
			a.Stamp = StampExempt
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.note(ctx, s, event.RequestCollected, event.Detail{Certificates: req.Certificates})
	return nil
}

// PickupDigits is how long a pick-up code is.
const PickupDigits = 6

// NormalisePickupCode returns a typed pick-up code as it was printed: upper case, without spaces and hyphens. What
// holds a character that no code has comes back empty.
func NormalisePickupCode(code string) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(code) {
		switch {
		case r == ' ' || r == '-' || r == '·':
		case strings.ContainsRune(wire.PickupAlphabet, r):
			b.WriteRune(r)
		default:
			return ""
		}
	}
	return b.String()
}
