package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

// What happens when the queue fills the room it may have (Config.MaxPages): first statistics are counted together, then
// let go, least urgent first, and each time an event says what is gone. What somebody may have to prove is never let go.
// The room is a limit of SQLite's own, below the size of the disk: at that limit DELETE still works, on a full disk it
// does not. When others fill the disk, the room shrinks to what the database has already.

// The states of the disk. See diskNames.
const (
	diskOK   = 0
	diskWarn = 1 // raw statistics of hours that are over are counted together
	diskHigh = 2 // diag is let go, then statistics
	diskFull = 3 // only events of the legal stream are taken; sessions are let go, oldest first
)

var diskNames = [...]string{diskOK: "ok", diskWarn: "warn", diskHigh: "high", diskFull: "full"}

// Used room in percent of what there may be.
const (
	warnAt, highAt, fullAt = 70, 85, 95
	enough                 = 5 // so much below the limit letting go ends, so that it does not begin again with the next event
)

// DiskState returns how full the database is: ok, warn (70 % of its room), high (85 %) or full (95 %).
func (s *Store) DiskState() string { return diskNames[s.state.Load()] }

// pageSize of our databases, in bytes.
const pageSize = 4096

// chores does what the goroutine that writes has to do beside its work, a piece at a time, and says whether there is
// more of it.
func (s *Store) chores() (more bool) {
	if s.groups >= 16 {
		s.groups = 0
		s.trimLog()
	}
	if s.cfg.MaxPages <= 0 {
		return false
	}
	if s.grown >= min(max(pageSize, s.cfg.MaxPages*pageSize/200), 1<<20) {
		s.grown = 0
		s.measure()
		s.tidy = s.percent >= warnAt || s.refused > 0
	}
	if !s.tidy {
		return false
	}
	did, err := s.tidyUp(s.percent, largeChunk)
	if err != nil {
		s.log.Error("no room made in the queue", "err", err)
	}
	if s.tidy = did && err == nil; s.tidy {
		s.measure()
	}
	return s.tidy
}

// Look finds out how much room there is on the disk, and lets go what is due. Storing events does so by itself now and
// then; call it when others may have filled the disk meanwhile.
func (s *Store) Look(ctx context.Context) error {
	return s.writeAlone(ctx, func(*work) error {
		if s.cfg.MaxPages > 0 {
			s.measure()
			s.tidy = s.tidy || s.percent >= warnAt || s.refused > 0
		}
		return nil
	})
}

// measure finds out how full the database is.
func (s *Store) measure() {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	pages, used, err := usedPages(ctx, s.conn)
	if err != nil {
		s.log.Error("size of the queue not known", "err", err)
		return
	}
	s.adjust(ctx, pages)
	s.percent = used * 100 / max(1, int(s.limit.Load()))
	state := int32(diskOK)
	switch {
	case s.percent >= fullAt:
		state = diskFull
	case s.percent >= highAt:
		state = diskHigh
	case s.percent >= warnAt:
		state = diskWarn
	}
	if old := s.state.Swap(state); old != state {
		s.log.Warn("room for the queue", "state", diskNames[state], "before", diskNames[old], "used_percent", s.percent)
	}
}

// usedPages returns how large the database is, and how much of that is in use.
func usedPages(ctx context.Context, q querier) (pages, used int, err error) {
	var free int
	err = q.QueryRowContext(ctx, `SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count`).Scan(&pages, &free)
	return pages, pages - free, err
}

// makeRoom is for when something did not fit: it lets go what may be let go, whatever the state, and says whether there
// was anything.
func (s *Store) makeRoom() bool {
	if s.cfg.MaxPages <= 0 {
		return false
	}
	s.measure()
	did, err := s.tidyUp(100, largeChunk)
	if err != nil && !sqldb.Full(err) {
		s.log.Error("no room made in the queue", "err", err)
	}
	s.tidy = true
	return did
}

// tidyUp does one step of what is due when percent of the room are used, for n rows at most.
func (s *Store) tidyUp(percent, n int) (did bool, err error) {
	if percent < fullAt && s.refused > 0 {
		return true, s.reportRefused()
	}
	// Where letting go has begun, it goes on a little further.
	if percent >= highAt {
		s.letGo = max(s.letGo, diskHigh)
	}
	if percent >= fullAt {
		s.letGo = diskFull
	}
	if s.letGo == diskFull && percent < fullAt-enough {
		s.letGo = diskHigh
	}
	if s.letGo == diskHigh && percent < highAt-enough {
		s.letGo = diskOK
	}
	if percent >= warnAt {
		if did, err = s.rollUp(n); did || err != nil {
			return did, err
		}
	}
	var streams []envelope.Stream
	if s.letGo >= diskHigh {
		streams = append(streams, envelope.Diag, envelope.Stats)
	}
	if s.letGo >= diskFull {
		streams = append(streams, envelope.Session)
	}
	for _, stream := range streams {
		for _, acked := range []bool{true, false} { // what the hub has goes first, although it has no backup of it
			if did, err = s.drop(stream, acked, n); did || err != nil {
				return did, err
			}
		}
	}
	return false, nil
}

