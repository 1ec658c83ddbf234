package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/sync/errgroup"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk/staff"
	"sportello.example/provisioning/durable"
)

// nameFile holds the names under which the box is found, once it had to take others than it wanted.
const nameFile = "name"

// names are what a box is called on the branch's network.
type names struct {
	Instance string `json:"instance"` // for people: "Sportello Biblioteca Harar"
	Host     string `json:"host"`     // "sportello-harar", without ".local"
}

// callsign keeps the box's names. Another machine may have had them first: then the box has others, and keeps those, so
// that kiosks that were pointed at them find it tomorrow.
type callsign struct {
	dir    string
	wanted names

	mu  sync.Mutex
	now names
}

func newCallsign(dir, branch, host string) (*callsign, error) {
	c := &callsign{dir: dir, wanted: names{Instance: strings.TrimSpace("Sportello " + branch), Host: host}}
	if c.wanted.Host == "" {
		c.wanted.Host = hostName("sportello " + branch)
	}
	c.now = c.wanted
	b, err := os.ReadFile(filepath.Join(dir, nameFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return nil, fmt.Errorf("the box's name: %w", err)
	}
	var kept struct {
		Wanted, Now names
	}
	// A damaged file, or one of another branch, says nothing: the box begins with what it wants.
	if json.Unmarshal(b, &kept) == nil && kept.Wanted == c.wanted && kept.Now.Instance != "" && kept.Now.Host != "" {
		c.now = kept.Now
	}
	return c, nil
}

// names returns what the box is called now.
func (c *callsign) names() names {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// rename keeps the names that the box had to take. It reports whether they are new.
func (c *callsign) rename(instance, host string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == (names{instance, host}) {
		return false, nil
	}
	c.now = names{instance, host}
	b, err := json.Marshal(struct{ Wanted, Now names }{c.wanted, c.now})
	if err != nil {
		return true, err
	}
	return true, durable.Write(filepath.Join(c.dir, nameFile), b)
}

// hostName makes a name of one DNS label of what people call a branch: "Sportello Città Studi" → "sportello-citta-studi".
func hostName(text string) string {
	plain := strings.NewReplacer("à", "a", "á", "a", "è", "e", "é", "e", "ì", "i", "í", "i", "ò", "o", "ó", "o", "ù", "u", "ú", "u")
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLower(r) || unicode.IsDigit(r)) {
			return r
		}
		return ' '
	}, plain.Replace(strings.ToLower(text)))
	name = strings.Join(strings.Fields(name), "-")
	if len(name) > 55 { // leaves room for "-2" in the 63 bytes of a label
		name = strings.TrimRight(name[:55], "-")
	}
	return name
}

// announce lets kiosks, and whoever looks for the box, find it: by its name, and as a web server.
func (b *Box) announce(ctx context.Context, port int) error {
	n := b.callsign.names()
	g, ctx := errgroup.WithContext(ctx)
	for _, typ := range []string{"_http._tcp", "_sportello._tcp"} {
		g.Go(func() error {
			err := dnssd.Announce(ctx, dnssd.Announcement{
				Instance: n.Instance, Type: typ, Host: n.Host, Claim: true, Port: port, TXT: map[string]string{"path": "/"},
				Interfaces: b.cfg.Discovery.Interfaces, Log: b.log, Now: b.now, Renamed: b.renamed,
			})
			if err != nil {
				b.log.Error("box not announced", "type", typ, "err", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// renamed takes up that another machine has the box's name.
func (b *Box) renamed(instance, host string) {
	old := b.callsign.names()
	changed, err := b.callsign.rename(instance, host)
	if err != nil {
		b.log.Error("the box's new name is not kept: it may have another one after a restart", "err", err)
	}
	if changed {
		b.alarm(renaming(old, names{instance, host}))
	}
}

// renaming is what staff are told when the box has taken another name: the one by which kiosks call it, if that is new.
func renaming(old, now names) staff.Alarm {
	a := staff.Alarm{Kind: staff.AlarmName, Subject: old.Instance, Old: old.Host + ".local", New: now.Host + ".local"}
	if old.Host == now.Host {
		a.Old, a.New = old.Instance, now.Instance
	}
	a.Name = a.Old
	return a
}
