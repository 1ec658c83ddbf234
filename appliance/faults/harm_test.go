package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sportello.example/sync/envelope"
	hubsqlite "sportello.example/sync/hub/sqlite"
	"sportello.example/sync/outbox"
	"sportello.example/sync/wire"
)

// shortcut is a tempting mistake in the design. The tests make it outside of the product, to show that they would find
// it there.
type shortcut string

const (
	none         shortcut = ""
	ackHighest   shortcut = "the hub acknowledges the highest number that it has seen"
	deleteAtAck  shortcut = "the box forgets what is acknowledged, in a backup or not"
	numbersAlone shortcut = "the hub knows an event by its number alone, without epoch and hash"
)

// shorten makes the mistake in an acknowledgement, in the hub's name.
func (w *town) shorten(a wire.Ack, run envelope.Run) wire.Ack {
	switch {
	case w.cut == ackHighest && run.Last() > a.Seq:
		a.Seq, a.Head = run.Last(), run.Head
	case w.cut == deleteAtAck:
		a.Safe = a.Seq
	default:
		return a
	}
	return a.Sign(w.sign)
}

// byNumber answers as a hub that throws away what has a number it knows.
func (w *town) byNumber(run envelope.Run) (wire.Ack, bool) {
	w.t.Helper()
	s, err := w.hub.stored(w.ctx, map[envelope.Chain]bool{run.Chain: true})
	w.check(err)
	bs := s.branches[run.Chain]
	if len(bs) == 0 || bs[0].Seq < run.Last() {
		return wire.Ack{}, false
	}
	return wire.Ack{Box: boxNumber, Chain: run.Chain, Seq: run.Last(), Head: run.Head, Issued: w.now()}.Sign(w.sign), true
}

// clock sets everybody's clock to so many days after the first one. It is never so far from it that something is old enough
// to be forgotten.
func (w *town) clock(day int) {
	w.at.Store(time.Date(2026, 11, 23+day, 8, 0, w.next, 0, time.UTC).Unix())
}

// forge lets a box read a reply that somebody else has written: nothing may come of it.
func (w *town) forge(i int, change func(*wire.Ack)) {
	w.t.Helper()
	if len(w.replies) == 0 {
		return
	}
	r := w.replies[i%len(w.replies)]
	var m wire.Reply
	w.check(json.Unmarshal(r.bytes, &m))
	before, err := r.to.store.Chains(w.ctx)
	w.check(err)
	for _, a := range m.Acks {
		true1 := a
		change(&a)
		if _, err := outbox.Take(w.ctx, r.to.store, boxNumber, w.keys, a); !errors.Is(err, outbox.ErrAck) && a.Seq != true1.Seq {
			w.t.Fatalf("%s takes a forged ack of %s up to %d: %v", r.to.name, a.Chain, a.Seq, err)
		}
	}
	after, err := r.to.store.Chains(w.ctx)
	w.check(err)
	if !slices.Equal(before, after) {
		w.t.Fatalf("%s: a forged ack moved %v to %v", r.to.name, before, after)
	}
}

// crash pulls a box's plug and starts it again. harm is done to its disk meanwhile, if it is not nil. It returns how many
// events that has cost.
func (w *town) crash(u *unit, harm func(dir string) error) (lost int) {
	w.t.Helper()
	w.tick()
	before, err := u.held(w.ctx)
	w.check(err)
	dir := w.dir()
	w.check(copyDisk(u.dir, dir))
	_ = u.store.Close()
	w.check(os.RemoveAll(u.dir))
	if u.dir = dir; harm != nil {
		w.check(harm(dir))
	}
	clear(u.ahead)
	w.start(u)
	lost = w.lose(u, before, harm != nil)
	if lost > 0 && harm == nil && u.limit == 0 {
		w.t.Fatalf("%s: a crash has cost %d events", u.name, lost)
	}
	return lost
}

