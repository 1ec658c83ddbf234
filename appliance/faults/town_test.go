package faults_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	hubsqlite "sportello.example/sync/hub/sqlite"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// failer is a test, or what stands for one.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// shortcut is a tempting mistake in the design. The tests make it outside of the product, to show that they would find
// it there.
type shortcut string

const (
	none         shortcut = ""
	ackHighest   shortcut = "the hub acknowledges the highest number that it has seen"
	deleteAtAck  shortcut = "the box forgets what is acknowledged, in a backup or not"
	numbersAlone shortcut = "the hub knows an event by its number alone, without epoch and hash"
)

// town is a box, copies of it, a hub, and the line between them, all of which may fail. Its methods are what can happen.
type town struct {
	t    failer
	ctx  context.Context
	cut  shortcut
	root string
	dirs int
	at   atomic.Int64 // what everybody's clock says, Unix seconds: the box has goroutines that look at it
	sign ed25519.PrivateKey
	keys []ed25519.PublicKey
	seal seal.PrivateKey

	units   []*unit
	hub     *hub
	line    []packet
	replies []reply
	old     []reply // those that were read already
	disks   []disk2
	backup  string // file, "" when there is none

	next  int // ID of the next event
	fates map[int]*fate
}

// packet is a batch on the line.
type packet struct {
	from  *unit
	bytes []byte
	runs  []envelope.Run
}

// reply is the hub's answer on the line.
type reply struct {
	to    *unit
	bytes []byte
}

// disk2 is a copy of a unit's disk that somebody has made.
type disk2 struct {
	dir string
	of  *unit
}

// fate is what is known of an event.
type fate struct {
	stream   envelope.Stream
	keys     map[key]bool   // under which it was stored
	promised bool           // the kiosk was told that it is stored
	on       map[*unit]bool // on whose disk it is, or was until the box was allowed to forget it
	lost     bool           // no disk has it any more, by no fault of ours: it may never arrive
}

func newTown(ctx context.Context, t failer, root string, cut shortcut) *town {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatalf("%v", err)
	}
	key, err := seal.NewKey()
	if err != nil {
		t.Fatalf("%v", err)
	}
	w := &town{
		t: t, ctx: ctx, cut: cut, root: root, sign: priv, keys: []ed25519.PublicKey{pub}, seal: key,
		fates: map[int]*fate{},
	}
	w.clock(0)
	w.units = []*unit{newUnit("box", w.dir())}
	w.start(w.units[0])
	w.startHub(w.dir())
	return w
}

func (w *town) now() time.Time { return time.Unix(w.at.Load(), 0).UTC() }

func (w *town) dir() string {
	w.dirs++
	d := filepath.Join(w.root, fmt.Sprintf("%03d", w.dirs))
	w.check(os.MkdirAll(d, 0o700))
	return d
}

func (w *town) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

func (w *town) start(u *unit) {
	w.t.Helper()
	w.check(u.open(w.ctx, w.now, w.seal.Public()))
	w.check(u.look(w.ctx))
}

func (w *town) startHub(dir string) {
	w.t.Helper()
	h, err := openHub(w.ctx, dir, w.now, w.sign, seal.Ring{w.seal})
	w.check(err)
	w.hub = h
}

func (w *town) close() {
	for _, u := range w.units {
		if u.store != nil { // it could not be opened
			_ = u.store.Close()
		}
	}
	_ = w.hub.store.Close()
}

// tick lets a moment pass.
func (w *town) tick() { w.at.Add(1) }

// put stores an event on a box.
func (w *town) put(u *unit, stream envelope.Stream) {
	w.t.Helper()
	w.tick()
	w.next++
	id := w.next
	err := u.put(w.ctx, id, stream)
	switch {
	case err == nil:
	case errors.Is(err, kiosk.ErrDiskFull) && u.limit > 0:
		return
	default:
		w.t.Fatalf("%s: put event %d: %v", u.name, id, err)
	}
	f := &fate{stream: stream, promised: true, on: map[*unit]bool{u: true}, keys: map[key]bool{}}
	w.fates[id] = f
	k, ok := w.find(u, id, stream)
	switch {
	case ok:
		f.keys[k] = true
	case u.limit == 0 || stream == envelope.Legal:
		w.t.Fatalf("%s: event %d is stored, and is not to be found", u.name, id)
	default: // let go at once, for want of room
		f.lost = true
	}
}

