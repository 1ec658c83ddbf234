package kiosk

import (
	"context"
	"errors"

	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// BeginLogin makes a challenge for a phone; View().QR holds what the QR shows. It begins to ask the hub for the
// identity at once, so that it is there when the code has been typed. ErrOffline when the line is down, ErrNotNow when
// questions are open, ErrLoginLocked, ErrDiskFull (nothing that needs a certificate begins without room to journal it).
func (d *Desk) BeginLogin(ctx context.Context, s *Session) error {
	v := s.View()
	if _, open := v.Answers.Open(); open || v.Answers.Service == SelfDeclaration || (v.Stage != StageAsking && v.Stage != StageLogin) {
		return ErrNotNow
	}
	if !d.cfg.LineUp() {
		return ErrOffline
	}
	if err := d.record(ctx, s, event.LoginShown, event.Detail{}, nil); err != nil {
		return err
	}
	ch, err := d.cfg.Logins.Begin(s.Kiosk)
	if err != nil {
		if errors.Is(err, ErrLoginLocked) {
			d.note(ctx, s, event.LoginLocked, event.Detail{})
		}
		return err
	}
	wait, stop := context.WithCancel(s.ctx)
	now := d.cfg.Now()
	ok := s.update(func() bool {
		if s.busy || (s.stage != StageAsking && s.stage != StageLogin) {
			return false
		}
		d.dropLogin(s)
		s.login = login{url: ch.URL, nonce: ch.Nonce, shown: now, stop: stop}
		s.enter(StageLogin, now)
		return true
	})
	if !ok {
		stop()
		d.cfg.Logins.Cancel(s.Kiosk)
		return ErrNotNow
	}
	d.wg.Go(func() { d.awaitIdentity(wait, s, ch.Nonce) })
	return nil
}

// dropLogin forgets the challenge and who answered it. The caller holds the session's lock.
func (d *Desk) dropLogin(s *Session) {
	if s.login.stop != nil {
		s.login.stop()
	}
	s.login, s.person, s.accepted, s.family = login{}, nil, false, nil
}

// CancelLogin goes back from the login to the choice of how to log in.
func (d *Desk) CancelLogin(s *Session) {
	d.cfg.Logins.Cancel(s.Kiosk)
	s.update(func() bool {
		if s.stage != StageLogin && s.stage != StageProblem {
			return false
		}
		d.dropLogin(s)
		s.enter(StageAsking, d.cfg.Now())
		return true
	})
}

// awaitIdentity asks the hub for the sealed identity until it is there or the login is over. A hub that cannot be
// reached is asked again: the line may come back while the citizen still looks at the phone.
func (d *Desk) awaitIdentity(ctx context.Context, s *Session, nonce string) {
	ctx, cancel := context.WithTimeout(ctx, loginLife+loginLife/4)
	defer cancel()
	for {
		l, err := d.cfg.Hub.Login(ctx, nonce, tokenPoll)
		switch {
		case ctx.Err() != nil:
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				d.endLogin(s, nonce, "expired")
			}
			return
		case err != nil:
			sleep(ctx, tokenRetry)
			continue
		}
		switch l.State {
		case wire.LoginDone:
			s.update(func() bool {
				if s.login.nonce != nonce {
					return false
				}
				s.login.token = l.Token
				return true
			})
			d.identify(ctx, s)
			return
		case wire.LoginCancelled, wire.LoginRefused:
			d.endLogin(s, nonce, string(l.State))
			return
		default:
			if err := ctx.Err(); err == nil {
				sleep(ctx, tokenRetry/4)
			}
		}
	}
}

func (d *Desk) endLogin(s *Session, nonce, how string) {
	ok := s.update(func() bool {
		if s.login.nonce != nonce || s.stage != StageLogin {
			return false
		}
		s.login.failed, s.login.url = how, ""
		return true
	})
	if ok {
		d.cfg.Logins.Cancel(s.Kiosk)
		d.note(s.ctx, s, event.LoginExpired, event.Detail{Reason: how})
	}
}