// lose notes what was on a disk and is not there any more. harmed says that something was done to the disk: then what it
// had let go for want of room, with a word on it, may be gone together with that word.
func (w *town) lose(u *unit, before held, harmed bool) (n int) {
	w.t.Helper()
	after, err := u.held(w.ctx)
	w.check(err)
	for id, f := range w.fates {
		if _, ok := after.ids[id]; ok || !f.on[u] {
			continue
		}
		_, was := before.ids[id]
		for k := range f.keys {
			switch {
			case after.covered[k] && !harmed: // the queue says that it was let go
			case harmed && k.seq > u.safe[k.chain], was:
				delete(f.on, u)
				f.lost = f.lost || len(f.on) == 0
			}
		}
		if was && !f.on[u] {
			n++
		}
	}
	return n
}

// tail makes a box's disk forget the last part of what was written, as a bit that falls over in SQLite's log does.
func (w *town) tail(u *unit, part float64) {
	w.t.Helper()
	u.tails += w.crash(u, func(dir string) error {
		wal := filepath.Join(dir, database+"-wal")
		st, err := os.Stat(wal)
		if err != nil || st.Size() == 0 {
			return nil //nolint:nilerr // there is no log: nothing to forget
		}
		return os.Truncate(wal, int64(part*float64(st.Size())))
	})
}

// copy copies a box's disk while it runs.
func (w *town) copy(u *unit) {
	d := disk2{w.dir(), u}
	w.check(copyDisk(u.dir, d.dir))
	w.disks = append(w.disks, d)
}

// rollBack puts a copy of its disk back into a box. What the box knew since then is gone, and so is what it was allowed
// to forget since then.
func (w *town) rollBack(i int) {
	w.t.Helper()
	if len(w.disks) == 0 {
		return
	}
	d := w.disks[i%len(w.disks)]
	before, err := d.of.held(w.ctx)
	w.check(err)
	_ = d.of.store.Close()
	w.check(os.RemoveAll(d.of.dir))
	d.of.dir = w.dir()
	w.check(copyDisk(d.dir, d.of.dir))
	clear(d.of.ahead)
	d.of.tails = 0 // whatever it knew of that is gone too
	w.start(d.of)
	w.lose(d.of, before, true)
}

// clone starts a second box from a copy of a disk.
func (w *town) clone(i int) {
	w.t.Helper()
	if len(w.disks) == 0 || len(w.units) > 2 {
		return
	}
	d := w.disks[i%len(w.disks)]
	u := newUnit(fmt.Sprintf("copy %d of %s", len(w.units), d.of.name), w.dir())
	w.check(copyDisk(d.dir, u.dir))
	for c, n := range d.of.safe {
		u.safe[c] = n
	}
	for c := range d.of.chains {
		u.chains[c] = true
	}
	w.units = append(w.units, u)
	w.start(u)
	h, err := u.held(w.ctx)
	w.check(err)
	for id := range h.ids {
		w.fates[id].on[u] = true
	}
}

// limit gives a box's database no more pages than so many, 0: as many as it wants.
func (w *town) limit(u *unit, pages int) {
	w.t.Helper()
	u.limit = pages
	w.crash(u, nil)
}

// backUp makes a backup of the hub, as hub backup does.
func (w *town) backUp() {
	w.t.Helper()
	file := filepath.Join(w.dir(), hubDatabase)
	w.check(w.hub.store.Backup(w.ctx, file))
	w.backup = file
}

// restore puts the hub's last backup back.
func (w *town) restore() {
	w.t.Helper()
	if w.backup == "" {
		return
	}
	w.tick()
	w.check(w.hub.store.Close())
	_, err := hubsqlite.Restore(w.ctx, filepath.Join(w.hub.dir, hubDatabase), w.backup, w.now())
	w.check(err)
	w.startHub(w.hub.dir)
}

// crashHub pulls the hub's plug and starts it again.
func (w *town) crashHub() {
	w.t.Helper()
	dir := w.dir()
	w.check(copyDisk(w.hub.dir, dir))
	_ = w.hub.store.Close()
	w.startHub(dir)
}
