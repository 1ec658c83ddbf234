package box

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/appliance/sqlite"
	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
	"sportello.example/kiosk"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
	"sportello.example/sync/sqldb"
	"sportello.example/sync/wire"
)

// queue is what the box has to deliver and to follow: its database, whom it believes, and what it knows of the time. It
// is the outbox.Queue of the relay.
type queue struct {
	*sqlite.Store

	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	clock  *clock.Clock
	sealer *seal.Sealer

	trust    atomic.Pointer[trust]            // nil: no hub has let this box in
	follower atomic.Pointer[desired.Follower] // nil: as trust
	source   source
	contact  atomic.Int64 // when the hub was last heard of, Unix seconds; 0: never

	kick   func()      // told that an event waits; nil: nobody is
	untold atomic.Bool // what the clock learned has not been stored yet …
	said   atomic.Bool // … and the log says so
}

// trust is whom the box believes.
type trust struct {
	box     uint32
	id      *identity.Identity
	keys    []ed25519.PublicKey // that the hub signs with
	sealKey []byte              // that events are closed to
}

// openQueue opens the box's database. It says in the log what it found.
func openQueue(ctx context.Context, cfg Config, now func() time.Time, c *clock.Clock, log *slog.Logger) (*queue, error) {
	q := &queue{cfg: cfg, log: log, now: now, clock: c, sealer: seal.NewSealer(now)}
	q.source.follower = &q.follower
	store, setAside, err := sqlite.Open(ctx, sqlite.Config{
		Path: filepath.Join(cfg.Data, "box.db"), Now: c.HubTime, Stamp: c.Stamp, Box: q.box, Seal: q.sealer.Seal,
		MaxPages: cfg.MaxPages, Keep: time.Duration(cfg.KeepDays) * 24 * time.Hour, Log: log,
	})
	switch {
	case errors.Is(err, sqldb.ErrNewer):
		return nil, &program.HintError{Err: err, Hint: "run the newer program; this one has not changed the file"}
	case errors.Is(err, sqlite.ErrInUse):
		return nil, &program.HintError{Err: err, Hint: "stop the other program; only one may write to it"}
	case err != nil:
		return nil, err
	}
	q.Store = store
	if setAside != "" {
		log.Error("the database was corrupt: it was set aside and a new one begun; events that the hub did not have are in it",
			"set_aside", setAside)
	}
	return q, nil
}

// box is the number of this box, 0 while no hub has let it in.
func (q *queue) box() uint32 {
	if in := q.trust.Load(); in != nil {
		return in.box
	}
	return 0
}

// keys are those that the hub signs with.
func (q *queue) keys() []ed25519.PublicKey {
	if in := q.trust.Load(); in != nil {
		return in.keys
	}
	return nil
}

// believe takes up whom the box is to believe: what enrolment gave, and what the desired state has added.
func (q *queue) believe(id *identity.Identity, e identity.Enrolment) error {
	in := &trust{box: e.Box, id: id, keys: []ed25519.PublicKey{e.HubTokenKey}, sealKey: e.HubSealKey}
	if f := q.follower.Load(); f != nil {
		in.keys = f.SignKeys()
		if k := f.SealKey(); k != nil {
			in.sealKey = k
		}
		if d, _, _ := f.Current(); d.Version > 0 {
			q.clock.Passed(d.Issued)
		}
	}
	if err := q.sealer.Use(in.sealKey); err != nil {
		return fmt.Errorf("hub's key: %w", err)
	}
	if from, err := id.Begins(); err == nil {
		q.clock.Passed(from)
	}
	if changed, err := q.Belong(context.Background(), e.Box); err != nil {
		if changed || !full(err) {
			return err
		}
		q.log.Error("number of the box not kept with its queue: there is no room", "box", e.Box, "err", err) // at the next start
	}
	q.trust.Store(in)
	return nil
}

// Renew begins a new epoch and says why in the log.
func (q *queue) Renew(ctx context.Context, c envelope.Chain, reason string) error {
	before := q.Epoch()
	if err := q.Store.Renew(ctx, c, reason); err != nil {
		return err
	}
	after := q.Epoch()
	if after == before {
		return nil
	}
	const what = "the box numbers its events anew and sends what it has of the old numbering once more; nothing is counted twice"
	switch reason {
	case "forked":
		q.log.ErrorContext(ctx, "the hub has other events under this box's numbers: the box's disk was cloned, or an old copy of it put back",
			"then", what, "old_epoch", before, "epoch", after)
	case "rolled_back":
		q.log.ErrorContext(ctx, "the hub has events that this box does not know: the box's disk was put back to an older state",
			"then", what, "old_epoch", before, "epoch", after)
	default:
		q.log.ErrorContext(ctx, "new numbering of events", "reason", reason, "then", what, "old_epoch", before, "epoch", after)
	}
	q.tellTime(ctx)
	return nil
}

// hubSaid takes up what the hub says of the time.
func (q *queue) hubSaid(ctx context.Context, t time.Time, took time.Duration) {
	q.contact.Store(q.now().Unix())
	set, changed := q.clock.HubSaid(t, took)
	if changed {
		if d := set.New.Sub(set.Old); d.Abs() > clock.Believable {
			q.log.WarnContext(ctx, "the clock was wrong: events are dated by the hub's", "was", set.Old, "is", set.New)
		}
		q.untold.Store(true)
	}
	if q.untold.Load() {
		q.tellTime(ctx)
	}
}

// tellTime stores what the clock has learned: the hub dates by it what was stored before. The queue says it again to
// every new epoch by itself.
func (q *queue) tellTime(ctx context.Context) {
	set, known := q.clock.Last()
	if !known {
		return
	}
	set.Boot = q.Boot()
	if err := q.Enqueue(ctx, event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &set}}); err != nil {
		if !q.said.Swap(true) { // it is tried again with every word of the hub
			q.log.ErrorContext(ctx, "event not stored", "kind", event.ClockSet, "err", err)
		}
		return
	}
	q.untold.Store(false)
	q.said.Store(false)
	q.waits()
}

// waits tells whoever delivers that an event waits.
func (q *queue) waits() {
	if q.kick != nil {
		q.kick()
	}
}

// report says how the box and its queue are.
func (q *queue) report(ctx context.Context) (wire.Report, error) {
	r, err := q.Report(ctx)
	if err != nil {
		return wire.Report{}, err
	}
	stamp := q.clock.Stamp(0)
	r.Time, r.Clock, r.Release = stamp.Wall, qualityNames[stamp.Quality], release.Current().String()
	if f := q.follower.Load(); f != nil {
		r.State = f.Version()
	}
	return r, nil
}

var qualityNames = map[envelope.Quality]string{envelope.Unknown: "unknown", envelope.Free: "free", envelope.Synced: "synced"}

// note stores an event of the box itself, and logs when it cannot.
func (q *queue) note(kind event.Kind, detail event.Detail) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := q.Enqueue(ctx, event.Event{Kind: kind, Detail: detail})
	if err != nil {
		q.log.Error("event not stored", "kind", kind, "err", err)
	}
	q.waits()
	return err
}

// full says whether err means that the disk has no room.
func full(err error) bool { return errors.Is(err, kiosk.ErrDiskFull) }
