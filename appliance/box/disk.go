package box

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"sportello.example/sync/health"
	"sportello.example/sync/sqldb"
)

// disk says whether something could not be stored for want of room. It is called for each event that was refused; the log
// says so of the first one, and how many they were when there is room again.
func (b *Box) disk(full bool) {
	if full {
		b.refused.Add(1)
		if !b.noRoom.Swap(true) {
			b.log.Error("the disk is full: events are refused, and nothing is printed that has to be proved; bring the line back, or make room on the disk")
		}
	} else if b.noRoom.Swap(false) {
		b.log.Warn("there is room on the disk again", "refused", b.refused.Swap(0))
	}
	b.showDisk()
}

// lookAtDisk finds out how much room there is. A disk that hangs does not keep the other lights from being set.
func (b *Box) lookAtDisk(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := b.queue.Look(ctx); err != nil && !errors.Is(err, context.Canceled) {
		b.log.Warn("room on the disk not known", "err", err)
	}
	if b.noRoom.Load() && b.queue.HasRoom(ctx) { // nobody may come for hours whose event would show it
		b.disk(false)
		return
	}
	b.showDisk()
}

// showDisk sets the light of the disk.
func (b *Box) showDisk() {
	state := b.queue.DiskState()
	switch {
	case b.noRoom.Load():
		b.board.Set(health.Disk, health.Down, "full")
	case state == "full", state == "high":
		b.board.Set(health.Disk, health.Slow, state)
	case state == "warn":
		b.board.Set(health.Disk, health.Up, state)
	default:
		b.board.Set(health.Disk, health.Up, "")
	}
}

// quiet leaves out of the log that something was not stored for want of room while it is known that there is none: every
// press of a button would say so again.
type quiet struct {
	slog.Handler

	noRoom *atomic.Bool
}

func (h *quiet) Handle(ctx context.Context, r slog.Record) error {
	if h.noRoom.Load() && forWantOfRoom(r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *quiet) WithAttrs(as []slog.Attr) slog.Handler {
	return &quiet{h.Handler.WithAttrs(as), h.noRoom}
}

func (h *quiet) WithGroup(name string) slog.Handler {
	return &quiet{h.Handler.WithGroup(name), h.noRoom}
}

// forWantOfRoom says whether a line of the log is about an error of a disk that is full.
func forWantOfRoom(r slog.Record) (is bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		is = ok && (full(err) || sqldb.Full(err))
		return !is
	})
	return is
}
