package faults_test

import (
	"testing"

	"sportello.example/appliance/loadtest"
	"sportello.example/sync/hub/hubtest"
)

func TestChild(t *testing.T) {
	loadtest.BeChild(t, map[string]loadtest.Role{"writer": writer, "box": killedBox, "hub": hubtest.Hub})
}
