package printing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
)

const (
	// stateEvery is how often a printer is asked for its troubles while a job moves on: that is a bigger question than
	// where the job is.
	stateEvery = 500 * time.Millisecond
	// unknownLimit is how many times in a row a printer may not know a job before nobody knows.
	unknownLimit = 3
)

// errUnknown means that the printer does not know the job, or says nothing that tells how it is.
var errUnknown = errors.New("the printer does not know the job any more")

// send gives the job its document and follows it to the end. From its first step on a sheet may come out.
func (r *run) send(ctx context.Context) error {
	if err := r.save(Sending); err != nil {
		return r.withdraw(ctx, false, err)
	}
	r.say(kiosk.PrintProgress{State: kiosk.PrintSending})
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	answered := make(chan error, 1)
	client, id := r.client, r.row.JobID
	go func() { answered <- client.Send(sending, id, ipp.PDF, r.job.PDF) }()
	// hangUp ends the sending and says how it went, nil when the document arrived whole. The printer is asked to cancel
	// first, because a document that just breaks off is printed as far as it came.
	heard := false
	hangUp := func() error {
		cut()
		if heard {
			return nil
		}
		heard = true
		return <-answered
	}
	defer func() { _ = hangUp() }()

	var asked, endedAt time.Time
	printer := ipp.Printer{State: ipp.PrinterIdle, Accepting: true}
	unknown, sent := 0, false
	tick := time.NewTicker(r.s.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case err := <-answered:
			heard = true
			if err != nil {
				return r.broken(ctx, err)
			}
			sent = true
			_ = r.save(Sent) // too late to stop: the row says "sending", which is read more carefully
		case <-ctx.Done():
			job, end := r.s.stop(ctx, r.client, r.row)
			return r.stopped(ctx, hangUp(), job, end)
		case <-tick.C:
		}

		job, err := r.where(ctx, &printer, &asked)
		switch {
		case ctx.Err() != nil:
			continue
		case errors.Is(err, errUnknown):
			if unknown++; unknown < unknownLimit {
				continue
			}
			return r.uncertain(kiosk.TroubleOther, err, false)
		case err != nil:
			trouble := troubleFor(ipp.Printer{}, err)
			if !r.gone() {
				r.say(kiosk.PrintProgress{State: kiosk.PrintStopped, Page: r.said.Page, Trouble: trouble})
				continue
			}
			if !sent {
				// Not one byte may have left: then the error of the sending knows more.
				if serr := hangUp(); serr != nil {
					return r.broken(ctx, serr)
				}
			}
			return r.uncertain(trouble, err, true)
		}
		unknown, r.away = 0, time.Time{}
		if job.State.Ended() {
			if sent || job.State != ipp.JobCompleted {
				return r.over(ctx, job, hangUp())
			}
			// Completed, and our sending is not: the answer may be a moment behind, or the printer has half a document.
			if now := r.s.cfg.Now(); endedAt.IsZero() {
				endedAt = now
			} else if now.Sub(endedAt) > r.s.cfg.Grace {
				_ = hangUp()
				return r.uncertain(kiosk.TroubleOther, errors.New("the job is completed, but the printer never took the whole document"), false)
			}
			continue
		}
		r.progress(job, printer, sent)
	}
}

// where asks for the job and, when it is time or the job does not move, for the printer's troubles.
func (r *run) where(ctx context.Context, printer *ipp.Printer, asked *time.Time) (ipp.Job, error) {
	short, cancel := context.WithTimeout(ctx, probeTimeout)
	began := r.s.cfg.Now()
	job, err := r.client.Job(short, r.row.JobID)
	cancel()
	if errors.Is(err, ipp.ErrUnreachable) && ctx.Err() == nil && r.s.cfg.Now().Sub(began) > time.Second {
		// It will take as long again to find out whether the printer is somewhere else; the citizen is told now.
		r.say(kiosk.PrintProgress{State: kiosk.PrintStopped, Page: r.said.Page, Trouble: kiosk.TroubleUnreachable})
	}
	moving := err == nil && job.State == ipp.JobProcessing && printer.State != ipp.PrinterStopped
	if now := r.s.cfg.Now(); !moving || job.State.Ended() || now.Sub(*asked) >= stateEvery {
		*asked = now
		c, p, perr := r.s.ask(ctx, r.d)
		if perr != nil {
			return job, perr
		}
		// The printer may have got another address meanwhile; then the job is asked for there the next time.
		r.client, *printer = c, p
		if p.UpTime < r.row.UpTime {
			return job, fmt.Errorf("%w: it was switched off and on", errUnknown)
		}
	}
	switch {
	case ipp.IsStatus(err, ipp.StatusNotFound, ipp.StatusGone, ipp.StatusBadRequest, ipp.StatusNotPossible):
		return job, fmt.Errorf("%w: %w", errUnknown, err)
	case err != nil:
		return job, err
	case job.State == 0 || !ours(r.row, job):
		return job, errUnknown
	}
	return job, nil
}

// ours reports whether a job is the row's: a job id alone means little, because printers count from 1 again after a
// power cut.
func ours(row Row, j ipp.Job) bool {
	if row.JobUUID != "" && j.UUID != "" {
		return row.JobUUID == j.UUID
	}
	return j.Name == row.ID || j.Name == "" && row.JobID == j.ID
}

