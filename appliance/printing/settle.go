package printing

import (
	"context"
	"errors"
	"slices"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk/staff"
)

// lateJob is how long a Create-Job that was not answered may still make a job after the printer answers again.
const lateJob = 5 * time.Second

// ending is what is known of a job that should end.
type ending int

const (
	ended      ending = iota // it has
	forgotten                // the printer does not know it: it can do nothing any more
	stillThere               // it has not, or the printer does not answer
)

// stop cancels a job and waits for its end, for Grace at most, also when ctx has ended.
func (s *Spooler) stop(ctx context.Context, c *ipp.Client, row Row) (ipp.Job, ending) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
	defer cancel()
	told := false
	for {
		if !told {
			// A refusal is as good as an answer: the job has ended or is not known, and Job says which.
			err := c.Cancel(ctx, row.JobID)
			var se *ipp.StatusError
			told = err == nil || errors.As(err, &se)
		}
		job, err := c.Job(ctx, row.JobID)
		switch {
		case ipp.IsStatus(err, ipp.StatusNotFound, ipp.StatusGone), err == nil && !ours(row, job):
			return job, forgotten
		case err == nil && told && job.State.Ended():
			return job, ended
		}
		if !pause(ctx, min(s.cfg.Poll, 100*time.Millisecond)) {
			return job, stillThere
		}
	}
}

// find looks for the row's job, by its id and by its name. known is false when the printer could not be asked.
func find(ctx context.Context, c *ipp.Client, row Row) (job ipp.Job, found, known bool) {
	if row.JobID > 0 {
		job, err := c.Job(ctx, row.JobID)
		switch {
		case err == nil && job.State != 0 && certainly(row, job):
			return job, true, true
		case errors.Is(err, ipp.ErrUnreachable):
			return ipp.Job{}, false, false
		}
	}
	for _, which := range []string{ipp.NotCompleted, ipp.Completed} {
		jobs, err := c.Jobs(ctx, which)
		var se *ipp.StatusError
		if errors.As(err, &se) && !se.Later() {
			continue // it keeps no such list: then there is nothing more to be known
		} else if err != nil {
			return ipp.Job{}, false, false
		}
		if i := slices.IndexFunc(jobs, func(j ipp.Job) bool { return j.Name == row.ID && certainly(row, j) }); i >= 0 {
			return jobs[i], true, true
		}
	}
	return ipp.Job{}, false, true
}

// certainly reports whether a job is the row's, also if the printer may have been switched off and on: then its number
// says nothing, and there are printers that make a job-uuid out of the number.
func certainly(row Row, j ipp.Job) bool {
	return ours(row, j) && (j.Name == row.ID || j.UUID != "" && j.UUID == row.JobUUID && !row.Restarted)
}

