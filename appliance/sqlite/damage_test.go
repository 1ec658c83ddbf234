package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// TestEveryBit flips every bit of some rows, of their hashes too. The chain must be read as it was, or without the event
// that was changed; nothing else may come out.
func TestEveryBit(t *testing.T) {
	c := envelope.Chain{Epoch: envelope.NewEpoch(), Stream: envelope.Legal}
	st := newChain(1, c)
	st.base = mark{0, envelope.Genesis(c)}
	st.last = st.base
	var sound []row
	for i := range 4 {
		enc, err := envelope.Envelope{Chain: c, Seq: uint64(i + 1), Kind: string(event.PrintDone), Body: []byte(`{"kiosk":1}`)}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		st.last = mark{uint64(i + 1), st.last.hash.Next(enc)}
		sound = append(sound, row{st.last.seq, enc, st.last.hash})
	}
	for hit, r := range sound {
		for bit := range (len(r.enc) + envelope.HashSize) * 8 {
			rows := make([]row, len(sound))
			copy(rows, sound)
			inHash := bit >= len(r.enc)*8
			if inHash {
				rows[hit].hash[bit/8-len(r.enc)] ^= 1 << (bit % 8)
			} else {
				rows[hit].enc = bytes.Clone(r.enc)
				rows[hit].enc[bit/8] ^= 1 << (bit % 8)
			}
			out, at := pieces(st, st.base, rows, true, 100)
			if len(out) != len(sound) || at != st.last {
				t.Fatalf("row %d, bit %d: %d entries that end at %d", hit, bit, len(out), at.seq)
			}
			for i, p := range out {
				switch {
				case i == hit && !inHash:
					if p.enc != nil || !p.found || p.reason != envelope.Damaged || p.hash != r.hash {
						t.Fatalf("row %d, bit %d: got %+v for the row that has changed", hit, bit, p)
					}
				case !bytes.Equal(p.enc, sound[i].enc) || p.hash != sound[i].hash || p.repair != (i == hit):
					t.Fatalf("row %d, bit %d: got %+v for sound row %d", hit, bit, p, i+1)
				}
			}
		}
	}
}

// tamper changes the file of a store that is closed.
func tamper(t *testing.T, path, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), query, args...)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestChangedRows(t *testing.T) {
	t.Parallel()
	const flip = `UPDATE queue_session SET %[1]s = unhex(replace(hex(%[1]s), substr(hex(%[1]s), 61, 4), 'FFFF')) WHERE id & 0xffffff = %[2]d`
	for _, tt := range []struct {
		name    string
		changes []string
		missing string // which numbers
	}{
		{"an event", []string{fmt.Sprintf(flip, "envelope", 3)}, "3-3"},
		{"the last event", []string{fmt.Sprintf(flip, "envelope", 10)}, "10-10"},
		{"a hash", []string{fmt.Sprintf(flip, "hash", 3)}, ""},
		{"the last hash", []string{fmt.Sprintf(flip, "hash", 10)}, ""},
		{"both of a row", []string{fmt.Sprintf(flip, "envelope", 3), fmt.Sprintf(flip, "hash", 3)}, "3-3 4-4"},
		{"two events", []string{fmt.Sprintf(flip, "envelope", 3), fmt.Sprintf(flip, "envelope", 5)}, "3-3 5-5"},
		{"rows are gone", []string{`DELETE FROM queue_session WHERE id & 0xffffff IN (4, 5)`}, "4-6"},
		{"rows are gone from the end", []string{`DELETE FROM queue_session WHERE id & 0xffffff > 8`}, "9-10"},
		{"the first row is gone", []string{`DELETE FROM queue_session WHERE id & 0xffffff = 1`}, "1-2"},
		{"rows are swapped", []string{
			`UPDATE queue_session SET id = id + 100 WHERE id & 0xffffff = 4`, `UPDATE queue_session SET id = id - 1 WHERE id & 0xffffff = 5`,
			`UPDATE queue_session SET id = id - 99 WHERE id & 0xffffff = 104`,
		}, "4-4 5-5 6-6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "box.db")
			s := openAt(t, path)
			put(t, s, event.SessionStarted, 10)
			c := present(s, envelope.Session)
			sound := all(t, s, c, 100)
			shut(t, s)
			for _, q := range tt.changes {
				tamper(t, path, q)
			}
			s = openAt(t, path)
			var missing []string
			for range 2 { // found, and then known
				missing = nil
				for _, e := range all(t, s, c, 4) {
					switch {
					case e.missing != nil:
						missing = append(missing, fmt.Sprintf("%d-%d", e.Seq, e.Seq+e.missing.Count-1))
					case !bytes.Equal(e.Body, sound[e.Seq-1].Body):
						t.Errorf("%d: got %s", e.Seq, e.Body)
					}
				}
			}
			if got := strings.Join(missing, " "); got != tt.missing {
				t.Errorf("missing %s, want %s", got, tt.missing)
			}
			reported := ofKind(all(t, s, present(s, envelope.Legal), 100), event.EventDead)
			if len(reported) != len(missing) && tt.name != "rows are gone from the end" {
				t.Errorf("%d reports of %v", len(reported), missing)
			}
			for _, e := range reported {
				if e.body.Detail.Reason != "damaged" || e.body.Detail.Epoch != c.Epoch || e.body.Detail.Stream != "session" {
					t.Errorf("got %+v", e.body.Detail)
				}
			}
			if r, err := s.Report(t.Context()); err != nil || (r.Gaps > 0) != (tt.missing != "") {
				t.Errorf("%d gaps, %v", r.Gaps, err)
			}
		})
	}
}

