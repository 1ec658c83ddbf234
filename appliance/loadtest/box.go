package loadtest

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
)

// Queue is the name of the database that OpenQueue makes in its directory.
const Queue = "box.db"

// OpenQueue opens a box's real database in dir, as box number 1 with the hub's real sealing key.
func OpenQueue(ctx context.Context, dir string, hubKey []byte) (*sqlite.Store, error) {
	sealer := seal.NewSealer(time.Now)
	if err := sealer.Use(hubKey); err != nil {
		return nil, err
	}
	started := time.Now()
	s, aside, err := sqlite.Open(ctx, sqlite.Config{
		Path: filepath.Join(dir, Queue), Now: time.Now, Box: func() uint32 { return 1 }, Seal: sealer.Seal,
		Stamp: func(boot uint32) envelope.Stamp {
			now := time.Now()
			return envelope.Stamp{Wall: now, Boot: boot, Mono: now.Sub(started), Quality: envelope.Synced}
		},
	})
	if err == nil && aside != "" {
		err = fmt.Errorf("%s was set aside as %s", Queue, aside)
	}
	return s, err
}

// Put stores one event, on the disk when it returns.
type Put func(ctx context.Context, e event.Event) error

// Producers stores each event for one of n producers, each of which waits until its own is on the disk before it comes
// with its next.
func Producers(ctx context.Context, put Put, n int, samples []Sample) error {
	var (
		wg    sync.WaitGroup
		first atomic.Pointer[error]
	)
	for p := range n {
		wg.Go(func() {
			for i := p; i < len(samples) && first.Load() == nil; i += n {
				if err := put(ctx, samples[i].Event); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}