// noSheet reports whether the printer has said that an ended job gave no sheet: it was canceled or aborted, and counts 0
// impressions. That says nothing unless the printer is known to count, by earlier jobs or by its history.
func (s *Spooler) noSheet(ctx context.Context, d *device, c *ipp.Client, job ipp.Job) bool {
	if job.State != ipp.JobCanceled && job.State != ipp.JobAborted || job.Impressions != 0 {
		return false
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	jobs, err := c.Jobs(short, ipp.Completed)
	if err != nil {
		s.cfg.Log.Info("print history not read", "printer", c.URI(), "err", err)
	}
	for _, j := range jobs {
		d.learn(j)
	}
	return d.counts()
}

// settle looks after the jobs of the past at a printer that answers. The caller holds d's lock.
func (s *Spooler) settle(ctx context.Context, d *device) {
	for _, row := range d.openRows() {
		c, p, err := s.ask(ctx, d)
		if err != nil {
			return
		}
		row.Restarted = row.Restarted || p.UpTime < row.UpTime || s.switchedOnAfter(row, p)
		if row, done := s.settleRow(ctx, d, c, row); done {
			d.settled(row.ID)
		} else {
			d.remember(row)
		}
	}
	s.unblock(d)
}

// switchedOnAfter reports whether the printer says that it is up since a time after the row was stored. It may be up for
// longer than it was then, when that was soon after it had been switched on.
func (s *Spooler) switchedOnAfter(row Row, p ipp.Printer) bool {
	up := time.Duration(p.UpTime) * time.Second
	return up > 0 && !row.Updated.IsZero() && s.cfg.Now().Add(-up-time.Second).After(row.Updated)
}

// settleRow finds out what became of a job that nobody followed to its end, and cancels it if it goes on: the visit it
// belonged to is over, and its sheet would be the next visitor's. done is false as long as it must be asked for again: the
// printer could not be asked, or has not ended it.
func (s *Spooler) settleRow(ctx context.Context, d *device, c *ipp.Client, row Row) (_ Row, done bool) {
	job, found, known := find(ctx, c, row)
	if !known {
		return row, false
	}
	if !found && row.State == Creating {
		// A printer that was silent may carry out the request when it wakes up, after it has told that there is no such job.
		now := s.cfg.Now()
		if row.missed.IsZero() {
			row.missed = now
		}
		if now.Sub(row.missed) < lateJob {
			return row, false
		}
	}
	if found && !job.State.Ended() {
		row.JobID, row.JobUUID = job.ID, job.UUID
		end := stillThere
		if row.told {
			_ = c.Cancel(ctx, row.JobID) // what comes of it the next look shows
		} else {
			job, end = s.stop(ctx, c, row)
		}
		if row.told = end == stillThere; row.told {
			if ctx.Err() != nil || row.State.Open() && lost(row) == Failed {
				return row, false
			}
			// It was told to stop and does not: with a document it may yet print. Staff can look at least.
			if row.State.Open() {
				row = evidence(row, job)
				row.State = lost(row)
				s.closeRow(row, "its job does not end")
			}
			return row, !row.Pursue
		}
		found = found && end == ended
	}
	if !found {
		job = ipp.Job{}
	}
	pursued := row.Pursue
	row.Pursue = false
	if !row.State.Open() {
		if pursued {
			if err := s.amend(evidence(row, job)); err != nil {
				s.cfg.Log.Error("print not journalled", "print", row.ID, "state", row.State, "err", err)
				row.Pursue = true
				return row, false // after a power cut it would keep everybody from the printer again
			}
			s.cfg.Log.Warn("the job of an uncertain print has ended", "print", row.ID, "state", job.State)
		}
		return row, true
	}
	why := "its job was not found"
	wasWhole := row.State == Sent || row.State == Printing
	state := lost(row)
	switch {
	case !found:
	case job.State == ipp.JobCompleted && wasWhole:
		state, why = Done, "its job is completed"
	case s.noSheet(ctx, d, c, job):
		state, why = Failed, "its job ended without a sheet"
	default:
		why = "its job ended as " + job.State.String()
	}
	if state == Uncertain {
		row = evidence(row, job)
	}
	row.State = state
	s.closeRow(row, why)
	return row, true
}

// lost is how a print ends whose job nobody can tell about.
func lost(row Row) State {
	switch row.State {
	case Queued, Creating, Created:
		return Failed
	}
	if row.Kind == kindTest {
		return Cancelled // nobody has to look for a page that says nothing of anybody
	}
	return Uncertain
}

// closeRow writes the end of a print that a power cut interrupted.
func (s *Spooler) closeRow(row Row, why string) {
	if row.State == Uncertain {
		row.Why = why
		if row.Sent == 0 {
			row.Sent = row.Bytes // the power cut took what was known
		}
		if row.JobState == "" {
			row.Sheets = unknownSheets
		}
	}
	if err := s.write(row); err != nil {
		s.cfg.Log.Error("print not journalled", "print", row.ID, "state", row.State, "err", err)
	}
	s.cfg.Log.Warn("interrupted print closed", "print", row.ID, "kind", row.Kind, "state", row.State, "why", why)
	switch row.State {
	case Uncertain:
		s.raise(staff.AlarmUncertain, normal(row.PrinterUUID), s.nameOf(row.PrinterUUID), "", "")
	case Done:
		s.printed()
	}
}