// reportRefused tells the hub of events that were not taken.
func (s *Store) reportRefused() error {
	n := s.refused
	return s.once(func(w *work) error {
		if err := w.queueEvent(event.EventsLost, event.Detail{Reason: "full", Count: n}); err != nil {
			return err
		}
		if err := w.exec(countSQL, -n, "refused"); err != nil {
			return err
		}
		if err := w.exec(countSQL, n, "dropped"); err != nil {
			return err
		}
		w.after = append(w.after, func() { s.refused -= n })
		return nil
	})
}

// ofStream lists the chains of a stream, oldest epoch first.
func (s *Store) ofStream(stream envelope.Stream) (out []*chainState) {
	for _, e := range s.epochs {
		if st := s.chains[envelope.Chain{Epoch: e.name, Stream: stream}]; st != nil {
			out = append(out, st)
		}
	}
	return out
}

// drop lets go the oldest events of a stream, n at most: of those that the hub has acknowledged, or of the others.
func (s *Store) drop(stream envelope.Stream, acked bool, n int) (did bool, err error) {
	for _, old := range s.ofStream(stream) {
		err = s.once(func(w *work) error {
			did = false // it may be the second time
			if err := w.start(); err != nil {
				return err
			}
			st := old.snapshot()
			if acked {
				if _, err := w.forget(st, st.cursor); err != nil || st.base == old.base {
					return err
				}
				if err := w.saveChain(st); err != nil {
					return err
				}
				did = true
				w.adopt(old, st)
				if err := w.dropEpoch(st); err != nil {
					return err
				}
				return w.queueEvent(event.QueueDropped, event.Detail{
					Reason: "no_backup", Epoch: st.Epoch, Stream: stream.String(), From: old.base.seq + 1, To: st.base.seq,
					Count: int(st.base.seq - old.base.seq - old.lacking(old.base.seq, st.base.seq)),
				})
			}
			rows, err := oldest(w.ctx, w.s.conn, st, n)
			if err != nil || len(rows) == 0 {
				return err
			}
			did = true
			if err := w.cut(st, old, rows, envelope.Dropped); err != nil {
				return err
			}
			if err := w.exec(countSQL, len(rows), "dropped"); err != nil {
				return err
			}
			return w.queueEvent(event.QueueDropped, event.Detail{
				Reason: "full", Epoch: st.Epoch, Stream: stream.String(), From: rows[0].seq, To: rows[len(rows)-1].seq, Count: len(rows),
			})
		})
		if did || err != nil {
			return did, err
		}
	}
	return false, nil
}

// oldest returns the first rows of a chain that the hub has not acknowledged, n at most: a stretch without holes. It ends
// where a Read has ended, because the hub may acknowledge up to there, and the hash at that place must stay known.
func oldest(ctx context.Context, q querier, st *chainState, n int) ([]row, error) {
	rows, _, err := fetch(ctx, q, st, max(st.cursor, st.base.seq)+1, st.last.seq, n, largeChunk*envelope.MaxEncoded)
	if err != nil {
		return nil, err
	}
	return stretch(st, rows[:min(n, len(rows))]), nil
}

// stretch returns the rows at the front that follow each other.
func stretch(st *chainState, rows []row) []row {
	for i := 1; i < len(rows); i++ {
		if rows[i].seq != rows[i-1].seq+1 || st.handed.ended(rows[i-1].seq) {
			return rows[:i]
		}
	}
	return rows
}

// cut deletes rows and says in their chain that they are missing. st is a copy of old.
func (w *work) cut(st, old *chainState, rows []row, reason envelope.Reason) error {
	first, last := rows[0].seq, rows[len(rows)-1].seq
	hash, _, err := hashAt(w.ctx, w.s.conn, st, last)
	if err != nil {
		return err
	}
	if err := w.exec("DELETE FROM "+table(st.Stream)+" WHERE id >= ? AND id <= ?", id(st.number, first), id(st.number, last)); err != nil {
		return err
	}
	g := gap{first, last, reason, hash}
	if err := w.saveGap(st, g); err != nil {
		return err
	}
	st.missing = with(st.missing, g)
	if err := w.saveChain(st); err != nil {
		return err
	}
	w.adopt(old, st)
	return nil
}

