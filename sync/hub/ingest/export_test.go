package ingest

import "sportello.example/sync/event"

// Forget makes a hub of this process one that does not know some kinds, until the function returned is called.
func Forget(ks ...event.Kind) (remember func()) {
	for _, k := range ks {
		delete(kinds, k)
	}
	return func() {
		for _, k := range ks {
			kinds[k] = true
		}
	}
}

// Knows reports whether the hub understands a kind.
func Knows(k event.Kind) bool { return kinds[k] }

// Waiting returns how many deliveries wait to be stored.
func Waiting(in *Ingest) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.waiting)
}

// QuickBody is quickBody.
func QuickBody(b []byte) (event.Body, bool) { return quickBody(b) }
