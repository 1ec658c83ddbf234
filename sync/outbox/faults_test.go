package outbox_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox/outboxtest"
	"sportello.example/sync/wire"
)

func TestHubRestored(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		for i := range 100 {
			g.Add(envelope.Legal, fmt.Sprint(i))
		}
		g.relay.Kick()
		synctest.Wait()
		backup := g.hub.Backup()
		for i := range 100 {
			g.Add(envelope.Legal, fmt.Sprint("later", i))
		}
		g.relay.Kick()
		synctest.Wait()
		c := chainOf(g.Epoch(), envelope.Legal)
		if n := g.Kept(c); n != 100 {
			t.Errorf("%d rows are kept, want the 100 that are in no backup", n)
		}
		g.hub.Restore(backup)
		g.Add(envelope.Legal, "last")
		g.relay.Kick()
		synctest.Wait()
		g.drained(t, 201)
		if got := g.Renewed(); len(got) != 0 {
			t.Errorf("new epochs: %v", got)
		}
	})
	t.Run("to before what the box has kept", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			empty := g.hub.Backup()
			for i := range 50 {
				g.Add(envelope.Legal, fmt.Sprint(i))
			}
			g.relay.Kick()
			synctest.Wait()
			g.Forget(chainOf(g.Epoch(), envelope.Legal), 20)
			g.hub.Restore(empty)
			g.Add(envelope.Legal, "last")
			g.relay.Kick()
			synctest.Wait()
			g.drained(t, 31)
			if n := g.hub.Absent(); n != 1 {
				t.Errorf("the hub knows of %d stretches that never come, want 1", n)
			}
		})
	})
}

func TestRolledBack(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		for i := range 5000 {
			g.Add(envelope.Legal, fmt.Sprint(i))
		}
		old := g.Copy() // none of them acknowledged
		for i := range 50 {
			g.Add(envelope.Legal, fmt.Sprint("lost", i))
		}
		epoch := g.Epoch()
		g.relay.Kick()
		synctest.Wait()
		g.Put(old) // the disk is an hour old; the hub has more of this epoch than the box knows
		g.relay.LineUp()
		synctest.Wait()
		if got := g.Renewed(); len(got) != 1 || got[0] != "rolled_back" || g.Epoch() == epoch {
			t.Errorf("new epochs: %v", got)
		}
		g.Add(envelope.Legal, "after")
		g.relay.Kick()
		synctest.Wait()
		g.drained(t, 5051)
	})
	t.Run("and gone on", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			old := g.Copy()
			for i := range 500 {
				g.Add(envelope.Legal, fmt.Sprint(i))
				g.Add(envelope.Stats, fmt.Sprint("s", i))
			}
			epoch := g.Epoch()
			g.relay.Kick()
			synctest.Wait()
			g.Put(old)
			for i := range 400 {
				g.Add(envelope.Legal, fmt.Sprint("other", i))
			}
			g.relay.Kick()
			synctest.Wait()
			if got := g.Renewed(); len(got) != 1 || got[0] != "forked" {
				t.Errorf("new epochs: %v", got)
			}
			g.drained(t, 1400)
			if n := g.hub.Branches(chainOf(epoch, envelope.Legal)); n != 2 {
				t.Errorf("%d histories at the hub, want 2", n)
			}
		})
	})
}

// TestRolledBackAndReplayed has an old word of the hub come again after a rollback: it is about events that the box has
// lost, and others have their numbers now.
func TestRolledBackAndReplayed(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		for i := range 50 {
			g.Add(envelope.Legal, fmt.Sprint(i))
		}
		old := g.Copy()
		for i := range 50 {
			g.Add(envelope.Legal, fmt.Sprint("lost", i))
		}
		var replay wire.Reply
		g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			replay = next(b)
			g.hub.Backup() // all of it safe
			replay = g.hub.Take(b)
			return replay, nil
		})
		g.relay.Kick()
		synctest.Wait()
		epoch := g.Epoch()
		g.Put(old)
		for i := range 40 {
			g.Add(envelope.Legal, fmt.Sprint("other", i))
		}
		g.line.set(func(envelope.Batch, func(envelope.Batch) wire.Reply) (wire.Reply, error) { return replay, nil })
		g.relay.LineUp()
		time.Sleep(time.Hour)
		if n := g.Kept(chainOf(epoch, envelope.Legal)); n != 90 {
			t.Errorf("%d rows are left, want all 90", n)
		}
		g.line.set(nil)
		time.Sleep(10 * time.Minute)
		g.drained(t, 140)
	})
}

