// Package sqlite is all of the box's SQL: sessions, the queue of events for the hub, and the journal of print jobs.
//
// What happened and the event that reports it are one transaction. When a method returns nil, what it wrote survives a
// pulled plug.
package sqlite

import (
	"context"
	"embed"
	"errors"
	"log/slog"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/outbox"
	"sportello.example/sync/wire"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a box's database. It is safe for concurrent use.
type Store struct {
	cfg Config
}

// Config is how a Store is opened. Only Path is needed.
type Config struct {
	Path string // of the database; the witness lies beside it as PATH.witness
	// Now is the wall clock, for the times of rows and for what is old enough to be forgotten.
	Now func() time.Time
	// Stamp says when an event happens; boot is the number of this start. nil: by Now, and the clock is believed as far
	// as envelope.Free.
	Stamp func(boot uint32) envelope.Stamp
	Box   func() uint32                           // number of the box, 0 before it is enrolled; nil: 0
	Seal  func(aad, plain []byte) ([]byte, error) // see seal.Sealer; nil: there is no key
	// MaxPages is how large the file may grow, in pages of 4 KiB; 0: no limit, and nothing is ever let go for room.
	MaxPages int
	Keep     time.Duration // how long an event is kept after the hub has it when the hub has no backup; 0: 30 days
	Log      *slog.Logger  // nil: nothing is logged
}

// Open opens the database, making it when there is none.
func Open(ctx context.Context, cfg Config) (s *Store, setAside string, err error) {
	return nil, "", errSkeleton
}

var errSkeleton = errors.New("not there yet")

// Close closes the database.
func (s *Store) Close() error { return nil }

// Epoch returns the present epoch.
func (s *Store) Epoch() envelope.Epoch { return "" }

// Boot returns the number of this start, from 1.
func (s *Store) Boot() uint32 { return 0 }

// Record stores row and e in one transaction (kiosk.Journal).
func (s *Store) Record(ctx context.Context, row kiosk.SessionRow, e event.Event) error {
	return errSkeleton
}

// Enqueue stores events, all or none.
func (s *Store) Enqueue(ctx context.Context, events ...event.Event) error { return errSkeleton }

// Chains is of outbox.Queue.
func (s *Store) Chains(ctx context.Context) ([]outbox.Chain, error) { return nil, errSkeleton }

// Read is of outbox.Queue.
func (s *Store) Read(ctx context.Context, c envelope.Chain, after uint64, events, bytes int) (envelope.Run, error) {
	return envelope.Run{}, errSkeleton
}

// HashAt is of outbox.Queue.
func (s *Store) HashAt(ctx context.Context, c envelope.Chain, seq uint64) (envelope.Hash, bool, error) {
	return envelope.Hash{}, false, errSkeleton
}

// Acked is of outbox.Queue.
func (s *Store) Acked(ctx context.Context, c envelope.Chain, seq, safe uint64) error {
	return errSkeleton
}

// Rewind is of outbox.Queue.
func (s *Store) Rewind(ctx context.Context, c envelope.Chain) error { return errSkeleton }

// Renew is of outbox.Queue.
func (s *Store) Renew(ctx context.Context, c envelope.Chain, reason string) error { return errSkeleton }

// Bury is of outbox.Queue.
func (s *Store) Bury(ctx context.Context, c envelope.Chain, seq uint64, reason string) error {
	return errSkeleton
}

// DeadEvent is an event that can never be delivered.
type DeadEvent struct {
	Chain  envelope.Chain `json:"chain"`
	Seq    uint64         `json:"seq"`
	Kind   string         `json:"kind"`   // "" when it cannot be read any more
	Reason string         `json:"reason"` // damaged, or the hub's word
	At     time.Time      `json:"at"`     // when it was found
}

// Dead lists the events that can never be delivered, without what is in them.
func (s *Store) Dead(ctx context.Context) ([]DeadEvent, error) { return nil, errSkeleton }

// Queued returns how many events wait for the hub and when the oldest one happened (zero when none waits).
func (s *Store) Queued(ctx context.Context) (n int, oldest time.Time, err error) {
	return 0, time.Time{}, errSkeleton
}

// Report fills in what the queue knows of a report: Epoch, Streams, Dead, Gaps, Dropped, Disk and SealKeys.
func (s *Store) Report(ctx context.Context) (wire.Report, error) { return wire.Report{}, errSkeleton }

// DiskState returns how full the database is: ok | warn (70 %) | high (85 %) | full (95 % of Config.MaxPages).
func (s *Store) DiskState() string { return "ok" }

// Prune deletes the rows of visits and jobs that ended longer than a day ago, and events that were kept long enough.
func (s *Store) Prune(ctx context.Context) error { return errSkeleton }

// SavePrint is of printing.Journal.
func (s *Store) SavePrint(ctx context.Context, row printing.Row) error { return errSkeleton }

// OpenPrints is of printing.Journal.
func (s *Store) OpenPrints(ctx context.Context) ([]printing.Row, error) { return nil, errSkeleton }
