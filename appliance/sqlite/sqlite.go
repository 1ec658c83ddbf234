// Package sqlite is all of the box's SQL: sessions, the queue of events for the hub, the journal of print jobs, and
// the printers that were adopted.
//
// What happened and the event that reports it are one transaction. When a method returns nil, what it wrote survives a
// pulled plug. The queue counts on that less than it might: every event carries a hash over all before it (package
// envelope), and a witness beside the database tells when the database has lost some, or is another one.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
	"sportello.example/sync/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a box's database. It is safe for concurrent use.
type Store struct {
	cfg     Config
	log     *slog.Logger
	db      *sql.DB // of conn
	read    *sql.DB // for everything that only looks
	witness *witness
	boot    uint32

	waitMu  sync.Mutex // guards the fields that follow
	waiting []*op
	closing bool
	wake    chan struct{} // has one element when waiting was empty
	stopped chan struct{} // closed when commit has ended

	// What follows belongs to the goroutine that writes, see commit; until that runs, to Open.
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	scratch    work
	args       []any
	told       testimony        // what the witness was told last
	groups     int              // transactions since the size of the log was looked at
	grown      int              // bytes written, about, since the size of the database was looked at
	percent    int              // of the room that was used then
	tidy       bool             // something may be there to be let go
	letGo      int32            // what is being let go: diskHigh or diskFull
	refused    int              // events not taken for want of room and not reported
	clock      *item            // what this start has learned of the time
	untold     []envelope.Epoch // that ended in this start, before it had learned anything
	broken     bool             // conn is to be replaced before anything else
	cutRests   atomic.Bool      // the write-ahead log was to be cut within the last second; see logHeld
	starting   bool             // the database may grow a little larger than else: see startReserve

	state   atomic.Int32 // of the disk
	limit   atomic.Int64 // how large the database may grow, in pages; 0: no limit
	behind  atomic.Bool  // events of a first release's file wait for room
	suspect atomic.Bool  // the structure of the database was found damaged

	deadMu   sync.Mutex // guards the fields that follow
	deadLast int64      // the last one of the dead, and how many there were …
	deadN    uint64     // … when these were looked for:
	deadKeys []string   // keys that they are closed to

	mu        sync.RWMutex // guards the fields that follow; the goroutine that writes may read them without
	number    int64        // of the present epoch
	epoch     envelope.Epoch
	epochs    []epochRow // oldest first; replaced, never changed
	owner     uint32     // number of the box that the queue is delivered under, 0: none yet; see Belong
	heads     [streams]mark
	chains    map[envelope.Chain]*chainState
	current   [streams]*chainState // those of the present epoch
	readers   context.Context      //nolint:containedctx // ends when those who read are interrupted
	interrupt context.CancelFunc

	gate sync.RWMutex // held by those who read, for as long as they do

	open   map[string]bool // print jobs that were open when the program started; guarded by openMu
	openMu sync.Mutex

	checking context.CancelFunc // ends the check of the structure
	checked  sync.WaitGroup
}

// Config is how a Store is opened. Only Path is needed.
type Config struct {
	Path string           // of the database; the witness lies beside it as PATH.witness
	Now  func() time.Time // the wall clock, for the times of rows
	// Stamp says when an event happens; boot is the number of this start. Only a time that is envelope.Synced counts for
	// what is old enough to be forgotten. nil: by Now, which counts as envelope.Free.
	Stamp func(boot uint32) envelope.Stamp
	Box   func() uint32                           // number of the box, 0 before it is enrolled; nil: 0
	Seal  func(aad, plain []byte) ([]byte, error) // see seal.Sealer; nil: there is no key
	// MaxPages is how large the file may grow, in pages of 4 KiB, as far as there is room on the disk, of which some is
	// left to others; 0: no limit, and nothing is ever let go for room. See
	// sqldb.Options.
	MaxPages int
	Keep     time.Duration // how long an event is kept after the hub has it, when the hub has no backup of it; 0: 30 days; see Stamp
	Log      *slog.Logger  // nil: nothing is logged
}

