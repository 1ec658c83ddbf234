package kiosk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// record stores what happened, with the row of the session, in one transaction. private is what only the hub may read.
// What was not stored is counted, whether or not it happened all the same.
func (d *Desk) record(ctx context.Context, s *Session, kind event.Kind, detail event.Detail, private []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	s.mu.Lock()
	row := s.row()
	s.mu.Unlock()
	if err := d.reportLost(ctx, row); err != nil {
		return d.full(kind, err)
	}
	if err := d.cfg.Journal.Record(ctx, row, event.Event{Kind: kind, Session: s.ID, Kiosk: s.Kiosk, Detail: detail, Private: private}); err != nil {
		return d.full(kind, err)
	}
	if kind.Stream() == envelope.Legal {
		d.cfg.Disk(false) // what is less urgent may have been let go in silence
	}
	d.cfg.Kick()
	return nil
}

// reportLost says what is missing before anything else is stored. As long as there is no room for that, there is none
// for what somebody may have to prove: ErrDiskFull.
func (d *Desk) reportLost(ctx context.Context, row SessionRow) error {
	d.mu.Lock()
	lost := d.lost
	d.lost = 0
	d.mu.Unlock()
	if lost == 0 {
		return nil
	}
	err := d.cfg.Journal.Record(ctx, row, event.Event{Kind: event.EventsLost, Detail: event.Detail{Count: lost}})
	if err == nil {
		d.cfg.Disk(false)
		return nil
	}
	d.mu.Lock()
	d.lost += lost
	d.mu.Unlock()
	if errors.Is(err, ErrDiskFull) {
		return err
	}
	return nil // what comes now may be stored all the same
}

// full counts an event that was not stored, and tells when that is for want of room.
func (d *Desk) full(kind event.Kind, err error) error {
	d.mu.Lock()
	d.lost++
	d.mu.Unlock()
	if errors.Is(err, ErrDiskFull) {
		d.cfg.Disk(true)
	}
	return fmt.Errorf("record %s: %w", kind, err)
}

// note is record for events that nobody's paper hangs on, and for what has happened already and cannot be refused any
// more: when there is no room the session goes on and the event is counted as lost. Of somebody who presses buttons without end only the first maxEvents are stored, and the last.
func (d *Desk) note(ctx context.Context, s *Session, kind event.Kind, detail event.Detail) {
	s.mu.Lock()
	s.events++
	enough := s.events > maxEvents
	s.mu.Unlock()
	if enough && (kind == event.StepAnswered || kind == event.AnswerRefused) {
		return
	}
	if err := d.record(ctx, s, kind, detail, nil); err != nil {
		d.log(s).Error("event not stored", "kind", kind, "err", err)
	}
}

func (d *Desk) log(s *Session) *slog.Logger {
	return d.cfg.Log.With("session", s.ID, "kiosk", s.Kiosk)
}
