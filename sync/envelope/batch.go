package envelope

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Limits of a batch.
const (
	MaxEvents = 2000    // entries of all runs together
	MaxRuns   = 64      //
	MaxBatch  = 8 << 20 // bytes, not compressed
)

// magic begins every batch. Its last byte is the version of the frame.
const magic = "SPB\x02"

// Batch is what a box hands over at once.
type Batch struct {
	Box  uint32
	Runs []Run
}

// Run is a piece of a chain without holes.
type Run struct {
	Chain Chain
	First uint64 // number of the first entry
	Prev  Hash   // of the chain before it
	Head  Hash   // of the chain after the last entry
	// Oldest says that the box has nothing older of this chain: what the hub lacks before First never comes.
	Oldest  bool
	Entries []Entry
}

// Last returns the number of the last event that the run covers, First-1 when it has no entries.
func (r Run) Last() uint64 {
	n := r.First - 1
	for _, e := range r.Entries {
		n += e.Count()
	}
	return n
}

// Entry is one event, or the word that some never come.
type Entry struct {
	Encoded []byte   // envelope; nil for Missing
	Missing *Missing //
}

// Count returns how many numbers of the chain the entry covers.
func (e Entry) Count() uint64 {
	if e.Missing != nil {
		return e.Missing.Count
	}
	return 1
}

// Missing stands for events that a box had and does not have any more.
type Missing struct {
	Count  uint64 // of numbers that follow each other, at least 1
	Reason Reason
	Hash   Hash // of the chain after the last of them
}

// Reason says why events are missing.
type Reason uint8

// The reasons. The numbers are stored and sent.
const (
	Damaged   Reason = 1 // they differ from what their hash says: the disk has changed them
	Dropped   Reason = 2 // the disk was full: the policy let them go; an event says how many
	RolledUp  Reason = 3 // counted together into other events, for want of room
	Forgotten Reason = 4 // the hub had them in a backup once, or the time to keep them was over
	Refused   Reason = 5 // the hub said that it would never take them
)

var reasonNames = map[Reason]string{
	Damaged: "damaged", Dropped: "dropped", RolledUp: "rolled_up", Forgotten: "forgotten", Refused: "refused",
}

// String returns the reason's name.
func (r Reason) String() string {
	if n, ok := reasonNames[r]; ok {
		return n
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// kinds of entries on the wire
const (
	entryEvent   = 0
	entryMissing = 1
)

// Append appends the encoded batch to b. What it takes over from its entries is not looked at.
func (m Batch) Append(b []byte) ([]byte, error) {
	b = append(b, magic...)
	b = binary.AppendUvarint(b, uint64(m.Box))
	b = binary.AppendUvarint(b, uint64(len(m.Runs)))
	for _, r := range m.Runs {
		epoch, err := hex.DecodeString(string(r.Chain.Epoch))
		if err != nil || !r.Chain.Epoch.Valid() || r.First == 0 {
			return nil, fmt.Errorf("%w: run of %s from %d", ErrMalformed, r.Chain, r.First)
		}
		b = append(b, byte(len(epoch)))
		b = append(b, epoch...)
		b = append(b, byte(r.Chain.Stream))
		b = binary.AppendUvarint(b, r.First)
		if r.Oldest {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = append(b, r.Prev[:]...)
		b = append(b, r.Head[:]...)
		b = binary.AppendUvarint(b, uint64(len(r.Entries)))
		for _, e := range r.Entries {
			if e.Missing == nil {
				b = appendBytes(append(b, entryEvent), e.Encoded)
				continue
			}
			b = binary.AppendUvarint(append(b, entryMissing), e.Missing.Count)
			b = append(b, byte(e.Missing.Reason))
			b = append(b, e.Missing.Hash[:]...)
		}
	}
	if len(b) > MaxBatch {
		return nil, fmt.Errorf("%w: batch of %d bytes", ErrMalformed, len(b))
	}
	return b, nil
}

// ParseBatch reads an encoded batch: only the frame, not the envelopes in it, so that one that cannot be read does not
// hold up the others. It checks that each run's hashes lead from Prev to Head. It fails with ErrMalformed. The entries
// share memory with b.
func ParseBatch(b []byte) (Batch, error) {
	if len(b) > MaxBatch {
		return Batch{}, fmt.Errorf("%w: batch of %d bytes", ErrMalformed, len(b))
	}
	r := &reader{b: b}
	if string(r.take(len(magic))) != magic {
		return Batch{}, fmt.Errorf("%w: no batch", ErrMalformed)
	}
	m := Batch{Box: uint32(r.uvarint(1<<32 - 1))} //nolint:gosec // within the limit given
	runs, left := int(r.uvarint(MaxRuns)), MaxEvents
	for range runs {
		run := Run{Chain: Chain{Epoch: Epoch(hex.EncodeToString(r.take(int(r.byte()))))}}
		run.Chain.Stream = Stream(r.byte())
		run.First = r.uvarint(MaxSeq)
		oldest := r.byte()
		run.Oldest = oldest == 1
		run.Prev, run.Head = r.hash(), r.hash()
		n := int(r.uvarint(uint64(left)))
		left -= n
		if r.bad || oldest > 1 || run.First == 0 || !run.Chain.Epoch.Valid() {
			return Batch{}, fmt.Errorf("%w: run", ErrMalformed)
		}
		run.Entries = make([]Entry, 0, n)
		at, next := run.Prev, run.First
		for range n {
			e := r.entry()
			if next += e.Count(); r.bad || next > MaxSeq {
				return Batch{}, fmt.Errorf("%w: entry of %s", ErrMalformed, run.Chain)
			}
			at = at.After(e)
			run.Entries = append(run.Entries, e)
		}
		if at != run.Head {
			return Batch{}, fmt.Errorf("%w: the hashes of %s do not fit", ErrMalformed, run.Chain)
		}
		m.Runs = append(m.Runs, run)
	}
	if r.bad || len(r.b) > 0 {
		return Batch{}, fmt.Errorf("%w: length", ErrMalformed)
	}
	return m, nil
}

func (r *reader) entry() Entry {
	switch r.byte() {
	case entryEvent:
		b := r.bytes()
		if len(b) == 0 {
			r.fail()
		}
		return Entry{Encoded: b}
	case entryMissing:
		m := &Missing{Count: r.uvarint(MaxSeq), Reason: Reason(r.byte()), Hash: r.hash()}
		if m.Count == 0 {
			r.fail()
		}
		return Entry{Missing: m}
	default:
		r.fail()
		return Entry{}
	}
}

// After returns the hash of the chain after an entry.
func (h Hash) After(e Entry) Hash {
	if e.Missing != nil {
		return e.Missing.Hash
	}
	return h.Next(e.Encoded)
}
