package postgres_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/postgres/pgtest"
)

func TestOpenLooksAtTheDatabase(t *testing.T) {
	c := pgtest.Start(t)
	good, lazy, asked := c.New(t), c.New(t), c.New(t)
	c.SQL(t, "postgres", "ALTER DATABASE t2 SET synchronous_commit = off")
	at := func(off time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(off) } }
	for _, tt := range []struct {
		name, dsn string
		now       func() time.Time
		want      error
	}{
		{"sound", good, time.Now, nil},
		{"a clock a little off", good, at(20 * time.Second), nil},
		{"a clock that is ahead", good, at(40 * time.Second), postgres.ErrClock},
		{"a clock that is behind", good, at(-40 * time.Second), postgres.ErrClock},
		{"no fsync", pgtest.New(t), time.Now, postgres.ErrNotDurable},
		{"no waiting, by the database", lazy, time.Now, postgres.ErrNotDurable},
		{"no waiting, by the address", asked + "&synchronous_commit=off", time.Now, postgres.ErrNotDurable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := postgres.Open(t.Context(), tt.dsn, postgres.Options{Now: tt.now, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if n := c.SQL(t, "t2", "SELECT count(*) FROM pg_class WHERE relname = 'schema_version'"); n != "0" {
		t.Error("a hub that refuses has changed the database")
	}
}

func TestCheckKeys(t *testing.T) {
	dsn := pgtest.New(t)
	a, b := open(t, dsn), open(t, dsn)
	if err := a.CheckKeys(t.Context(), map[string][]byte{"token": {1}, "ca": {2}}); err != nil {
		t.Fatal(err)
	}
	if err := b.CheckKeys(t.Context(), map[string][]byte{"token": {1}, "ca": {2}}); err != nil {
		t.Errorf("the same: %v", err)
	}
	for range 2 {
		if err := b.CheckKeys(t.Context(), map[string][]byte{"token": {1}, "ca": {3}}); !errors.Is(err, postgres.ErrKeys) {
			t.Errorf("others: %v", err)
		}
	}
	if err := a.CheckKeys(t.Context(), map[string][]byte{"token": {1}, "ca": {2}}); err != nil {
		t.Errorf("the first again: %v", err)
	}
}
