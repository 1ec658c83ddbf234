package printing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
)

// run is one attempt to print a document: one row of the journal, one job at the printer.
type run struct {
	s       *Spooler
	d       *device
	job     kiosk.PrintJob
	picture bool // not as PDF: the printer could not draw it
	row     Row
	client  *ipp.Client
	plan    Planned
	doc     []byte               // as it is sent
	drawn   *raster.PrintOptions // how doc was drawn; nil: it was not
	report  func(kiosk.PrintProgress)
	said    kiosk.PrintProgress
	trouble kiosk.Trouble // what last kept the printer from going on
	away    time.Time     // since when the printer does not answer; zero while it does
	seen    ipp.Job       // what it last said of the job
}

// againError asks for a second attempt: no sheet of the first came out.
type againError struct {
	error
	raster bool // the printer took the document and could not draw it: as a picture it may
	moved  bool // nothing was tried: another printer can be
}

// Print implements kiosk.Printer. The document is sent a second time only when the printer has said that no sheet came
// out, and then only once after the connection broke while it was being sent, and once as a picture after the printer
// could not draw it.
func (s *Spooler) Print(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) (err error) {
	if len(job.PDF) == 0 || sha256.Sum256(job.PDF) != job.SHA256 {
		return fail(kiosk.TroubleOther, kiosk.NothingPrinted, errors.New("the document is not the one that was checked"))
	}
	if !s.load(ctx) {
		return fail(kiosk.TroubleOther, kiosk.NothingPrinted, errors.New("the journal cannot be read: it may be known that a sheet waits in a printer"))
	}
	var again Row
	if job.Reprint != nil {
		first, release, refused := s.again(job)
		if refused != nil {
			return refused
		}
		defer func() { release(err == nil || kiosk.AsPrintError(err).Outcome != kiosk.NothingPrinted) }()
		again.Of, again.Number = cmp.Or(first.Of, first.ID), first.Number+1
	}
	var printed bool
	if printed, err = s.slip(ctx, job, report); printed {
		return err
	}
	if s.receipt(job.Printer) != nil {
		job.Printer = "" // it goes on A4 then, wherever that is
	}
	return s.print(ctx, job, again, report)
}

// print prints job, as the reprint that again describes if it is one.
func (s *Spooler) print(ctx context.Context, job kiosk.PrintJob, again Row, report func(kiosk.PrintProgress)) error {
	broken, picture := 0, false
	for {
		d, err := s.pick(job.Printer)
		if err != nil {
			return err
		}
		r := s.run(d, job, report)
		r.picture, r.row.Of, r.row.Number = picture, again.Of, again.Number
		err = r.attempt(ctx)
		var second againError
		switch {
		case !errors.As(err, &second):
			return err
		case ctx.Err() != nil, second.raster && picture, !second.raster && !second.moved && broken > 0:
			return second.error
		case second.raster:
			picture, job.Printer = true, d.uuid
		case !second.moved:
			broken++
		}
		s.cfg.Log.Warn("document sent again", "picture", picture, "err", second.error)
	}
}

func fail(t kiosk.Trouble, o kiosk.PrintOutcome, err error) error {
	return &kiosk.PrintError{Trouble: t, Outcome: o, Err: err}
}

// fail is why the attempt ended.
func (r *run) fail(t kiosk.Trouble, o kiosk.PrintOutcome, err error) error {
	return &kiosk.PrintError{Trouble: t, Outcome: o, Print: r.row.ID, Err: err}
}

func (s *Spooler) run(d *device, job kiosk.PrintJob, report func(kiosk.PrintProgress)) *run {
	return &run{s: s, d: d, job: job, report: report, doc: job.PDF, row: Row{
		ID: newID(), Session: job.Session, Kiosk: job.Kiosk, Kind: job.Kind, SHA256: hex.EncodeToString(job.SHA256[:]),
		Pages: job.Pages, Bytes: len(job.PDF), PrinterUUID: d.uuid,
	}}
}