// crashCopy copies the files of a store that runs to where they can be opened again: as a power cut leaves them.
func crashCopy(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", ".witness"} {
		b, err := os.ReadFile(from + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			b, err = nil, os.Remove(to+suffix)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if err == nil && b != nil {
			err = os.WriteFile(to+suffix, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// lostBy says what an epoch's first events report as lost, and checks that they say so in the expected words.
func lostBy(t *testing.T, s *Store, old envelope.Epoch, reason string) map[envelope.Stream][2]uint64 {
	t.Helper()
	lost := map[envelope.Stream][2]uint64{}
	es := all(t, s, present(s, envelope.Legal), 100)
	if len(es) == 0 || es[0].Kind != string(event.EpochBegun) || es[0].body.Detail.Reason != reason || es[0].body.Detail.Epoch != old {
		t.Fatalf("the new epoch begins with %+v, want the reason %q and epoch %s", es, reason, old)
	}
	for _, e := range ofKind(es, event.Gap) {
		d := e.body.Detail
		var stream envelope.Stream
		if err := stream.UnmarshalText([]byte(d.Stream)); err != nil || d.Epoch != old || d.Reason != reason || d.Count != int(d.To-d.From+1) {
			t.Errorf("got %+v, %v", d, err)
		}
		lost[stream] = [2]uint64{d.From, d.To}
	}
	return lost
}

// TestFlipInTheLog flips one bit in the write-ahead log: SQLite drops everything after it without a word.
func TestFlipInTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, hit := filepath.Join(dir, "box.db"), filepath.Join(dir, "copy.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 50)
	put(t, s, event.StepAnswered, 50)
	old, total := s.Epoch(), 0
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 20; i++ {
		crashCopy(t, path, hit)
		flipped := bytes.Clone(log)
		flipped[len(log)*i/20] ^= 4
		if err := os.WriteFile(hit+"-wal", flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		c, aside, err := Open(t.Context(), Config{Path: hit})
		if err != nil || aside != "" {
			t.Fatalf("%d/20: %q, %v", i, aside, err)
		}
		if c.Epoch() == old {
			if es := everything(t, c); len(es) != 100 {
				t.Errorf("%d/20: %d events are left, and nobody says so", i, len(es))
			}
			shut(t, c)
			continue
		}
		total++
		old1 := envelope.Chain{Epoch: old, Stream: envelope.Legal}
		reason := lostTail
		if chains, _ := c.Chains(t.Context()); len(chains) == 1 {
			reason = missingFile // even the epoch was in the log only
		}
		lost := lostBy(t, c, old, reason)
		for _, stream := range []envelope.Stream{envelope.Legal, envelope.Stats} {
			left, gone := uint64(0), lost[stream]
			if old1.Stream = stream; reason == lostTail {
				for _, e := range all(t, c, old1, 100) {
					if e.missing == nil {
						left++
						continue
					}
					if e.Seq != gone[0] || e.missing.Count != gone[1]-gone[0]+1 {
						t.Errorf("%d/20: the old chain misses %d from %d, the event says %v", i, e.missing.Count, e.Seq, gone)
					}
				}
			}
			if gone[0] == 0 && left != 50 || gone[0] != 0 && (gone[0] != left+1 || gone[1] != 50) {
				t.Errorf("%d/20: %d events of %s are left, %v are said to be lost", i, left, stream, gone)
			}
		}
		epoch := c.Epoch()
		shut(t, c)
		c = openAt(t, hit)
		if c.Epoch() != epoch {
			t.Errorf("%d/20: the loss is reported again at the next start", i)
		}
		shut(t, c)
	}
	if total < 10 {
		t.Errorf("a flip was noticed %d times in 19", total)
	}
}

func TestLostDatabase(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		do     func(t *testing.T, path string)
		reason string
		lost   [2]uint64 // of stream legal
		left   int       // events of the old epoch
		aside  bool
	}{
		{"deleted", func(t *testing.T, path string) { remove(t, path) }, missingFile, [2]uint64{4, 20}, 0, false},
		{"emptied", func(t *testing.T, path string) { write(t, path, nil) }, missingFile, [2]uint64{4, 20}, 0, false},
		{"garbage", func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("not a database ", 1000))) }, setAsideFile, [2]uint64{4, 20}, 0, true},
		{"cut in half", func(t *testing.T, path string) {
			b := contents(t, path)
			write(t, path, b[:len(b)/2+100])
		}, setAsideFile, [2]uint64{4, 20}, 0, true},
		{"rolled back", func(t *testing.T, path string) { write(t, path, contents(t, path+".before")) }, lostTail, [2]uint64{11, 20}, 7, false},
		{"of another box", func(t *testing.T, path string) {
			s := openAt(t, path+".other")
			put(t, s, event.PrintDone, 30)
			shut(t, s)
			write(t, path, contents(t, path+".other"))
		}, otherFile, [2]uint64{4, 20}, 0, false},
		{"without its witness", func(t *testing.T, path string) { remove(t, path+".witness") }, noWitness, [2]uint64{}, 17, false},
		{"with a witness that cannot be read", func(t *testing.T, path string) { write(t, path+".witness", make([]byte, witnessSize)) }, noWitness, [2]uint64{}, 17, false},
		{"with other events under its numbers", func(t *testing.T, path string) {
			write(t, path+".fork", contents(t, path+".before"))
			write(t, path+".fork.witness", contents(t, path+".before.witness"))
			s := openAt(t, path+".fork")
			put(t, s, event.PrintFailed, 15)
			shut(t, s)
			write(t, path, contents(t, path+".fork"))
		}, otherHistory, [2]uint64{}, 22, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "box.db")
			s := openAt(t, path)
			put(t, s, event.PrintDone, 10)
			if err := s.Acked(t.Context(), present(s, envelope.Legal), 3, 3); err != nil {
				t.Fatal(err)
			}
			shut(t, s)
			write(t, path+".before", contents(t, path))
			write(t, path+".before.witness", contents(t, path+".witness"))
			s = openAt(t, path)
			put(t, s, event.PrintDone, 10)
			old := s.Epoch()
			boot := s.Boot()
			shut(t, s)

			tt.do(t, path)
			s, aside, err := Open(t.Context(), Config{Path: path})
			if err != nil || (aside != "") != tt.aside {
				t.Fatalf("set aside %q, %v", aside, err)
			}
			defer func() { shut(t, s) }()
			if s.Epoch() == old || s.Boot() <= boot {
				t.Errorf("epoch %s, boot %d; were %s, %d", s.Epoch(), s.Boot(), old, boot)
			}
			if lost := lostBy(t, s, old, tt.reason); lost[envelope.Legal] != tt.lost {
				t.Errorf("lost %v, want %v", lost, tt.lost)
			}
			if tt.aside && len(ofKind(all(t, s, present(s, envelope.Legal), 100), event.DatabaseSetAside)) != 1 {
				t.Error("nobody is told that a file was set aside")
			}
			left := 0
			for _, e := range everything(t, s) {
				if e.Chain.Epoch == old && e.missing == nil {
					left++
				}
			}
			if left != tt.left {
				t.Errorf("%d events left of the old epoch, want %d", left, tt.left)
			}
			if err := s.Enqueue(t.Context(), event.Event{Kind: event.PrintDone}); err != nil { // service goes on
				t.Error(err)
			}
			epoch := s.Epoch()
			shut(t, s)
			if s = openAt(t, path); s.Epoch() != epoch {
				t.Error("the next start begins an epoch again")
			}
		})
	}
}

