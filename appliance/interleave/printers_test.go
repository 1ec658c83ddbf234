package interleave_test

import (
	"fmt"
	"net"
	"sync"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/kiosk/staff"
)

// machine is a printer and what is wrong with it.
type machine struct {
	*ipptest.Printer
	uuid string

	mu   sync.Mutex
	pins []string // as adopted
}

// machine makes printer i, as luck has it of one or another make.
func (t *town) machine(i int, luck *luck) *machine {
	addr := fmt.Sprintf("192.0.2.%d:631", 10+i)
	uuid := fmt.Sprintf("0f2c8a2e-0000-4000-8000-%012d", i)
	m := &machine{uuid: uuid, Printer: ipptest.New(ipptest.Config{
		Name: fmt.Sprintf("Sala %d", i), UUID: uuid, TLS: i == 0 && t.how.tls, PageTime: luck.between(50*time.Millisecond, 2*time.Second),
		Listen: func() (net.Listener, error) { return t.net.Listen(addr) }, Now: time.Now,
	})}
	m.StickyCancel(luck.one(2))
	m.AbortOnCut(luck.one(3))
	m.Forget(luck.one(8))
	m.Streaming(luck.one(6))
	m.Count([]ipptest.Counting{ipptest.CountsSheets, ipptest.CountsSheets, ipptest.CountsSheets, ipptest.CountsNothing, ipptest.CountsNot}[luck.n(5)])
	m.OnSheet(func(s ipptest.Sheet) {
		t.ledger.sheet(uuid, s)
		m.Take()
	})
	m.SetPaper(100_000)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	m.pins = m.Pins()
	return m
}

func (m *machine) adopted() staff.Adopted {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := staff.Adopted{
		UUID: m.uuid, Name: "Sala", URI: m.URI(), Keys: m.pins, Link: staff.LinkTLS, PDF: true, By: "configuration",
		At: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if len(m.pins) == 0 {
		a.Link, a.Risk = staff.LinkRisk, &staff.Risk{By: "x", Why: "y", At: a.At, Until: a.At.AddDate(0, 11, 0)}
	}
	return a
}

// adopt is what staff does after the printer has got another key.
func (m *machine) adopt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pins = m.Pins()
}

// strange reports whether the printer shows other keys than the adopted ones.
func (m *machine) strange() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pins) > 0 && m.pins[0] != m.Pin()
}

// trouble has things go wrong with a printer, one after the other, and mends them.
func (t *town) trouble(m *machine) {
	luck := t.luck("printer " + m.uuid)
	rest := 70 * time.Second
	if t.how.rough {
		rest = 15 * time.Second
	}
	for pause(luck.between(rest/14, rest), t.calm) {
		short := luck.between(200*time.Millisecond, 45*time.Second)
		if luck.one(12) {
			short = luck.between(time.Minute, 5*time.Minute)
		}
		kind := luck.n(100)
		switch {
		case kind < 15:
			t.ledger.happens(m.uuid, "out of paper")
			m.SetPaper(luck.n(2))
			t.pause(m, short)
			m.SetPaper(100_000)
		case kind < 25:
			t.ledger.happens(m.uuid, "jams")
			m.Jam(true)
			t.pause(m, short)
			m.Jam(false)
		case kind < 35:
			t.ledger.happens(m.uuid, "jams in a document")
			m.JamAfter(1 + luck.n(2))
			t.pause(m, short)
			m.JamAfter(0)
			m.Jam(false)
		case kind < 40:
			t.ledger.happens(m.uuid, "covers")
			m.Cover(true)
			t.pause(m, short)
			m.Cover(false)
		case kind < 50:
			t.ledger.happens(m.uuid, "cables pulled")
			_ = m.Gone(true)
			t.pause(m, short)
			t.must(m.Gone(false))
		case kind < 55:
			t.ledger.happens(m.uuid, "silences")
			m.Freeze(true)
			t.pause(m, min(short, 30*time.Second))
			m.Freeze(false)
		case kind < 70:
			t.ledger.happens(m.uuid, "connections cut")
			m.CutAfter([]int{0, 1, 40, 300, 550, 50_000, 100_000}[luck.n(7)])
			t.pause(m, short)
			m.CutAfter(-1)
		case kind < 85:
			t.ledger.happens(m.uuid, "answers lost")
			m.LoseAnswer([]string{"Create-Job", "Create-Job", "Send-Document", "Cancel-Job", "Get-Job-Attributes", "Validate-Job"}[luck.n(6)])
		case kind < 93:
			t.ledger.happens(m.uuid, "printer restarts")
			t.must(m.Restart())
		case kind < 97:
			t.ledger.happens(m.uuid, "busy")
			m.Busy(true)
			t.pause(m, short)
			m.Busy(false)
		case len(m.Pins()) > 0:
			t.ledger.happens(m.uuid, "keys changed")
			t.must(m.NewKey())
			t.pause(m, short)
		}
	}
}

// pause lets trouble last.
func (t *town) pause(m *machine, d time.Duration) {
	pause(d, t.calm)
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	t.ledger.note("printer %s is mended", last(m.uuid))
}

func (t *town) must(err error) {
	if err != nil {
		t.Error(err)
	}
}
