package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sportello.example/sync/hub/moment"
)

// one is for a statement that must write one row: when it did not, another hub was faster.
func one(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return errRace
	}
	return nil
}

// Run hears what other hubs change, until ctx ends, over a connection of its own. When that breaks it makes another:
// meanwhile, who waits finds out by looking.
func (m *Moments) Run(ctx context.Context) error {
	for {
		err := m.listen(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that ctx ended is why
		}
		m.store.log.WarnContext(ctx, "other hubs are not heard", "err", err, "retry_in", pollEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollEvery):
		}
	}
}

func (m *Moments) listen(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, m.store.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, listenMoment); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	m.wakeAll()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		m.wake(n.Payload)
	}
}

// Watch implements moment.Store.
func (m *Moments) Watch(s moment.Space, key string) (changed <-chan struct{}, stop func()) {
	name, ch := hex.EncodeToString(hashed(s, key)), make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting[name] == nil {
		m.waiting[name] = map[chan struct{}]bool{}
	}
	m.waiting[name][ch] = true
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				tell(ch)
			}
		}
	}()
	return ch, func() {
		close(done)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiting[name], ch)
		if len(m.waiting[name]) == 0 {
			delete(m.waiting, name)
		}
	}
}

func tell(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // told already
	}
}

func (m *Moments) wake(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ch := range m.waiting[name] {
		tell(ch)
	}
}

func (m *Moments) wakeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, chs := range m.waiting {
		for ch := range chs {
			tell(ch)
		}
	}
}
