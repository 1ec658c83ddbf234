package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"sportello.example/sync/envelope"
)

// store has a request stored, by whoever is at it. It blocks until that is done.
func (in *Ingest) store(ctx context.Context, r *request) error {
	r.done, r.lead = make(chan struct{}), make(chan struct{}, 1)
	in.mu.Lock()
	if in.events+r.events > cmp.Or(in.MaxWaiting, maxWaiting) || in.bytes+r.bytes > maxBytes {
		if in.events > 0 { // one that is larger than all that may wait has to go through some time
			in.mu.Unlock()
			return ErrBusy
		}
	}
	in.waiting = append(in.waiting, r)
	in.events += r.events
	in.bytes += r.bytes
	lead := in.writing < max(1, in.Writers)
	if lead {
		in.writing++
	}
	in.mu.Unlock()
	if lead {
		in.write(ctx, r)
	}
	for {
		select {
		case <-r.done:
			in.decline(r)
			return r.err
		case <-r.lead:
			in.write(ctx, r)
		case <-ctx.Done():
			if in.leave(r) {
				return ctx.Err()
			}
			<-r.done // it is being stored at this moment, by somebody who does not stop for that
			in.decline(r)
			return r.err
		}
	}
}

// leave takes a request back whose owner has gone. It returns false when it is being stored.
func (in *Ingest) leave(r *request) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if r.taken {
		return false
	}
	in.waiting = slices.DeleteFunc(in.waiting, func(w *request) bool { return w == r })
	in.events -= r.events
	in.bytes -= r.bytes
	in.declineLocked(r)
	return true
}

// decline passes on the turn of a request that was to store for the others, and has been stored by another meanwhile.
func (in *Ingest) decline(r *request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.declineLocked(r)
}

// declineLocked is decline for a caller that holds mu.
func (in *Ingest) declineLocked(r *request) {
	select {
	case <-r.lead:
		in.passOn()
	default:
	}
}

// write stores those who wait until own has been stored, and passes the turn on.
func (in *Ingest) write(ctx context.Context, own *request) {
	// The others want their events stored even if the box that came first has hung up.
	ctx = context.WithoutCancel(ctx)
	for done := false; !done; {
		group := in.take()
		in.commit(ctx, group)
		in.mu.Lock()
		for _, r := range group {
			in.events -= r.events
			in.bytes -= r.bytes
			close(r.done)
		}
		if done = own.taken; done {
			in.passOn()
		}
		in.mu.Unlock()
	}
}

// passOn gives the turn to one who waits. The caller holds mu and had it.
func (in *Ingest) passOn() {
	for _, r := range in.waiting {
		select {
		case r.lead <- struct{}{}:
			return
		default: // has a turn already
		}
	}
	in.writing--
}

// take takes the requests that are stored together. Two of one box are never in different transactions at the same time
// for long: the store makes them wait for each other.
func (in *Ingest) take() []*request {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, events := 0, 0
	for n < len(in.waiting) && (n == 0 || events+in.waiting[n].events <= groupEvents) {
		events += in.waiting[n].events
		in.waiting[n].taken = true
		n++
	}
	group := slices.Clone(in.waiting[:n])
	in.waiting = slices.Delete(in.waiting, 0, n)
	return group
}

// commit stores a group. When that fails, each is stored alone, so that one which cannot be stored fails alone.
func (in *Ingest) commit(ctx context.Context, group []*request) {
	err := in.commitTogether(ctx, group)
	if err == nil || len(group) == 1 {
		for _, r := range group {
			r.err = err
		}
		return
	}
	in.Log.WarnContext(ctx, "deliveries not stored together, storing each alone", "err", err, "deliveries", len(group))
	for _, r := range group {
		r.err = in.commitTogether(ctx, []*request{r})
	}
}

