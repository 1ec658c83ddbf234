package main

import (
	"io"
	"slices"
	"testing"
)

func TestDoubleDashes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		in, want []string
	}{
		{"one dash becomes two", []string{"-kiosk", ":0", "-check"}, []string{"--kiosk", ":0", "--check"}},
		{"two dashes stay", []string{"--kiosk", ":0"}, []string{"--kiosk", ":0"}},
		{"a value may be joined", []string{"-hub=127.0.0.1:0"}, []string{"--hub=127.0.0.1:0"}},
		{"a value may look like a flag", []string{"-dir", "-check"}, []string{"--dir", "-check"}},
		{"shorthands stay", []string{"-v", "-h"}, []string{"-v", "-h"}},
		{"help may be spelled out", []string{"-help"}, []string{"--help"}},
		{"a subcommand's flags are its own", []string{"box", "-check", "serve"}, []string{"box", "-check", "serve"}},
		{"nothing is nothing", nil, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := doubleDashes(newRoot(io.Discard, io.Discard), tt.in); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
