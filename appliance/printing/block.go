package printing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// errBlocked means that a sheet of a visit that is over may still come out of the printer.
var errBlocked = errors.New("a sheet of somebody else may still come out: look at the printer and free it")

// remember puts a row on the list of what must be looked after, over an older one of the same print.
func (d *device) remember(row Row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.open, func(o Row) bool { return o.ID == row.ID }); i >= 0 {
		d.open[i] = row
		return
	}
	d.open = append(d.open, row)
}

// settled takes a row off the list.
func (d *device) settled(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = slices.DeleteFunc(d.open, func(o Row) bool { return o.ID == id })
}

func (d *device) hasOpen() bool { return len(d.openRows()) > 0 }

func (d *device) openRows() []Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.open)
}

// blockedBy is the print whose sheet may still come out, "" for none. Meanwhile nothing is sent to the printer: that sheet
// would be the next visitor's, or hide among the next visitor's.
func (d *device) blockedBy() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.blocking()
}

// blocking is blockedBy for a caller that holds mu.
func (d *device) blocking() string {
	for _, row := range d.open {
		if row.Pursue {
			return row.ID
		}
	}
	return ""
}

// block keeps everybody from the printer until the row's job has ended, or staff have looked. When it returns, staff have
// been told.
func (s *Spooler) block(d *device, row Row) {
	d.remember(row)
	s.raise(staff.AlarmSheet, d.uuid, d.status().Name, "", "")
	s.cfg.Log.Error("a sheet may still come out", "print", row.ID, "printer", d.uuid, "job", row.JobID)
	s.tell()
}

// unblock frees the printer if no row keeps it any more.
func (s *Spooler) unblock(d *device) {
	if d.blockedBy() == "" {
		s.settleAlarm(staff.AlarmSheet, d.uuid)
		s.tell()
	}
}

// Free lets documents go to a printer again from which somebody's sheet might still have come: staff has looked, and
// answers for what its panel shows. Their prints can be decided then. staff.ErrGone when nothing keeps it.
func (s *Spooler) Free(ctx context.Context, uuid, by string) error {
	d := s.device(uuid)
	if d == nil || d.blockedBy() == "" {
		return fmt.Errorf("free printer %.40q: %w", uuid, staff.ErrGone)
	}
	select { // somebody may just be asking it about its jobs
	case d.lock <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("free printer %s: %w", d.uuid, ctx.Err())
	}
	defer d.unlock()
	for _, row := range d.openRows() {
		if !row.Pursue {
			continue
		}
		s.cfg.Log.Warn("printer freed", "printer", d.uuid, "print", row.ID)
		row.Pursue, row.FreedBy = false, by
		if row.State.Open() {
			row.State = lost(row)
			s.closeRow(row, "staff has looked at the printer")
		} else if err := s.amend(row); err != nil {
			return fmt.Errorf("free printer %s: %w", d.uuid, err)
		}
		d.settled(row.ID)
	}
	s.unblock(d)
	return nil
}

// load reads once what the journal has of unfinished prints, and reports whether it has. Open rows of printers that are
// not adopted any more are closed as they are.
func (s *Spooler) load(ctx context.Context) bool {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.loaded {
		return true
	}
	open, err := s.cfg.Journal.OpenPrints(ctx)
	var undecided []Row
	if err == nil {
		undecided, err = s.cfg.Journal.UndecidedPrints(ctx)
	}
	if err != nil {
		s.cfg.Log.Error("open prints not read", "err", err)
		return false
	}
	s.loaded = true
	for _, row := range open {
		d := s.keeper(row.PrinterUUID)
		if d == nil {
			row.State = lost(row)
			s.closeRow(row, "its printer is not adopted any more")
			continue
		}
		row.Pursue = lost(row) == Uncertain
		d.remember(row)
		if row.Pursue { // until the printer has been asked
			s.raise(staff.AlarmSheet, d.uuid, d.status().Name, "", "")
		}
	}
	for _, row := range undecided {
		s.raise(staff.AlarmUncertain, normal(row.PrinterUUID), s.nameOf(row.PrinterUUID), "", "")
		if d := s.keeper(row.PrinterUUID); d != nil && row.Pursue {
			d.remember(row)
			s.raise(staff.AlarmSheet, d.uuid, d.status().Name, "", "")
		}
	}
	s.tell()
	return true
}

// keeper is the printer that a stored row is settled with: also a retired one comes back for that.
func (s *Spooler) keeper(uuid string) *device {
	if d := s.device(uuid); d != nil {
		return d
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.adopted {
		if normal(a.UUID) == normal(uuid) && !a.Receipt {
			d := newDevice(a, &s.cfg)
			if d.check() != nil {
				return nil
			}
			d.retired = true
			s.devices = append(slices.Clone(s.devices), d)
			select {
			case s.changed <- struct{}{}:
			default:
			}
			return d
		}
	}
	return nil
}

func (s *Spooler) nameOf(uuid string) string {
	if d := s.device(uuid); d != nil {
		return d.status().Name
	}
	if r := s.receipt(uuid); r != nil {
		return r.adopted.Name
	}
	return ""
}

// amend stores what has become known of an uncertain print, unless somebody has decided about it meanwhile.
func (s *Spooler) amend(row Row) error {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	waiting, err := s.cfg.Journal.UndecidedPrints(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(waiting, func(o Row) bool { return o.ID == row.ID }) {
		return nil
	}
	return s.cfg.Journal.SavePrint(ctx, row) // Updated stays: it says when it happened
}

// elsewhere reports whether a job that was not told where to go can go to another printer than d.
func (s *Spooler) elsewhere(job kiosk.PrintJob, d *device) bool {
	if job.Printer != "" {
		return false
	}
	next, err := s.pick("")
	return err == nil && next != d
}