// worthIt is how many raw events are counted together at least: for fewer it makes no room.
const worthIt = 20

// counted is what events are counted by.
type counted struct {
	hour          string
	kind          event.Kind
	step, service string
}

// hour names the hour of a time.
func hour(t time.Time) string { return t.UTC().Format("2006-01-02T15") }

// rollUp counts the oldest raw statistics together, of hours that are over, n rows at most. What the hub has
// acknowledged it has counted already, and what was handed out it may count yet.
func (s *Store) rollUp(n int) (did bool, err error) {
	for _, old := range s.ofStream(envelope.Stats) {
		for {
			more := false
			if !old.handed.out.TryLock() {
				break // somebody reads it just now
			}
			err := s.once(func(w *work) error {
				did = false
				more, did, err = w.rollUpChain(old, n)
				return err
			})
			old.handed.out.Unlock()
			if did || err != nil {
				return did, err
			}
			if !more {
				break
			}
		}
	}
	return false, nil
}

// rollUpChain is rollUp for one chain. more says that nothing was worth it among the first n rows, and there are others.
func (w *work) rollUpChain(old *chainState, n int) (more, did bool, err error) {
	if err := w.start(); err != nil {
		return false, false, err
	}
	st := old.snapshot()
	from := max(st.cursor, st.base.seq, st.rolled, min(st.handed.last(), st.last.seq))
	before, known, err := hashAt(w.ctx, w.s.conn, st, from)
	if err != nil || !known {
		return false, false, err
	}
	rows, all, err := fetch(w.ctx, w.s.conn, st, from+1, st.last.seq, n, largeChunk*envelope.MaxEncoded)
	if err != nil {
		return false, false, err
	}
	ps, _ := pieces(st, mark{from, before}, rows, all, n)
	raw, by, passed := countable(st, ps, hour(w.s.cfg.Now()))
	st.rolled = max(from, passed)
	if len(raw) < worthIt {
		w.after = append(w.after, func() { old.rolled = st.rolled })
		return !all && st.rolled > from, false, nil
	}
	st.rolled = raw[len(raw)-1].seq
	if err := w.cut(st, old, raw, envelope.RolledUp); err != nil {
		return false, false, err
	}
	counts := map[counted]int{}
	for _, c := range by {
		counts[c]++
	}
	for _, c := range by {
		if counts[c] == 0 {
			continue
		}
		err := w.queueEvent(event.StatsRolled, event.Detail{
			Of: c.kind, Hour: c.hour, Step: c.step, Service: c.service, Count: counts[c],
			Epoch: st.Epoch, Stream: st.Stream.String(), From: raw[0].seq, To: st.rolled,
		})
		if err != nil {
			return false, false, err
		}
		delete(counts, c)
	}
	return false, true, nil
}

// countable returns the first stretch of raw events, of hours before now, that is worth it, and what each is counted by;
// when there is none, the one at the end, which may grow. Nothing up to passed is worth it.
func countable(st *chainState, ps []piece, now string) (raw []row, by []counted, passed uint64) {
	for _, p := range ps {
		c, ok := count(p)
		if ok && c.hour >= now {
			return raw, by, passed
		}
		last := len(raw) - 1
		if ok && (last < 0 || raw[last].seq == p.first-1) {
			raw, by = append(raw, row{p.last, p.enc, p.hash}), append(by, c)
			continue
		}
		if len(raw) >= worthIt {
			return raw, by, passed
		}
		raw, by, passed = nil, nil, p.last
		if ok {
			raw, by, passed = []row{{p.last, p.enc, p.hash}}, []counted{c}, p.first-1
		}
	}
	return raw, by, passed
}

// count says what an event is counted by, false when it is not one to count.
func count(p piece) (counted, bool) {
	if p.enc == nil || p.repair {
		return counted{}, false
	}
	e, err := envelope.Parse(p.enc)
	if err != nil || event.Kind(e.Kind) == event.StatsRolled || e.Schema != event.SchemaBody {
		return counted{}, false
	}
	var body event.Body
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return counted{}, false
	}
	return counted{hour(e.At.Wall), event.Kind(e.Kind), body.Detail.Step, body.Detail.Service}, true
}