func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Two boxes with the same disk and the same identity.
		h := outboxtest.NewHub(time.Now)
		a := outboxtest.NewQueue(7)
		for i := range 30 {
			a.Add(envelope.Legal, fmt.Sprint(i))
		}
		b := a.Copy()
		stop := startRelays(t, h, a, b)
		for i := range 300 {
			a.Add(envelope.Legal, fmt.Sprint("a", i))
			b.Add(envelope.Legal, fmt.Sprint("b", i))
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Minute)
		stop()
		if a.Queued()+b.Queued() != 0 || a.Epoch() == b.Epoch() {
			t.Errorf("%d and %d events wait, epochs %s and %s", a.Queued(), b.Queued(), a.Epoch(), b.Epoch())
		}
		got := h.Bodies()
		if len(got) != 630 {
			t.Errorf("%d events at the hub, want 630", len(got))
		}
		for body, n := range got {
			if n != 1 {
				t.Errorf("event %s is stored %d times", body, n)
			}
		}
	})
}

// TestReplies has the hub say what it must not, and then be right again.
func TestReplies(t *testing.T) {
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(key ed25519.PrivateKey, r *wire.Reply)
	}{
		{"nothing", func(_ ed25519.PrivateKey, r *wire.Reply) { *r = wire.Reply{} }},
		{"without signature", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Sig = nil }},
		{"signed by somebody else", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0] = r.Acks[0].Sign(foreign) }},
		{"with a number that was not signed", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Seq++ }},
		{"with a safe that was not signed", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Safe = r.Acks[0].Seq }},
		{"with another hash than was signed", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Head[3] ^= 1 }},
		{"for another box", func(k ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Box = 8; r.Acks[0] = r.Acks[0].Sign(k) }},
		{"of another stream", func(_ ed25519.PrivateKey, r *wire.Reply) { r.Acks[0].Chain.Stream = envelope.Diag }},
		{"a refusal that nobody signed", func(_ ed25519.PrivateKey, r *wire.Reply) {
			r.Refused = []wire.Refusal{{Box: 7, Chain: r.Acks[0].Chain, Seq: 3, Reason: "too_long"}}
			r.Acks = nil
		}},
		{"a refusal signed by somebody else", func(_ ed25519.PrivateKey, r *wire.Reply) {
			r.Refused = []wire.Refusal{wire.Refusal{Box: 7, Chain: r.Acks[0].Chain, Seq: 3, Reason: "too_long"}.Sign(foreign)}
			r.Acks = nil
		}},
		{"no more than before, signed", func(k ed25519.PrivateKey, r *wire.Reply) {
			r.Acks[0].Seq, r.Acks[0].Safe, r.Acks[0].Head = 0, 0, envelope.Genesis(r.Acks[0].Chain)
			r.Acks[0] = r.Acks[0].Sign(k)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relaying(t, func(t *testing.T, g *rig) {
				for i := range 30 {
					g.Add(envelope.Legal, fmt.Sprint(i))
				}
				g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
					r := next(b)
					r.Acks = r.Acks[:1] // without those that are there besides
					tt.change(g.hub.Key(), &r)
					return r, nil
				})
				g.relay.Kick()
				time.Sleep(time.Hour)
				c := chainOf(g.Epoch(), envelope.Legal)
				if n := g.Queued(); n != 30 || g.Kept(c) != 30 || len(g.Dead(c)) != 0 || len(g.Renewed()) != 0 {
					t.Errorf("%d events wait, %d are kept, %d dead, new epochs: %v", n, g.Kept(c), len(g.Dead(c)), g.Renewed())
				}
				if n := g.line.tally(); n < 12 || n > 150 {
					t.Errorf("%d attempts in an hour", n)
				}
				g.line.set(nil)
				time.Sleep(5*time.Minute + time.Second)
				g.drained(t, 30)
			})
		})
	}
}

func TestReplayedReplies(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		var old []wire.Reply
		rnd := rand.New(rand.NewPCG(1, 2))
		g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			old = append(old, next(b))
			if rnd.IntN(2) == 0 {
				return old[rnd.IntN(len(old))], nil // one of before, in any order
			}
			return old[len(old)-1], nil
		})
		for i := range 2000 {
			g.Add(envelope.Streams()[i%5], fmt.Sprint(i))
			g.relay.Kick()
			if i%50 == 0 {
				g.hub.Backup()
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Hour)
		if len(g.Renewed()) != 0 {
			t.Errorf("new epochs: %v", g.Renewed())
		}
		g.line.set(nil)
		for _, s := range envelope.Streams() {
			g.Add(s, fmt.Sprint("last", s))
		}
		time.Sleep(time.Hour)
		g.drained(t, 2005)
	})
}

