package loadtest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/outbox"
	"sportello.example/sync/uplink"
)

// Drain lets the real relay deliver what a queue holds to the hub at base, as box 1, until the queue is empty. It fails
// when that takes longer than two minutes.
func Drain(ctx context.Context, q *sqlite.Store, id *identity.Identity, keys []ed25519.PublicKey, base string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client, err := uplink.New(base, id, uplink.Options{Now: time.Now})
	if err != nil {
		return err
	}
	defer client.Close()
	relay := outbox.New(q, client, outbox.Options{Box: func() uint32 { return 1 }, Keys: func() []ed25519.PublicKey { return keys }})
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() { failed = relay.Run(ctx) })
	defer func() {
		cancel()
		wg.Wait()
		err = errors.Join(err, failed)
	}()
	for ; ; time.Sleep(5 * time.Millisecond) {
		chains, err := q.Chains(ctx)
		if err != nil {
			return err
		}
		if len(chains) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the queue is not empty after two minutes: %v", chains)
		}
	}
}
