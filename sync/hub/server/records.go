package server

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/durable"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/sqldb"
)

// store is a hub's database.
type store interface {
	fleet.Store
	pickup.Store
	stats.Counter
	ingest.Store
	content.Store
	// Backup writes a copy to a new file; boxes are told that what is in it is safe.
	Backup(ctx context.Context, file string) error
	Close() error
}

// records are what a hub keeps: keys in its data folder, all else in its database.
type records struct {
	dir   string
	store store
	fleet *fleet.Fleet
	ca    *ca.CA
}

// openRecords opens the configured data folder and database, and makes what is not there yet. "hub serve", "hub box" and
// other hubs beside the same database may have them open at the same time.
func (s settings) openRecords(ctx context.Context, now func() time.Time) (*records, error) {
	if s.Database == "" {
		return openRecords(ctx, s.Data, now)
	}
	r, err := openFolder(s.Data, now)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if s.logger != nil {
		log = s.logger
	}
	if r.store, err = postgres.Open(ctx, s.Database, postgres.Options{Now: now, Log: log}); err != nil {
		if errors.Is(err, postgres.ErrNewer) {
			return nil, &program.HintError{Err: err, Hint: "run the newer hub; this one has not changed the database"}
		}
		if errors.Is(err, postgres.ErrNotDurable) {
			return nil, &program.HintError{Err: err, Hint: "boxes forget what a hub confirms: set fsync = on and synchronous_commit = on in PostgreSQL, and for this user and database (ALTER ROLE, ALTER DATABASE)"}
		}
		if errors.Is(err, postgres.ErrClock) {
			return nil, &program.HintError{Err: err, Hint: "set the clocks of this machine and of the database's by NTP"}
		}
		return nil, &program.HintError{Err: err, Hint: "look at “database” in the configuration, and whether PostgreSQL runs and lets this hub in"}
	}
	r.fleet = fleet.New(r.store, now)
	return r, nil
}

// openRecords opens a data folder with the database in it, and makes what is not there yet. "hub serve" and "hub box"
// may have it open at the same time.
func openRecords(ctx context.Context, dir string, now func() time.Time) (*records, error) {
	r, err := openFolder(dir, now)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "hub.db")
	if r.store, err = sqlite.Open(ctx, path); err != nil {
		switch {
		case errors.Is(err, sqlite.ErrRestoring):
			return nil, &program.HintError{Err: err, Hint: "run “hub restore FILE” again, with the same backup or another one; what was there before is kept beside it"}
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

// openFolder opens a data folder, without a database.
func openFolder(dir string, now func() time.Time) (*records, error) {
	if err := durable.Dir(dir); err != nil {
		return nil, &program.UsageError{Err: fmt.Errorf("data folder: %w", err), Hint: "name a folder that this user may write to with --data"}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	authority, err := ca.LoadOrCreate(filepath.Join(dir, "ca"), now)
	if err != nil {
		return nil, err
	}
	return &records{dir: abs, ca: authority}, nil
}

// checkKeys compares this hub's keys with those of the others beside its database. A database in the data folder has no
// others.
func (r *records) checkKeys(ctx context.Context, k keys) error {
	shared, ok := r.store.(*postgres.Store)
	if !ok {
		return nil
	}
	pub, ok := k.token.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("token key has no public half")
	}
	authority, err := os.ReadFile(r.caFile())
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	fingerprint := func(label string, b []byte) []byte {
		h := sha256.Sum256(append([]byte("sportello/fingerprint/"+label+"/v1\x00"), b...))
		return h[:]
	}
	err = shared.CheckKeys(ctx, map[string][]byte{
		"keys/token.key":  fingerprint("token", pub),
		"keys/master.key": fingerprint("master", k.master), // of 256 random bits: nobody finds them by trying
		"ca/" + ca.File:   fingerprint("ca", bytes.TrimSpace(authority)),
	})
	if errors.Is(err, postgres.ErrKeys) {
		return &program.HintError{Err: err, Hint: "stop this hub, and copy the folders “keys” and “ca” of the first hub into its data folder. If those are lost for good, empty the table hub_key: then all boxes must enrol again"}
	}
	return err
}

// moments returns where logins under way are kept, and what is to run for that.
func (r *records) moments(k keys, now func() time.Time) (moment.Store, []func(context.Context) error, error) {
	shared, ok := r.store.(*postgres.Store)
	if !ok {
		return moment.New(now), nil, nil
	}
	m, err := shared.Moments(k.master)
	if err != nil {
		return nil, nil, err
	}
	return m, []func(context.Context) error{shared.Run, m.Run}, nil
}

// writers is how many deliveries are stored at the same time.
func (r *records) writers() int {
	if _, ok := r.store.(*postgres.Store); ok {
		return 2 // of this hub: while one waits for the disk, the other reads what boxes send
	}
	return 1
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
		e.PublicURL, e.HubTokenKey, e.HubSealKey = public.String(), pub, presentKey(ctx, r.store, k.seal.Public()[0])
		return nil
	}
}
