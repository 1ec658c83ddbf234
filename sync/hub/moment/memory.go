package moment

import (
	"bytes"
	"context"
	"slices"
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
	entries map[string]Entry
	parts   map[string][]string // names of each part's entries, oldest first
	swept   time.Time
}

var _ Store = (*Memory)(nil)

// sweepEvery is how often a space that is used forgets what is over.
const sweepEvery = 30 * time.Second

// New returns an empty store in memory.
func New(now func() time.Time) *Memory {
	return &Memory{now: now, spaces: map[string]*space{}, waiting: map[name]map[chan struct{}]bool{}}
}

// space returns the entries of a space, those that are over left out every now and then. The caller holds mu.
func (m *Memory) space(s Space) *space {
	p := m.spaces[s.Name]
	if p == nil {
		p = &space{entries: map[string]Entry{}, parts: map[string][]string{}}
		m.spaces[s.Name] = p
	}
	if now := m.now(); now.Sub(p.swept) >= sweepEvery || now.Before(p.swept) {
		p.sweep(now)
	}
	return p
}

func (p *space) sweep(now time.Time) {
	p.swept = now
	for key, e := range p.entries {
		live, ok := e.Live(now)
		if !ok {
			p.drop(key)
			continue
		}
		p.entries[key] = live
	}
}

func (p *space) drop(key string) {
	e, ok := p.entries[key]
	if !ok {
		return
	}
	delete(p.entries, key)
	p.parts[e.Part] = slices.DeleteFunc(p.parts[e.Part], func(k string) bool { return k == key })
	if len(p.parts[e.Part]) == 0 {
		delete(p.parts, e.Part)
	}
}

// full reports whether there is no room for one more entry of a part.
func (p *space) full(s Space, part string) bool {
	return s.PerPart > 0 && len(p.parts[part]) >= s.PerPart || s.Total > 0 && len(p.entries) >= s.Total
}

func (p *space) add(key string, e Entry) {
	p.drop(key)
	p.entries[key] = e
	p.parts[e.Part] = append(p.parts[e.Part], key)
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
	e, ok := m.space(s).entries[key].Live(m.now())
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
	old, there := p.entries[key].Live(now)
	e := old.clone()
	if err := do(&e, there); err != nil {
		return err
	}
	e, keep := e.Live(now)
	switch {
	case there && keep:
		e.Part = old.Part
		p.entries[key] = e.clone()
	case keep:
		p.drop(key) // one that is over
		if p.full(s, e.Part) {
			p.sweep(now)
		}
		if p.full(s, e.Part) {
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
	p := m.space(s)
	p.sweep(m.now())
	var others []Named
	for _, k := range p.parts[e.Part] {
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
	if s.PerPart > 0 && len(p.parts[e.Part])-gone >= s.PerPart || s.Total > 0 && len(p.entries)-gone >= s.Total {
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
