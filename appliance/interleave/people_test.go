package interleave_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
)

// visitors is one visitor after the other at a kiosk.
func (t *town) visitors(k int) {
	luck := t.luck(fmt.Sprint("kiosk ", k))
	for t.more() {
		b := t.running()
		s, err := b.desk.Start(context.Background(), k, "it", kiosk.SelfService)
		if err != nil { // the box is being stopped
			pause(time.Second, b.over)
			continue
		}
		t.visit(b, s, t.ledger.arrive(s.ID, k), luck)
		time.Sleep(luck.between(500*time.Millisecond, 8*time.Second))
	}
}

// visit is one visit, from the first touch to when the kiosk is free again.
func (t *town) visit(b *box, s *kiosk.Session, v *visit, luck *luck) {
	ctx := context.Background()
	defer func() {
		if b.isDead() {
			return // nobody has ended anything
		}
		b.desk.Goodbye(ctx, s)
		t.ledger.end(v)
	}()
	d := b.desk
	for _, err := range []error{
		d.SetService(ctx, s, kiosk.SelfDeclaration), d.SetFacts(ctx, s, []kiosk.Fact{kiosk.FactResidence}), d.SetFill(ctx, s, kiosk.Typed),
		d.FillForm(ctx, s, kiosk.StepPerson, func(f *paper.DeclarationForm) error { f.Person.FamilyName = s.ID; return nil }),
		d.FillForm(ctx, s, kiosk.StepBirth, func(*paper.DeclarationForm) error { return nil }),
		d.FillForm(ctx, s, kiosk.StepAddress, func(*paper.DeclarationForm) error { return nil }),
		d.FillForm(ctx, s, kiosk.StepSince, func(*paper.DeclarationForm) error { return nil }),
		d.Prepare(ctx, s),
	} {
		if err != nil {
			return // the box is going down
		}
	}
	for {
		v := t.until(b, s, 15*time.Minute, func(v kiosk.View) bool {
			return v.Stage == kiosk.StagePreview || v.Stage == kiosk.StageTake || v.Stage == kiosk.StageProblem
		})
		switch v.Stage {
		case kiosk.StagePreview:
			if luck.one(30) {
				t.ledger.count("changed their mind")
				return
			}
			if luck.one(4) {
				_ = d.ChoosePrinter(s, t.machines[luck.n(len(t.machines))].uuid)
			}
			if !t.press() || !t.print(b, s, luck) {
				return
			}
		case kiosk.StageTake:
			t.ledger.printed(s.ID)
			if luck.one(20) {
				pause(luck.between(0, 2*time.Minute), s.Done()) // walks off with the paper
				return
			}
			_ = d.Taken(ctx, s, true)
			return
		case kiosk.StageProblem:
			switch {
			case v.Problem == nil:
				return // the box has ended the visit
			case v.Problem.Waiting && luck.n(3) > 0:
				t.ledger.count("waited for staff")
				t.until(b, s, luck.between(10*time.Second, 10*time.Minute), func(v kiosk.View) bool {
					return v.Stage != kiosk.StageProblem || !v.Problem.Waiting
				})
				if v := s.View(); v.Stage == kiosk.StageProblem && v.Problem != nil {
					return
				}
			case v.Problem.CanRetry && luck.one(2) && d.Again(ctx, s) == nil:
				t.ledger.count("tries again")
			default:
				pause(luck.between(0, 20*time.Second), b.over)
				return
			}
		default:
			return
		}
	}
}

// print presses "Stampa" and sees how patient the visitor is. It is false when the visitor leaves.
func (t *town) print(b *box, s *kiosk.Session, luck *luck) bool {
	ctx := context.Background()
	t.ledger.press(s.ID)
	if luck.one(20) { // in a hurry
		var twice sync.WaitGroup
		for range 2 {
			twice.Go(func() { _ = b.desk.Print(ctx, s) })
		}
		twice.Wait()
	} else if b.desk.Print(ctx, s) != nil {
		return false
	}
	over := func(v kiosk.View) bool { return v.Stage != kiosk.StagePrinting }
	switch kind := luck.n(100); {
	case kind < 8:
		t.until(b, s, luck.between(0, 4*time.Second), over)
		b.desk.CancelPrint(s)
		t.ledger.count("cancels")
	case kind < 14:
		t.until(b, s, luck.between(0, 4*time.Second), over)
		t.ledger.count("left while it printed")
		return false
	case kind < 70 && t.stuck(b, s, luck.between(time.Second, 12*time.Second)):
		if luck.one(2) {
			t.ledger.count("left because it did not print")
			return false
		}
		t.ledger.count("cancels because it did not print")
		b.desk.CancelPrint(s)
	}
	return true
}

