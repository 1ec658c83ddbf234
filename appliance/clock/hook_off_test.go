//go:build !clockhook

package clock_test

import (
	"errors"
	"testing"
	"time"

	"sportello.example/appliance/clock"
)

func TestEnvironment(t *testing.T) {
	if f, err := clock.FromEnvironment("", time.Now); err != nil || f == nil {
		t.Errorf("not set: %v", err)
	}
	if _, err := clock.FromEnvironment("/nowhere", time.Now); !errors.Is(err, clock.ErrRefused) {
		t.Errorf("a program that was not built for tests obeys: %v", err)
	}
}
