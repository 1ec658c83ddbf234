package uplink

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"sportello.example/sync/health"
	"sportello.example/sync/wire"
)

const (
	slow  = 2 * time.Second  // a ping that takes longer means that people are told that the line is slow
	busy  = 5 * time.Second  // between two looks, when nobody says otherwise
	again = 15 * time.Second // longest time between two looks while the line is down
)

// Pong is the hub's answer to a ping.
type Pong struct {
	wire.Ping
	Took time.Duration // from question to answer
}

// Monitor watches the line to the hub and sets the lights Hub and Registry. Make one with NewMonitor and set what is
// needed before Run.
type Monitor struct {
	Client *Client
	Board  *health.Board
	Now    func() time.Time

	// Every says how long to wait until the next look, give or take a fifth, asked before each: short while somebody
	// stands at a kiosk, long when nobody does, so that an idle line costs little. nil means 5 s.
	Every func() time.Duration

	Log *slog.Logger // nil: nothing is logged

	// OnPing, if set, is called with every answer of the hub, from Run, which waits for it.
	OnPing func(Pong)
	// OnUp, if set, is called when the line is back after an outage that lasted so long, and OnDown when it is lost.
	// Both are called from Run, which waits for them.
	OnUp   func(outage time.Duration)
	OnDown func()

	look chan struct{}
	once sync.Once
}

// Failed tells the monitor that a call to the hub failed: it looks at once instead of at its next turn. It never blocks.
func (m *Monitor) Failed() {
	m.init()
	select {
	case m.look <- struct{}{}:
	default:
	}
}

func (m *Monitor) init() { m.once.Do(func() { m.look = make(chan struct{}, 1) }) }

// Run tells the hub how the box is, and so asks whether the line is up, until ctx ends and returns nil then.
func (m *Monitor) Run(ctx context.Context) error {
	m.init()
	log := m.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var downSince time.Time // zero while the line is up, or was never tried
	for {
		start := m.Now()
		p, err := m.Client.Report(ctx)
		took := m.Now().Sub(start)
		switch {
		case ctx.Err() != nil: // the ping was cut short
		case err != nil:
			m.Board.Set(health.Hub, health.Down, "")
			// Nobody can say how the registry is, only that it cannot be asked.
			m.Board.Set(health.Registry, health.Unknown, "hub_down")
			if downSince.IsZero() {
				downSince = start
				log.WarnContext(ctx, "line to the hub is down", "err", err)
				if m.OnDown != nil {
					m.OnDown()
				}
			}
		default:
			if m.OnPing != nil {
				m.OnPing(Pong{Ping: p, Took: took})
			}
			m.Board.Set(health.Hub, upOrSlow(took), "")
			if p.ANPR {
				m.Board.Set(health.Registry, health.Up, "")
			} else {
				m.Board.Set(health.Registry, health.Down, "")
			}
			if !downSince.IsZero() {
				outage := max(0, m.Now().Sub(downSince)) // the clock may have been set back
				downSince = time.Time{}
				log.InfoContext(ctx, "line to the hub is up", "outage", outage)
				if m.OnUp != nil {
					m.OnUp(outage)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(m.pause(!downSince.IsZero())):
		case <-m.look:
		}
	}
}

// pause returns how long to wait until the next look.
func (m *Monitor) pause(down bool) time.Duration {
	every := busy
	if m.Every != nil {
		every = max(m.Every(), time.Millisecond)
	}
	if down {
		every = min(every, again)
	}
	// Boxes that were switched on together, or lost the hub together, do not ask together.
	return every*4/5 + rand.N(every*2/5+1)
}

func upOrSlow(took time.Duration) health.State {
	if took > slow {
		return health.Slow
	}
	return health.Up
}
