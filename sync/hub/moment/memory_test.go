package moment_test

import (
	"testing"
	"time"

	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Moments(t, func(_ *testing.T, now func() time.Time) moment.Store { return moment.New(now) })
}
