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

func (w *town) reply(to *unit, r wire.Reply) {
	b, err := json.Marshal(r)
	w.check(err)
	w.replies = append(w.replies, reply{to, b})
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
