package content

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sportello.example/sync/desired"
)

// kept is a Kept with what follows from it. Most boxes are to have the same, so that documents are made once.
type kept struct {
	Kept
	special map[uint32]bool // boxes that something is for
	branch  map[string]bool // branches that something is for
	until   time.Time       // when the next notice is over, zero: none is
	sign    [][]byte

	mu   sync.Mutex
	made map[string]made // by branch, "" for branches that nothing is for
}

type made struct {
	doc  desired.Document // without a box
	core [32]byte
}

func newKept(k Kept, cfg Config, now time.Time) *kept {
	out := &kept{Kept: k, special: map[uint32]bool{}, branch: map[string]bool{}, made: map[string]made{}}
	out.sign = [][]byte{publicOf(cfg)}
	for _, p := range cfg.Also {
		out.sign = append(out.sign, p)
	}
	out.Notices = nil
	for _, n := range k.Notices {
		if !n.Until.IsZero() && !now.Before(n.Until) {
			continue
		}
		out.Notices = append(out.Notices, n)
		if n.Box != 0 {
			out.special[n.Box] = true
		}
		if n.Branch != "" {
			out.branch[n.Branch] = true
		}
		if !n.Until.IsZero() && (out.until.IsZero() || n.Until.Before(out.until)) {
			out.until = n.Until
		}
	}
	for _, i := range k.Items {
		if i.Box != 0 {
			out.special[i.Box] = true
		}
	}
	return out
}

// over says whether time alone has changed what boxes are to have.
func (k *kept) over(now time.Time) bool { return !k.until.IsZero() && !now.Before(k.until) }

// document returns what a box is to have, without a number or dates, and its core.
func (k *kept) document(box uint32, branch string) (desired.Document, [32]byte) {
	if k.special[box] {
		doc := k.make(box, branch)
		return doc, doc.Core()
	}
	if !k.branch[branch] {
		branch = ""
	}
	k.mu.Lock()
	m, ok := k.made[branch]
	if !ok {
		doc := k.make(0, branch)
		m = made{doc, doc.Core()}
		k.made[branch] = m
	}
	k.mu.Unlock()
	m.doc.Box = box
	return m.doc, m.core
}

// make collects what a box is to have. Box 0 is one that nothing is for in particular.
func (k *kept) make(box uint32, branch string) desired.Document {
	doc := desired.Document{Box: box, MinProgram: k.MinProgram, SealKeys: [][]byte{}, SignKeys: k.sign}
	for _, key := range k.Keys {
		doc.SealKeys = append(doc.SealKeys, key.Public)
	}
	for _, n := range k.Notices {
		if (n.Box == 0 || n.Box == box) && (n.Branch == "" || n.Branch == branch) {
			doc.Notices = append(doc.Notices, n.Notice)
		}
	}
	files := map[string]Item{}
	for _, i := range k.Items {
		if _, own := files[i.Name]; i.Box == box && box != 0 || i.Box == 0 && !own {
			files[i.Name] = i
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if i := files[name]; i.SHA256 != "" {
			doc.Content = append(doc.Content, desired.Blob{Name: name, SHA256: i.SHA256, Size: i.Size})
		}
	}
	return doc
}

// Pinned returns the items of its own that give a box exactly these files, whatever others have: for a Store's GoBack.
func Pinned(box uint32, files []desired.Blob, items []Item, now time.Time) []Item {
	var out []Item
	names := map[string]bool{}
	for _, b := range files {
		names[b.Name] = true
		out = append(out, Item{Name: b.Name, Box: box, SHA256: b.SHA256, Size: b.Size, Created: now})
	}
	for _, i := range items {
		if i.Box == 0 && i.SHA256 != "" && !names[i.Name] {
			out = append(out, Item{Name: i.Name, Box: box, Created: now})
		}
	}
	return out
}
