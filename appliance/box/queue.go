package box

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"sportello.example/appliance/clock"
	"sportello.example/appliance/sqlite"
	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
	"sportello.example/kiosk"
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
