package kiosk

import (
	"context"
	"errors"
	"slices"
	"time"

	"sportello.example/sync/event"
)

// Print puts the document in hand on paper, once: a second press of the button is ErrNotNow. It returns as soon as the
// job has begun; the session is at StagePrinting until it is at StageTake or StageProblem. Only when it is known that no
// sheet came out can the same document be tried again without a person's judgement. Nothing is printed without room to
// journal that it was: the session is then at StageProblem.
func (d *Desk) Print(ctx context.Context, s *Session) error {
	err := d.begin(ctx, s, func() bool { return s.stage == StagePreview }, func(*document) {})
	if errors.Is(err, ErrNotNow) {
		return err
	}
	return nil // anything else is a problem of the session, and shown as one
}

// begin sends the document in hand to the printer while ready says that it may; last is what is done just before. Both
// are called under the session's lock. ErrNotNow, or why it was not journalled: the session says so too.
func (d *Desk) begin(ctx context.Context, s *Session, ready func() bool, last func(*document)) error {
	var doc *document
	if !s.reserve(func() bool { doc = s.doc; return doc != nil && s.printing == nil && ready() }) {
		return ErrNotNow
	}
	defer s.release()
	started := event.Detail{Service: doc.kind, Pages: len(doc.pages)}
	if err := d.record(ctx, s, event.PrintStarted, started, nil); err != nil {
		d.log(s).Error("print not begun", "err", err)
		d.stop(s, problemOf(err))
		return err
	}
	job, stop := context.WithCancel(s.ctx)
	var printer string
	ok := s.update(func() bool {
		if s.doc != doc || !ready() {
			return false
		}
		last(doc)
		printer = s.printer
		s.printing, s.waiting, s.stopped = stop, "", time.Time{}
		s.progress = PrintProgress{State: PrintSending}
		s.enter(StagePrinting, d.cfg.Now())
		return true
	})
	if !ok {
		stop()
		return ErrNotNow
	}
	d.wg.Go(func() {
		defer stop()
		d.print(job, s, doc, printer)
	})
	return nil
}

// print follows a job to its end. Until then the document is its own: only it may destroy it.
func (d *Desk) print(ctx context.Context, s *Session, doc *document, printer string) {
	start := d.cfg.Now()
	err := d.cfg.Printer.Print(ctx, PrintJob{
		Session: s.ID, Kiosk: s.Kiosk, Kind: doc.kind, PDF: doc.pdf, SHA256: doc.sha, Pages: len(doc.pages),
		Printer: printer, Slip: doc.slip, Reprint: doc.reprint,
	}, func(p PrintProgress) {
		s.update(func() bool {
			if s.progress == p {
				return false
			}
			switch {
			case p.Trouble == TroubleNone:
				s.stopped = time.Time{}
			case s.stopped.IsZero():
				s.stopped = d.cfg.Now() // the time to help the printer begins now
			}
			s.progress = p
			return true
		})
	})
	detail := event.Detail{Service: doc.kind, Pages: len(doc.pages), Milliseconds: d.cfg.Now().Sub(start).Milliseconds()}
	if err == nil {
		d.note(ctx, s, event.PrintDone, detail)
		s.update(func() bool {
			s.printing, s.doc = nil, nil
			s.enter(StageTake, d.cfg.Now())
			return true
		})
		doc.destroy()
		return
	}
	pe := AsPrintError(err)
	detail.Reason = string(pe.Trouble)
	kind := event.PrintFailed
	if pe.Outcome != NothingPrinted {
		kind = event.PrintUncertain
	}
	d.note(ctx, s, kind, detail)
	if pe.Trouble == TroubleOther {
		d.log(s).Error("print failed", "outcome", pe.Outcome, "err", pe.Err)
	}
	alive := s.update(func() bool {
		s.printing, s.stopped, s.progress = nil, time.Time{}, PrintProgress{}
		switch {
		case pe.Outcome == NothingPrinted:
			s.problem = &Problem{Kind: ProblemPrinter, Trouble: pe.Trouble, CanRetry: true}
		// Nobody can decide about it: never printed again. Of what is known to be out in part nobody is asked.
		case pe.Print == "", pe.Outcome == PartlyPrinted:
			s.drop()
			s.problem = &Problem{Kind: ProblemUncertain, Trouble: pe.Trouble}
		default:
			s.waiting = pe.Print
			s.problem = &Problem{Kind: ProblemUncertain, Trouble: pe.Trouble, Waiting: true}
		}
		s.enter(StageProblem, d.cfg.Now())
		return true
	})
	if !alive {
		doc.destroy()
	}
}

