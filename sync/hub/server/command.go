package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/firmware/release"
	"sportello.example/provisioning/enroll"
	"sportello.example/sync/hub/fleet"
)

// Options are what the commands of a hub need of the program they are in. The zero value is usable.
type Options struct {
	Name           string    // of the program in messages; "": hub
	Stdout, Stderr io.Writer // nil: those of the process
}

func (o *Options) fill() {
	if o.Name == "" {
		o.Name = "hub"
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
}

// Main runs the hub's commands with args and returns the exit code: 0 done, 1 failed, 2 wrong usage. It stops cleanly on
// SIGINT and SIGTERM.
func Main(args []string, o Options) int {
	o.fill()
	return program.Main(o.Name, args, o.Stderr, Command(o))
}

const about = `The municipality's hub: citizens log in at it with their phones, boxes in the branches
get certificates and deliver their events to it, and its page says how many people
were served where. Without a configuration it listens on loopback only.

  hub                                 run the hub
  hub box add --branch "Biblioteca Harar" --kiosks 2
                                      prepare a box: prints what to give it
  hub box list                        which boxes there are, what waits there and what is wrong
  hub alarm list                      what somebody should look at
  hub backup /mnt/backup --keep 14    copy the database; boxes keep what is in no copy
  hub restore FILE                    put a copy in its place, while no hub runs
  hub notice add --severity emergency --text "L'ufficio chiude alle 15"
                                      announce something on kiosks
  hub content put prices.json FILE    give boxes a file
  hub content require v1.4.0          say which release of theirs is the oldest that gets anything new
  hub key rotate                      give boxes another key to seal to
  hub import FILE…                    take in what boxes without a line sent on a USB stick

The configuration is one TOML file; flags win over it. Every field may be left out:

  public_address = "127.0.0.1:8081"   # where phones and the municipality come in
  public_url = "https://sportello.comune.example" # what they call it
  tls_cert = "/etc/sportello/tls.pem" # certificate for public_address …
  tls_key = "/etc/sportello/key.pem"  # … and its key; without them plain HTTP, on loopback only
  behind_proxy = true                 # plain HTTP elsewhere too: a proxy in front does the TLS
  box_address = "127.0.0.1:8443"      # where boxes come in; always TLS with the hub's own CA
  data = "/var/lib/sportello-hub"     # folder of database and keys: back it up
  database = "postgres://hub@db.comune.example/hub" # PostgreSQL in place of a file in data: for
                                      # several hubs at once, which share keys, ca and spid in data
  municipality = "Comune di Milano"   # name on the pages
  time_zone = "Europe/Rome"           # where days begin and end
  log = "text"                        # or "json"
  anpr_url = "https://anpr.comune.example" # service that issues certificates

  [spid]
  entity_id = "https://sportello.comune.example" # default: public_url
  idp_metadata = ["/etc/sportello/idps.xml"] # files or https addresses

  [spid.organization]                 # who answers for it
  name = "Comune di Milano"
  display_name = "Comune di Milano"
  url = "https://www.comune.milano.it"
  ipa_code = "c_f205"
  email = "spid@comune.example"
  phone = "+39020202"
  locality = "Milano"`

// flags are what the command line says on top of the configuration file.
type flags struct {
	file string
	over Config
}

func (f *flags) load(cmd *cobra.Command) (Config, error) {
	var c Config
	if f.file != "" {
		var err error
		if c, err = LoadConfig(f.file); err != nil {
			return Config{}, err
		}
	}
	for _, o := range []struct {
		flag     string
		to, from *string
	}{
		{"public-address", &c.PublicAddress, &f.over.PublicAddress},
		{"public-url", &c.PublicURL, &f.over.PublicURL},
		{"box-address", &c.BoxAddress, &f.over.BoxAddress},
		{"data", &c.Data, &f.over.Data},
		{"log", &c.Log, &f.over.Log},
	} {
		if cmd.Flags().Changed(o.flag) {
			*o.to = *o.from
		}
	}
	return c, nil
}

// Command returns the hub's commands. Their errors are for Main, or another program, to print.
func Command(o Options) *cobra.Command {
	o.fill()
	f := &flags{}
	serve := func(cmd *cobra.Command, _ []string) error {
		c, err := f.load(cmd)
		if err != nil {
			return err
		}
		return Run(cmd.Context(), c, program.Logger(c.Log, o.Stderr), nil)
	}
	root := &cobra.Command{
		Use: o.Name, Short: "The municipality's hub", Long: about, Args: program.NoArgs, RunE: serve,
		SilenceErrors: true, SilenceUsage: true,
	}
	p := root.PersistentFlags()
	p.StringVarP(&f.file, "config", "c", "", "configuration `file` (TOML)")
	p.StringVar(&f.over.PublicAddress, "public-address", "", "`address` for phones and the municipality (default 127.0.0.1:8081)")
	p.StringVar(&f.over.PublicURL, "public-url", "", "`URL` by which they call it")
	p.StringVar(&f.over.BoxAddress, "box-address", "", "`address` for boxes (default 127.0.0.1:8443)")
	p.StringVar(&f.over.Data, "data", "", "`folder` of database and keys")
	p.StringVar(&f.over.Log, "log", "", "`format` of the log: text or json (default text)")
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	root.SetFlagErrorFunc(program.FlagError)
	root.AddCommand(
		&cobra.Command{Use: "serve", Short: "Run the hub (what happens without a command)", Args: program.NoArgs, RunE: serve},
		boxCommand(f),
		noticeCommand(f),
		contentCommand(f),
		keyCommand(f),
		&cobra.Command{
			Use: "version", Short: "Print which release this is", Args: program.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), o.Name, release.Current())
				return err
			},
		},
	)
	root.AddCommand(alarmCommand(f))
	root.AddCommand(backupCommands(f)...)
	root.AddCommand(stickCommands(o, f)...)
	return root
}