// progress reports where a job is that has not ended.
func (r *run) progress(job ipp.Job, printer ipp.Printer, sent bool) {
	now := kiosk.PrintProgress{State: kiosk.PrintSending, Page: max(0, job.Impressions)}
	trouble := troubleOf(printer)
	switch {
	case trouble != kiosk.TroubleNone:
		now.State, now.Trouble = kiosk.PrintStopped, trouble
	case job.State == ipp.JobProcessingStopped:
		now.State, now.Trouble = kiosk.PrintStopped, kiosk.TroubleOther
	case job.State == ipp.JobProcessing:
		now.State = kiosk.PrintPrinting
	case job.State == ipp.JobPendingHeld && sent:
		now.State, now.Trouble = kiosk.PrintStopped, kiosk.TroublePaused
	}
	if sent && job.State == ipp.JobProcessing && r.row.State == Sent {
		_ = r.save(Printing) // not needed to go on
	}
	r.say(now)
}

// over closes a job that the printer has ended while it was followed. sending is how the sending of the document went.
func (r *run) over(ctx context.Context, job ipp.Job, sending error) error {
	trouble := kiosk.TroubleOther
	for _, reason := range job.Reasons {
		switch reason {
		case "document-format-error", "document-unprintable-error", "unsupported-document-format":
			trouble = kiosk.TroubleFormat
		}
	}
	return r.ended(ctx, job, sending, Failed, trouble, fmt.Errorf("the printer ended the job: %v %v", job.State, job.Reasons))
}

// broken settles a document whose sending failed.
func (r *run) broken(ctx context.Context, err error) error {
	trouble := troubleIn(err)
	job, end := r.s.stop(ctx, r.client, r.row)
	var out error
	switch {
	case end == ended:
		out = r.ended(ctx, job, err, Failed, trouble, err)
	case !nothingArrived(err):
		out = r.uncertain(trouble, err, end == stillThere)
	case end == stillThere:
		out = r.leave(trouble, err)
	default:
		out = r.nothing(Failed, trouble, err)
	}
	var se *ipp.StatusError
	if kiosk.AsPrintError(out).Outcome != kiosk.NothingPrinted || errors.As(err, &se) && !se.Later() {
		return out // it would refuse again
	}
	return againError{out}
}

// stopped settles a job that was cancelled because ctx ended.
func (r *run) stopped(ctx context.Context, sending error, job ipp.Job, end ending) error {
	switch {
	case end == ended:
		return r.ended(ctx, job, sending, Cancelled, r.trouble, ctx.Err())
	case nothingArrived(sending):
		return r.leave(r.trouble, ctx.Err())
	}
	return r.uncertain(r.trouble, ctx.Err(), end == stillThere)
}

// ended closes a job that the printer has ended, by what is known of the paper. sending is how the sending of the
// document went, state how the row ends if no sheet came out; t and err say why it ended.
func (r *run) ended(ctx context.Context, job ipp.Job, sending error, state State, t kiosk.Trouble, err error) error {
	r.d.learn(job)
	out := max(0, job.Impressions)
	allOut := job.State == ipp.JobCompleted || job.State == ipp.JobCanceled && 0 < out && out >= r.row.Pages
	switch {
	case allOut && sending == nil: // else it is the end of half a document
		_ = r.save(Done) // the paper is out: a row that says "printing" is settled by asking
		r.s.cfg.Log.Info("printed", "print", r.row.ID, "kind", r.row.Kind, "pages", r.row.Pages)
		return nil
	case out == 0 && nothingArrived(sending), r.s.noSheet(ctx, r.d, r.client, job):
		return r.nothing(state, t, err)
	case job.State != ipp.JobCompleted && 0 < out && out < r.row.Pages:
		_ = r.save(Cancelled) // an ended row is never needed
		r.s.cfg.Log.Warn("printed in part", "print", r.row.ID, "kind", r.row.Kind, "sheets", out, "pages", r.row.Pages)
		return fail(t, kiosk.PartlyPrinted, err)
	}
	return r.uncertain(t, err, false)
}

// nothingArrived reports whether a sending failed so that no sheet can come out, whatever the printer calls the job:
// before one byte of the document left, or refused for what is known before the document is read. Other refusals
// (server-error-job-canceled, document-format-error) may come from a printer that prints while it reads.
func nothingArrived(err error) bool {
	var te *ipp.TransportError
	return errors.As(err, &te) && te.Sent == 0 || ipp.IsStatus(err, ipp.StatusFormat, ipp.StatusValues, ipp.StatusConflict,
		ipp.StatusOperation, ipp.StatusVersion, ipp.StatusUnavailable, ipp.StatusNotAcceptingJobs, ipp.StatusBusy, ipp.StatusTooManyJobs)
}

// leave ends the attempt with a job at the printer that has no document and could not be cancelled: its row stays open.
func (r *run) leave(t kiosk.Trouble, err error) error {
	_ = r.save(Created) // at worst the row says "sending", which is read more carefully
	r.d.remember(r.row)
	return fail(t, kiosk.NothingPrinted, err)
}

// uncertain ends the attempt without knowing what came out. With pursue the job is cancelled when the printer can be
// reached again, lest its sheet comes out for the next visitor.
func (r *run) uncertain(t kiosk.Trouble, err error, pursue bool) error {
	_ = r.save(Uncertain) // a row that is still open is settled as uncertain or better
	if pursue {
		r.d.remember(r.row)
	}
	r.s.cfg.Log.Error("nobody knows what was printed", "print", r.row.ID, "kind", r.row.Kind, "printer", r.row.PrinterURI,
		"job", r.row.JobID, "err", err)
	return fail(t, kiosk.Uncertain, err)
}
