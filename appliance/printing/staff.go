package printing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// kindTest is the Kind of pages that say nothing of anybody: nobody has to decide about one, and none keeps others from
// the printer.
const kindTest = "test"

// sheets is what the journal counts of today.
type sheets struct {
	day   time.Time
	stale bool // something was printed since
	of    map[string]int
}

// Devices says how every adopted printer is, in order of preference, receipt printers last.
func (s *Spooler) Devices() []staff.Device {
	s.mu.Lock()
	today, receipts := s.sheets.of, s.receipts
	s.mu.Unlock()
	var all []staff.Device
	for _, d := range s.all() {
		if !d.active() && d.blockedBy() == "" {
			continue
		}
		dev := d.describe()
		dev.PagesToday = today[d.uuid]
		all = append(all, dev)
	}
	for _, r := range receipts {
		dev := r.describe()
		dev.PagesToday = today[dev.UUID]
		all = append(all, dev)
	}
	return all
}

func (d *device) describe() staff.Device {
	now := d.status()
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.seen
	format, picture := formatFor(p, d.adopted)
	if picture != nil && d.cfg.Raster == nil {
		format = ""
	}
	dev := staff.Device{
		UUID: d.uuid, Name: cmp.Or(now.Name, d.uuid), URI: cmp.Or(d.current, d.adopted.URI), Presence: d.presence,
		State: now.State, Trouble: now.Trouble, Reasons: reasonsFor(p), Message: p.StateMessage,
		Queue: slices.Clone(d.queue), Format: format, Blocked: d.blocking(), Fault: d.fault, Since: now.Since,
	}
	there := 0 // of ours, at the printer
	for _, j := range d.queue {
		if st := State(j.State); st.Open() && st != Queued && st != Creating {
			there++
		}
	}
	dev.Others = max(0, p.Queued-there)
	for _, t := range p.Trays {
		dev.Trays = append(dev.Trays, staff.Tray{Name: t.Name, Media: t.Media, Level: t.Level, Max: t.Max})
	}
	for _, sup := range p.Supplies {
		dev.Supplies = append(dev.Supplies, staff.Supply{Name: sup.Name, Kind: sup.Kind, Level: sup.Level})
	}
	return dev
}

// countSheets counts today's sheets anew when some came out, or a day has begun.
func (s *Spooler) countSheets(ctx context.Context) {
	day := s.cfg.Day()
	s.mu.Lock()
	due := s.sheets.stale || !s.sheets.day.Equal(day)
	s.sheets.stale = false
	s.mu.Unlock()
	if !due {
		return
	}
	of, err := s.cfg.Journal.SheetsSince(ctx, day)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.sheets.stale = true
		if ctx.Err() == nil {
			s.cfg.Log.Error("sheets not counted", "err", err)
		}
		return
	}
	s.sheets.day, s.sheets.of = day, map[string]int{}
	for uuid, n := range of {
		s.sheets.of[normal(uuid)] += n
	}
}

// TestPage prints a page that says nothing of anybody. It returns when it is out; its error is a *kiosk.PrintError.
func (s *Spooler) TestPage(ctx context.Context, uuid string) error {
	d := s.device(uuid)
	if d == nil {
		return fail(kiosk.TroubleNoPrinter, kiosk.NothingPrinted, fmt.Errorf("test page on %.40q: no such printer takes documents", uuid))
	}
	if s.cfg.TestPage == nil {
		return fail(kiosk.TroubleOther, kiosk.NothingPrinted, errors.New("there is no test page"))
	}
	pdf, err := s.cfg.TestPage(d.status().Name)
	if err != nil {
		return fail(kiosk.TroubleOther, kiosk.NothingPrinted, fmt.Errorf("test page: %w", err))
	}
	job := kiosk.PrintJob{Kind: kindTest, PDF: pdf, SHA256: sha256.Sum256(pdf), Pages: 1, Printer: uuid}
	return s.Print(ctx, job, func(kiosk.PrintProgress) {})
}

// Trial prints pdf on the printer described by a, which need not be adopted, once, and returns when it is out. raster has
// it sent as a picture; else it goes as PDF where the printer takes that. It returns the format it was sent in, "" when
// nothing was sent; its error is a *kiosk.PrintError. Nobody but the caller hears of it.
func (s *Spooler) Trial(ctx context.Context, a staff.Adopted, pdf []byte, raster bool) (format string, err error) {
	a.PDF, a.Raster = !raster, raster
	d := newDevice(a, &s.cfg)
	if a.Receipt {
		return "", fail(kiosk.TroubleFormat, kiosk.NothingPrinted, errors.New("a receipt printer takes slips only"))
	}
	if err := d.check(); err != nil {
		return "", fail(kiosk.TroubleIdentity, kiosk.NothingPrinted, err)
	}
	d.retired = true // it concerns nobody that it has trouble
	defer d.close()
	s.load(ctx) // what keeps printers must be known
	if used := s.device(normal(a.UUID)); used != nil {
		select { // whoever prints there comes first
		case used.lock <- struct{}{}:
		case <-ctx.Done():
			return "", fail(kiosk.TroubleBusy, kiosk.NothingPrinted, ctx.Err())
		}
		defer used.unlock()
		if used.blockedBy() != "" {
			return "", fail(kiosk.TroubleBlocked, kiosk.NothingPrinted, errBlocked)
		}
	}
	job := kiosk.PrintJob{Kind: kindTest, PDF: pdf, SHA256: sha256.Sum256(pdf), Pages: 1}
	for attempt := 1; ; attempt++ {
		r := s.run(d, job, func(kiosk.PrintProgress) {})
		err := r.attempt(ctx)
		var again againError
		switch {
		case !errors.As(err, &again):
			return r.plan.Ticket.Format, err
		case attempt == 2 || again.raster || ctx.Err() != nil: // a page that is judged is not sent in another way by itself
			return r.plan.Ticket.Format, again.error
		}
	}
}

