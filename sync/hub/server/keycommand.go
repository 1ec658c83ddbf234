package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/durable"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/seal"
)

// The files of the private keys that boxes seal to, in the folder keys: the first one, and later ones by when they were
// made. A retired one ends in .retired, and nothing reads it.
const (
	firstSealKey = "seal.key"
	sealKeys     = "seal-*.key"
	retiredEnd   = ".retired"
)

// sealKey is a private key, and the file it is in.
type sealKey struct {
	seal.PrivateKey
	path string
}

// loadRing reads the private keys that boxes seal to, and their public halves. The newest comes first.
func loadRing(dir string) (ring seal.Ring, public [][]byte, err error) {
	keys, err := loadSealKeys(dir)
	for _, k := range keys {
		ring, public = append(ring, k.PrivateKey), append(public, k.Public())
	}
	return ring, public, err
}

// makeFirstKey makes the first key when there has never been one. It is for the start of a program only: later on, a key
// that is not there any more has been given up.
func makeFirstKey(dir string) error {
	if err := durable.Dir(dir); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	first := filepath.Join(dir, firstSealKey)
	// In this order: "hub key retire" may rename the one to the other at this moment.
	for _, pattern := range []string{first, first + retiredEnd, filepath.Join(dir, sealKeys), filepath.Join(dir, sealKeys+retiredEnd)} {
		if there, err := filepath.Glob(pattern); err != nil || len(there) > 0 {
			return err
		}
	}
	_, err := secret(first)
	return err
}

// loadSealKeys reads the keys in a folder, the newest first, and makes none. One that is given up meanwhile is left out.
func loadSealKeys(dir string) ([]sealKey, error) {
	paths, err := filepath.Glob(filepath.Join(dir, sealKeys)) // sorted, and so by date
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	slices.Reverse(paths)
	var keys []sealKey
	for _, p := range append(paths, filepath.Join(dir, firstSealKey)) {
		b, err := readSecret(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k, err := seal.ParseKey(b) // any 32 bytes are an X25519 key
		if err != nil {
			return nil, fmt.Errorf("keys: %s: %w", p, err)
		}
		keys = append(keys, sealKey{k, p})
	}
	return keys, nil
}

// newSealKey makes a private key in a file of its own.
func newSealKey(dir string, now time.Time) (sealKey, error) {
	k, err := seal.NewKey()
	if err != nil {
		return sealKey{}, err
	}
	b, err := k.Bytes()
	if err != nil {
		return sealKey{}, err
	}
	path := filepath.Join(dir, "seal-"+now.UTC().Format("20060102T150405Z")+"-"+k.ID().String()+".key")
	if err := durable.Create(path, []byte(hex.EncodeToString(b)+"\n")); err != nil {
		return sealKey{}, fmt.Errorf("keys: %w", err)
	}
	return sealKey{k, path}, nil
}

// registerKeys makes known which keys boxes may seal to, when nothing is known yet: those in the folder, the newest of
// them to be used. Later ones come by "hub key rotate" only: a key that another hub does not have yet must not be used.
func registerKeys(ctx context.Context, s content.Store, public [][]byte, now time.Time) error {
	have, err := s.Keys(ctx)
	if err != nil || len(have) > 0 {
		return err
	}
	for _, p := range slices.Backward(public) {
		if err := s.AddKey(ctx, p, now); err != nil {
			if have, other := s.Keys(ctx); other == nil && len(have) > 0 { // another hub was faster
				return nil
			}
			return fmt.Errorf("keys: %w", err)
		}
	}
	return nil
}

// keyring is the private keys of a hub that is running. It notices keys that were added to the folder.
type keyring struct {
	dir string

	mu     sync.Mutex
	ring   seal.Ring
	public [][]byte
	looked time.Time
	now    func() time.Time
}

func openKeyring(dir string, now func() time.Time) (*keyring, error) {
	k := &keyring{dir: dir, now: now, looked: now()}
	err := makeFirstKey(dir)
	if err != nil {
		return nil, err
	}
	if k.ring, k.public, err = loadRing(dir); err != nil {
		return nil, err
	}
	if len(k.ring) == 0 {
		return nil, fmt.Errorf("keys: all keys in %s are retired: copy the one that boxes seal to from a backup or another hub", dir)
	}
	return k, nil
}

// Ring returns the private keys. They are read again every few seconds: a box may seal to a new key a moment after it
// was made. When the folder cannot be read the keys are those that were read last.
func (k *keyring) Ring() seal.Ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now(); now.Sub(k.looked) >= time.Second || now.Before(k.looked) {
		k.looked = now
		if ring, public, err := loadRing(k.dir); err == nil && len(ring) > 0 {
			k.ring, k.public = ring, public
		}
	}
	return k.ring
}

