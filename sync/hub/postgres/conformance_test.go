package postgres_test

import (
	"testing"

	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/hub/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, pgtest.New(t)) })
}