// boxCommand returns the commands about boxes. They work beside a hub that is running.
func boxCommand(f *flags) *cobra.Command {
	with := func(cmd *cobra.Command, do func(*records, settings) error) error { return doRecords(f, cmd, do) }
	box := &cobra.Command{
		Use: "box", Short: "Add, list and shut out boxes", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &program.UsageError{Err: errors.New("what about boxes?"), Hint: fmt.Sprintf("“%s -h” lists what can be done", cmd.CommandPath())}
		},
	}

	var branch string
	var kiosks int
	var asJSON bool
	add := &cobra.Command{
		Use: "add --branch NAME", Short: "Prepare a box: print the one-time token it gets in with", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(r *records, _ settings) error {
				b, token, err := r.fleet.Add(cmd.Context(), branch, kiosks)
				if errors.Is(err, fleet.ErrBranch) {
					return &program.UsageError{Err: err, Hint: `name the branch as citizens know it: --branch "Biblioteca Harar"`}
				}
				if err != nil {
					return err
				}
				return printToken(cmd.OutOrStdout(), r, b, token, asJSON)
			})
		},
	}
	add.Flags().StringVar(&branch, "branch", "", "`name` of the branch as citizens know it")
	add.Flags().IntVar(&kiosks, "kiosks", 1, "`number` of kiosks in the branch")

	token := &cobra.Command{
		Use: "token NUMBER", Short: "Make a new one-time token for a box whose hardware was replaced", Args: oneNumber,
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(r *records, _ settings) error {
				number, err := boxNumber(args[0])
				if err != nil {
					return err
				}
				token, err := r.fleet.Token(cmd.Context(), number)
				if err != nil {
					return noSuchBox(err)
				}
				b, err := r.fleet.Box(cmd.Context(), number)
				if err != nil {
					return noSuchBox(err)
				}
				return printToken(cmd.OutOrStdout(), r, b, token, asJSON)
			})
		},
	}
	for _, c := range []*cobra.Command{add, token} {
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	}

	list := &cobra.Command{
		Use: "list", Short: "List all boxes: when they were last heard of, what waits, what is wrong", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(r *records, s settings) error {
				bs, err := r.fleet.Boxes(cmd.Context())
				if err != nil {
					return err
				}
				return printBoxes(cmd.OutOrStdout(), bs, s.place, time.Now(), asJSON)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	revoke := &cobra.Command{
		Use: "revoke NUMBER", Short: "Shut a box out, at once and for good", Args: oneNumber,
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(r *records, _ settings) error {
				number, err := boxNumber(args[0])
				if err != nil {
					return err
				}
				if err := r.fleet.Revoke(cmd.Context(), number); err != nil {
					return noSuchBox(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "box %d is shut out\n", number)
				return err
			})
		},
	}
	box.AddCommand(add, token, list, revoke)
	return box
}

func printToken(w io.Writer, r *records, b fleet.Box, token string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Box         uint32 `json:"box"`
			Branch      string `json:"branch"`
			Token       string `json:"token"`
			CA          string `json:"ca"` // path
			Fingerprint string `json:"fingerprint"`
		}{b.Number, b.Branch, token, r.caFile(), r.ca.Fingerprint()})
	}
	_, err := fmt.Fprintf(w, `box %d, %s

  token        %s
  CA file      %s
  fingerprint  %s

Give the box the token (good once, for %d days) and the CA file or its fingerprint.
The token is not stored here: “hub box token %d” makes another.
`, b.Number, b.Branch, token, r.caFile(), r.ca.Fingerprint(), int(fleet.TokenLife.Hours()/24), b.Number)
	return err
}

func oneNumber(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &program.UsageError{Err: fmt.Errorf("%s needs the number of one box", cmd.CommandPath()), Hint: "“hub box list” shows the numbers"}
	}
	return nil
}

func boxNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, &program.UsageError{Err: fmt.Errorf("%q is not the number of a box", s), Hint: "“hub box list” shows the numbers"}
	}
	return uint32(n), nil
}

func noSuchBox(err error) error {
	switch {
	case errors.Is(err, fleet.ErrUnknown):
		return &program.HintError{Err: err, Hint: "“hub box list” shows the numbers"}
	case errors.Is(err, enroll.ErrRevoked):
		return &program.HintError{Err: err, Hint: "“hub box add” prepares another"}
	}
	return err
}