// Public returns the public halves, the newest first.
func (k *keyring) Public() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.public
}

// presentKey is the public key that boxes are to seal to now, or fallback while nothing is known of keys.
func presentKey(ctx context.Context, s content.Store, fallback []byte) []byte {
	keys, err := s.Keys(ctx)
	if err != nil {
		return fallback
	}
	for _, k := range keys {
		if k.Retired.IsZero() {
			return k.Public
		}
	}
	return fallback
}

// keyCommand returns the commands about the keys that boxes seal to.
func keyCommand(f *flags) *cobra.Command {
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List the keys that boxes seal to, and who still holds events that need them", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doKeys(f, cmd, func(k *keyDesk) error {
				rows, err := k.rows(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(rows)
				}
				return printKeys(cmd.OutOrStdout(), rows, k.place)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	var prepare bool
	rotate := &cobra.Command{
		Use: "rotate", Short: "Make a new key for boxes to seal to; older ones go on to open", Args: program.NoArgs,
		Long: `Make a new key for boxes to seal to. Boxes use it as soon as they hear of it; older keys go
on to open what was sealed to them, until “hub key retire”.

Where several hubs share one database, every one of them needs the new key before boxes
use it: “hub key rotate --prepare” makes the file only; copy it into the folder keys of the
other hubs, then run “hub key rotate”, which uses it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doKeys(f, cmd, func(k *keyDesk) error { return k.rotate(cmd.Context(), cmd.OutOrStdout(), prepare) })
		},
	}
	rotate.Flags().BoolVar(&prepare, "prepare", false, "make the file only; the next rotate uses it")
	var force bool
	retire := &cobra.Command{
		Use: "retire ID", Short: "Give up a key: what is still sealed to it can never be read", Args: oneName("the ID of one key", "“hub key list” shows the IDs"),
		Long: `Give up a key: what is still sealed to it can never be read. The private key stays in the folder
keys under a name that nothing reads, until somebody deletes it.

The command refuses while a box may need the key, as far as the hub has been told: for events
that wait there, for those that it can never deliver and keeps (“hub box list” counts them), or
because it has not said yet that it seals to the newer key. Three things nobody tells the hub:

  - a queue that was set aside on a box after its file was damaged (box.db.corrupt-… in the
    box's data folder) may hold texts that only this key opens;
  - so may a USB stick that has not been imported, and an old copy of a box's disk;
  - and so may what a hub without this private key has stored unopened (“hub alarm list”,
    not_opened): start one that has the key, and let it open them.

So keep the retired file, somewhere safe and apart, for as long as texts may have to be read.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return doKeys(f, cmd, func(k *keyDesk) error { return k.retire(cmd.Context(), cmd.OutOrStdout(), args[0], force) })
		},
	}
	retire.Flags().BoolVar(&force, "force", false, "though boxes may still hold events that nothing else opens")
	root := groupCommand("key", "Change the key that boxes seal to", "keys")
	root.AddCommand(list, rotate, retire)
	return root
}

// keyDesk is what the commands about keys work with.
type keyDesk struct {
	dir   string
	place *time.Location
	store content.Store
	fleet *fleet.Fleet
	files []sealKey
}

