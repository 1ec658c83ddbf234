package sqlite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/envelope"
)

func someTestimony() testimony {
	t := testimony{epoch: envelope.NewEpoch(), boot: 7, clean: true}
	for i := range t.heads {
		t.heads[i] = mark{uint64(100 * (i + 1)), envelope.Genesis(envelope.Chain{Epoch: t.epoch, Stream: envelope.Stream(i)})}
		t.acked[i] = uint64(i)
	}
	return t
}

func TestWitness(t *testing.T) {
	said := someTestimony()
	older := said
	older.boot, older.clean = 6, false
	file := make([]byte, witnessSize)
	copy(file[slotStride:], older.appendSlot(nil, 41))
	copy(file, said.appendSlot(nil, 42))
	if got, generation, err := parseWitness(file); err != nil || got != said || generation != 42 {
		t.Fatalf("got %+v, %d, %v", got, generation, err)
	}
	for i := range slotSize * 8 { // whatever happens to the slot that was written last, the one before it counts
		torn := bytes.Clone(file)
		torn[i/8] ^= 1 << (i % 8)
		if got, generation, err := parseWitness(torn); err != nil || got != older || generation != 41 {
			t.Fatalf("bit %d: got %+v, %d, %v", i, got, generation, err)
		}
	}
	for n := range slotStride {
		if got, _, err := parseWitness(file[:n]); (err == nil) != (n >= slotSize) || err == nil && got != said {
			t.Fatalf("%d bytes: got %+v, %v", n, got, err)
		}
	}
}

func TestWitnessFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w")
	fail := func(err error) { t.Error(err) }
	w, _, known, err := openWitness(path, fail)
	if err != nil || known {
		t.Fatalf("a new file is known: %v, %v", known, err)
	}
	said := someTestimony()
	for i := range 5 {
		said.boot = uint32(i)
		w.write(said)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	w.write(testimony{}) // comes too late
	w, got, known, err := openWitness(path, fail)
	if err != nil || !known || got != said || w.generation != 5 {
		t.Errorf("got %+v, %v, %v", got, known, err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

// TestWitnessFails has writing and syncing fail for a while: that is said once, and it is tried again.
func TestWitnessFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "w")
		told := 0
		w, _, _, err := openWitness(path, func(error) { told++ })
		if err != nil {
			t.Fatal(err)
		}
		good := w.f
		if w.f, err = os.Open(os.DevNull); err != nil { // neither can be done there
			t.Fatal(err)
		}
		said := someTestimony()
		for i := range 5 {
			said.boot = uint32(i)
			w.write(said)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if told != 1 {
			t.Errorf("said %d times", told)
		}
		w.mu.Lock()
		bad := w.f
		w.f = good
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := parseWitness(b); err != nil || got != said || w.again || w.failed {
			t.Errorf("got %+v, %v, want %+v: it was not written again", got, err, said)
		}
		if err := errors.Join(bad.Close(), w.close()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzWitness(f *testing.F) {
	t := someTestimony()
	file := make([]byte, witnessSize)
	copy(file, t.appendSlot(nil, 1))
	f.Add(file)
	f.Add(file[:slotSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		said, generation, err := parseWitness(b)
		if err != nil {
			return
		}
		again, g, err := parseSlot(said.appendSlot(nil, generation))
		if err != nil || again != said || g != generation {
			t.Errorf("%+v, %d reads back as %+v, %d, %v", said, generation, again, g, err)
		}
	})
}
