package moment

import (
	"bytes"
	"container/list"
	"context"
	"sync"
	"time"
)

// Memory keeps entries in memory. Make one with New.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	spaces  map[string]*space
	waiting map[name]map[chan struct{}]bool
}

// name names an entry.
type name struct{ space, key string }

// space is the entries of one space.
type space struct {
	entries map[string]*kept
	parts   map[string]*list.List // names of each part's entries, oldest first
	swept   time.Time
}

// kept is an entry and its place in its part.
type kept struct {
	Entry
	at *list.Element
}

var _ Store = (*Memory)(nil)

const (
	sweepEvery = 30 * time.Second // how often a space that is used forgets what is over
	sweepFull  = time.Second      // and one that is full: looking at all of it holds up everybody
)

// New returns an empty store in memory.
func New(now func() time.Time) *Memory {
	return &Memory{now: now, spaces: map[string]*space{}, waiting: map[name]map[chan struct{}]bool{}}
}

// space returns the entries of a space, those that are over left out every now and then. The caller holds mu.
func (m *Memory) space(s Space) *space {
	p := m.spaces[s.Name]
	if p == nil {
		p = &space{entries: map[string]*kept{}, parts: map[string]*list.List{}}
		m.spaces[s.Name] = p
	}
	if now := m.now(); now.Sub(p.swept) >= sweepEvery || now.Before(p.swept) {
		p.sweep(now)
	}
	return p
}

func (p *space) sweep(now time.Time) {
	p.swept = now
	for key := range p.entries {
		p.live(key, now)
	}
}

// live returns an entry, and forgets what is over of it.
func (p *space) live(key string, now time.Time) (Entry, bool) {
	k := p.entries[key]
	if k == nil {
		return Entry{}, false
	}
	e, ok := k.Live(now)
	if !ok {
		p.drop(key)
		return Entry{}, false
	}
	k.Entry = e
	return e, true
}

func (p *space) drop(key string) {
	k := p.entries[key]
	if k == nil {
		return
	}
	delete(p.entries, key)
	of := p.parts[k.Part]
	if of.Remove(k.at); of.Len() == 0 {
		delete(p.parts, k.Part)
	}
}

// names returns the names of a part's entries, oldest first, after those that are over were dropped.
func (p *space) names(part string, now time.Time) (out []string) {
	of := p.parts[part]
	if of == nil {
		return nil
	}
	for at := of.Front(); at != nil; {
		key, ok := at.Value.(string)
		at = at.Next()
		if _, live := p.live(key, now); ok && live {
			out = append(out, key)
		}
	}
	return out
}

// full reports whether there is no room for one more entry of a part, when gone of them make room.
func (p *space) full(s Space, part string, gone int, now time.Time) bool {
	over := func() bool {
		return s.Total > 0 && len(p.entries)-gone >= s.Total || s.PerPart > 0 && p.count(part)-gone >= s.PerPart
	}
	if over() && now.Sub(p.swept).Abs() >= sweepFull {
		p.sweep(now)
	}
	return over()
}

func (p *space) count(part string) int {
	if of := p.parts[part]; of != nil {
		return of.Len()
	}
	return 0
}

func (p *space) add(key string, e Entry) {
	p.drop(key)
	of := p.parts[e.Part]
	if of == nil {
		of = list.New()
		p.parts[e.Part] = of
	}
	p.entries[key] = &kept{Entry: e, at: of.PushBack(key)}
}

// clone keeps callers from changing what is stored.
func (e Entry) clone() Entry {
	e.Value, e.Secret = bytes.Clone(e.Value), bytes.Clone(e.Secret)
	return e
}

// Read implements Store.
func (m *Memory) Read(_ context.Context, s Space, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.space(s).live(key, m.now())
	if !ok {
		return Entry{}, ErrNone
	}
	return e.clone(), nil
}

// Change implements Store.
func (m *Memory) Change(_ context.Context, s Space, key string, do func(e *Entry, there bool) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	p := m.space(s)
	old, there := p.live(key, now)
	e := old.clone()
	if err := do(&e, there); err != nil {
		return err
	}
	e, keep := e.Live(now)
	switch {
	case there && keep:
		e.Part = old.Part
		p.entries[key].Entry = e.clone()
	case keep:
		if p.full(s, e.Part, 0, now) {
			return ErrFull
		}
		p.add(key, e.clone())
	default:
		p.drop(key)
	}
	m.wake(name{s.Name, key})
	return nil
}

// Add implements Store.
func (m *Memory) Add(_ context.Context, s Space, key string, e Entry, room func([]Named) ([]string, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, now := m.space(s), m.now()
	var others []Named
	for _, k := range p.names(e.Part, now) {
		others = append(others, Named{k, p.entries[k].clone()})
	}
	drop, err := room(others)
	if err != nil {
		return err
	}
	gone := 0
	for _, k := range drop {
		if _, ok := p.entries[k]; ok {
			gone++
		}
	}
	if p.full(s, e.Part, gone, now) {
		return ErrFull
	}
	for _, k := range drop {
		p.drop(k)
		m.wake(name{s.Name, k})
	}
	p.add(key, e.clone())
	m.wake(name{s.Name, key})
	return nil
}

// wake tells those who wait for an entry. The caller holds mu.
func (m *Memory) wake(n name) {
	for ch := range m.waiting[n] {
		select {
		case ch <- struct{}{}:
		default: // told already
		}
	}
}

// Watch implements Store.
func (m *Memory) Watch(s Space, key string) (changed <-chan struct{}, stop func()) {
	n, ch := name{s.Name, key}, make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting[n] == nil {
		m.waiting[n] = map[chan struct{}]bool{}
	}
	m.waiting[n][ch] = true
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiting[n], ch)
		if len(m.waiting[n]) == 0 {
			delete(m.waiting, n)
		}
	}
}

// Sweep implements Store.
func (m *Memory) Sweep(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.spaces {
		p.sweep(m.now())
	}
	return nil
}
