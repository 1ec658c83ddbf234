package envelope_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"sportello.example/sync/envelope"
)

// run returns a run of n events of a chain from number first on, chained to prev.
func run(t testing.TB, c envelope.Chain, first uint64, prev envelope.Hash, n int) envelope.Run {
	t.Helper()
	r := envelope.Run{Chain: c, First: first, Prev: prev, Head: prev, Entries: []envelope.Entry{}}
	for i := range n {
		e := sample()
		e.Chain, e.Seq = c, first+uint64(i) //nolint:gosec // positive
		b := encode(t, e)
		r.Entries = append(r.Entries, envelope.Entry{Encoded: b})
		r.Head = r.Head.Next(b)
	}
	return r
}

func batch(t testing.TB) envelope.Batch {
	t.Helper()
	old := envelope.Chain{Epoch: "0011223344556677", Stream: envelope.All}
	one := run(t, chain, 1, envelope.Genesis(chain), 3)
	missing := envelope.Missing{Count: 1 << 30, Reason: envelope.Dropped, Hash: envelope.Hash{1, 2}}
	one.Entries = append(one.Entries, envelope.Entry{Missing: &missing})
	one.Head = missing.Hash
	two := run(t, old, 500, envelope.Genesis(old), 1)
	two.Oldest = true
	return envelope.Batch{Box: 7, Runs: []envelope.Run{one, two, run(t, envelope.Chain{Epoch: "00", Stream: 9}, 5, envelope.Hash{9}, 0)}}
}

func encodeBatch(t testing.TB, m envelope.Batch) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBatchRoundTrip(t *testing.T) {
	want := batch(t)
	got, err := envelope.ParseBatch(encodeBatch(t, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if n := got.Runs[0].Last(); n != 3+1<<30 {
		t.Errorf("the first run ends at %d", n)
	}
	if n := got.Runs[2].Last(); n != 4 {
		t.Errorf("the empty run ends at %d", n)
	}
}

// TestBatchOfPoison checks that an event that cannot be read does not keep the frame from being read.
func TestBatchOfPoison(t *testing.T) {
	m := batch(t)
	r := run(t, chain, 1, envelope.Hash{}, 2)
	r.Entries[1].Encoded = []byte("no envelope")
	r.Head = envelope.Hash{}.Next(r.Entries[0].Encoded).Next(r.Entries[1].Encoded)
	m.Runs[0] = r
	if got, err := envelope.ParseBatch(encodeBatch(t, m)); err != nil || len(got.Runs) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBatchCannotBeParsed(t *testing.T) {
	b := encodeBatch(t, batch(t))
	for n := range b {
		if _, err := envelope.ParseBatch(b[:n]); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	for i := range b {
		// Whatever byte changes, the hashes no longer fit, or it says something else that it may say.
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if m, err := envelope.ParseBatch(c); err == nil && reflect.DeepEqual(m, batch(t)) {
			t.Errorf("byte %d says nothing", i)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*envelope.Batch)
	}{
		{"an event changed on the way", func(m *envelope.Batch) { m.Runs[1].Entries[0].Encoded[30] ^= 1 }},
		{"events swapped", func(m *envelope.Batch) {
			m.Runs[1] = run(t, chain, 1, envelope.Genesis(chain), 3)
			e := m.Runs[1].Entries
			e[0], e[1] = e[1], e[0]
		}},
		{"an event left out", func(m *envelope.Batch) { m.Runs[1].Entries = nil }},
		{"another beginning", func(m *envelope.Batch) { m.Runs[1].Prev[5]++ }},
		{"another end", func(m *envelope.Batch) { m.Runs[0].Head[5]++ }},
		{"an empty event", func(m *envelope.Batch) {
			m.Runs[1].Entries[0].Encoded = nil
			m.Runs[1].Head = m.Runs[1].Prev.Next(nil)
		}},
		{"a stretch of nothing", func(m *envelope.Batch) { m.Runs[0].Entries[3].Missing.Count = 0 }},
		{"a stretch beyond the last number", func(m *envelope.Batch) { m.Runs[0].Entries[3].Missing.Count = envelope.MaxSeq }},
		{"a first number that is too large", func(m *envelope.Batch) { m.Runs[1].First = envelope.MaxSeq + 1 }},
		{"too many runs", func(m *envelope.Batch) {
			for range envelope.MaxRuns {
				m.Runs = append(m.Runs, m.Runs[2])
			}
		}},
		{"too many events", func(m *envelope.Batch) { m.Runs[2] = run(t, chain, 1, envelope.Hash{}, envelope.MaxEvents) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := batch(t)
			tt.change(&m)
			if got, err := envelope.ParseBatch(encodeBatch(t, m)); !errors.Is(err, envelope.ErrMalformed) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("too long", func(t *testing.T) {
		if _, err := envelope.ParseBatch(make([]byte, envelope.MaxBatch+1)); !errors.Is(err, envelope.ErrMalformed) {
			t.Error(err)
		}
	})
}

func TestBatchCannotBeEncoded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*envelope.Batch)
	}{
		{"no epoch", func(m *envelope.Batch) { m.Runs[0].Chain.Epoch = "" }},
		{"from nothing", func(m *envelope.Batch) { m.Runs[0].First = 0 }},
		{"too long", func(m *envelope.Batch) { m.Runs[0].Entries[0].Encoded = make([]byte, envelope.MaxBatch) }},
	} {
		m := batch(t)
		tt.change(&m)
		if b, err := m.Append(nil); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("%s: %d bytes, %v", tt.name, len(b), err)
		}
	}
}

// TestBatchThatPromisesMuch checks that no memory is set aside for what a batch only says to hold.
func TestBatchThatPromisesMuch(t *testing.T) {
	b := binary.AppendUvarint([]byte("SPB\x02\x07"), envelope.MaxRuns)
	for range envelope.MaxRuns {
		b = append(b, 1, 0, 1, 1, 0)
		b = append(b, make([]byte, 2*envelope.HashSize)...)
		b = binary.AppendUvarint(b, envelope.MaxEvents)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := envelope.ParseBatch(b); !errors.Is(err, envelope.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes of memory for a message of %d", n, len(b))
	}
}

func FuzzParseBatch(f *testing.F) {
	b := encodeBatch(f, batch(f))
	f.Add(b)
	f.Add(b[:100])
	f.Add([]byte("SPB\x02\x07\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := envelope.ParseBatch(b)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		n := 0
		for _, r := range m.Runs {
			n += len(r.Entries)
			if r.First == 0 || r.Last() >= envelope.MaxSeq {
				t.Errorf("run from %d to %d", r.First, r.Last())
			}
		}
		if n > envelope.MaxEvents || len(m.Runs) > envelope.MaxRuns {
			t.Errorf("%d entries in %d runs", n, len(m.Runs))
		}
		if got, err := m.Append(nil); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%x was read as %+v and written as %x (%v)", b, m, got, err)
		}
	})
}
