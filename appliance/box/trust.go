package box

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"sportello.example/provisioning/identity"
)

// trust is whom the box believes.
type trust struct {
	box     uint32
	id      *identity.Identity
	keys    []ed25519.PublicKey // that the hub signs with
	sealKey []byte              // that events are closed to
}

// box is the number of this box, 0 while no hub has let it in.
func (q *queue) box() uint32 {
	if in := q.trust.Load(); in != nil {
		return in.box
	}
	return 0
}

// keys are those that the hub signs with.
func (q *queue) keys() []ed25519.PublicKey {
	if in := q.trust.Load(); in != nil {
		return in.keys
	}
	return nil
}

// believe takes up whom the box is to believe: what enrolment gave, and what the desired state has added.
func (q *queue) believe(id *identity.Identity, e identity.Enrolment) error {
	in := &trust{box: e.Box, id: id, keys: []ed25519.PublicKey{e.HubTokenKey}, sealKey: e.HubSealKey}
	if f := q.follower.Load(); f != nil {
		in.keys = f.SignKeys()
		if k := f.SealKey(); k != nil {
			in.sealKey = k
		}
		if d, _, _ := f.Current(); d.Version > 0 {
			q.clock.Passed(d.Issued)
		}
	}
	if err := q.sealer.Use(in.sealKey); err != nil {
		return fmt.Errorf("hub's key: %w", err)
	}
	if from, err := id.Begins(); err == nil {
		q.clock.Passed(from)
	}
	if changed, err := q.Belong(context.Background(), e.Box); err != nil {
		if changed || !full(err) {
			return err
		}
		q.log.Error("number of the box not kept with its queue: there is no room", "box", e.Box, "err", err) // at the next start
	}
	q.trust.Store(in)
	return nil
}
