package printing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

const (
	// stateEvery is how often a printer is asked for its troubles while a job moves on: that is a bigger question than
	// where the job is.
	stateEvery = 500 * time.Millisecond
	// answerSoon is how long the answer to Send-Document may come after the end of the job before that is looked at.
	answerSoon = 300 * time.Millisecond
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
	if err := r.d.allowed(r.client.URI()); err != nil {
		return r.withdraw(ctx, false, err)
	}
	r.say(kiosk.PrintProgress{State: kiosk.PrintSending})
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	answered := make(chan error, 1)
	client, id, format, doc := r.client, r.row.JobID, r.plan.Ticket.Format, r.doc
	go func() { answered <- client.Send(sending, id, format, doc) }()
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

	var endedAt time.Time
	asked := r.s.cfg.Now() // for its troubles, before the job was made
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
			sent, r.row.Sent = true, len(r.doc) // the row can wait until the citizen knows: "sending" is read more carefully
		case <-ctx.Done():
			job, end := r.s.stop(ctx, r.client, r.row)
			return r.stopped(ctx, hangUp(), job, end)
		case <-tick.C:
		}

		job, err := r.where(ctx, &printer, &asked)
		if sent && (err != nil || job.State.Ended()) {
			r.arrived()
		}
		switch {
		case ctx.Err() != nil:
			continue
		case errors.Is(err, errUnknown):
			if unknown++; unknown < unknownLimit {
				continue
			}
			// Also one that was switched off and on may still have the job, under another number.
			job, found, known := find(context.WithoutCancel(ctx), r.client, r.row)
			if found {
				r.seen = job
			}
			return r.uncertain(kiosk.TroubleOther, err, !known || found && !job.State.Ended())
		case err != nil:
			trouble := r.d.trouble(ipp.Printer{}, err)
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
		unknown, r.away, r.seen = 0, time.Time{}, job
		if job.State.Ended() {
			if !sent {
				select { // how the sending ended says more than that the job has
				case err := <-answered:
					if heard = true; err != nil {
						return r.broken(ctx, err)
					}
					sent, r.row.Sent = true, len(r.doc)
					r.arrived()
				case <-time.After(answerSoon):
				}
			}
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
			r.row.Restarted = true
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
	r.say(now)
	if sent {
		r.arrived()
	}
	if sent && job.State == ipp.JobProcessing && r.row.State == Sent {
		_ = r.save(Printing) // not needed to go on
	}
}

// arrived stores that the document has arrived whole, which is too late to stop anything.
func (r *run) arrived() {
	if r.row.State == Sending {
		_ = r.save(Sent)
	}
}

// over closes a job that the printer has ended while it was followed. sending is how the sending of the document went.
func (r *run) over(ctx context.Context, job ipp.Job, sending error) error {
	trouble := kiosk.TroubleOther
	if undrawable(job) {
		trouble = kiosk.TroubleFormat
	}
	out := r.ended(ctx, job, sending, Failed, trouble, fmt.Errorf("the printer ended the job: %v %v", job.State, job.Reasons))
	return r.asPicture(job, nil, out)
}

// undrawable reports whether the printer gave a job up because it could not draw the document.
func undrawable(job ipp.Job) bool {
	return slices.ContainsFunc(job.Reasons, func(r string) bool {
		return r == "document-format-error" || r == "document-unprintable-error" || r == "unsupported-document-format"
	})
}

// asPicture asks for the document to be sent as a picture when all of this is known: the printer has given the job up,
// because it could not draw its PDF, and no sheet came out. out is how the attempt ended, err how the sending failed.
func (r *run) asPicture(job ipp.Job, err, out error) error {
	if out == nil || kiosk.AsPrintError(out).Outcome != kiosk.NothingPrinted || job.State != ipp.JobAborted || r.drawn != nil ||
		r.s.cfg.Raster == nil || !undrawable(job) && !ipp.IsStatus(err, ipp.StatusFormatError, ipp.StatusUnprintable) {
		return out
	}
	a := r.d.adoption()
	a.Raster = true
	if p := r.d.lastSeen(); p.Formats != nil {
		if format, _ := formatFor(p, a); format == "" {
			return out
		}
	}
	return againError{error: out, raster: true}
}

func (d *device) lastSeen() ipp.Printer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

// broken settles a document whose sending failed.
func (r *run) broken(ctx context.Context, err error) error {
	trouble := troubleIn(err)
	var te *ipp.TransportError
	switch {
	case errors.As(err, &te):
		r.row.Sent = te.Sent
	case !nothingArrived(err):
		r.row.Sent = len(r.doc)
	}
	if trouble == kiosk.TroubleIdentity {
		return r.leave(trouble, err) // who answers now has no job of ours
	}
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
	if end == ended {
		if out = r.asPicture(job, err, out); errors.As(out, new(againError)) {
			return out
		}
	}
	var se *ipp.StatusError
	if out == nil || kiosk.AsPrintError(out).Outcome != kiosk.NothingPrinted || errors.As(err, &se) && !se.Later() {
		return out // it would refuse again
	}
	return againError{error: out}
}

// stopped settles a job that was cancelled because ctx ended.
func (r *run) stopped(ctx context.Context, sending error, job ipp.Job, end ending) error {
	r.row.Sent = len(r.doc)
	var te *ipp.TransportError
	if errors.As(sending, &te) {
		r.row.Sent = te.Sent
	}
	if job.State != 0 {
		r.seen = job
	}
	given := fmt.Errorf("given up: %w", ctx.Err())
	switch {
	case end == ended:
		return r.ended(ctx, job, sending, Cancelled, r.trouble, given)
	case nothingArrived(sending):
		return r.leave(r.trouble, given)
	}
	return r.uncertain(r.trouble, given, end == stillThere)
}

// ended closes a job that the printer has ended, by what is known of the paper. sending is how the sending of the
// document went, state how the row ends if no sheet came out; t and err say why it ended.
func (r *run) ended(ctx context.Context, job ipp.Job, sending error, state State, t kiosk.Trouble, err error) error {
	r.d.learn(job)
	r.seen = job
	out := max(0, job.Impressions)
	allOut := job.State == ipp.JobCompleted || job.State == ipp.JobCanceled && 0 < out && out >= r.row.Pages
	switch {
	case allOut && sending == nil: // else it is the end of half a document
		_ = r.save(Done) // the paper is out: a row that says "printing" is settled by asking
		r.s.printed()
		r.s.cfg.Log.Info("printed", "print", r.row.ID, "kind", r.row.Kind, "pages", r.row.Pages)
		return nil
	case out == 0 && nothingArrived(sending), r.s.noSheet(ctx, r.d, r.client, job):
		return r.nothing(state, t, err)
	case job.State != ipp.JobCompleted && 0 < out && out < r.row.Pages:
		_ = r.save(Cancelled) // an ended row is never needed
		r.s.cfg.Log.Warn("printed in part", "print", r.row.ID, "kind", r.row.Kind, "sheets", out, "pages", r.row.Pages)
		return r.fail(t, kiosk.PartlyPrinted, err)
	}
	return r.uncertain(t, err, false)
}

// nothingArrived reports whether a sending failed so that no sheet can come out, whatever the printer calls the job:
// before one byte of the document left, or refused for what is known before the document is read. Other refusals
// (server-error-job-canceled, document-format-error) may come from a printer that prints while it reads.
func nothingArrived(err error) bool {
	var te *ipp.TransportError
	return errors.As(err, &te) && te.Sent == 0 || errors.Is(err, ipp.ErrKey) || errors.Is(err, ipp.ErrIdentity) || ipp.IsStatus(err, ipp.StatusFormat, ipp.StatusValues, ipp.StatusConflict,
		ipp.StatusOperation, ipp.StatusVersion, ipp.StatusUnavailable, ipp.StatusNotAcceptingJobs, ipp.StatusBusy, ipp.StatusTooManyJobs)
}

// leave ends the attempt with a job at the printer that has no document and could not be cancelled: its row stays open.
func (r *run) leave(t kiosk.Trouble, err error) error {
	_ = r.save(Created) // at worst the row says "sending", which is read more carefully
	r.d.remember(r.row)
	return r.fail(t, kiosk.NothingPrinted, err)
}

// maxWhy is how much is stored of what happened, in bytes.
const maxWhy = 300

// uncertain ends the attempt without knowing what came out, and stores what is known. With pursue the job may still give
// a sheet: it is cancelled when the printer can be reached again, and nothing else goes there before it has ended.
func (r *run) uncertain(t kiosk.Trouble, err error, pursue bool) error {
	if r.row.Kind == kindTest {
		_ = r.save(Cancelled) // nobody has to look for a page that says nothing of anybody
		if pursue {
			r.d.remember(r.row)
		}
		return r.fail(t, kiosk.Uncertain, err)
	}
	r.row = evidence(r.row, r.seen)
	r.row.Why, r.row.Pursue = strings.ToValidUTF8(fmt.Sprintf("%.*s", maxWhy, err.Error()), ""), pursue
	_ = r.save(Uncertain) // a row that is still open is settled as uncertain or better
	if pursue {
		r.s.block(r.d, r.row)
	}
	r.s.raise(staff.AlarmUncertain, r.d.uuid, r.d.status().Name, "", "")
	r.s.cfg.Log.Error("nobody knows what was printed", "print", r.row.ID, "kind", r.row.Kind, "printer", r.row.PrinterURI,
		"job", r.row.JobID, "err", err)
	return r.fail(t, kiosk.Uncertain, err)
}

// printed has today's sheets counted anew.
func (s *Spooler) printed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sheets.stale = true
}