// find returns the number of the event that was just stored, false when it is gone already.
func (w *town) find(u *unit, id int, stream envelope.Stream) (key, bool) {
	w.t.Helper()
	chains, err := u.store.Chains(w.ctx)
	w.check(err)
	for _, c := range chains {
		u.chains[c.Chain] = true
		if !c.Current || c.Stream != stream {
			continue
		}
		for seq := c.Last; seq > 0 && seq+20 > c.Last; seq-- {
			run, err := u.store.Read(w.ctx, c.Chain, seq-1, 1, 1)
			w.check(err)
			if len(run.Entries) == 1 {
				if got, ok := idOf(run.Entries[0].Encoded); ok && got == id {
					return key{c.Chain, seq}, true
				}
			}
		}
	}
	return key{}, false
}

// send puts up to n events of a chain on the line: those after the last acknowledged one, or, when ahead is set, after
// those that are on the line already.
func (w *town) send(u *unit, chain, n int, ahead bool) {
	w.t.Helper()
	chains, err := u.store.Chains(w.ctx)
	w.check(err)
	if len(chains) == 0 {
		return
	}
	c := chains[chain%len(chains)]
	after := c.Cursor
	if ahead {
		after = max(after, u.ahead[c.Chain])
	}
	run, err := u.store.Read(w.ctx, c.Chain, after, n, 1<<20)
	w.check(err)
	if len(run.Entries) == 0 {
		return
	}
	u.ahead[c.Chain] = run.Last()
	b, err := envelope.Batch{Box: boxNumber, Runs: []envelope.Run{run}}.Append(nil)
	w.check(err)
	b, err = wire.Zip(b)
	w.check(err)
	w.line = append(w.line, packet{u, b, []envelope.Run{run}})
}

// deliver takes a batch off the line to the hub; one that is delivered twice stays there. damage changes what arrives.
func (w *town) deliver(i int, twice bool, damage func([]byte) []byte) {
	w.t.Helper()
	if len(w.line) == 0 {
		return
	}
	w.tick()
	i %= len(w.line)
	p := w.line[i]
	if !twice {
		w.line = slices.Delete(w.line, i, i+1)
	}
	if w.cut == numbersAlone {
		if a, ok := w.byNumber(p.runs[0]); ok {
			w.reply(p.from, wire.Reply{Acks: []wire.Ack{a}})
			return
		}
	}
	b := p.bytes
	if damage != nil {
		b = damage(slices.Clone(b))
	}
	r, err := w.hub.receive(w.ctx, b)
	if damage != nil {
		if err == nil && !same(b, p.bytes) {
			w.t.Fatalf("the hub took a batch that was damaged on the way: %v", r.Acks)
		}
		return
	}
	w.check(err)
	w.judged(&r, p.runs)
	w.reply(p.from, r)
}