const keep = 30 * 24 * time.Hour

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the box hands its own in
	}
	if c.Stamp == nil {
		begun, now := c.Now(), c.Now
		c.Stamp = func(boot uint32) envelope.Stamp {
			t := now()
			return envelope.Stamp{Wall: t, Boot: boot, Mono: t.Sub(begun), Quality: envelope.Free}
		}
	}
	if c.Box == nil {
		c.Box = func() uint32 { return 0 }
	}
	if c.Seal == nil {
		c.Seal = func([]byte, []byte) ([]byte, error) { return nil, seal.ErrNoKey }
	}
	if c.Keep <= 0 {
		c.Keep = keep
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// openLimit is how long one thing may take that Open does: the check of a file of checkAtOnce on a slow card takes seconds.
const openLimit = 5 * time.Minute

// ErrInUse means that another program has the database open.
var ErrInUse = errors.New("the box's database is in use by another program")

// Open opens the database, making it when there is none. A file that is corrupt is set aside, never deleted, and a new
// one begun in its place: setAside is then its new name, and an event of the new file says that it happened. When the
// database has less than the witness has seen, or is another one, a new epoch begins, with events that say what is known
// to be lost. Sessions that a crash left open are closed. Errors: ErrInUse, sqldb.ErrNewer (nothing was changed),
// kiosk.ErrDiskFull.
func Open(ctx context.Context, cfg Config) (s *Store, setAside string, err error) {
	cfg = cfg.withDefaults()
	fail := func(err error) { cfg.Log.Error("witness of the queue not written", "err", err) }
	w, t, known, err := openWitness(cfg.Path+".witness", fail)
	if err != nil {
		return nil, "", fmt.Errorf("box database: %w", err)
	}
	s, err = open(ctx, cfg, w, t, known, false)
	if err != nil && (sqldb.Corrupt(err) || sqldb.Misfit(err)) {
		if setAside, err = sqldb.SetAside(cfg.Path, cfg.Now()); err == nil {
			s, err = open(ctx, cfg, w, t, known, true)
		}
	}
	if err != nil {
		return nil, setAside, errors.Join(fmt.Errorf("box database: %w", err), w.close())
	}
	return s, setAside, nil
}

func open(ctx context.Context, cfg Config, w *witness, t testimony, known, aside bool) (_ *Store, err error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: cfg.Log, witness: w, open: map[string]bool{}, statements: map[string]*sql.Stmt{},
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), checking: func() {},
	}
	s.readers, s.interrupt = context.WithCancel(context.Background())
	most := cfg.MaxPages
	if s.starting = most > 0; s.starting {
		most += startReserve
	}
	checks, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if s.db, err = sqldb.Open(checks, cfg.Path, sub, sqldb.Options{MaxPages: most}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeFiles())
		}
	}()
	info, err := os.Stat(cfg.Path)
	if err != nil {
		return nil, err
	}
	large := info.Size() > checkAtOnce && !t.suspect
	if err := s.checkStructure(checks, large); err != nil {
		return nil, err
	}
	if s.read, err = sqldb.OpenRead(checks, cfg.Path); err != nil {
		return nil, err
	}
	if s.conn, err = s.db.Conn(checks); err != nil {
		return nil, err
	}
	if err := s.begins(ctx, t, known, aside); err != nil {
		return nil, failed(err)
	}
	go s.commit()
	if large {
		var background context.Context
		background, s.checking = context.WithCancel(context.Background())
		s.checked.Go(func() { s.checkQueues(background) })
	}
	return s, nil
}

