package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
	"sportello.example/sync/sqldb"
)

// Everything is written by one goroutine on one connection: whoever waits when it comes round is committed together, so
// that sixty-four callers pay for one fsync and one page of the log, not for sixty-four.

// ErrClosed means that the store was closed.
var ErrClosed = errors.New("the box's database is closed")

const (
	maxGroup   = 256              // changes that are committed together at most
	writeLimit = 30 * time.Second // for one transaction: longer than any lock is waited for and any card takes to sync
)

// op is a change that somebody waits for.
type op struct {
	ctx   context.Context
	alone bool // the change looks at more than the ends of chains: it is a transaction of its own
	do    func(*work) error
	done  chan error
}

// write has do run in a transaction, together with others, and returns when it is on the disk or known not to be, or when
// ctx has ended: then it may come to be on the disk all the same, as when a card takes very long, and do may still run.
// do may run twice: what it does must depend on its work alone. It returns kiosk.ErrDiskFull when there is no room.
func (s *Store) write(ctx context.Context, do func(*work) error) error {
	return s.submit(&op{ctx: ctx, do: do, done: make(chan error, 1)})
}

// writeAlone is write in a transaction of its own.
func (s *Store) writeAlone(ctx context.Context, do func(*work) error) error {
	return s.submit(&op{ctx: ctx, alone: true, do: do, done: make(chan error, 1)})
}

func (s *Store) submit(o *op) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	s.waitMu.Lock()
	if s.closing {
		s.waitMu.Unlock()
		return ErrClosed
	}
	s.waiting = append(s.waiting, o)
	first := len(s.waiting) == 1
	s.waitMu.Unlock()
	if first {
		s.poke()
	}
	select {
	case err := <-o.done:
		return err
	case <-o.ctx.Done():
	}
	select {
	case err := <-o.done:
		return err
	default:
		return fmt.Errorf("not known to be stored: %w", o.ctx.Err())
	}
}

// poke makes the committer look.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns whoever waits.
func (s *Store) take(into []*op) (ops []*op, closing bool) {
	s.waitMu.Lock()
	defer s.waitMu.Unlock()
	into = append(into[:0], s.waiting...)
	clear(s.waiting)
	s.waiting = s.waiting[:0]
	return into, s.closing
}

// commit is the goroutine that writes. It ends when the store closes and nobody waits any more.
func (s *Store) commit() {
	defer close(s.stopped)
	var ops []*op
	last := 0
	for {
		var closing bool
		if ops, closing = s.take(ops); len(ops) == 0 {
			if closing {
				return
			}
			if !s.chores() {
				<-s.wake
				if last > 1 {
					runtime.Gosched() // those who have just been answered come back together
				}
			}
			continue
		}
		last = len(ops)
		for rest := ops; len(rest) > 0; {
			n := 1
			for !rest[0].alone && n < len(rest) && n < maxGroup && !rest[n].alone {
				n++
			}
			s.group(rest[:n])
			rest = rest[n:]
		}
		s.chores()
	}
}

// group runs ops in one transaction and answers them. When it fails each is run alone: nobody fails for another one.
func (s *Store) group(ops []*op) {
	w := s.begin()
	var err error
	left := ops[:0:0]
	for i, o := range ops {
		if err := o.ctx.Err(); err != nil {
			o.done <- err
			continue
		}
		before := *w
		if err = o.do(w); err == nil {
			left = append(left, o)
			continue
		}
		if w.statements == before.statements { // nothing of it is in the transaction
			*w = before
			o.done <- failed(err)
			err = nil
			continue
		}
		left = append(left, ops[i:]...)
		break
	}
	if len(left) == 0 {
		w.rollback()
		return
	}
	if err == nil {
		if err = w.commit(); err == nil {
			if w.freed && s.state.Load() != diskOK {
				s.measure()
				s.tidy = s.tidy || s.refused > 0 // there may be room now to say so
			}
			for _, o := range left {
				o.done <- nil
			}
			return
		}
	} else {
		w.rollback()
	}
	if len(left) > 1 {
		for _, o := range left {
			s.group([]*op{o})
		}
		return
	}
	if sqldb.Full(err) && !w.lesser() && s.makeRoom() {
		err = s.once(left[0].do)
	}
	if err != nil && sqldb.Corrupt(err) {
		s.suspect.Store(true)
		s.witness.write(s.testimony())
	}
	left[0].done <- failed(err)
}

// lesser says that all that was to be queued is of streams for which nothing else is let go.
func (w *work) lesser() bool {
	if w.number != w.s.number || w.heads[envelope.Legal] != w.s.heads[envelope.Legal] {
		return false
	}
	return w.probe || w.heads != w.s.heads
}

