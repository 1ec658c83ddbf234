package sqlite

import (
	"slices"
	"sync"
)

// handed is what Read has handed out of a chain and the hub has not acknowledged: the relay may have it under way, and a
// stick may for weeks. What is counted together of that, the hub would count twice. And the hub may acknowledge up to where
// any of it has ended, so the hash at that place must stay known.
type handed struct {
	out sync.RWMutex // held for reading from before a read until it is known where that has ended

	mu   sync.Mutex // guards the field that follows
	ends []uint64   // in order
}

// maxEnds is how many ends of reads are remembered: a file on a stick has as many as it has runs.
const maxEnds = 4096

// add notes that a read has ended at a number.
func (h *handed) add(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, there := slices.BinarySearch(h.ends, seq)
	if there {
		return
	}
	if h.ends = slices.Insert(h.ends, i, seq); len(h.ends) > maxEnds {
		h.ends = slices.Delete(h.ends, 0, 1) // the last one matters most
	}
}

// taken notes that the hub has everything up to a number.
func (h *handed) taken(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearch(h.ends, seq+1)
	h.ends = slices.Delete(h.ends, 0, i)
}

// last returns the largest number that was handed out, 0 when there is none.
func (h *handed) last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ends) == 0 {
		return 0
	}
	return h.ends[len(h.ends)-1]
}

// ended says whether a read has ended at a number.
func (h *handed) ended(seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, there := slices.BinarySearch(h.ends, seq)
	return there
}