// begins finds out where the numbers go on, and does what is to be done at each start.
func (s *Store) begins(ctx context.Context, t testimony, known, aside bool) error {
	first, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	damaged, err := s.load(first)
	if err != nil {
		return err
	}
	counters, err := s.counters(first)
	if err != nil {
		return err
	}
	s.refused, s.owner = counters["refused"], uint32(counters["box"])
	s.boot = max(uint32(counters["boot"]), t.boot) + 1
	if s.cfg.MaxPages > 0 {
		s.measure()
		s.tidy = true
	}
	if err := s.takeOver(ctx, s.onceWithRoom); err != nil {
		return err
	}
	if known && !t.clean {
		s.log.InfoContext(ctx, "the program had not ended of its own accord", "boot", t.boot)
	}
	then, cancel := context.WithTimeout(ctx, openLimit) // taking over takes as long as it takes
	defer cancel()
	reason, lost, err := s.judge(then, t, known, counters["witnessed"] > 0, damaged)
	if err != nil {
		return err
	}
	if aside {
		reason = setAsideFile
	}
	begin := func(w *work) error {
		if err := w.exec(`UPDATE counter SET value = ? WHERE name = 'boot'`, int64(s.boot)); err != nil {
			return err
		}
		if reason == "" && s.epoch != "" {
			return nil
		}
		old := s.epoch
		if known && reason != damagedTail { // then it is the present one that is damaged
			old = t.epoch
		}
		if err := w.beginEpoch(reason, old, lost); err != nil || !aside {
			return err
		}
		return w.queueEvent(event.DatabaseSetAside, event.Detail{})
	}
	if err = s.onceWithRoom(begin); err != nil && sqldb.Full(err) && reason == "" && s.epoch != "" {
		err = nil // with a full disk the box starts all the same; the witness remembers how often
	}
	if err != nil {
		return err
	}
	if reason != "" {
		s.log.Error("the queue goes on in a new numbering", "reason", reason, "chains_with_losses", len(lost))
	}
	s.testify(counters["witnessed"] == 0)
	err = s.once(func(w *work) error { return w.closeOpen() })
	if err == nil {
		err = s.once(func(w *work) error { return w.prune() })
	}
	if err != nil && !sqldb.Full(err) { // with a full disk they stay open until the next start
		return err
	}
	prints, err := s.OpenPrints(ctx)
	if err != nil {
		return err
	}
	for _, row := range prints {
		s.open[row.ID] = true
	}
	s.starting = false
	return s.limitTo(then, int(s.limit.Load()))
}

// testify tells the witness where the start has left off. Without a witness the box goes on: it is there for damage.
func (s *Store) testify(isNew bool) {
	s.told = s.testimony()
	s.witness.write(s.told) // both slots: then the file has all the room it will ever need
	err := s.witness.writeNow(s.told)
	if err == nil && isNew {
		if err = s.witness.syncNew(); err == nil {
			err = s.once(func(w *work) error { return w.exec(`UPDATE counter SET value = 1 WHERE name = 'witnessed'`) })
		}
	}
	if err != nil {
		s.log.Error("witness of the queue not written", "err", err)
	}
}

func (s *Store) counters(ctx context.Context) (map[string]int, error) {
	rows, err := s.conn.QueryContext(ctx, `SELECT name, value FROM counter`)
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]int{}
	for rows.Next() {
		var name string
		var value int
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("counters: %w", err)
		}
		out[name] = value
	}
	return out, rows.Err()
}

// Close waits for what is being written, and closes the database.
func (s *Store) Close() error {
	s.waitMu.Lock()
	again := s.closing
	s.closing = true
	s.waitMu.Unlock()
	s.poke()
	<-s.stopped
	if again {
		return nil
	}
	s.checking()
	s.checked.Wait()
	err := s.closeFiles()
	last := s.told
	last.clean = err == nil
	s.witness.write(last)
	return errors.Join(err, s.witness.close())
}

func (s *Store) closeFiles() (err error) {
	s.interruptReaders() // who still reads is late
	s.gate.Lock()
	defer s.gate.Unlock()
	s.interrupt()
	if s.read != nil {
		err = s.read.Close()
	}
	err = errors.Join(err, s.closeStatements())
	if s.conn != nil && !s.broken {
		err = errors.Join(err, s.conn.Close())
	}
	return errors.Join(err, s.db.Close())
}

// Epoch returns the present epoch.
func (s *Store) Epoch() envelope.Epoch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// Boot returns the number of this start, from 1.
func (s *Store) Boot() uint32 { return s.boot }
