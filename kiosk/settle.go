package kiosk

import (
	"context"
	"errors"
)

// Waiting says whether a visit is open that waits, with its document, for what staff decide about an uncertain print, by
// the journal's ID of it. Only then can it be printed again.
func (d *Desk) Waiting(id string) bool { return d.waitingFor(id) != nil }

// waitingFor returns the session that waits for a decision about a print; nil when there is none.
func (d *Desk) waitingFor(id string) *Session {
	for _, s := range d.open() {
		s.mu.Lock()
		mine := id != "" && s.waiting == id && !s.ended
		s.mu.Unlock()
		if mine {
			return s
		}
	}
	return nil
}

// Settle tells the visit that waits for it what staff found in the tray after an uncertain print. With VerdictOut the
// citizen is asked to take the sheets, with VerdictNothing they are told that staff know, and with VerdictReprint the
// document is printed again, as a numbered reprint, on the printer that was chosen for it. ErrNoSession when no visit
// waits for it any more: the document is destroyed, and nothing is printed. ErrDiskFull when a reprint has no room in the
// journal.
func (d *Desk) Settle(ctx context.Context, id string, v Verdict) error {
	s := d.waitingFor(id)
	if s == nil {
		return ErrNoSession
	}
	here := func() bool { return s.waiting == id }
	switch v {
	case VerdictOut, VerdictNothing:
		ok := s.update(func() bool {
			if s.busy || !here() {
				return false
			}
			s.drop()
			if v == VerdictOut {
				s.enter(StageTake, d.cfg.Now())
			} else {
				s.problem = &Problem{Kind: ProblemNoted}
				s.enter(StageProblem, d.cfg.Now())
			}
			return true
		})
		if !ok {
			return ErrNoSession
		}
		return nil
	case VerdictReprint:
		err := d.begin(ctx, s, here, func(doc *document) {
			again := Reprint{Of: id, Number: 1}
			if doc.reprint != nil {
				again.Of, again.Number = doc.reprint.Of, doc.reprint.Number+1
			}
			doc.reprint = &again
		})
		if errors.Is(err, ErrNotNow) {
			return ErrNoSession
		}
		return err
	default:
		return ErrUnknown
	}
}

// stopWaiting destroys a document for which nobody has looked at the tray in time. The citizen, who may still be there,
// is told to ask.
func (d *Desk) stopWaiting(s *Session) {
	s.update(func() bool {
		if s.waiting == "" {
			return false
		}
		s.drop()
		s.problem.Waiting = false
		s.enter(StageProblem, d.cfg.Now())
		return true
	})
}

// keepDocument forgets who made an uncertain print when nobody touches the kiosk any more. The document still waits for
// staff; but whoever comes by next must not go on as that person.
func (d *Desk) keepDocument(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == "" || s.busy || s.ended {
		return
	}
	d.dropLogin(s)
	s.answers = Answers{Service: s.answers.Service}
}