// commitTogether stores the requests of a group in one transaction. It fails with errPanic when a mistake in the program
// shows: one delivery that brings it out must not keep all the others from being stored for ever.
func (in *Ingest) commitTogether(ctx context.Context, group []*request) (err error) {
	if len(group) == 0 {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
			in.Log.ErrorContext(ctx, "storing events broke off: a mistake in this program, please report it",
				"panic", p, "deliveries", len(group), "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	var ids []ChainID
	for _, r := range group {
		for _, part := range r.runs {
			ids = append(ids, part.id)
			for i := range part.items {
				if d := part.items[i].dating; d != nil && d.ID != part.id {
					ids = append(ids, d.ID)
				}
			}
		}
	}
	slices.SortFunc(ids, compareIDs)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return nil
	}
	received := in.Now().UTC()
	return in.Store.Ingest(ctx, ids, func(tx Tx) error {
		w, err := begin(ctx, tx, ids, group, received)
		if err != nil {
			return err
		}
		for _, r := range group {
			r.verdicts, r.forked = r.verdicts[:0], r.forked[:0]
			for _, part := range r.runs {
				if err := w.run(ctx, r, part); err != nil {
					return fmt.Errorf("box %d, %s: %w", part.id.Box, part.id.Chain, err)
				}
			}
		}
		return w.end(ctx)
	})
}

var errPanic = errors.New("storing broke off")

func compareIDs(a, b ChainID) int {
	return cmp.Or(cmp.Compare(a.Box, b.Box), cmp.Compare(a.Chain.Epoch, b.Chain.Epoch), cmp.Compare(a.Chain.Stream, b.Chain.Stream))
}

// work is one transaction.
type work struct {
	tx        Tx
	ids       []ChainID
	histories map[ChainID]*history
	clocks    clocks
	changes   Changes
	alarms    map[Alarm]bool // without their texts
}

func begin(ctx context.Context, tx Tx, ids []ChainID, group []*request, received time.Time) (*work, error) {
	w := &work{tx: tx, ids: ids, histories: make(map[ChainID]*history, len(ids)), clocks: clocks{}, changes: Changes{Received: received}, alarms: map[Alarm]bool{}}
	branches, err := tx.Branches(ctx)
	if err != nil {
		return nil, fmt.Errorf("read branches: %w", err)
	}
	of := make(map[ChainID][]Branch, len(ids))
	for _, b := range branches {
		of[b.ID] = append(of[b.ID], b)
	}
	for _, id := range ids {
		bs := of[id]
		slices.SortFunc(bs, func(a, b Branch) int { return cmp.Compare(a.Number, b.Number) })
		for i, b := range bs {
			if b.Number != i {
				return nil, fmt.Errorf("box %d, %s: branch %d is not there", id.Box, id.Chain, i)
			}
		}
		w.histories[id] = newHistory(tx, id, bs)
	}
	if !uncertain(group) {
		return w, nil
	}
	datings, err := tx.Datings(ctx)
	if err != nil {
		return nil, fmt.Errorf("read clocks: %w", err)
	}
	for _, d := range datings {
		w.clocks.add(d)
	}
	return w, nil
}

// uncertain reports whether the clocks of boxes matter: something is to be dated by them, or they are to be learned.
func uncertain(group []*request) bool {
	for _, r := range group {
		for _, part := range r.runs {
			for i := range part.items {
				if row := &part.items[i].row; part.items[i].dating != nil || row.Boot > 0 && row.Quality != envelope.Synced {
					return true
				}
			}
		}
	}
	return false
}

// run judges one run and takes over what is new of it.
func (w *work) run(ctx context.Context, r *request, part *run) error {
	h := w.histories[part.id]
	v, err := h.judge(ctx, part, func(b *Branch, items []item) {
		for i := range items {
			if d := items[i].dating; d != nil {
				w.learn(*d)
			}
		}
		for i := range items {
			row := &items[i].row
			w.clocks.date(row, b, w.changes.Received)
			if row.Certain && row.Happened.After(b.Dated) {
				b.Dated = row.Happened
			}
		}
	})
	if err != nil {
		return err
	}
	for i := range v.items {
		it := &v.items[i]
		if it.request != nil {
			w.changes.Requests = append(w.changes.Requests, Request{Box: part.id.Box, Request: *it.request})
		}
		w.alarm(part.id.Box, it.alarm)
		if it.writer != 0 {
			w.alarm(part.id.Box, otherBox(it.writer))
		}
	}
	w.alarm(part.id.Box, v.alarm)
	r.verdicts = append(r.verdicts, v)
	r.forked = append(r.forked, h.forked())
	return nil
}

// learn takes over what a box learned of its clock, if the hub can believe it.
func (w *work) learn(d Dating) {
	if !believable(d.New, w.changes.Received) || !w.clocks.room(d) {
		return
	}
	w.clocks.add(d)
	w.changes.Datings = append(w.changes.Datings, d)
}

func (w *work) alarm(box uint32, a *Alarm) {
	if a == nil {
		return
	}
	key := Alarm{Box: box, Kind: a.Kind, Key: a.Key}
	if w.alarms[key] {
		return
	}
	w.alarms[key] = true
	one := *a
	one.Box, one.At = box, w.changes.Received
	w.changes.Alarms = append(w.changes.Alarms, one)
}

// end writes what has changed, in the order of the keys: then two transactions never wait for each other in a circle.
func (w *work) end(ctx context.Context) error {
	counted := map[uint32]bool{}
	for _, id := range w.ids {
		h := w.histories[id]
		if h.begins() && !counted[id.Box] {
			counted[id.Box] = true
			n, err := w.tx.Epochs(ctx, id.Box, manyEpochs+1)
			if err != nil {
				return fmt.Errorf("count epochs: %w", err)
			}
			if n > manyEpochs {
				w.alarm(id.Box, &Alarm{Kind: AlarmEpoch, Key: MoreAlarms, Text: fmt.Sprintf("the box has begun to number its events anew more than %d times", manyEpochs)})
			}
		}
		for i, dirty := range h.dirty {
			if dirty {
				w.changes.Branches = append(w.changes.Branches, h.branches[i])
				w.changes.Rows = append(w.changes.Rows, h.fresh[i]...)
			}
		}
	}
	c := &w.changes
	if len(c.Branches) == 0 {
		return nil
	}
	slices.SortFunc(c.Alarms, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(a.Box, b.Box), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
	})
	slices.SortStableFunc(c.Requests, func(a, b Request) int { return cmp.Or(cmp.Compare(a.Box, b.Box), cmp.Compare(a.Code, b.Code)) })
	if err := w.tx.Write(ctx, *c); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
