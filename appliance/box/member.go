package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/uplink"
)

// join makes the box a member of its hub, however long that takes, and keeps it one.
func (b *Box) join(ctx context.Context) error {
	if b.cfg.Hub == "" {
		b.log.Warn("no hub is configured: certificates cannot be asked for")
		<-ctx.Done()
		return nil
	}
	dir := filepath.Join(b.cfg.Data, "identity")
	id, err := identity.Load(dir)
	if errors.Is(err, identity.ErrNone) {
		id, err = identity.Create(dir)
	}
	if err != nil {
		return b.alone(ctx, fmt.Errorf("identity: %w", err))
	}
	client := &enroll.Client{Hub: b.cfg.Hub, Now: b.now, Log: b.log}
	if _, err := id.Enrolment(); errors.Is(err, identity.ErrNotEnrolled) {
		if err := b.enrol(ctx, client, id); err != nil || ctx.Err() != nil {
			return err
		}
	}
	up, err := uplink.New(b.cfg.Hub, id, uplink.Options{Now: b.now, Report: b.queue.report})
	if err != nil {
		return &program.UsageError{Err: err, Hint: "correct hub in the configuration file"}
	}
	if err := b.member(id, up); err != nil {
		return b.alone(ctx, err)
	}
	if err := b.queue.follow(id, b.held); err != nil {
		return b.alone(ctx, err)
	}
	if err := b.believe(id); err != nil {
		return b.alone(ctx, err)
	}
	b.queue.source.use(b.hub)
	monitor := &uplink.Monitor{
		Client: up, Board: b.board, Every: b.pace, Now: b.now, Log: b.log,
		OnPing: b.onPing,
		OnUp:   b.onUp,
		OnDown: b.onDown,
	}
	b.hub.failed.Store(new(monitor.Failed))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.relay.Run(ctx) })
	g.Go(func() error { return b.queue.follower.Load().Run(ctx) })
	g.Go(func() error { return monitor.Run(ctx) })
	g.Go(func() error { return client.KeepRenewed(ctx, id, time.Hour) })
	g.Go(func() error {
		for { // a renewal brings whatever has changed at the hub
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Minute):
			}
			if err := b.member(id, up); err != nil {
				b.log.Error("what the hub sent cannot be used; the box goes on with what it had", "err", err)
			}
		}
	})
	return g.Wait()
}

// alone serves on without a hub when only a person can help: what needs no hub must not suffer from it.
func (b *Box) alone(ctx context.Context, err error) error {
	b.log.Error("the box cannot be a member of its hub and serves without; if its identity is damaged, move that folder away and enrol anew with “hub box token NUMBER”, which keeps the box's number",
		"err", err)
	<-ctx.Done()
	return nil
}

// member takes up what the hub gave this box, if that is new.
func (b *Box) member(id *identity.Identity, up *uplink.Client) error {
	e, err := id.Enrolment()
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	keys, err := loginKeys(e)
	if err != nil {
		return err
	}
	var logins *crossdevice.Box
	if old := b.hub.in.Load(); old != nil {
		if reflect.DeepEqual(old.enrolment, e) {
			return nil
		}
		logins = old.logins // keeps its locks
		if old.enrolment.LoginEpoch != e.LoginEpoch {
			logins.Rekey(e.LoginEpoch, keys)
		}
	} else {
		logins = crossdevice.NewBox(crossdevice.BoxConfig{
			Number: e.Box, Epoch: e.LoginEpoch, Keys: keys, Now: b.now, ClockOK: b.clock.OK,
		})
	}
	b.hub.in.Store(&membership{id: id, enrolment: e, client: up, logins: logins})
	return b.queue.believe(id, e)
}

// believe takes up whom the box believes now.
func (b *Box) believe(id *identity.Identity) error {
	e, err := id.Enrolment()
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return b.queue.believe(id, e)
}

// pace is how long to wait until the line is looked at again: short while somebody is at a kiosk.
func (b *Box) pace() time.Duration {
	if b.desk.Busy() {
		return time.Duration(b.cfg.Intervals.Ping)
	}
	return time.Duration(b.cfg.Intervals.Quiet)
}

// held says whether a request for the desired state may wait at the hub.
func (b *Box) held() bool { return b.lineUp() }

// enrol asks the hub to let the box in until it does, ctx ends, or only a person can help.
func (b *Box) enrol(ctx context.Context, client *enroll.Client, id *identity.Identity) error {
	if b.cfg.Token == "" {
		b.log.Error("not enrolled: the configuration has no token; make one with “hub box add”, or with “hub box token NUMBER” for a box that the hub knows")
		<-ctx.Done()
		return nil
	}
	text := []byte(b.cfg.HubCA)
	if !strings.HasPrefix(b.cfg.HubCA, "sha256:") {
		var err error
		if text, err = os.ReadFile(b.cfg.HubCA); err != nil {
			return &program.UsageError{Err: fmt.Errorf("hub_ca: %w", err), Hint: "hub_ca is the path of the CA file, or sha256: and its fingerprint"}
		}
	}
	pin, err := enroll.ParsePin(text)
	if err != nil {
		return &program.UsageError{Err: fmt.Errorf("hub_ca: %w", err), Hint: "copy the CA file that “hub box add” names to the box"}
	}
	pause := time.Second
	for {
		err := client.Enrol(ctx, id, b.cfg.Token, pin)
		switch {
		case err == nil:
			b.log.Info("enrolled")
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopping is not a failure
		case errors.Is(err, enroll.ErrToken), errors.Is(err, enroll.ErrRevoked):
			b.log.Error("the hub does not let this box in; make a new token with “hub box token NUMBER”, which keeps the box's number", "err", err)
			<-ctx.Done()
			return nil
		}
		b.log.Warn("not enrolled yet", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Minute)
	}
}