// EnterCode checks the code that the phone shows; the box does it alone. ErrCodeWrong (View().TriesLeft says how many
// tries are left), ErrLoginDead, ErrLoginExpired, ErrLoginLocked.
func (d *Desk) EnterCode(ctx context.Context, s *Session, code string) error {
	s.mu.Lock()
	nonce, ok := s.login.nonce, s.stage == StageLogin && !s.login.verified
	s.mu.Unlock()
	if !ok {
		return ErrNotNow
	}
	left, err := d.cfg.Logins.Enter(s.Kiosk, code)
	if err == nil { // stored before the token, which may arrive at any moment, can identify anybody
		d.note(ctx, s, event.LoginCodeOK, event.Detail{})
	}
	now := d.cfg.Now()
	s.update(func() bool {
		if s.login.nonce != nonce || s.stage != StageLogin {
			return false // another challenge has taken its place
		}
		s.touched = now
		s.login.left = left
		switch {
		case err == nil:
			s.login.verified, s.since = true, now
		case !errors.Is(err, ErrCodeWrong):
			d.dropLogin(s)
			s.enter(StageAsking, now)
		}
		return true
	})
	switch {
	case err == nil:
		d.identify(ctx, s)
		return nil
	case errors.Is(err, ErrLoginLocked):
		d.note(ctx, s, event.LoginLocked, event.Detail{})
	case errors.Is(err, ErrLoginExpired):
		d.note(ctx, s, event.LoginExpired, event.Detail{Reason: "expired"})
	case errors.Is(err, ErrLoginDead):
		d.note(ctx, s, event.LoginCodeWrong, event.Detail{Reason: "dead"})
	default:
		d.note(ctx, s, event.LoginCodeWrong, event.Detail{Reason: "wrong"})
	}
	return err
}

// identify opens the sealed identity once both the code was right and the token has arrived, whichever came last.
func (d *Desk) identify(ctx context.Context, s *Session) {
	s.mu.Lock()
	l, known := s.login, s.person != nil
	s.mu.Unlock()
	if known || !l.verified || l.token == nil {
		return
	}
	p, err := d.cfg.Logins.Open(s.Kiosk, l.nonce, l.token)
	now := d.cfg.Now()
	if err != nil {
		d.log(s).Error("identity token does not open", "err", err)
		d.note(ctx, s, event.LoginRejected, event.Detail{Reason: "token"})
		s.update(func() bool {
			d.dropLogin(s)
			s.problem = &Problem{Kind: ProblemInternal}
			s.enter(StageProblem, now)
			return true
		})
		return
	}
	if s.update(func() bool {
		if s.login.nonce != l.nonce || s.person != nil {
			return false
		}
		s.person, s.login.token, s.since = &p, nil, now
		return true
	}) {
		d.note(ctx, s, event.LoginIdentified, event.Detail{})
	}
}

// Accept answers "Sei tu?". No ends the login; yes goes on: a session that only lacks the document (a request that was
// picked up) fetches it at once, with a family the member is asked first.
func (d *Desk) Accept(ctx context.Context, s *Session, yes bool) error {
	v := s.View()
	if v.Stage != StageLogin || v.Masked == "" {
		return ErrNotNow
	}
	if !yes {
		d.note(ctx, s, event.LoginRejected, event.Detail{Reason: "not_me"})
		d.CancelLogin(s)
		return nil
	}
	ok := s.update(func() bool {
		if s.stage != StageLogin || s.person == nil || !s.login.verified {
			return false
		}
		s.accepted = true
		s.enter(StageConfirmed, d.cfg.Now())
		return true
	})
	if !ok {
		return ErrNotNow
	}
	d.note(ctx, s, event.StepAnswered, event.Detail{Step: string(StepIdentity)})
	switch {
	case v.Answers.Holder == Family:
		return d.LoadFamily(ctx, s)
	case v.Answers.Service == Pickup:
		return d.Prepare(ctx, s)
	}
	return nil
}

// LoadFamily asks the hub for the members of the family of who is logged in. It blocks for as long as the hub needs.
// What goes wrong is shown as a problem of the session.
func (d *Desk) LoadFamily(ctx context.Context, s *Session) error {
	s.mu.Lock()
	nonce, stage := s.login.nonce, s.stage
	s.mu.Unlock()
	if stage != StageConfirmed && stage != StageProblem {
		return ErrNotNow
	}
	f, err := d.cfg.Hub.Family(ctx, nonce)
	s.update(func() bool {
		if s.login.nonce != nonce || s.stage != stage {
			return false // the citizen has gone on
		}
		if err != nil {
			p := problemOf(err)
			s.problem = &p
			s.enter(StageProblem, d.cfg.Now())
			return true
		}
		s.family = f
		s.enter(StageConfirmed, d.cfg.Now())
		return true
	})
	return nil
}

// SetMember answers for which member of the family the certificate is.
func (d *Desk) SetMember(ctx context.Context, s *Session, ref string) error {
	known := false
	for _, m := range s.View().Family {
		known = known || m.Ref == ref
	}
	if !known {
		return ErrUnknown
	}
	if err := d.answer(ctx, s, StepMember, event.Detail{}, func(a *Answers) error { a.Member = ref; return nil }); err != nil {
		return err
	}
	if s.View().Answers.Service == Pickup {
		return d.Prepare(ctx, s)
	}
	return nil
}