func doKeys(f *flags, cmd *cobra.Command, do func(*keyDesk) error) error {
	return doRecords(f, cmd, func(r *records, s settings) error {
		k := &keyDesk{dir: filepath.Join(s.Data, "keys"), place: s.place, store: r.store, fleet: r.fleet}
		err := makeFirstKey(k.dir)
		if err != nil {
			return err
		}
		if k.files, err = loadSealKeys(k.dir); err != nil {
			return err
		}
		var public [][]byte
		for _, file := range k.files {
			public = append(public, file.Public())
		}
		if err := registerKeys(cmd.Context(), k.store, public, time.Now()); err != nil {
			return err
		}
		return do(k)
	})
}

// file returns the private key to a public one.
func (k *keyDesk) file(public []byte) (sealKey, bool) {
	i := slices.IndexFunc(k.files, func(s sealKey) bool { return string(s.Public()) == string(public) })
	if i < 0 {
		return sealKey{}, false
	}
	return k.files[i], true
}

// keyRow is what is known of a key.
type keyRow struct {
	ID      string    `json:"id"`
	State   string    `json:"state"` // in_use | opens | retired | prepared
	Added   time.Time `json:"added,omitzero"`
	Retired time.Time `json:"retired,omitzero"`
	Private bool      `json:"private"` // whether the private key is in this hub's folder
	Boxes   []uint32  `json:"boxes"`   // that hold events sealed to it, as far as they have said

	public []byte
	next   time.Time // when boxes got another one to use, zero: they have not
}

func (k *keyDesk) rows(ctx context.Context) ([]keyRow, error) {
	keys, err := k.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	bs, err := k.fleet.Boxes(ctx)
	if err != nil {
		return nil, err
	}
	var rows []keyRow
	add := func(public []byte, r keyRow) {
		r.public, r.ID, r.Boxes = public, seal.ID(public).String(), []uint32{}
		_, r.Private = k.file(public)
		for _, b := range bs {
			if b.Report != nil && slices.Contains(b.Report.SealKeys, r.ID) {
				r.Boxes = append(r.Boxes, b.Number)
			}
		}
		rows = append(rows, r)
	}
	for _, f := range k.files {
		if !slices.ContainsFunc(keys, func(key content.Key) bool { return string(key.Public) == string(f.Public()) }) {
			add(f.Public(), keyRow{State: "prepared"})
		}
	}
	var next time.Time
	used := false
	for _, key := range keys {
		r := keyRow{State: "opens", Added: key.Added, Retired: key.Retired, next: next}
		switch {
		case !key.Retired.IsZero():
			r.State = "retired"
		case !used:
			r.State, used = "in_use", true
		}
		add(key.Public, r)
		if key.Retired.IsZero() {
			next = key.Added
		}
	}
	return rows, nil
}

func (k *keyDesk) rotate(ctx context.Context, out io.Writer, prepare bool) error {
	rows, err := k.rows(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r keyRow) bool { return r.State == "prepared" })
	var file sealKey
	if i >= 0 {
		file, _ = k.file(rows[i].public)
	} else if file, err = newSealKey(k.dir, time.Now()); err != nil {
		return err
	}
	if prepare {
		_, err := fmt.Fprintf(out, "key %s is prepared: copy %s to the other hubs, then run “hub key rotate”\n", file.ID(), file.path)
		return err
	}
	if err := k.store.AddKey(ctx, file.Public(), time.Now()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "boxes seal to key %s as soon as they hear of it; back up %s\n", file.ID(), file.path)
	return err
}