// reprint is a print that staff decided is printed again.
type reprint struct {
	row  Row
	busy bool // it is being done
}

// Undecided returns the prints that wait for somebody to look at the tray, oldest first.
func (s *Spooler) Undecided(ctx context.Context) ([]staff.Print, error) {
	rows, err := s.cfg.Journal.UndecidedPrints(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]staff.Print, 0, len(rows))
	for _, row := range rows {
		all = append(all, staff.Print{
			ID: row.ID, Kiosk: row.Kiosk, Kind: row.Kind, Printer: row.PrinterUUID, Name: s.nameOf(row.PrinterUUID), Pages: row.Pages,
			At: row.Updated, Bytes: row.Bytes, Sent: row.Sent, JobState: row.JobState, Sheets: row.Sheets, Restarted: row.Restarted,
			Why: row.Why, Number: row.Number,
		})
	}
	return all, nil
}

// Decide writes what somebody found in the tray, once: staff.ErrGone when it is decided already. As long as the print's
// job may still give a sheet nobody can have found all: that is a *kiosk.PrintError with TroubleBlocked, until the printer
// has ended it or staff have freed the printer.
func (s *Spooler) Decide(ctx context.Context, id string, v kiosk.Verdict, by string) error {
	if !slices.Contains([]kiosk.Verdict{kiosk.VerdictOut, kiosk.VerdictNothing, kiosk.VerdictReprint}, v) {
		return fmt.Errorf("print %.40q: verdict %.20q", id, v)
	}
	s.load(ctx) // what keeps printers must be known
	s.deciding.Lock()
	defer s.deciding.Unlock()
	rows, err := s.cfg.Journal.UndecidedPrints(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r Row) bool { return r.ID == id })
	if i < 0 {
		return fmt.Errorf("decide about print %.40q: %w", id, staff.ErrGone)
	}
	row := rows[i]
	if d := s.device(row.PrinterUUID); row.Pursue && d != nil && d.pursues(id) {
		return &kiosk.PrintError{Trouble: kiosk.TroubleBlocked, Outcome: kiosk.Uncertain, Print: id, Err: errBlocked}
	}
	row.Verdict, row.DecidedBy, row.DecidedAt = v, by, s.cfg.Now().UTC()
	if err := s.cfg.Journal.SavePrint(ctx, row); err != nil {
		return fmt.Errorf("decide about print %s: %w", id, err)
	}
	s.cfg.Log.Warn("uncertain print decided", "print", id, "verdict", v)
	if v == kiosk.VerdictReprint {
		s.mu.Lock()
		s.reprints[cmp.Or(row.Of, row.ID)] = reprint{row: row}
		s.mu.Unlock()
	}
	uuid := normal(row.PrinterUUID)
	if !slices.ContainsFunc(rows, func(o Row) bool { return o.ID != id && normal(o.PrinterUUID) == uuid }) {
		s.settleAlarm(staff.AlarmUncertain, uuid)
	}
	return nil
}

func (d *device) pursues(id string) bool {
	return slices.ContainsFunc(d.openRows(), func(r Row) bool { return r.ID == id && r.Pursue })
}

// again reserves the reprint that job is, and says of which print: the machine never decides that something is printed
// again. The reprint is used up unless it turns out that no sheet came out.
func (s *Spooler) again(job kiosk.PrintJob) (first Row, release func(used bool), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := job.Reprint.Of
	for root, re := range s.reprints {
		if root != of && re.row.ID != of {
			continue
		}
		if re.busy || re.row.SHA256 != fmt.Sprintf("%x", job.SHA256) {
			break
		}
		re.busy = true
		s.reprints[root] = re
		return re.row, func(used bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if re.busy = false; used {
				delete(s.reprints, root)
			} else {
				s.reprints[root] = re
			}
		}, nil
	}
	return Row{}, nil, fail(kiosk.TroubleOther, kiosk.NothingPrinted, fmt.Errorf("nobody decided that print %.40q is printed again", of))
}

// unknownSheets is how many sheets came out of a job of which the printer says nothing.
const unknownSheets = -1

// evidence is what a printer said of a job.
func evidence(row Row, job ipp.Job) Row {
	row.JobState, row.Sheets = "", unknownSheets
	if job.State != 0 {
		row.JobState, row.Sheets = job.State.String(), job.Impressions
	}
	return row
}
