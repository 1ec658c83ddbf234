package printing

import (
	"cmp"
	"context"
	"sync"
	"time"

	"sportello.example/appliance/escpos"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// receipt is an adopted receipt printer. It says little of itself, and gets slips only.
type receipt struct {
	adopted staff.Adopted
	looked  bool // only Run's goroutine touches this
	gone    chan struct{}
	lock    chan struct{} // holds one token while a slip is being printed

	mu       sync.Mutex
	presence staff.Presence
	state    kiosk.PrinterState
	trouble  kiosk.Trouble
	since    time.Time
}

// receiptOf keeps the receipt printer that is known, if nothing about it has changed. The caller holds adopting.
func (s *Spooler) receiptOf(a staff.Adopted) *receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.receipts {
		if r.adopted.UUID == a.UUID && r.adopted.URI == a.URI && r.adopted.Link == a.Link && r.adopted.Interface == a.Interface {
			return r
		}
	}
	return &receipt{
		adopted: a, gone: make(chan struct{}), lock: make(chan struct{}, 1), presence: staff.Unreachable, state: kiosk.PrinterOffline,
		trouble: kiosk.TroubleUnreachable, since: s.cfg.Now(),
	}
}

// lookAtReceipt watches a receipt printer until ctx ends or it is not adopted any more.
func (s *Spooler) lookAtReceipt(ctx context.Context, r *receipt) {
	for ctx.Err() == nil {
		select {
		case r.lock <- struct{}{}: // it hears one at a time
			short, cancel := context.WithTimeout(ctx, probeTimeout)
			trouble, err := escpos.Printer{URI: r.adopted.URI, Dial: s.receiptDial(r.adopted)}.Status(short)
			cancel()
			<-r.lock
			if ctx.Err() != nil {
				return
			}
			if err != nil && trouble == kiosk.TroubleNone {
				trouble = kiosk.TroubleOther
			}
			r.judge(trouble, s.cfg.Now())
		default:
		}
		select {
		case <-ctx.Done():
		case <-r.gone:
			return
		case <-time.After(s.pause()):
		}
	}
}

func (r *receipt) judge(trouble kiosk.Trouble, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	presence, state := staff.Online, kiosk.PrinterReady
	switch trouble {
	case kiosk.TroubleNone:
	case kiosk.TroubleUnreachable:
		presence, state = staff.Unreachable, kiosk.PrinterOffline
	default:
		state = kiosk.PrinterAttention
	}
	if r.presence != presence || r.state != state || r.trouble != trouble {
		r.presence, r.state, r.trouble, r.since = presence, state, trouble, now
	}
}

func (r *receipt) describe() staff.Device {
	r.mu.Lock()
	defer r.mu.Unlock()
	return staff.Device{
		UUID: r.adopted.UUID, Name: cmp.Or(r.adopted.Name, r.adopted.URI), URI: r.adopted.URI, Presence: r.presence, State: r.state,
		Trouble: r.trouble, Since: r.since,
	}
}

// receipt returns a receipt printer by its UUID; nil without one.
func (s *Spooler) receipt(uuid string) *receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.receipts {
		if uuid != "" && r.adopted.UUID == normal(uuid) {
			return r
		}
	}
	return nil
}

// slip prints a slip on a receipt printer, if the branch has one and the citizen chose no other. printed is false when
// it has to go on A4.
func (s *Spooler) slip(ctx context.Context, job kiosk.PrintJob, report func(kiosk.PrintProgress)) (printed bool, err error) {
	r := s.receipt(job.Printer)
	if s.mu.Lock(); job.Printer == "" && len(s.receipts) > 0 {
		r = s.receipts[0]
	}
	s.mu.Unlock()
	if job.Slip == nil || r == nil {
		return false, nil
	}
	select {
	case r.lock <- struct{}{}:
	default:
		report(kiosk.PrintProgress{State: kiosk.PrintWaiting})
		select {
		case r.lock <- struct{}{}:
		case <-ctx.Done():
			return true, fail(kiosk.TroubleBusy, kiosk.NothingPrinted, ctx.Err())
		}
	}
	defer func() { <-r.lock }()
	err = s.printSlip(ctx, r.adopted, job, report)
	if err == nil {
		return true, nil
	}
	if kiosk.AsPrintError(err).Outcome == kiosk.NothingPrinted && ctx.Err() == nil && len(job.PDF) > 0 && len(s.active()) > 0 {
		s.cfg.Log.Warn("slip not printed on the receipt printer", "printer", r.adopted.UUID, "err", err)
		return false, nil
	}
	return true, err
}