// TestRolledBackWithItsWitness puts database and witness back together: the box cannot know. The hub does, and says so.
func TestRolledBackWithItsWitness(t *testing.T) {
	dir := t.TempDir()
	path, older := filepath.Join(dir, "box.db"), filepath.Join(dir, "older.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 10)
	crashCopy(t, path, older)
	put(t, s, event.PrintDone, 10)
	c := present(s, envelope.Legal)
	at15, _, err := s.HashAt(t.Context(), c, 15)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = openAt(t, older)
	if s.Epoch() != c.Epoch || len(everything(t, s)) != 10 {
		t.Fatalf("epoch %s, %d events", s.Epoch(), len(everything(t, s)))
	}
	if _, known, err := s.HashAt(t.Context(), c, 15); known || err != nil { // the hub says 15, and the box has never given that out
		t.Errorf("known %v, %v", known, err)
	}
	put(t, s, event.PrintFailed, 5)
	if h, known, err := s.HashAt(t.Context(), c, 15); !known || err != nil || h == at15 { // or has given it to another event
		t.Errorf("known %v, same %v, %v", known, h == at15, err)
	}
	if err := s.Renew(t.Context(), c, "forked"); err != nil {
		t.Fatal(err)
	}
	if lost := lostBy(t, s, c.Epoch, "forked"); len(lost) != 0 || len(all(t, s, c, 100)) != 15 {
		t.Errorf("lost %v, %d events left of the old epoch", lost, len(all(t, s, c, 100)))
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
