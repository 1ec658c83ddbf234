package desired

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstPause  = 2 * time.Second        // the shortest after a failure
	leastHold   = 10 * time.Second       // what is held for less was not held
	changePause = 250 * time.Millisecond // after a change, so that a hub out of its mind does not keep the line busy
)

// Run follows the hub until ctx ends, and returns nil then. A line that is down does not end it.
func (f *Follower) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { f.fetchAll(ctx) })
	f.ask(ctx)
	wg.Wait()
	return nil
}

// outcome says how one request went.
type outcome int

const (
	failed  outcome = iota
	changed         // there was another document
	held            // the request was held until its time was over
	early           // the answer came at once: somebody does not hold requests
	again           // LineUp cut it short
)

// ask asks the hub for documents until ctx ends.
func (f *Follower) ask(ctx context.Context) {
	var failure, pause time.Duration
	for ctx.Err() == nil {
		wait := time.Duration(0)
		if failure == 0 && f.o.LongPoll() { // after a failure a short request shows whether the line is back
			wait = f.o.Wait
		}
		how, err := f.turn(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		probe := failure > 0
		switch {
		case how == failed:
			failure = f.backoff(failure)
			pause = failure
			if !probe {
				f.o.Log.WarnContext(ctx, "hub not asked for the desired state; the box goes on with what it has", "err", err, "retry_in", pause)
			}
		case how == changed:
			failure, pause = 0, changePause
		case how == early && (!probe || !f.o.LongPoll()):
			failure, pause = 0, f.spread(f.o.Poll)
		default:
			failure, pause = 0, 0
		}
		rest(ctx, pause, f.up, nil)
	}
}

// rest waits for as long as pause, or until ctx ends or one of wake holds a value.
func rest(ctx context.Context, pause time.Duration, wake, other <-chan struct{}) {
	if pause <= 0 {
		return
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-wake:
	case <-other:
	}
}

// backoff returns the pause after a failure that came after that pause: random, about twice as long on average, so that
// the boxes of a hub that was away do not come back together.
func (f *Follower) backoff(last time.Duration) time.Duration {
	last = max(last, firstPause)
	return min(f.o.MaxPause, firstPause+time.Duration(f.o.jitter(int64(3*last-firstPause)+1)))
}

// spread returns d, give or take a fifth.
func (f *Follower) spread(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(f.o.jitter(int64(2*d/5)+1))
}

// interruptible returns a context that ends when a value comes from cut, and says whether that was why. Call stop when
// it is no longer needed.
func interruptible(parent context.Context, cut ...<-chan struct{}) (ctx context.Context, wasCut func() bool, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	var was atomic.Bool
	var wg sync.WaitGroup
	for _, c := range cut {
		wg.Go(func() {
			select {
			case <-c:
				was.Store(true)
				cancel()
			case <-ctx.Done():
			}
		})
	}
	return ctx, was.Load, func() { cancel(); wg.Wait() }
}

// turn makes one request and judges what comes.
func (f *Follower) turn(ctx context.Context, wait time.Duration) (outcome, error) {
	ctx, cut, stop := interruptible(ctx, f.up)
	defer stop()
	start := f.o.Now()
	s, tag, isNew, err := f.o.Source.State(ctx, f.tag(), wait)
	switch {
	case cut():
		return again, nil
	case err != nil:
		return failed, err
	case !isNew && wait > 0 && f.o.Now().Sub(start) >= min(wait, leastHold)*3/4: // a hub may hold for less than asked
		return held, nil
	case !isNew:
		return early, nil
	}
	d, take, err := f.judge(s)
	switch {
	case errors.Is(err, ErrSignature): // perhaps the next enrolment brings the key
		return failed, err
	case err != nil:
		f.refused = tag
		f.o.Log.ErrorContext(ctx, "desired state refused; the box goes on with what it has", "err", err)
		return early, nil
	case !take: // the same document under another name
		f.refused = tag
		return early, nil
	}
	f.refused = ""
	old := f.latest()
	next := f.succeed(old, s, tag, d)
	f.pending.Store(next)
	if !next.same(old) {
		f.tell()
	}
	poke(f.work)
	return changed, nil
}

// tag is what the hub is asked with: the ETag of the last document, and that of one that was refused, in the syntax of
// If-None-Match (RFC 9110 §13.1.2).
func (f *Follower) tag() string {
	var tags []string
	if r := f.latest(); r != nil && r.ETag != "" {
		tags = append(tags, r.ETag)
	}
	if f.refused != "" {
		tags = append(tags, f.refused)
	}
	return strings.Join(tags, ", ")
}

// fetchAll fetches the files of pending documents, and those that were found damaged, until ctx ends.
func (f *Follower) fetchAll(ctx context.Context) {
	var pause time.Duration
	for ctx.Err() == nil {
		job := f.latest()
		whole := job == nil || job == f.current.Load() && len(f.Missing()) == 0
		if whole && !f.due {
			select {
			case <-ctx.Done():
			case <-f.work:
			}
			continue
		}
		err := f.takeUp()
		work, cut, stop := interruptible(ctx, f.work, f.upFetch)
		if !whole {
			if problem := f.finish(work, job); problem != nil || !f.due {
				err = problem
			}
		}
		stop()
		switch {
		case err == nil, cut():
			pause = 0
		case ctx.Err() == nil:
			first := pause == 0
			pause = f.backoff(pause)
			if noRoom(err) {
				f.collect(f.current.Load(), f.previous) // what was fetched in vain is no reason for others to suffer
			}
			if first && errors.Is(err, errOnChange) {
				f.o.Log.ErrorContext(ctx, "desired state not taken up; the hub is told the version before", "err", err, "retry_in", pause)
			} else if first {
				f.o.Log.WarnContext(ctx, "files of the desired state not fetched; the box goes on with what it has", "err", err, "retry_in", pause)
			}
			rest(ctx, pause, f.work, f.upFetch) // no longer than until there is another document, or the line is back
		}
	}
}

// finish fetches what a document names and makes it the current one.
func (f *Follower) finish(ctx context.Context, job *record) error {
	if job != f.current.Load() {
		if err := f.raiseFloor(job); err != nil {
			return err
		}
		if !f.complete(job.doc) {
			// Fetching may take long, and the box may be restarted meanwhile without a line: its notices are kept.
			if err := job.save(filepath.Join(f.o.Dir, pendingFile)); err != nil {
				return err
			}
		}
	}
	f.o.crash("pending")
	if err := f.fetch(ctx, job.doc); err != nil {
		return err
	}
	f.o.crash("fetched")
	if job == f.current.Load() { // what was damaged is whole again
		f.setMissing(nil)
		return f.switched()
	}
	return f.place(ctx, job)
}