// once runs do in a transaction of its own, on the goroutine that writes.
func (s *Store) once(do func(*work) error) error {
	w := s.begin()
	if err := do(w); err != nil {
		w.rollback()
		return err
	}
	return w.commit()
}

func failed(err error) error {
	if err != nil && sqldb.Full(err) {
		return fmt.Errorf("%w: %w", kiosk.ErrDiskFull, err)
	}
	return err
}

// work is a transaction. It begins with the first statement.
type work struct {
	s          *Store
	ctx        context.Context //nolint:containedctx // the transaction's deadline
	cancel     context.CancelFunc
	began      bool
	statements int // run so far

	number  int64          // of the present epoch
	epoch   envelope.Epoch //
	heads   [streams]mark  // of the present epoch, with what is in rows
	rows    [streams][]row // not inserted yet
	buf     []byte         // what the rows' envelopes share
	freed   bool           // rows were deleted
	probe   bool           // nothing is let go to make room for it
	refused int            // events not taken for want of room
	bytes   int            // of all envelopes
	after   []func()       // what changes in memory once it is on the disk; run under Store.mu
}

func (s *Store) begin() *work {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	w := &s.scratch
	*w = work{
		s: s, ctx: ctx, cancel: cancel, number: s.number, epoch: s.epoch, heads: s.heads, buf: w.buf[:0], after: w.after[:0],
		rows: w.rows,
	}
	for i := range w.rows {
		w.rows[i] = w.rows[i][:0]
	}
	return w
}

// item is an event on its way into the queue: all of it that does not depend on its number.
type item struct {
	kind    event.Kind
	at      envelope.Stamp
	body    []byte
	private []byte
	again   bool // says once more, about an older epoch, what was said already
}

func (s *Store) item(e event.Event) (item, error) {
	body, err := json.Marshal(event.Body{Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail})
	if err != nil {
		return item{}, fmt.Errorf("event %s: %w", e.Kind, err)
	}
	return item{kind: e.Kind, at: s.cfg.Stamp(s.boot), body: body, private: e.Private}, nil
}

// append queues an event in the present epoch. It fails before it has changed anything.
func (w *work) append(it item) error {
	stream := it.kind.Stream()
	if stream != envelope.Legal && w.s.state.Load() == diskFull {
		w.refused++
		return nil
	}
	h := &w.heads[stream]
	e := envelope.Envelope{
		Box: w.s.cfg.Box(), Chain: envelope.Chain{Epoch: w.epoch, Stream: stream}, Seq: h.seq + 1, Kind: string(it.kind),
		Schema: event.SchemaBody, At: it.at, Body: it.body,
	}
	if it.private != nil {
		var err error
		if e.Sealed, err = w.s.cfg.Seal(e.AAD(), it.private); errors.Is(err, seal.ErrNoKey) {
			return fmt.Errorf("event %s: %w: %w", it.kind, kiosk.ErrOffline, err)
		} else if err != nil {
			return fmt.Errorf("event %s: %w", it.kind, err)
		}
	}
	start := len(w.buf)
	buf, err := e.Append(w.buf)
	if err != nil {
		return fmt.Errorf("event %s: %w", it.kind, err)
	}
	w.buf = buf
	r := row{seq: e.Seq, enc: buf[start:len(buf):len(buf)], hash: h.hash.Next(buf[start:])}
	w.rows[stream] = append(w.rows[stream], r)
	*h = mark{r.seq, r.hash}
	w.bytes += len(r.enc)
	if key, ok := seal.KeyOf(e.Sealed); ok {
		if err := w.exec(sealedTo, w.number, stream, key[:], int64(e.Seq)); err != nil {
			return err
		}
	}
	if it.kind == event.ClockSet && !it.again {
		w.after = append(w.after, func() { w.s.clock, w.s.untold = &it, nil })
		return w.tellOlder(it)
	}
	return nil
}

const sealedTo = `INSERT INTO sealed (epoch, stream, key, last) VALUES (?, ?, ?, ?)
	ON CONFLICT (epoch, stream, key) DO UPDATE SET last = excluded.last`

// queueEvent is append for events of the store's own.
func (w *work) queueEvent(kind event.Kind, d event.Detail) error {
	it, err := w.s.item(event.Event{Kind: kind, Detail: d})
	if err != nil {
		return err
	}
	return w.append(it)
}

// exec runs a statement that returns no rows.
func (w *work) exec(query string, args ...any) error {
	if err := w.start(); err != nil {
		return err
	}
	return w.run(query, args...)
}

func (w *work) start() error {
	if w.began {
		return nil
	}
	if err := w.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	w.began = true
	return nil
}

