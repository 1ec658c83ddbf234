package faults_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

const (
	boxNumber = 1
	database  = "box.db"
	// canary stands for a citizen's data: it must not be in any byte of a box's disk.
	canary = "CANARINOROSSIMARIA"
)

// unit is one box: a disk, and the program that runs on it. Two units have the same number when a disk was copied.
type unit struct {
	name   string
	dir    string
	limit  int // pages that the database may have, 0: no limit
	store  *sqlite.Store
	chains map[envelope.Chain]bool   // all that were seen
	safe   map[envelope.Chain]uint64 // up to where the hub allowed to forget
	ahead  map[envelope.Chain]uint64 // up to where events are on the line
	tails  int                       // events that its disk has forgotten, and that it must have noticed
}

func newUnit(name, dir string) *unit {
	return &unit{
		name: name, dir: dir, chains: map[envelope.Chain]bool{}, safe: map[envelope.Chain]uint64{}, ahead: map[envelope.Chain]uint64{},
	}
}

func (u *unit) open(ctx context.Context, now func() time.Time, hubKey []byte) error {
	sealer := seal.NewSealer(now)
	if err := sealer.Use(hubKey); err != nil {
		return err
	}
	begin := now()
	s, aside, err := sqlite.Open(ctx, sqlite.Config{
		Path: filepath.Join(u.dir, database), Now: now, Box: func() uint32 { return boxNumber }, Seal: sealer.Seal, MaxPages: u.limit,
		Stamp: func(boot uint32) envelope.Stamp {
			return envelope.Stamp{Wall: now(), Boot: boot, Mono: max(0, now().Sub(begin)), Quality: envelope.Synced}
		},
	})
	if err == nil && aside != "" {
		err = errors.Join(fmt.Errorf("a sound database was set aside as %s", aside), s.Close())
	}
	u.store = s
	return err
}

// eventOf makes the event with an ID, for one of the streams.
func eventOf(id int, stream envelope.Stream) event.Event {
	e := event.Event{Session: sessionOf(id), Kiosk: 1, Kind: map[envelope.Stream]event.Kind{
		envelope.Legal: event.RequestLeft, envelope.Session: event.SessionStarted, envelope.Stats: event.StepAnswered, envelope.Diag: event.LineDown,
	}[stream]}
	if e.Kind == event.RequestLeft {
		// The code of a real request is no secret of this size: what counts is that none of it is to be seen.
		e.Private, _ = json.Marshal(wire.Request{Code: "QR34VW", Recipient: canary, Certificates: []string{canary}, Language: "it"})
	}
	return e
}

const sessionPrefix = "fault-"

func sessionOf(id int) string { return fmt.Sprintf("%s%06d", sessionPrefix, id) }

// idOf returns the ID of an event that eventOf made.
func idOf(encoded []byte) (id int, ok bool) {
	e, err := envelope.Parse(encoded)
	if err != nil {
		return 0, false
	}
	var b event.Body
	if json.Unmarshal(e.Body, &b) != nil || !strings.HasPrefix(b.Session, sessionPrefix) {
		return 0, false
	}
	_, err = fmt.Sscanf(b.Session, sessionPrefix+"%d", &id)
	return id, err == nil
}

func (u *unit) put(ctx context.Context, id int, stream envelope.Stream) error {
	return u.store.Record(ctx, kiosk.SessionRow{}, eventOf(id, stream))
}

// key names an event within a box.
type key struct {
	chain envelope.Chain
	seq   uint64
}

// look notes which chains there are.
func (u *unit) look(ctx context.Context) error {
	cs, err := u.store.Chains(ctx)
	for _, c := range cs {
		u.chains[c.Chain] = true
	}
	return err
}

// held is what a unit has on its disk.
type held struct {
	ids     map[int]key
	covered map[key]bool       // by an event or by the word that it is missing
	kinds   map[event.Kind]int // how many there are of each
}

// held reads all that is on the disk, acknowledged or not.
func (u *unit) held(ctx context.Context) (held, error) {
	h := held{map[int]key{}, map[key]bool{}, map[event.Kind]int{}}
	if err := u.look(ctx); err != nil {
		return h, err
	}
	for c := range u.chains {
		for after := uint64(0); ; {
			run, err := u.store.Read(ctx, c, after, 500, 1<<20)
			if errors.Is(err, sqlite.ErrNoChain) {
				break // a disk that was put back knows nothing of it
			}
			if err != nil {
				return h, fmt.Errorf("read %s after %d: %w", c, after, err)
			}
			if len(run.Entries) == 0 {
				break
			}
			at := run.First
			for _, e := range run.Entries {
				if id, ok := idOf(e.Encoded); ok {
					if k, twice := h.ids[id]; twice {
						return h, fmt.Errorf("event %d is on the disk twice: %v and %s/%d", id, k, c, at)
					}
					h.ids[id] = key{c, at}
				}
				if env, err := envelope.Parse(e.Encoded); err == nil {
					h.kinds[event.Kind(env.Kind)]++
				}
				for range e.Count() {
					h.covered[key{c, at}] = true
					at++
				}
			}
			after = run.Last()
		}
	}
	return h, nil
}

// copyDisk copies a disk as it is at one moment, as when a plug is pulled or a card is copied. What SQLite keeps in shared
// memory is not on the disk.
func copyDisk(from, to string) error {
	for range 100 {
		before, err := look(from)
		if err != nil {
			return err
		}
		files := map[string][]byte{}
		for name := range before {
			if files[name], err = os.ReadFile(filepath.Join(from, name)); err != nil {
				break
			}
		}
		after, err2 := look(from)
		if err != nil || err2 != nil || !maps.Equal(before, after) {
			continue // it was not one moment
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s does not stand still", from)
}

// look says how the files of a directory are.
func look(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && !strings.HasSuffix(e.Name(), "-shm") {
			out[e.Name()] = fmt.Sprint(info.Size(), info.ModTime().UnixNano())
		}
	}
	return out, nil
}

// grep returns the files under dir that hold a text in clear, in capitals or not, or in one of the forms in which it may
// have been packed: UTF-16, base64 at any place of a group of three, hexadecimal.
func grep(dir, text string) (found []string, err error) {
	needles := [][]byte{
		[]byte(strings.ToLower(text)), []byte(strings.ToLower(hex.EncodeToString([]byte(text)))),
		[]byte(strings.ToLower(strings.Join(strings.Split(text, ""), "\x00"))),
	}
	for skip := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", skip) + text))
		needles = append(needles, []byte(strings.ToLower(b[4:len(b)-4])))
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		b = bytes.ToLower(b)
		for _, n := range needles {
			if bytes.Contains(b, n) {
				found = append(found, path)
				break
			}
		}
		return err
	})
	return found, err
}
