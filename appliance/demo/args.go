package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// doubleDashes lets the root's own flags be written with one dash too, "-kiosk ADDR" as well as "--kiosk ADDR". What
// follows a subcommand or "--" is left alone: those are other programs' flags.
func doubleDashes(root *cobra.Command, args []string) []string {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" || !strings.HasPrefix(a, "-") {
			return append(out, args[i:]...)
		}
		name, _, joined := strings.Cut(strings.TrimLeft(a, "-"), "=")
		flag := root.Flags().Lookup(name)
		if name == "help" {
			a = "--help"
		}
		if flag == nil {
			out = append(out, a)
			continue
		}
		if len(name) > 1 {
			a = "--" + strings.TrimLeft(a, "-")
		}
		out = append(out, a)
		if !joined && flag.Value.Type() != "bool" && i+1 < len(args) {
			i++
			out = append(out, args[i]) // the flag's value, whatever it looks like
		}
	}
	return out
}