func (w *work) run(query string, args ...any) error {
	w.statements++
	st, err := w.s.prepared(w.ctx, query) //nolint:sqlclosecheck // it is closed with the connection
	if err != nil {
		return err
	}
	_, err = st.ExecContext(w.ctx, args...)
	return err
}

// insertSizes are how many rows one statement inserts: of a large group most of the time goes into calling SQLite.
var insertSizes = [...]int{32, 8, 1}

var insertSQL = func() (out [streams][len(insertSizes)]string) {
	for s := range out {
		for i, n := range insertSizes {
			out[s][i] = "INSERT INTO " + table(envelope.Stream(s)) + " (id, envelope, hash) VALUES " + strings.Repeat("(?,?,?),", n-1) + "(?,?,?)"
		}
	}
	return out
}()

// insert writes the rows.
func (w *work) insert() error {
	for s := range w.rows {
		for rest := w.rows[s]; len(rest) > 0; {
			i := 0
			for insertSizes[i] > len(rest) {
				i++
			}
			args := w.s.args[:0]
			for _, r := range rest[:insertSizes[i]] {
				args = append(args, id(w.number, r.seq), r.enc, r.hash[:])
			}
			w.s.args = args
			if err := w.run(insertSQL[s][i], args...); err != nil {
				return fmt.Errorf("queue %d events: %w", insertSizes[i], err)
			}
			rest = rest[insertSizes[i]:]
		}
		w.rows[s] = w.rows[s][:0]
	}
	return nil
}

// flush writes what is queued so far, for a change that then looks at it.
func (w *work) flush() error {
	if err := w.start(); err != nil {
		return err
	}
	return w.insert()
}

// commit makes it all durable and visible. After an error nothing of it was written.
func (w *work) commit() error {
	defer w.cancel()
	err := w.finish()
	if err != nil {
		w.undo()
		if !w.committed() {
			return err
		}
	}
	w.s.publish(w)
	return nil
}

func (w *work) finish() error {
	if w.refused > 0 {
		if err := w.exec(countSQL, w.refused, "refused"); err != nil {
			return err
		}
		n := w.refused
		w.after = append(w.after, func() { w.s.refused += n })
	}
	n := 0
	for s := range w.rows {
		n += len(w.rows[s])
	}
	if n == 1 && !w.began {
		return w.insert() // one statement is a transaction by itself
	}
	if n > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if !w.began {
		return nil
	}
	return w.run("COMMIT")
}

const countSQL = `UPDATE counter SET value = value + ? WHERE name = ?`

// committed says whether the transaction is in the database although its commit has returned an error, as it may when
// the deadline came in the same moment. Were such numbers given out again, every event after them would fail; and were an
// epoch that has begun not known, events would go on in the one before it.
func (w *work) committed() bool {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	if w.s.broken && w.s.reconnect(ctx) != nil {
		return false
	}
	if w.number != w.s.number {
		var name string
		err := w.s.conn.QueryRowContext(ctx, `SELECT name FROM epoch WHERE number = ?`, w.number).Scan(&name)
		return err == nil && name == string(w.epoch)
	}
	for s, h := range w.heads {
		if h == w.s.heads[s] {
			continue
		}
		var hash []byte
		err := w.s.conn.QueryRowContext(ctx, "SELECT hash FROM "+table(envelope.Stream(s))+" WHERE id = ?", id(w.number, h.seq)).Scan(&hash)
		return err == nil && string(hash) == string(h.hash[:])
	}
	return false
}

// rollback gives the transaction up.
func (w *work) rollback() {
	w.undo()
	w.cancel()
}

func (w *work) undo() {
	if !w.began {
		return
	}
	w.began = false
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	_, err := w.s.conn.ExecContext(ctx, "ROLLBACK")
	// After some errors (a full disk) SQLite has rolled back by itself, and says that there is nothing to roll back.
	if err != nil && !strings.Contains(err.Error(), "no transaction is active") {
		w.s.log.Error("transaction not rolled back: the connection to the database is replaced", "err", err)
		w.s.broken = true
	}
}

// publish makes known in memory, and to the witness, what was committed.
func (s *Store) publish(w *work) {
	s.mu.Lock()
	for i := range s.heads {
		if w.heads[i] != s.heads[i] && w.number == s.number {
			if st := s.current[i]; st != nil {
				st.last = w.heads[i]
			}
		}
	}
	s.heads = w.heads
	for _, f := range w.after {
		f()
	}
	t := s.testimony()
	s.mu.Unlock()
	if s.told.epoch != "" && t != s.told { // not before a start has compared the two
		s.told = t
		s.witness.write(t)
	}
	s.grown += w.bytes + 128*w.statements
	s.groups++
}
