package dnssd

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Heard is what a Browser heard by multicast in the last minute.
type Heard struct {
	Packets int
	Hosts   int  // that sent them
	Own     bool // one of our own questions came back: multicast leaves and enters this machine
	Asked   int  // questions we sent, in packets
}

const (
	heardSlots = 12 // of five seconds
	heardSlot  = time.Minute / heardSlots
	maxHosts   = 1024
)

// hearing counts what comes and goes, for the last minute.
type hearing struct {
	mu    sync.Mutex
	slots [heardSlots]slot
	hosts map[netip.Addr]int64 // the slot in which each was heard last
	sent  [][]byte             // our latest questions
}

type slot struct {
	n              int64 // which five seconds, of all
	packets, asked int
	own            bool
}

// slot returns the numbers of this moment. The caller holds mu.
func (h *hearing) slot(now time.Time) *slot {
	n := now.UnixNano() / int64(heardSlot)
	s := &h.slots[n%heardSlots]
	if s.n != n {
		*s = slot{n: n}
		for a, last := range h.hosts {
			if last <= n-heardSlots {
				delete(h.hosts, a)
			}
		}
	}
	return s
}

func (h *hearing) packet(data []byte, from netip.Addr, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slot(now)
	s.packets++
	s.own = s.own || slices.ContainsFunc(h.sent, func(q []byte) bool { return slices.Equal(q, data) })
	if h.hosts == nil {
		h.hosts = map[netip.Addr]int64{}
	}
	if _, known := h.hosts[from]; known || len(h.hosts) < maxHosts {
		h.hosts[from] = s.n
	}
}

func (h *hearing) asked(question []byte, packets int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slot(now).asked += packets
	if h.sent = append(h.sent, question); len(h.sent) > 4 {
		h.sent = slices.Delete(h.sent, 0, 1)
	}
}

// Heard says what was heard in the last minute. It may be called from any goroutine.
func (b *Browser) Heard() Heard {
	h := &b.hearing
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := h.slot(b.Now()).n
	heard := Heard{Hosts: len(h.hosts)}
	for _, s := range h.slots {
		if s.n > newest-heardSlots {
			heard.Packets += s.packets
			heard.Asked += s.asked
			heard.Own = heard.Own || s.own
		}
	}
	return heard
}