// stuck waits until a print is over, or has not gone on for as long as somebody has patience; then it is true.
func (t *town) stuck(b *box, s *kiosk.Session, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		changed, v := s.Changed(), s.View()
		if v.Stage != kiosk.StagePrinting {
			return false
		}
		if v.Progress.Trouble == kiosk.TroubleNone {
			timer.Reset(patience)
		}
		select {
		case <-changed:
		case <-s.Done():
			return false
		case <-b.over:
			return false
		case <-timer.C:
			return true
		}
	}
}

// until waits until what the session shows is right, and returns what it shows then: nothing when the session or the box
// is over.
func (t *town) until(b *box, s *kiosk.Session, limit time.Duration, right func(kiosk.View) bool) kiosk.View {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		changed, v := s.Changed(), s.View()
		if right(v) {
			return v
		}
		select {
		case <-changed:
		case <-s.Done():
			return kiosk.View{}
		case <-b.over:
			return kiosk.View{}
		case <-timer.C:
			return v
		}
	}
}

// staff is the facilitator: looks at the trays, decides about prints that nobody knows the end of, frees printers when
// nothing can come out of them any more, and adopts those that have got another key.
func (t *town) staff(over <-chan struct{}) {
	luck := t.luck("staff")
	for pause(luck.between(5*time.Second, 40*time.Second), over) {
		t.mu.Lock()
		b := t.box
		t.mu.Unlock()
		if b == nil {
			continue
		}
		for _, m := range t.machines {
			if m.strange() && luck.one(2) {
				m.adopt()
				t.ledger.count("adopted again")
				t.must(b.spool.Adopt(t.adopted()))
			}
		}
		t.decide(b, luck)
		t.free(b)
	}
}

// decide says of every undecided print what is in the tray, as the page for staff does it.
func (t *town) decide(b *box, luck *luck) {
	ctx := context.Background()
	undecided, err := b.spool.Undecided(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, p := range undecided {
		if t.alive(p.ID) {
			continue // it is still at it
		}
		verdict := kiosk.VerdictNothing
		switch {
		case t.ledger.complete(p.ID):
			verdict = kiosk.VerdictOut
		case b.desk.Waiting(p.ID) && luck.n(3) > 0:
			verdict = kiosk.VerdictReprint
		}
		if b.spool.Decide(ctx, p.ID, verdict, "Rossi") != nil {
			continue // the box has been killed
		}
		t.ledger.count("decisions: " + string(verdict))
		if verdict != kiosk.VerdictOut {
			t.ledger.destroy(p.ID, verdict == kiosk.VerdictReprint)
		}
		if err := b.desk.Settle(ctx, p.ID, verdict); err != nil && !errors.Is(err, kiosk.ErrNoSession) && !b.isDead() {
			t.Error(err)
		}
	}
}

// free lets documents go to printers again that can give no old sheet any more.
func (t *town) free(b *box) {
	for _, d := range b.spool.Devices() {
		if d.Blocked == "" {
			continue
		}
		busy := false
		for _, j := range t.ledger.jobs(d.UUID) {
			busy = busy || mayPrint(j)
		}
		if busy {
			continue
		}
		limit, cancel := context.WithTimeout(context.Background(), time.Minute)
		if b.spool.Free(limit, d.UUID, "Rossi") == nil {
			t.ledger.count("printers freed")
		} else {
			t.ledger.count("printers not freed in a minute, or free already")
		}
		cancel()
	}
}

// alive reports whether a printer still has the job of a print.
func (t *town) alive(row string) bool {
	for _, m := range t.machines {
		for _, j := range m.Jobs() {
			if j.Name == row && mayPrint(j) {
				return true
			}
		}
	}
	return false
}
