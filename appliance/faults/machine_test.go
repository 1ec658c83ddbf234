package faults_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"sportello.example/sync/envelope"
	"sportello.example/sync/wire"
)

// TestMachine lets everything happen that can, in any order, on the real box, the real relay's judgement and the real
// hub, and then heals the town. What must hold is checked after every step and at the end. A failure is shrunk to the
// shortest schedule; rapid prints how to run it again.
func TestMachine(t *testing.T) {
	if raced {
		setFlag(t, "rapid.checks", "8") // races show in any schedule; the others are for the run without the detector
	}
	root := fastDir(t)
	rapid.Check(t, func(rt *rapid.T) { schedule(t, rt, root, none) })
}

// setFlag sets one of rapid's flags for a test.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	f := flag.Lookup(name)
	before := f.Value.String()
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

// schedule runs one schedule.
func schedule(t *testing.T, rt *rapid.T, root string, cut shortcut) {
	dir := filepath.Join(root, rand.Text())
	if err := os.Mkdir(dir, 0o700); err != nil {
		rt.Fatal(err)
	}
	w := newTown(t.Context(), rt, dir, cut)
	defer func() {
		w.close()
		_ = os.RemoveAll(dir)
	}()
	index := func(name string) int { return rapid.IntRange(0, 5).Draw(rt, name) }
	some := func() *unit { return w.units[index("box")%len(w.units)] }
	streams := []envelope.Stream{envelope.Legal, envelope.Session, envelope.Stats, envelope.Diag}
	put := func(*rapid.T) { w.put(some(), rapid.SampledFrom(streams).Draw(rt, "stream")) }
	send := func(*rapid.T) {
		w.send(some(), index("chain"), rapid.IntRange(1, 3).Draw(rt, "events"), rapid.Bool().Draw(rt, "ahead"))
	}
	deliver := func(*rapid.T) { w.deliver(index("packet"), rapid.Bool().Draw(rt, "twice"), nil) }
	take := func(*rapid.T) { w.take(index("reply"), rapid.Bool().Draw(rt, "keep")) }
	actions := map[string]func(*rapid.T){
		"put": put, "put ": put, "put  ": put, "send": send, "send ": send, "deliver": deliver, "deliver ": deliver, "take": take, "take ": take,
		"drop": func(*rapid.T) {
			if len(w.line) > 0 {
				w.line = w.line[1:]
			}
		},
		"damage": func(*rapid.T) {
			at, cut := rapid.Float64Range(0, 1).Draw(rt, "at"), rapid.Bool().Draw(rt, "cut")
			w.deliver(index("packet"), true, func(b []byte) []byte {
				i := min(int(at*float64(len(b))), len(b)-1)
				if cut {
					return b[:i]
				}
				b[i] ^= 0x10
				return b
			})
		},
		"again":   func(*rapid.T) { w.again(index("reply")) },
		"forge":   func(*rapid.T) { w.forge(index("reply"), forgery(rapid.IntRange(0, 2).Draw(rt, "how"))) },
		"crash":   func(*rapid.T) { w.crash(some(), nil) },
		"tail":    func(*rapid.T) { w.tail(some(), rapid.Float64Range(0, 1).Draw(rt, "left")) },
		"copy":    func(*rapid.T) { w.copy(some()) },
		"back":    func(*rapid.T) { w.rollBack(index("disk")) },
		"clone":   func(*rapid.T) { w.clone(index("disk")) },
		"full":    func(*rapid.T) { w.limit(some(), rapid.SampledFrom([]int{0, 48, 64}).Draw(rt, "pages")) },
		"clock":   func(*rapid.T) { w.clock(rapid.IntRange(-10, 10).Draw(rt, "day")) },
		"backup":  func(*rapid.T) { w.backUp() },
		"restore": func(*rapid.T) { w.restore() },
		"hub":     func(*rapid.T) { w.crashHub() },
		"":        func(*rapid.T) { w.kept() },
	}
	if cut != none { // it should not take long to find what is planted
		streams = streams[:1]
		for _, name := range []string{"damage", "again", "forge", "crash", "tail", "clone", "full", "clock", "hub", "put  "} {
			delete(actions, name)
		}
	}
	rt.Repeat(actions)
	w.heal()
}

// forgery is what somebody without the hub's key may try.
func forgery(how int) func(*wire.Ack) {
	return func(a *wire.Ack) {
		a.Seq++
		switch how {
		case 0: // only changes the number
		case 1:
			_, key, _ := ed25519.GenerateKey(rand.Reader)
			*a = a.Sign(key)
		case 2:
			a.Sig, a.Safe = nil, a.Seq
		}
	}
}
