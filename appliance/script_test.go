package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sportello.example/appliance/box"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"appliance": func() { os.Exit(box.Main(os.Args[1:], box.Options{})) },
	})
}

// TestScript runs the scripts of testdata/script, which read like a session at the terminal.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
