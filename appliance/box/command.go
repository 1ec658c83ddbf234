package box

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/appliance/clock"
	"sportello.example/appliance/raster"
	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
)

// Main runs the box's commands with args and returns the exit code: 0 done, 1 failed, 2 wrong usage. It stops cleanly
// on SIGINT and SIGTERM.
func Main(args []string, o Options) int {
	err := o.fill()
	if err != nil {
		return program.Report(o.Stderr, o.Name, err)
	}
	return program.Main(o.Name, args, o.Stderr, Command(o))
}

// fill sets what is not set. It fails when the environment asks for a clock that this program does not have.
func (o *Options) fill() error {
	if o.Name == "" {
		o.Name = "appliance"
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Now != nil {
		return nil
	}
	var err error
	o.Now, err = clock.FromEnvironment(os.Getenv(clock.Variable), time.Now)
	switch {
	case errors.Is(err, clock.ErrRefused):
		return &program.UsageError{Err: err, Hint: "unset it; a program for tests is built with “go build -tags clockhook”"}
	case err != nil:
		return &program.UsageError{Err: err, Hint: "correct the file that " + clock.Variable + " names, or unset it"}
	}
	return nil
}

const about = `The box of a branch: it serves the kiosk's pages, finds the printer, and reports to the
municipality's hub when there is a line. Without a configuration it serves on
127.0.0.1:8080 what needs neither hub nor printer.

The configuration is one TOML file; flags win over it. Every field may be left out:

  listen = "0.0.0.0:80"            # address of the kiosk's pages
  data = "/var/lib/sportello"      # database and keys
  hub = "https://hub.example:8443" # the hub's box interface
  hub_ca = "/etc/sportello/ca.pem" # the hub's certificate authority
  token = "…"                      # one-time token of "hub box add"
  branch = "Biblioteca Harar"      # until the hub has told it
  kiosks = 2                       # until the hub has told it
  time_zone = "Europe/Rome"        # of the clocks people see
  hosts = ["sportello.local"]      # names the kiosk's browser calls the box by
  log = "text"                     # or "json"
  max_pages = 262144               # largest database, in pages of 4 KiB: keep it below the disk's size
  keep_days = 30                   # how long events are kept that the hub has, if no backup of it has them

  [[printer]]                      # a printer the branch has; the staff page adopts others
  uuid = "1a2b…"                   # as "appliance diagnose" shows it
  uri = "ipps://printer.local/ipp/print" # "": wait until it announces itself
  pins = ["…"]                     # SHA-256 of its TLS public keys; without them, one of these, or
                                   # it waits on the staff page until somebody types its paper's code:
  interface = "eth1"               # a network port that leads to this printer only
  risk = { by = "M. Rossi", why = "no TLS, replaced in spring", at = 2026-11-25, until = 2027-04-30 } # needs the uri

  [discovery]
  interfaces = ["eth0"]            # none: all
  announce = true                  # announce the box by mDNS
  host = "sportello-harar"         # .local: the name it answers for; "": from the branch's name

  [intervals]
  ping = "5s"                      # how often the hub is asked while somebody is at a kiosk
  quiet = "1m"                     # … and while nobody is
  probe = "30s"                    # how often printers are asked while nobody is at a kiosk
  idle = "2m30s"                   # when an abandoned session ends
  gather = "10s"                   # how long events that are not urgent wait to be sent together

A program built for tests (go build -tags clockhook) obeys SPORTELLO_CLOCK_FILE: a file
that says how far to move the clock ("+24h", "-10y3h") or what time it is (RFC 3339).
Any other refuses to start when it is set.`

// Command returns the box's commands. Errors are printed by Main.
func Command(o Options) *cobra.Command {
	if err := o.fill(); err != nil { // Main has said so before
		return &cobra.Command{Use: o.Name, RunE: func(*cobra.Command, []string) error { return err }, SilenceErrors: true, SilenceUsage: true}
	}
	var (
		file  string
		flags Config
	)
	load := func(cmd *cobra.Command) (Config, error) {
		var c Config
		if file != "" {
			var err error
			if c, err = LoadConfig(file); err != nil {
				return Config{}, err
			}
		}
		if cmd.Flags().Changed("listen") {
			c.Listen = flags.Listen
		}
		if cmd.Flags().Changed("data") {
			c.Data = flags.Data
		}
		if cmd.Flags().Changed("log") {
			c.Log = flags.Log
		}
		return c, c.defaults()
	}
	serve := func(cmd *cobra.Command, _ []string) error {
		c, err := load(cmd)
		if err != nil {
			return err
		}
		if err := noCoreDumps(); err != nil {
			return fmt.Errorf("core dumps: %w", err)
		}
		return Run(cmd.Context(), c, o.Now, program.Logger(c.Log, o.Stderr))
	}
	root := &cobra.Command{
		Use: o.Name, Short: "The box of a branch", Long: about, Args: program.NoArgs, RunE: serve,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration `file` (TOML)")
	root.PersistentFlags().StringVar(&flags.Listen, "listen", "", "`address` of the kiosk's pages (default 127.0.0.1:8080)")
	root.PersistentFlags().StringVar(&flags.Data, "data", "", "`folder` of the database and the keys")
	root.PersistentFlags().StringVar(&flags.Log, "log", "", "`format` of the log: text or json (default text)")
	root.SetIn(o.Stdin)
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	root.SetFlagErrorFunc(program.FlagError)
	root.AddCommand(
		&cobra.Command{Use: "serve", Short: "Serve the kiosk's pages (what happens without a command)", Args: program.NoArgs, RunE: serve},
		diagnoseCommand(o, load),
		syncCommand(o, load),
		staffCommand(o, load),
		exportCommand(o, load),
		importCommand(o, load),
		&cobra.Command{
			Use: "version", Short: "Say which release this is", Args: program.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(o.Stdout, release.Current())
				return err
			},
		},
		&cobra.Command{
			Use: "raster", Short: "Draw a PDF (the box calls itself with this)", Hidden: true, Args: program.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return raster.Child(cmd.Context(), o.Stdin, o.Stdout) },
		},
	)
	return root
}
