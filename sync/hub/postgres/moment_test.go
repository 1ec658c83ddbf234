package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/hub/storetest"
)

// moments opens what one hub knows of what is under way.
func moments(t *testing.T, dsn string, now func() time.Time) *postgres.Moments {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, postgres.Options{Now: now, Log: slog.New(slog.DiscardHandler), Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	m, err := s.Moments(bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMomentsConformance(t *testing.T) {
	storetest.Moments(t, func(t *testing.T, now func() time.Time) moment.Store { return moments(t, pgtest.New(t), now) })
}

func TestMomentsOfTwoHubs(t *testing.T) {
	dsn := pgtest.New(t)
	a, b := moments(t, dsn, time.Now), moments(t, dsn, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	sp := moment.Space{Name: "x"}
	put := func(value string) {
		t.Helper()
		err := a.Change(t.Context(), sp, "cookie-RSSMRA80A01Y100Z", func(e *moment.Entry, _ bool) error {
			e.Value, e.Until, e.Secret, e.SecretUntil = []byte(value), time.Now().Add(time.Minute), []byte("secret-RSSMRA80A01Y100Z"), time.Now().Add(time.Minute)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("first RSSMRA80A01Y100Z")
	// Until b listens it only looks.
	for limit := time.Now().Add(30 * time.Second); ; {
		changed, stop := b.Watch(sp, "cookie-RSSMRA80A01Y100Z")
		begin := time.Now()
		put("changed RSSMRA80A01Y100Z " + begin.String())
		<-changed
		stop()
		if time.Since(begin) < time.Second {
			break
		}
		if begin.After(limit) {
			t.Fatal("the other hub does not listen")
		}
	}
	fast := 0
	for i := range 5 {
		changed, stop := b.Watch(sp, "cookie-RSSMRA80A01Y100Z")
		begin := time.Now()
		put("changed RSSMRA80A01Y100Z " + strings.Repeat("x", i))
		<-changed
		stop()
		if time.Since(begin) < time.Second {
			fast++
		}
		if e, err := b.Read(t.Context(), sp, "cookie-RSSMRA80A01Y100Z"); err != nil || !strings.HasPrefix(string(e.Value), "changed") {
			t.Errorf("the other hub reads %q, %v", e.Value, err)
		}
	}
	if fast < 4 {
		t.Errorf("the other hub heard at once %d times of 5", fast)
	}
	dump := pgtest.SQL(t, dsn, "SELECT encode(key, 'escape'), part, encode(value, 'escape'), encode(secret, 'escape') FROM moment")
	if dump == "" || strings.Contains(dump, "RSSMRA") || strings.Contains(dump, "cookie") {
		t.Errorf("the database says %q", dump)
	}
	other, err := open(t, dsn).Moments(bytes.Repeat([]byte{6}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(t.Context(), sp, "cookie-RSSMRA80A01Y100Z"); err == nil || !strings.Contains(err.Error(), "master.key") {
		t.Errorf("a hub with another key: %v", err)
	}
}