func (k *keyDesk) retire(ctx context.Context, out io.Writer, id string, force bool) error {
	rows, err := k.rows(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r keyRow) bool { return r.ID == id })
	switch {
	case i < 0 || rows[i].State == "prepared":
		return &program.HintError{Err: fmt.Errorf("%s: %w", id, content.ErrNoKey), Hint: "“hub key list” shows the keys"}
	case rows[i].State == "in_use":
		return &program.HintError{Err: fmt.Errorf("key %s is the one that boxes seal to", id), Hint: "“hub key rotate” gives them another one first"}
	case rows[i].State == "retired":
		return &program.HintError{Err: fmt.Errorf("key %s is retired already", id), Hint: "“hub key list” shows the keys"}
	}
	if !force {
		waiting, err := k.waiting(ctx, rows[i])
		if err != nil {
			return err
		}
		if len(waiting) > 0 {
			more := ""
			if n := len(waiting) - 5; n > 0 {
				waiting, more = waiting[:5], fmt.Sprintf("; and %d more", n)
			}
			return &program.HintError{
				Err:  fmt.Errorf("key %s may still be needed: %s%s", id, strings.Join(waiting, "; "), more),
				Hint: "wait until every box has delivered what it holds, look after what it can never deliver (“appliance sync status --dead” at the box), or shut out those that are gone (“hub box revoke”); --force gives up what they hold",
			}
		}
	}
	if err := k.store.RetireKey(ctx, rows[i].public, time.Now()); err != nil {
		return err
	}
	said := "its private key is not in this hub's folder"
	if file, ok := k.file(rows[i].public); ok {
		if err := os.Rename(file.path, file.path+retiredEnd); err != nil {
			return fmt.Errorf("retire key: %w", err)
		}
		said = "delete " + file.path + retiredEnd + " to make that final"
	}
	_, err = fmt.Fprintf(out, "key %s is retired: %s\n", id, said)
	return err
}

// waiting says which boxes may still hold, or make, events sealed to a key, and why.
func (k *keyDesk) waiting(ctx context.Context, r keyRow) ([]string, error) {
	bs, err := k.fleet.Boxes(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range bs {
		if b.Enrolled.IsZero() || !b.Revoked.IsZero() {
			continue
		}
		why, err := k.waits(ctx, b, r)
		if err != nil {
			return nil, err
		}
		if why != "" {
			out = append(out, fmt.Sprintf("box %d %s", b.Number, why))
		}
	}
	return out, nil
}

func (k *keyDesk) waits(ctx context.Context, b fleet.Box, r keyRow) (string, error) {
	rep := b.Report
	switch {
	case rep == nil:
		return "has never said what it holds", nil
	case slices.Contains(rep.SealKeys, r.ID) && rep.Dead > 0:
		return fmt.Sprintf("holds events sealed to it, and keeps %d that it can never deliver, which may be among them", rep.Dead), nil
	case slices.Contains(rep.SealKeys, r.ID):
		return "holds events sealed to it", nil
	case !b.Contact.After(r.next), rep.Clock == "synced" && !rep.Time.After(r.next):
		return "has not been heard of since the key was replaced", nil
	}
	is, err := k.store.Signed(ctx, b.Number)
	if errors.Is(err, content.ErrNoVersion) {
		return "has not asked which key to use", nil
	}
	if err != nil {
		return "", err
	}
	if rep.State != is.Version || !is.Issued.After(r.next.Add(-time.Second)) {
		return "has not said yet that it uses the new key", nil
	}
	return "", nil
}

func printKeys(out io.Writer, rows []keyRow, place *time.Location) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "KEY\tSTATE\tSINCE\tPRIVATE KEY\tHELD BY BOXES")
	for _, r := range rows {
		state := map[string]string{
			"in_use": "boxes seal to it", "opens": "opens what is older", "retired": "retired", "prepared": "prepared",
		}[r.State]
		since, private, held := "-", "here", "-"
		if !r.Added.IsZero() {
			since = r.Added.In(place).Format("2006-01-02 15:04")
		}
		if !r.Private {
			private = "not here"
		}
		if len(r.Boxes) > 0 {
			held = strings.Trim(fmt.Sprint(r.Boxes), "[]")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, state, since, private, held)
	}
	return w.Flush()
}