func TestHubThatSaysForkedForEver(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			r := next(b)
			for i := range r.Acks {
				r.Acks[i].Head[0] ^= 1
				r.Acks[i] = r.Acks[i].Sign(g.hub.Key())
			}
			return r, nil
		})
		for i := range 100 {
			g.Add(envelope.Legal, fmt.Sprint(i))
		}
		g.relay.Kick()
		time.Sleep(time.Hour)
		if n := g.line.tally(); n > 2*13 || len(g.Renewed()) != 1 {
			t.Errorf("%d attempts in an hour, new epochs: %v", n, g.Renewed())
		}
		g.line.set(nil)
		time.Sleep(6 * time.Minute)
		g.drained(t, 100)
	})
}

func TestTwoHubsThatDoNotAgree(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		other := outboxtest.NewHub(time.Now)
		n := 0
		g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
			if n++; n%2 == 0 {
				r := other.Take(b)
				for i := range r.Acks {
					r.Acks[i] = r.Acks[i].Sign(g.hub.Key())
				}
				return r, nil
			}
			return next(b), nil
		})
		for i := range 1000 {
			g.Add(envelope.Legal, fmt.Sprint(i))
		}
		g.relay.Kick()
		time.Sleep(time.Hour)
		if n := g.line.tally(); n > 200 {
			t.Errorf("%d attempts in an hour", n)
		}
		g.line.set(nil)
		time.Sleep(10 * time.Minute)
		g.drained(t, 1000)
	})
}

func TestPoison(t *testing.T) {
	poison := func(b envelope.Batch) bool {
		for _, run := range b.Runs {
			for _, e := range run.Entries {
				if strings.Contains(string(e.Encoded), "poison") {
					return true
				}
			}
		}
		return false
	}
	fill := func(g *rig) {
		for i := range 300 {
			for _, s := range envelope.Streams() {
				body := fmt.Sprint(s, i)
				if s == envelope.Legal && i == 100 {
					body = "poison"
				}
				g.Add(s, body)
			}
		}
	}
	t.Run("holds up its own chain only, and is not buried by an error", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			fill(g)
			g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				if poison(b) {
					return wire.Reply{}, fmt.Errorf("%w: 400", envelope.ErrMalformed)
				}
				return next(b), nil
			})
			g.relay.LineUp()
			time.Sleep(time.Hour)
			if n := g.Queued(); n != 200 || len(g.Dead(chainOf(g.Epoch(), envelope.Legal))) != 0 {
				t.Errorf("%d events wait, want the 200 from the poison on", n)
			}
			if !strings.Contains(g.log.String(), "taken by nobody") {
				t.Error("nobody is told")
			}
			g.line.set(nil) // a hub that can
			time.Sleep(6 * time.Minute)
			g.drained(t, 1500)
		})
	})
	t.Run("that the hub breaks on does not stop the others", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			fill(g)
			g.line.set(func(b envelope.Batch, next func(envelope.Batch) wire.Reply) (wire.Reply, error) {
				if poison(b) {
					return wire.Reply{}, errors.New("hub answers with status 500")
				}
				return next(b), nil
			})
			g.relay.LineUp()
			time.Sleep(24 * time.Hour)
			if n := g.Queued(); n != 200 {
				t.Errorf("%d events wait, want the 200 from the poison on", n)
			}
		})
	})
	t.Run("is buried on the hub's signed word", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			g.hub.Refuse = func(e envelope.Envelope) string {
				if string(e.Body) == "poison" {
					return "too_long"
				}
				return ""
			}
			fill(g)
			g.relay.LineUp()
			synctest.Wait()
			g.drained(t, 1499)
			if got := g.Dead(chainOf(g.Epoch(), envelope.Legal)); len(got) != 1 || got[101] != "too_long" {
				t.Errorf("dead: %v", got)
			}
		})
	})
	t.Run("many are buried one after the other", func(t *testing.T) {
		relaying(t, func(t *testing.T, g *rig) {
			g.hub.Refuse = func(e envelope.Envelope) string {
				if e.Seq%7 < 3 {
					return "Too long: Mario Rossi" // not a word of the vocabulary
				}
				return ""
			}
			for i := range 70 {
				g.Add(envelope.Session, fmt.Sprint(i))
			}
			g.relay.LineUp()
			time.Sleep(time.Hour)
			g.drained(t, 40)
			for seq, reason := range g.Dead(chainOf(g.Epoch(), envelope.Session)) {
				if seq%7 >= 3 || reason != "refused" {
					t.Errorf("dead: %d, %s", seq, reason)
				}
			}
		})
	})
}

func TestDamagedAndDropped(t *testing.T) {
	relaying(t, func(t *testing.T, g *rig) {
		for i := range 10 {
			g.Add(envelope.Stats, fmt.Sprint(i))
		}
		g.Drop(envelope.Stats, 1_000_000)
		for i := range 10 {
			g.Add(envelope.Stats, fmt.Sprint("after", i))
		}
		g.Damage(chainOf(g.Epoch(), envelope.Stats), 4)
		g.relay.LineUp()
		synctest.Wait()
		g.drained(t, 19)
	})
}
