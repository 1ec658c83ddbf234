// Command demo plays the whole of Sportello on one machine: the box of a branch, the municipality's hub, and what lies
// outside both of them as simulators that speak the real protocols (a SPID identity provider, the registry ANPR, a
// printer announced by mDNS).
//
// Every part is a process of its own, made by starting this very program again with a hidden subcommand: box and hub
// are the same command trees that the programs appliance and hub consist of. The parent owns what stands between the
// parts and may break: the line from the box to the hub, and the eye of the "phone" on the kiosk's screen. A console
// page has the switches, the paper that came out, and the figures; -check plays the citizen itself and says whether
// all of it worked.
//
// It is a program apart from appliance and hub so that no simulator can ever be linked into either of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// "demo | head" shall end like Ctrl-C, with its folder removed: with somebody to notify, writing to a pipe that nobody
	// reads is an error and not the end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// now is the clock of the demo and of the simulators; the box has one of its own, see boxCommand.
func now() time.Time { return time.Now() }

// run is the program: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(doubleDashes(root, args))
	err := root.ExecuteContext(ctx)
	var quiet *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return quiet.code
	case errors.Is(err, errUsage):
		_, _ = fmt.Fprintf(stderr, "demo: error: %v\ndemo: hint: demo -h lists what it understands\n", err)
		return 2
	default:
		_, _ = fmt.Fprintf(stderr, "demo: error: %v\n", err)
		if h := hint(err); h != "" {
			_, _ = fmt.Fprintf(stderr, "demo: hint: %s\n", h)
		}
		return 1
	}
}

// exitError ends the program with a code when everything has been said already.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func hint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has that address; -kiosk, -hub and -console choose others, and port 0 picks a free one"
	case errors.Is(err, errPart):
		return "what the part said is in the folder log of -dir, and on the screen with -v"
	default:
		return ""
	}
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	o := options{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "demo",
		Short: "Sportello on one machine: box, hub, and simulators of everything around them",
		Long: `demo starts a branch's box, the municipality's hub, a SPID identity provider, the
registry ANPR and a printer, each as a process of its own, and a console page with
switches to break them. Nothing but this machine's loopback is used: no network, no
printer software and no phone are needed. Ctrl-C stops everything.`,
		Example: `  demo                      start, print the three addresses, wait for Ctrl-C
  demo -kiosk 127.0.0.1:0   take any free port for the kiosk
  demo -check               play the whole main job without a screen, exit 0 if it works`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: %q is not a word it knows", errUsage, args[0])
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return play(cmd.Context(), o)
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	f := root.Flags()
	f.StringVar(&o.kiosk, "kiosk", "127.0.0.1:8080", "`address` of the kiosk; port 0 picks a free one")
	f.StringVar(&o.hub, "hub", "127.0.0.1:8081", "`address` of the hub, for phones and for the municipality")
	f.StringVar(&o.console, "console", "127.0.0.1:8082", "`address` of the console")
	f.StringVar(&o.dir, "dir", "", "`folder` for databases, keys and logs; kept afterwards (default: a new one, removed afterwards)")
	f.BoolVar(&o.lan, "lan", false, "be seen on the real network: -kiosk may be an address that others reach, and the simulated\nprinter announces itself on every interface. Hub and identity provider stay on this machine:\nwhoever logs in does it here, with the console's phone")
	f.BoolVar(&o.check, "check", false, "play the main job without a screen: line up, line down, line restored; exit 0 only if all went well")
	f.IntVar(&o.sessions, "sessions", 0, "with -check: let this `number` of citizens more look around, and see what that does to memory")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show what the parts log")
	root.AddCommand(parts(stdout, stderr)...)
	return root
}
