package lan_test

import (
	"os"
	"testing"

	"sportello.example/appliance/lan/lantest"
)

// TestMain makes this process a box of its own: see package lantest.
func TestMain(m *testing.M) { os.Exit(lantest.Main(m)) }
