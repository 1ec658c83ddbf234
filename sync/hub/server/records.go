package server

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/durable"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/sqldb"
)

// records are what a hub keeps in its data folder.
type records struct {
	dir   string
	store *sqlite.Store
	fleet *fleet.Fleet
	ca    *ca.CA
}

// openRecords opens a data folder, and makes what is not there yet. "hub serve" and "hub box" may have it open at the
// same time.
func openRecords(ctx context.Context, dir string, now func() time.Time) (*records, error) {
	if err := durable.Dir(dir); err != nil {
		return nil, &program.UsageError{Err: fmt.Errorf("data folder: %w", err), Hint: "name a folder that this user may write to with --data"}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	r := &records{dir: abs}
	if r.ca, err = ca.LoadOrCreate(filepath.Join(dir, "ca"), now); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "hub.db")
	if r.store, err = sqlite.Open(ctx, path); err != nil {
		switch {
		case sqldb.Corrupt(err):
			return nil, &program.HintError{Err: err, Hint: "restore hub.db from a backup; boxes deliver again what it does not have"}
		case errors.Is(err, sqldb.ErrNewer):
			return nil, &program.HintError{Err: err, Hint: "run the newer hub; this one has not changed the file"}
		}
		return nil, err
	}
	r.fleet = fleet.New(r.store, now)
	return r, nil
}

func (r *records) Close() error { return r.store.Close() }

// caFile is the CA's certificate, which boxes are given a copy of.
func (r *records) caFile() string { return filepath.Join(r.dir, "ca", ca.File) }

// LoginBox implements login.Boxes.
func (r *records) LoginBox(ctx context.Context, number uint32) (login.Box, error) {
	b, err := r.fleet.Box(ctx, number)
	if errors.Is(err, fleet.ErrUnknown) || err == nil && (!b.Revoked.IsZero() || b.Enrolled.IsZero()) {
		return login.Box{}, login.ErrUnknownBox
	}
	if err != nil {
		return login.Box{}, err
	}
	key, err := ecdh.X25519().NewPublicKey(b.TokenKey)
	if err != nil {
		return login.Box{}, fmt.Errorf("token key of box %d: %w", number, err)
	}
	return login.Box{Branch: b.Branch, Epoch: b.LoginEpoch, Key: key, Drift: b.Drift}, nil
}

// complete adds to an enrolment what this hub shares with that box.
func (r *records) complete(k keys, public *url.URL) func(context.Context, *identity.Enrolment) error {
	return func(ctx context.Context, e *identity.Enrolment) error {
		b, err := r.fleet.Box(ctx, e.Box)
		if err != nil {
			return err
		}
		shared := crossdevice.Derive(k.master, b.Number, b.LoginEpoch)
		pub, ok := k.token.Public().(ed25519.PublicKey)
		if !ok {
			return errors.New("token key has no public half")
		}
		e.LoginEpoch, e.KeyQR, e.KeyCode = b.LoginEpoch, shared.QR, shared.Code
		e.PublicURL, e.HubTokenKey, e.HubSealKey = public.String(), pub, k.seal.Public()
		return nil
	}
}