func (r *run) attempt(ctx context.Context) error {
	defer r.d.wake()
	defer r.d.unqueue(r.row.ID)
	locked := r.d.tryLock()
	if locked {
		defer r.d.unlock()
		r.d.prepare(ctx)
	}
	if err := r.save(Queued); err != nil {
		return r.fail(kiosk.TroubleOther, kiosk.NothingPrinted, err)
	}
	if !locked {
		r.say(kiosk.PrintProgress{State: kiosk.PrintWaiting})
		select {
		case r.d.lock <- struct{}{}:
		case <-ctx.Done():
			return r.nothing(Cancelled, kiosk.TroubleBusy, ctx.Err())
		}
		defer r.d.unlock()
	}
	if r.d.blockedBy() != "" { // by the one that had the printer before
		err := r.nothing(Failed, kiosk.TroubleBlocked, errBlocked)
		if r.s.elsewhere(r.job, r.d) {
			return againError{error: err, moved: true}
		}
		return err
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	return r.send(ctx)
}

// say reports progress if it is new.
func (r *run) say(p kiosk.PrintProgress) {
	r.trouble = p.Trouble
	if p != r.said {
		r.said = p
		r.report(p)
	}
}

// save writes the row before the step that state names. An error means that the step must not be taken: only a
// certificate, which must not exist twice, needs its row; after its document has been sent nothing is gained by
// stopping, and an older row is the more careful one.
func (r *run) save(state State) error {
	r.row.State = state
	r.d.enqueue(r.row)
	err := r.s.write(r.row)
	if err == nil {
		return nil
	}
	r.s.cfg.Log.Error("print not journalled", "print", r.row.ID, "state", state, "err", err)
	if r.job.Kind == "certificate" && (state == Queued || state == Creating || state == Created || state == Sending) {
		return fmt.Errorf("journal %s: %w", state, err)
	}
	return nil
}

// write stores a row with the time, even when the visit it belongs to has ended.
func (s *Spooler) write(row Row) error {
	row.Updated = s.cfg.Now().UTC()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	return s.cfg.Journal.SavePrint(ctx, row)
}

// nothing ends the attempt when it is known that no sheet came out.
func (r *run) nothing(state State, t kiosk.Trouble, err error) error {
	_ = r.save(state) // an ended row is never needed: save has logged it
	return r.fail(t, kiosk.NothingPrinted, err)
}

// pause waits d, or until ctx ends: then it is false.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ready waits until the printer can print, and plans how.
func (r *run) ready(ctx context.Context) (ipp.Printer, error) {
	for {
		c, p, err := r.s.ask(ctx, r.d)
		trouble := r.d.trouble(p, err)
		switch {
		case ctx.Err() != nil && err != nil:
			trouble = r.trouble // that question was not heard out
		case ctx.Err() != nil:
		case errors.Is(err, errIdentity):
			return p, r.nothing(Failed, trouble, err)
		case err == nil && (trouble == kiosk.TroubleFormat || trouble == kiosk.TroubleAuth || trouble == kiosk.TroubleMedia && !supportsA4(p)):
			return p, r.nothing(Failed, trouble, fmt.Errorf("%s cannot print the document on A4", c.URI()))
		case trouble == kiosk.TroubleAuth:
			return p, r.nothing(Failed, trouble, err)
		case err != nil:
			if r.gone() {
				return p, r.nothing(Failed, trouble, err)
			}
			r.say(kiosk.PrintProgress{State: kiosk.PrintStopped, Trouble: trouble})
		case trouble != kiosk.TroubleNone:
			r.away = time.Time{}
			r.say(kiosk.PrintProgress{State: kiosk.PrintStopped, Trouble: trouble})
		default:
			r.away = time.Time{}
			if r.d.hasOpen() {
				r.s.settle(ctx, r.d)
			}
			r.client = c
			a := r.d.adoption()
			a.Raster = a.Raster || r.picture
			if r.plan, trouble = Plan(p, a); trouble == kiosk.TroubleNone {
				r.plan.Ticket.Name = r.row.ID
				return p, nil
			}
			return p, r.nothing(Failed, trouble, errors.New("the printer takes no picture"))
		}
		if !pause(ctx, r.s.cfg.Poll) {
			return p, r.nothing(Cancelled, trouble, context.Cause(ctx))
		}
	}
}

// draw makes the picture that the plan wants, if it is not made yet. again has the printer asked anew: that took a while.
func (r *run) draw(ctx context.Context) (again bool, err error) {
	want := r.plan.Raster
	switch {
	case want == nil:
		r.doc, r.drawn = r.job.PDF, nil
		return false, nil
	case r.drawn != nil && *r.drawn == *want:
		return false, nil
	case r.s.cfg.Raster == nil:
		return false, r.nothing(Failed, kiosk.TroubleFormat, errors.New("the printer takes no PDF"))
	}
	doc, err := r.s.cfg.Raster.Print(ctx, r.job.PDF, *want)
	switch {
	case ctx.Err() != nil:
		return false, r.nothing(Cancelled, r.trouble, ctx.Err())
	case err != nil:
		return false, r.nothing(Failed, kiosk.TroubleOther, fmt.Errorf("document not drawn: %w", err))
	}
	r.doc, r.drawn = doc, want
	return true, nil
}

// gone notes that the printer does not answer and reports whether that has lasted too long.
func (r *run) gone() bool {
	now := r.s.cfg.Now()
	if r.away.IsZero() {
		r.away = now
	}
	return now.Sub(r.away) >= r.s.cfg.Gone
}

// create waits for the printer and makes the job, without its document.
func (r *run) create(ctx context.Context) error {
	var busySince time.Time
	wait, next := time.Second, 2*time.Second // CUPS waits in Fibonacci's steps too
	for tries := 1; ; {
		p, err := r.ready(ctx)
		if err != nil {
			return err
		}
		// Before there is a job: it would keep everybody from the printer while its document is being drawn.
		if again, err := r.draw(ctx); err != nil {
			return err
		} else if again {
			continue
		}
		ticket := r.plan.Ticket
		ignored, err := r.client.Validate(ctx, ticket)
		switch {
		case err == nil && mediaRefused(ignored):
			return r.nothing(Failed, kiosk.TroubleMedia, errors.New("the printer would ignore the paper asked for"))
		case err == nil, ipp.IsStatus(err, ipp.StatusOperation):
		case errors.Is(err, ipp.ErrUnreachable), later(err):
			// What follows finds out the same, and knows how to wait.
		default:
			return r.nothing(Failed, troubleIn(err), err)
		}
		if ctx.Err() != nil {
			return r.nothing(Cancelled, r.trouble, ctx.Err())
		}

		if err := r.d.allowed(r.client.URI()); err != nil {
			return r.nothing(Failed, kiosk.TroubleIdentity, err)
		}
		r.row.PrinterURI, r.row.UpTime, r.row.Bytes = r.client.URI(), p.UpTime, len(r.doc)
		if err := r.save(Creating); err != nil {
			return r.nothing(Failed, kiosk.TroubleOther, err)
		}
		// Once begun it is heard out, else nobody would know whether there is a job.
		heard := context.WithoutCancel(ctx)
		job, ignored, err := r.client.Create(heard, ticket)
		if err != nil && (later(err) || errors.Is(err, ipp.ErrUnreachable) || errors.Is(err, ipp.ErrAnswer)) {
			// Also when it says that it is busy: it may be with the job whose answer was lost.
			var found bool
			var ferr error
			if job, found, ferr = r.adopt(ctx); ferr != nil {
				return ferr
			} else if found {
				ignored, err = nil, nil
			} else if !later(err) && ctx.Err() != nil {
				r.d.remember(r.row) // the printer may yet make the job
				return r.fail(r.trouble, kiosk.NothingPrinted, ctx.Err())
			}
		}
		switch {
		case err == nil:
			if job.UUID == "" {
				// ippeveprinter tells it only when asked.
				if full, jerr := r.client.Job(heard, job.ID); jerr == nil && full.Name == r.row.ID {
					job.UUID = full.UUID
				}
			}
			r.row.JobID, r.row.JobUUID = job.ID, job.UUID
			serr := r.save(Created)
			if mediaRefused(ignored) || serr != nil || ctx.Err() != nil {
				return r.withdraw(ctx, mediaRefused(ignored), serr)
			}
			return nil
		case later(err):
			now := r.s.cfg.Now()
			if busySince.IsZero() {
				busySince = now
			}
			if now.Sub(busySince)+wait > r.s.cfg.Busy {
				return r.nothing(Failed, kiosk.TroubleBusy, err)
			}
			r.say(kiosk.PrintProgress{State: kiosk.PrintWaiting})
			if !pause(ctx, wait) {
				return r.nothing(Cancelled, kiosk.TroubleBusy, ctx.Err())
			}
			wait, next = min(next, 8*time.Second), wait+next
		case (errors.Is(err, ipp.ErrUnreachable) || errors.Is(err, ipp.ErrAnswer)) && tries < 3:
			tries++ // the printer has said that it knows no such job
		case errors.Is(err, ipp.ErrUnreachable), errors.Is(err, ipp.ErrAnswer):
			r.d.remember(r.row) // the last job may yet be made
			return r.fail(troubleIn(err), kiosk.NothingPrinted, err)
		default:
			return r.nothing(Failed, troubleIn(err), err)
		}
	}
}

// adopt looks for the job whose Create-Job was not answered. found is false when the printer knows no such job; an
// error means that it could not be asked, and then the job, if there is one, is cancelled when it can.
func (r *run) adopt(ctx context.Context) (job ipp.Job, found bool, err error) {
	for {
		c, p, err := r.s.ask(ctx, r.d)
		if err == nil {
			r.client = c
			var known bool
			if job, found, known = find(ctx, c, r.row); known {
				r.away = time.Time{}
				return job, found && !job.State.Ended(), nil
			}
		}
		trouble := r.d.trouble(p, err)
		switch {
		case errors.Is(err, errIdentity), r.gone():
			r.d.remember(r.row)
			return ipp.Job{}, false, r.fail(trouble, kiosk.NothingPrinted, fmt.Errorf("Create-Job was not answered: %w", ipp.ErrUnreachable))
		case trouble != kiosk.TroubleNone:
			r.say(kiosk.PrintProgress{State: kiosk.PrintStopped, Trouble: trouble})
		}
		if !pause(ctx, r.s.cfg.Poll) {
			r.d.remember(r.row)
			return ipp.Job{}, false, r.fail(trouble, kiosk.NothingPrinted, ctx.Err()) // the job, if there is one, has no document
		}
	}
}

// withdraw cancels a job that has no document yet.
func (r *run) withdraw(ctx context.Context, media bool, journal error) error {
	state, trouble, err := Cancelled, r.trouble, ctx.Err()
	switch {
	case media:
		state, trouble, err = Failed, kiosk.TroubleMedia, errors.New("the printer would ignore the paper asked for")
	case journal != nil:
		state, trouble, err = Failed, kiosk.TroubleOther, journal
	}
	if _, end := r.s.stop(ctx, r.client, r.row); end == stillThere {
		return r.leave(trouble, err)
	}
	return r.nothing(state, trouble, err)
}

func later(err error) bool {
	var se *ipp.StatusError
	return errors.As(err, &se) && se.Later()
}

// troubleIn says what a refusal is about.
func troubleIn(err error) kiosk.Trouble {
	var se *ipp.StatusError
	switch {
	case errors.Is(err, ipp.ErrKey), errors.Is(err, ipp.ErrIdentity), errors.Is(err, errIdentity):
		return kiosk.TroubleIdentity
	case errors.Is(err, ipp.ErrAuth):
		return kiosk.TroubleAuth
	case errors.Is(err, ipp.ErrUnreachable):
		return kiosk.TroubleUnreachable
	case !errors.As(err, &se):
		return kiosk.TroubleOther
	case se.Status == ipp.StatusFormat, se.Status == ipp.StatusFormatError, se.Status == ipp.StatusUnprintable:
		return kiosk.TroubleFormat
	case mediaRefused(se.Unsupported):
		return kiosk.TroubleMedia
	case se.Later():
		return kiosk.TroubleBusy
	}
	for _, a := range se.Unsupported {
		if a == "document-format" {
			return kiosk.TroubleFormat
		}
	}
	return kiosk.TroubleOther
}