// same reports whether two compressed batches are the same batch.
func same(a, b []byte) bool {
	x, err := wire.Unzip(a, envelope.MaxBatch)
	y, err2 := wire.Unzip(b, envelope.MaxBatch)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// judged looks at what the hub answered to runs, and makes the mistake in it.
func (w *town) judged(r *wire.Reply, runs []envelope.Run) {
	w.t.Helper()
	if len(r.Acks) < len(runs) {
		w.t.Fatalf("%d acknowledgements for %d runs", len(r.Acks), len(runs))
	}
	w.honest(*r)
	for i, run := range runs {
		r.Acks[i] = w.shorten(r.Acks[i], run)
	}
}

// honest checks that the hub has what it says (I3).
func (w *town) honest(r wire.Reply) {
	w.t.Helper()
	chains := map[envelope.Chain]bool{}
	for _, a := range r.Acks {
		chains[a.Chain] = true
	}
	s, err := w.hub.stored(w.ctx, chains) // which fails when there is a hole
	w.check(err)
	for _, a := range r.Acks {
		if a.Safe > a.Seq {
			w.t.Fatalf("the hub has %d of %s, and %d in a backup", a.Seq, a.Chain, a.Safe)
		}
		ok := a.Seq == 0
		for _, row := range s.rows {
			ok = ok || row.Hash == a.Head
		}
		if !ok {
			w.t.Fatalf("the hub acknowledges %s up to %d, %s, and has no such event", a.Chain, a.Seq, a.Head)
		}
	}
}

func (w *town) reply(to *unit, r wire.Reply) {
	b, err := json.Marshal(r)
	w.check(err)
	w.replies = append(w.replies, reply{to, b})
}

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

// take lets a box read a reply of the hub.
func (w *town) take(i int, keep bool) {
	w.t.Helper()
	if len(w.replies) == 0 {
		return
	}
	i %= len(w.replies)
	r := w.replies[i]
	if !keep {
		w.replies = slices.Delete(w.replies, i, i+1)
	}
	if w.old = append(w.old, r); len(w.old) > 20 {
		w.old = w.old[1:]
	}
	w.read(r)
}

// again lets a box read a reply that it has read already.
func (w *town) again(i int) {
	w.t.Helper()
	if len(w.old) > 0 {
		w.read(w.old[i%len(w.old)])
	}
}

func (w *town) read(r reply) {
	w.t.Helper()
	w.tick()
	var m wire.Reply
	w.check(json.Unmarshal(r.bytes, &m))
	for _, a := range m.Acks {
		if _, err := outbox.Take(w.ctx, r.to.store, boxNumber, w.keys, a); err != nil && !errors.Is(err, sqlite.ErrNoChain) {
			w.t.Fatalf("%s: take ack of %s up to %d: %v", r.to.name, a.Chain, a.Seq, err)
		}
		r.to.safe[a.Chain] = max(r.to.safe[a.Chain], min(a.Seq, a.Safe))
		delete(r.to.ahead, a.Chain)
	}
	w.check(r.to.look(w.ctx))
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

// kept checks that a box has not forgotten what only it has (I4).
func (w *town) kept() {
	w.t.Helper()
	for _, u := range w.units {
		h, err := u.held(w.ctx)
		w.check(err)
		for id, f := range w.fates {
			if _, ok := h.ids[id]; ok || !f.on[u] {
				continue
			}
			for k := range f.keys { // none when it was let go at once
				if u.chains[k.chain] && k.seq > u.safe[k.chain] && !h.covered[k] {
					w.t.Fatalf("%s has forgotten event %d, %s/%d, and was allowed to up to %d", u.name, id, k.chain, k.seq, u.safe[k.chain])
				}
			}
		}
		found, err := grep(u.dir, canary)
		w.check(err)
		if len(found) > 0 {
			w.t.Fatalf("%s: what should be sealed is in clear in %v", u.name, found) // I7
		}
	}
}

// heal ends all faults and checks that everything arrives (I6) and what has arrived.
func (w *town) heal() {
	w.t.Helper()
	w.line, w.replies = nil, nil
	for _, u := range w.units {
		if u.limit > 0 {
			w.limit(u, 0)
		}
		clear(u.ahead)
	}
	for _, u := range w.units {
		w.drain(u)
	}
	// What the last one delivered may have told the hub of a fork that the first one must hear of.
	for _, u := range w.units {
		w.drain(u)
	}
	w.arrived()
}

// drain lets a box's real relay deliver all that it has over a line without faults (I6).
func (w *town) drain(u *unit) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	idle, err := u.store.Idle(ctx)
	w.check(err)
	line := &goodLine{w: w, Store: u.store}
	relay := outbox.New(line, line, outbox.Options{
		Box: func() uint32 { return boxNumber }, Keys: func() []ed25519.PublicKey { return w.keys },
		MinPause: time.Millisecond, MaxPause: 20 * time.Millisecond, Gather: time.Millisecond,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = relay.Run(ctx)
	}()
	defer func() { <-done }()
	defer cancel()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		sent := line.sent.Load()
		heard := line.heard.Load()
		chains, err := u.store.Chains(w.ctx)
		w.check(err)
		// Where there is nothing to deliver, the relay asks whether the hub still has it all.
		if len(chains) == 0 && sent == heard && (sent > 0 || len(idle) == 0) {
			w.check(u.look(w.ctx))
			return
		}
		for _, c := range chains {
			u.chains[c.Chain] = true
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: the line has healed, and after ten seconds the queue is not empty: %+v", u.name, chains)
		}
	}
}

// goodLine is a line without faults, and the queue at its end.
type goodLine struct {
	*sqlite.Store
	w           *town
	sent, heard atomic.Int64 // runs, and what the hub said to them
}

// Acked is of outbox.Queue.
func (l *goodLine) Acked(ctx context.Context, c envelope.Chain, seq, safe uint64) error {
	defer l.heard.Add(1)
	return l.Store.Acked(ctx, c, seq, safe)
}

// Rewind is of outbox.Queue.
func (l *goodLine) Rewind(ctx context.Context, c envelope.Chain) error {
	defer l.heard.Add(1)
	return l.Store.Rewind(ctx, c)
}

// Deliver hands a batch to the hub (outbox.Hub).
func (l *goodLine) Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error) {
	w := l.w
	l.sent.Add(int64(len(b.Runs)))
	w.tick()
	if w.cut == numbersAlone {
		var r wire.Reply
		for _, run := range b.Runs {
			a, ok := w.byNumber(run)
			if !ok {
				one, err := w.hub.in.Deliver(ctx, boxNumber, envelope.Batch{Box: boxNumber, Runs: []envelope.Run{run}})
				if err != nil {
					return r, err
				}
				a = one.Acks[0]
			}
			r.Acks = append(r.Acks, a)
		}
		return r, nil
	}
	r, err := w.hub.in.Deliver(ctx, boxNumber, b)
	if err != nil {
		return r, err
	}
	for i, run := range b.Runs {
		r.Acks[i] = w.shorten(r.Acks[i], run)
	}
	return r, nil
}

