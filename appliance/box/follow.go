package box

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sportello.example/firmware/release"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/stick"
)

// source is where the desired state comes from: the line, and now and then a USB stick.
type source struct {
	follower *atomic.Pointer[desired.Follower]

	mu    sync.Mutex     // guards the fields that follow
	line  desired.Source // nil: there is no line
	offer *stick.File    // a reply of the hub from a stick, to be taken up; nil: none
	came  chan struct{}  // closed when an offer comes
}

// use says which line there is.
func (s *source) use(line desired.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
}

// put offers a file; nil takes the offer back.
func (s *source) put(f *stick.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offer = f
	if s.came != nil && f != nil {
		close(s.came)
		s.came = nil
	}
}

// now returns what there is, and a channel that is closed when an offer comes.
func (s *source) now() (line desired.Source, offer *stick.File, came <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.came == nil {
		s.came = make(chan struct{})
	}
	return s.line, s.offer, s.came
}

var errNoLine = errors.New("no line to the hub")

// State is desired.Source: an offer comes before what the line says, and ends a wait for that.
func (s *source) State(ctx context.Context, etag string, wait time.Duration) (d desired.Signed, tag string, changed bool, err error) {
	line, offer, came := s.now()
	if offer != nil {
		d, err := offer.State()
		return d, "", true, err
	}
	if line == nil {
		return desired.Signed{}, "", false, errNoLine
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-came:
			cancel()
		case <-stop:
		}
	}()
	return line.State(ctx, etag, wait)
}

// Blob is desired.Source.
func (s *source) Blob(ctx context.Context, sha256 string, from int64, w io.Writer) error {
	line, offer, _ := s.now()
	if offer != nil {
		err := offer.Blob(sha256, &skipWriter{w: w, skip: from})
		if !errors.Is(err, stick.ErrNone) {
			return err
		}
	}
	if line == nil {
		return errNoLine
	}
	return line.Blob(ctx, sha256, from, w)
}

// skipWriter passes over the first bytes of what is written.
type skipWriter struct {
	w    io.Writer
	skip int64
}

func (s *skipWriter) Write(b []byte) (int, error) {
	n := min(int64(len(b)), s.skip)
	s.skip -= n
	if n == int64(len(b)) {
		return len(b), nil
	}
	m, err := s.w.Write(b[n:])
	return int(n) + m, err
}

// follow begins to follow the hub's desired state, from what is on the disk.
func (q *queue) follow(id *identity.Identity, longPoll func() bool) error {
	e, err := id.Enrolment()
	if err != nil {
		return err
	}
	f, err := desired.New(desired.Options{
		Dir: filepath.Join(q.cfg.Data, "desired"), Box: e.Box, Source: &q.source, Release: release.Current().Version,
		Keys: func() []ed25519.PublicKey {
			if e, err := id.Enrolment(); err == nil {
				return []ed25519.PublicKey{e.HubTokenKey}
			}
			return nil
		},
		Now: q.clock.HubTime, ClockOK: q.clock.Plausible, LongPoll: longPoll,
		OnChange: func(desired.Document) error {
			e, err := id.Enrolment()
			if err != nil {
				return err
			}
			return q.believe(id, e)
		},
		Log: q.log,
	})
	if err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	q.follower.Store(f)
	return nil
}

// notices are what the municipality says to whoever stands at a kiosk now.
func (q *queue) notices() []desired.Posted {
	if f := q.follower.Load(); f != nil {
		return f.Notices()
	}
	return nil
}

// noticesChanged returns a channel that holds a value whenever notices may have changed since the last receive; nil
// while no hub has let the box in: a page that is open then looks once a second.
func (q *queue) noticesChanged(ctx context.Context) <-chan struct{} {
	if f := q.follower.Load(); f != nil {
		return f.Watch(ctx)
	}
	return nil
}

// takeLimit is how long taking up what a stick brought may last.
const takeLimit = 30 * time.Second

// takeState takes up the desired state in a reply of the hub, if there is one. The follower must be running. What is not
// taken is said, and is no error: acknowledgements in the same file count all the same.
func (q *queue) takeState(ctx context.Context, f *stick.File, out *Imported) error {
	signed, err := f.State()
	follower, in := q.follower.Load(), q.trust.Load()
	switch {
	case errors.Is(err, stick.ErrNone):
		return nil
	case err != nil:
		return err
	case follower == nil || in == nil:
		return errAlone
	}
	d, err := signed.Open(in.box, in.keys)
	if err != nil {
		out.StateKept = err.Error()
		return nil //nolint:nilerr // it is said
	}
	q.clock.Passed(d.Issued)
	have, _, _ := follower.Current()
	if have.Version > d.Version && d.Rollback == 0 {
		out.State, out.StateKept = have.Version, fmt.Sprintf("those here, of version %d, are newer than version %d", have.Version, d.Version)
		return nil
	}
	q.source.put(f)
	defer q.source.put(nil)
	ctx, cancel := context.WithTimeout(ctx, takeLimit)
	defer cancel()
	for follower.Version() != d.Version {
		follower.LineUp()
		select {
		case <-ctx.Done():
			out.State, out.StateKept = follower.Version(), "they could not be taken up: the box's log says why"
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
	out.State = d.Version
	return nil
}
