package postgres_test

import (
	"context"
	"testing"
	"time"

	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/wire"
)

func TestReportsToTwoHubs(t *testing.T) {
	dsn, now := pgtest.New(t), time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	a, b := fleet.New(open(t, dsn), clock), fleet.New(open(t, dsn), clock)
	box, _, err := a.Add(t.Context(), "Harar", 1)
	if err != nil {
		t.Fatal(err)
	}
	say := func(f *fleet.Fleet, release string) {
		t.Helper()
		r := fleet.Report{Pending: fleet.PendingUnknown}
		if release != "" {
			r.Time, r.Queue = now.Add(-time.Hour), &wire.Report{Time: now.Add(-time.Hour), Release: release}
		}
		if err := f.Heard(t.Context(), box.Number, r); err != nil {
			t.Fatal(err)
		}
	}
	want := func(release string) {
		t.Helper()
		for i, f := range []*fleet.Fleet{a, b, fleet.New(open(t, dsn), clock)} {
			if got, err := f.Box(t.Context(), box.Number); err != nil || got.Report == nil || got.Report.Release != release || got.Drift != -time.Hour || !got.Contact.Equal(now) {
				t.Errorf("hub %d: %+v of %+v, %v; want what was said last, %s", i, got, got.Report, err, release)
			}
		}
	}
	say(a, "1")
	now = now.Add(70 * time.Second)
	say(a, "") // a ping, whose contact is stored
	want("1")
	now = now.Add(70 * time.Second)
	say(b, "2")
	want("2")
	now = now.Add(70 * time.Second)
	say(a, "")
	want("2")
}

func TestContactWithoutTheReplica(t *testing.T) {
	c := pgtest.Start(t)
	s := open(t, c.New(t))
	number, err := s.AddBox(t.Context(), fleet.Box{Branch: "Harar", Kiosks: 1}, [32]byte{1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.SQL(t, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'gone'")
	c.SQL(t, "postgres", "SELECT pg_reload_conf()")
	waitFor(t, "the setting", func() bool { return c.SQL(t, "postgres", "SHOW synchronous_standby_names") == "gone" })
	defer func() {
		c.SQL(t, "postgres", "ALTER SYSTEM RESET synchronous_standby_names")
		c.SQL(t, "postgres", "SELECT pg_reload_conf()")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.SaveContact(ctx, number, fleet.Contact{At: time.Now()}); err != nil {
		t.Errorf("contact: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := grow(ctx, s, legal, 1, time.Now()); err == nil {
		t.Error("an event is confirmed that no replica has")
	}
}