// arrived checks what the hub has in the end (I1, I2, I5).
func (w *town) arrived() {
	w.t.Helper()
	chains := map[envelope.Chain]bool{}
	for _, u := range w.units {
		for c := range u.chains {
			chains[c] = true
		}
	}
	s, err := w.hub.stored(w.ctx, chains)
	w.check(err)
	for id, f := range w.fates {
		named := false
		for k := range f.keys {
			named = named || s.named[k]
		}
		switch n := s.count[id]; {
		case n > 1:
			w.t.Fatalf("event %d is at the hub %d times", id, n)
		case n == 0 && !f.lost && !named:
			w.t.Fatalf("event %d (%s %v): the kiosk was told that it is stored, no disk lost it, and the hub neither has it nor knows that it is missing", id, f.stream, f.keys)
		}
	}
	if s.legal > 0 {
		w.t.Fatalf("%d stretches of legal events were let go", s.legal)
	}
	if s.forks > 0 && s.alarms["fork"] == 0 {
		w.t.Fatalf("%d numbers stand for two events, and nobody was told", s.forks)
	}
	if w.lostTails() > 0 && s.alarms["gap"]+s.alarms["epoch"]+s.alarms["fork"] == 0 {
		w.t.Fatalf("a disk lost events, and nobody was told: alarms %v", s.alarms)
	}
	w.opened(s)
	w.recount(s)
}

// recount checks that what the municipality is shown is what is stored (I8).
func (w *town) recount(s stored) {
	w.t.Helper()
	want, got := 0, 0
	for _, r := range s.rows {
		if e, err := envelope.Parse(r.Encoded); r.Missing == nil && err == nil && e.Kind == string(event.SessionStarted) {
			want++
		}
	}
	counts, err := w.hub.store.Counts(w.ctx, time.Time{})
	w.check(err)
	for _, c := range counts {
		got += c.Sessions
	}
	if got != want {
		w.t.Fatalf("the hub shows %d sessions and has %d", got, want)
	}
}

// lostTails returns how many events boxes must know to be lost.
func (w *town) lostTails() (n int) {
	for _, u := range w.units {
		n += u.tails
	}
	return n
}

// opened checks that what was sealed can be read at the hub.
func (w *town) opened(s stored) {
	w.t.Helper()
	for _, r := range s.rows {
		e, err := envelope.Parse(r.Encoded)
		if r.Missing != nil || err != nil || e.Kind != string(event.RequestLeft) {
			continue
		}
		if plain, err := (seal.Ring{w.seal}).Open(e.AAD(), e.Sealed); err != nil || !json.Valid(plain) {
			w.t.Fatalf("a sealed event does not open at the hub: %v", err)
		}
	}
}