// ChoosePrinter says on which of the branch's printers the document in hand is printed; "" for the one that would print
// next. ErrUnknown when no such printer is adopted.
func (d *Desk) ChoosePrinter(s *Session, uuid string) error {
	known := slices.ContainsFunc(d.cfg.Printer.Printers(), func(p PrinterStatus) bool { return p.UUID == uuid })
	if uuid != "" && !known {
		return ErrUnknown
	}
	ok := s.update(func() bool {
		if s.busy || s.doc == nil || s.waiting != "" || (s.stage != StagePreview && s.stage != StageProblem) {
			return false
		}
		s.printer = uuid
		return true
	})
	if !ok {
		return ErrNotNow
	}
	return nil
}

// CancelPrint gives up the job at the printer. What came out of it is said as a problem of the session.
func (d *Desk) CancelPrint(s *Session) {
	s.mu.Lock()
	stop := s.printing
	s.touched = d.cfg.Now()
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// giveUp cancels a job that nobody comes to help.
func (d *Desk) giveUp(s *Session) {
	s.mu.Lock()
	stop, trouble := s.printing, s.progress.Trouble
	s.mu.Unlock()
	if stop != nil {
		d.log(s).Warn("print given up", "trouble", trouble)
		stop()
	}
}

// Again goes back from a problem to where the session can go on: to the preview while there is a document, to fetching
// it when there is none but somebody is logged in, to the questions otherwise.
func (d *Desk) Again(ctx context.Context, s *Session) error {
	v := s.View()
	if v.Stage != StageProblem || !v.Problem.CanRetry {
		return ErrNotNow
	}
	switch {
	case v.Document != "":
		s.update(func() bool { s.enter(StagePreview, d.cfg.Now()); return true })
		return nil
	case v.Answers.Service != SelfDeclaration && v.Answers.Holder == Family && v.Answers.Member == "":
		return d.LoadFamily(ctx, s)
	default:
		return d.Prepare(ctx, s)
	}
}

// Back leaves a preview or a problem for the questions. The login is kept while the hub keeps it.
func (d *Desk) Back(s *Session) {
	s.update(func() bool {
		if s.busy || (s.stage != StagePreview && s.stage != StageProblem) {
			return false
		}
		s.drop()
		over := s.problem != nil && s.problem.Kind == ProblemLoginOver
		if s.accepted && s.answers.Service != SelfDeclaration && !over {
			s.enter(StageConfirmed, d.cfg.Now())
		} else {
			d.dropLogin(s)
			s.enter(StageAsking, d.cfg.Now())
		}
		return true
	})
}

// Taken answers "Ha preso tutti i fogli?". When one is missing staff is told; nothing is printed again by itself.
func (d *Desk) Taken(ctx context.Context, s *Session, all bool) error {
	if s.View().Stage != StageTake {
		return ErrNotNow
	}
	if !all {
		d.note(ctx, s, event.SheetsMissing, event.Detail{})
		d.stop(s, Problem{Kind: ProblemUncertain, Trouble: TroubleOther})
		return nil
	}
	d.Goodbye(ctx, s)
	return nil
}

// sleep waits for t or until ctx ends.
func sleep(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
