package content

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sportello.example/sync/desired"
)

// ErrInvalid means that what somebody wants boxes to have cannot be given to them; the text says why.
var ErrInvalid = errors.New("not valid")

// Office is where people say what boxes are to have. Desks on the same data notice within a second, in other processes
// too.
type Office struct {
	Store Store
	Now   func() time.Time
}

// AddNotice checks and stores a notice and returns it with its ID. It fails with ErrInvalid.
func (o *Office) AddNotice(ctx context.Context, n Notice) (Notice, error) {
	switch n.Severity {
	case desired.Info, desired.Warning, desired.Emergency:
	default:
		return Notice{}, fmt.Errorf("severity %q is none of info, warning, emergency: %w", n.Severity, ErrInvalid)
	}
	if strings.TrimSpace(n.Text["it"]) == "" {
		return Notice{}, fmt.Errorf("a notice needs its text in Italian: %w", ErrInvalid)
	}
	for lang, text := range n.Text {
		if !validLanguage(lang) {
			return Notice{}, fmt.Errorf("%q is not a language such as it or en: %w", lang, ErrInvalid)
		}
		if text = strings.TrimSpace(text); !desired.ValidText(text) {
			return Notice{}, fmt.Errorf("text in %q: 1 to %d characters on one line, without control characters: %w", lang, desired.MaxText, ErrInvalid)
		}
		n.Text[lang] = text
	}
	now := o.Now().UTC().Truncate(time.Second)
	n.From, n.Until = n.From.UTC().Truncate(time.Second), n.Until.UTC().Truncate(time.Second)
	if n.From.Unix() <= 0 {
		n.From = time.Time{}
	}
	switch {
	case n.Until.Unix() <= 0:
		n.Until = time.Time{}
	case !n.Until.After(now) || !n.Until.After(n.From):
		return Notice{}, fmt.Errorf("the notice would be over before it is seen: %w", ErrInvalid)
	case n.Until.Year() > 9999 || n.From.Year() > 9999:
		return Notice{}, fmt.Errorf("a date after the year 9999: %w", ErrInvalid)
	}
	k, err := o.Store.Kept(ctx)
	if err != nil {
		return Notice{}, fmt.Errorf("add notice: %w", err)
	}
	open := 0
	for _, other := range k.Notices {
		if other.Until.IsZero() || now.Before(other.Until) {
			open++
		}
	}
	if open >= desired.MaxNotices {
		return Notice{}, fmt.Errorf("there are %d notices already; take some back first: %w", open, ErrInvalid)
	}
	n.ID, n.Created = strings.ToLower(rand.Text()[:8]), now
	if err := o.Store.AddNotice(ctx, n); err != nil {
		return Notice{}, fmt.Errorf("add notice: %w", err)
	}
	return n, nil
}

// Require says which release of the boxes' program is the oldest that may follow documents from now on; "": every one.
// An older one goes on with the document that it has, and says so. It fails with ErrInvalid.
func (o *Office) Require(ctx context.Context, release string) error {
	if release != "" && !desired.ValidRelease(release) {
		return fmt.Errorf("%q is not a release such as v1.4.0: %w", release, ErrInvalid)
	}
	if err := o.Store.SetMinProgram(ctx, release); err != nil {
		return fmt.Errorf("require release %s: %w", release, err)
	}
	return nil
}

// validLanguage says whether s looks like a language tag (BCP 47).
func validLanguage(s string) bool {
	for i, part := range strings.Split(s, "-") {
		if part == "" || len(part) > 8 || i == 0 && len(part) > 3 {
			return false
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9' || i == 0) {
				return false
			}
		}
	}
	return len(s) <= 35
}

// PutFile makes boxes have a file under that name, all of them or one. It reads the file whole, and fails with
// ErrInvalid.
func (o *Office) PutFile(ctx context.Context, name string, box uint32, r io.Reader) (Item, error) {
	if !desired.ValidName(name) {
		return Item{}, fmt.Errorf("%q is not a name of letters, digits, dots and hyphens: %w", name, ErrInvalid)
	}
	b, err := io.ReadAll(io.LimitReader(r, desired.MaxBlob+1))
	if err != nil {
		return Item{}, fmt.Errorf("file %s: %w", name, err)
	}
	if len(b) > desired.MaxBlob {
		return Item{}, fmt.Errorf("file %s has more than %d MiB: %w", name, desired.MaxBlob>>20, ErrInvalid)
	}
	k, err := o.Store.Kept(ctx)
	if err != nil {
		return Item{}, fmt.Errorf("file %s: %w", name, err)
	}
	names := map[string]bool{name: true}
	for _, i := range k.Items {
		names[i.Name] = true
	}
	if len(names) > desired.MaxBlobs {
		return Item{}, fmt.Errorf("there are %d files already; remove some first: %w", len(names)-1, ErrInvalid)
	}
	sum := sha256.Sum256(b)
	item := Item{Name: name, Box: box, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(b)), Created: o.Now().UTC()}
	for n := 0; len(b) > 0; n++ {
		piece := b[:min(len(b), PartSize)]
		if err := o.Store.AddPart(ctx, item.SHA256, n, piece, item.Created); err != nil {
			return Item{}, fmt.Errorf("file %s: %w", name, err)
		}
		b = b[len(piece):]
	}
	if err := o.Store.PutItem(ctx, item); err != nil {
		return Item{}, fmt.Errorf("file %s: %w", name, err)
	}
	return item, nil
}

func publicOf(cfg Config) ed25519.PublicKey {
	pub, ok := cfg.Key.Public().(ed25519.PublicKey)
	if !ok {
		return nil
	}
	return pub
}
