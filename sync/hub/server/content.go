package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
)

// doRecords runs do with the records of the configured data folder. A hub may be running on them.
func doRecords(f *flags, cmd *cobra.Command, do func(*records, settings) error) error {
	c, err := f.load(cmd)
	if err != nil {
		return err
	}
	s, err := c.settings()
	if err != nil {
		return err
	}
	r, err := s.openRecords(cmd.Context(), time.Now)
	if err != nil {
		return err
	}
	return errors.Join(do(r, s), r.Close())
}

func office(r *records) *content.Office { return &content.Office{Store: r.store, Now: time.Now} }

// groupCommand returns a command that is nothing without one of its own.
func groupCommand(use, short, about string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &program.UsageError{Err: fmt.Errorf("what about %s?", about), Hint: fmt.Sprintf("“%s -h” lists what can be done", cmd.CommandPath())}
		},
	}
}

// noticeCommand returns the commands about what kiosks announce. They work beside a hub that is running, whose boxes
// hear of it within two seconds.
func noticeCommand(f *flags) *cobra.Command {
	var severity, text, english, branch, from, until string
	var box uint32
	var asJSON bool
	add := &cobra.Command{
		Use: "add --text TEXT", Short: "Announce something on kiosks", Args: program.NoArgs,
		Long: `Announce something on kiosks: on all of them, those of one branch, or those of one box.

  info        on the first page
  warning     on every page
  emergency   on every page, at once, and read out by screen readers`,
		Example: `  hub notice add --severity emergency --text "Allerta meteo: l'ufficio chiude alle 15" --until 18:00
  hub notice add --branch "Biblioteca Harar" --text "Lunedì chiuso" --text-en "Closed on Monday" --until 2026-12-08`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doRecords(f, cmd, func(r *records, s settings) error {
				n := content.Notice{
					Notice: desired.Notice{Severity: desired.Severity(severity), Text: map[string]string{"it": text}}, Branch: branch, Box: box,
				}
				if english != "" {
					n.Text["en"] = english
				}
				var err error
				if n.From, err = when(from, time.Now().In(s.place), false); err != nil {
					return &program.UsageError{Err: fmt.Errorf("--from: %w", err), Hint: whenHint}
				}
				if n.Until, err = when(until, time.Now().In(s.place), true); err != nil {
					return &program.UsageError{Err: fmt.Errorf("--until: %w", err), Hint: whenHint}
				}
				if err := known(cmd.Context(), r, branch, box); err != nil {
					return err
				}
				if n, err = office(r).AddNotice(cmd.Context(), n); err != nil {
					return invalid(err)
				}
				if asJSON {
					return printNotices(cmd.OutOrStdout(), []content.Notice{n}, s.place, true)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "notice %s is announced: boxes with a line show it within seconds, others when they have one\n", n.ID)
				return err
			})
		},
	}
	fl := add.Flags()
	fl.StringVar(&severity, "severity", string(desired.Info), "`how` grave: info, warning or emergency")
	fl.StringVar(&text, "text", "", "what it says, in Italian: `text` of 300 characters at most")
	fl.StringVar(&english, "text-en", "", "the same in English")
	fl.StringVar(&branch, "branch", "", "`name` of the branch it is for (default: all)")
	fl.Uint32Var(&box, "box", 0, "`number` of the box it is for (default: all)")
	fl.StringVar(&from, "from", "", "`time` from which it is shown (default: now)")
	fl.StringVar(&until, "until", "", "`time` until which it is shown (default: until it is removed)")
	fl.BoolVar(&asJSON, "json", false, "print JSON for programs")

	var listJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List what is announced, or will be", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doRecords(f, cmd, func(r *records, s settings) error {
				k, err := r.store.Kept(cmd.Context())
				if err != nil {
					return err
				}
				now := time.Now()
				open := slices.DeleteFunc(k.Notices, func(n content.Notice) bool { return !n.Until.IsZero() && !now.Before(n.Until) })
				return printNotices(cmd.OutOrStdout(), open, s.place, listJSON)
			})
		},
	}
	list.Flags().BoolVar(&listJSON, "json", false, "print JSON for programs")
	remove := &cobra.Command{
		Use: "remove ID", Short: "Take an announcement back", Args: oneName("the ID of one notice", "“hub notice list” shows the IDs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return doRecords(f, cmd, func(r *records, _ settings) error {
				err := r.store.RemoveNotice(cmd.Context(), args[0], time.Now())
				if errors.Is(err, content.ErrNoNotice) {
					return &program.HintError{Err: fmt.Errorf("%s: %w", args[0], err), Hint: "“hub notice list” shows the IDs"}
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "notice %s is taken back\n", args[0])
				return err
			})
		},
	}
	root := groupCommand("notice", "Announce something on kiosks", "notices")
	root.AddCommand(add, list, remove)
	return root
}

const whenHint = "write 18:00, 2026-12-08, “2026-12-08 18:00”, or 2h for two hours from now"

// when reads a time as people write it; end says that a day alone means its end. "" is the zero time.
func when(s string, now time.Time, end bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse("15:04", s); err == nil {
		y, m, d := now.Date()
		return time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, now.Location()), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time", s)
}

// known fails unless there is a box with that number, and one in that branch, where these are given.
func known(ctx context.Context, r *records, branch string, box uint32) error {
	if box != 0 {
		if _, err := r.fleet.Box(ctx, box); err != nil {
			return noSuchBox(err)
		}
	}
	if branch == "" {
		return nil
	}
	bs, err := r.fleet.Boxes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(bs, func(b fleet.Box) bool { return b.Branch == branch }) {
		return &program.UsageError{Err: fmt.Errorf("no box is in a branch called %q", branch), Hint: "“hub box list” shows how branches are called"}
	}
	return nil
}

// invalid says that what was wanted cannot be had.
func invalid(err error) error {
	if errors.Is(err, content.ErrInvalid) {
		return &program.UsageError{Err: err}
	}
	return err
}

// oneName accepts one argument.
func oneName(what, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &program.UsageError{Err: fmt.Errorf("%s needs %s", cmd.CommandPath(), what), Hint: hint}
		}
		return nil
	}
}

// audience says for whom something is.
func audience(branch string, box uint32) string {
	switch {
	case box != 0 && branch != "":
		return fmt.Sprintf("box %d if in %s", box, branch)
	case box != 0:
		return fmt.Sprintf("box %d", box)
	case branch != "":
		return branch
	}
	return "all"
}

func printNotices(out io.Writer, ns []content.Notice, place *time.Location, asJSON bool) error {
	if asJSON {
		type row struct {
			desired.Notice
			Branch  string    `json:"branch,omitempty"`
			Box     uint32    `json:"box,omitempty"`
			Created time.Time `json:"created"`
		}
		rows := make([]row, len(ns))
		for i, n := range ns {
			rows[i] = row{n.Notice, n.Branch, n.Box, n.Created}
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(rows)
	}
	if len(ns) == 0 {
		_, err := fmt.Fprintln(out, "nothing is announced: “hub notice add” does it")
		return err
	}
	at := func(t time.Time, never string) string {
		if t.IsZero() {
			return never
		}
		return t.In(place).Format("2006-01-02 15:04")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSEVERITY\tFOR\tFROM\tUNTIL\tLANGUAGES\tTEXT")
	for _, n := range ns {
		var languages []string
		for l := range n.Text {
			languages = append(languages, l)
		}
		slices.Sort(languages)
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.ID, n.Severity, audience(n.Branch, n.Box), at(n.From, "now"), at(n.Until, "removed"),
			strings.Join(languages, ","), n.Text["it"])
	}
	return w.Flush()
}

// contentCommand returns the commands about the files that boxes are to have.
func contentCommand(f *flags) *cobra.Command {
	var box uint32
	put := &cobra.Command{
		Use: "put NAME FILE", Short: "Give boxes a file, in place of the one of that name",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &program.UsageError{Err: fmt.Errorf("%s needs a name and a file", cmd.CommandPath()), Hint: "hub content put prices.json ./prices.json"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := os.Open(args[1])
			if err != nil {
				return &program.UsageError{Err: err, Hint: "name a file that this user can read"}
			}
			defer func() { _ = in.Close() }() // only read
			return doRecords(f, cmd, func(r *records, _ settings) error {
				if err := known(cmd.Context(), r, "", box); err != nil {
					return err
				}
				i, err := office(r).PutFile(cmd.Context(), args[0], box, in)
				if err != nil {
					return invalid(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s for %s: %d bytes, SHA-256 %s\n", i.Name, audience("", i.Box), i.Size, i.SHA256)
				return err
			})
		},
	}
	var listJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List the files that boxes are to have", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doRecords(f, cmd, func(r *records, s settings) error {
				k, err := r.store.Kept(cmd.Context())
				if err != nil {
					return err
				}
				return printItems(cmd.OutOrStdout(), k.Items, s.place, listJSON)
			})
		},
	}
	list.Flags().BoolVar(&listJSON, "json", false, "print JSON for programs")
	var everything bool
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take a file back", Long: "Take a file back; with --box, what was said for that box: it has then what all have.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && !everything || len(args) == 0 && everything && box != 0 {
				return nil
			}
			return &program.UsageError{Err: fmt.Errorf("%s needs the name of one file, or --box and --all", cmd.CommandPath()), Hint: "“hub content list” shows the names"}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return doRecords(f, cmd, func(r *records, _ settings) error {
				name := strings.Join(args, "")
				err := r.store.RemoveItem(cmd.Context(), name, box, time.Now())
				if errors.Is(err, content.ErrNoItem) {
					return &program.HintError{Err: fmt.Errorf("%s for %s: %w", name, audience("", box), err), Hint: "“hub content list” shows the files"}
				}
				if err != nil {
					return err
				}
				if name == "" {
					name = "all"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s for %s: taken back\n", name, audience("", box))
				return err
			})
		},
	}
	remove.Flags().BoolVar(&everything, "all", false, "all that was said for that box")
	versions := &cobra.Command{
		Use: "versions --box NUMBER", Short: "List the documents that a box was given, newest first", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doRecords(f, cmd, func(r *records, s settings) error {
				if err := known(cmd.Context(), r, "", box); err != nil {
					return err
				}
				vs, err := r.store.Versions(cmd.Context(), box)
				if err != nil {
					return err
				}
				return printVersions(cmd.OutOrStdout(), vs, s.place)
			})
		},
	}
	var to uint64
	rollback := &cobra.Command{
		Use: "rollback --box NUMBER --to VERSION", Short: "Let a box go back to the files of an earlier document, once", Args: program.NoArgs,
		Long: `Let a box go back to the files of an earlier document, once. Boxes refuse what is older
than what they had; this one gets signed leave. Notices and keys stay as they are now, and
the box keeps these files until “hub content remove --box NUMBER --all”.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if box == 0 || to == 0 {
				return &program.UsageError{Err: errors.New("--box and --to are needed"), Hint: "“hub content versions --box NUMBER” shows what there is to go back to"}
			}
			return doRecords(f, cmd, func(r *records, _ settings) error {
				if err := known(cmd.Context(), r, "", box); err != nil {
					return err
				}
				return goBack(cmd, r, box, to)
			})
		},
	}
	rollback.Flags().Uint64Var(&to, "to", 0, "`version` to go back to")
	require := &cobra.Command{
		Use: "require [RELEASE]", Short: "Say which release of the box's program is the oldest that gets anything new",
		Long: `Say which release of the box's program is the oldest that may follow documents: notices,
files and keys. A box with an older one goes on with the document that it has, says so in its
log, and stands in “hub box list” with that document's version, until it is updated. So a
notice does not reach it either. Without RELEASE the command says what is required; an empty
one, "", lets every box in again.`,
		Example: "  hub content require v1.4.0\n  hub content require \"\"",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &program.UsageError{Err: fmt.Errorf("%s needs one release", cmd.CommandPath()), Hint: "hub content require v1.4.0"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return doRecords(f, cmd, func(r *records, _ settings) error {
				if len(args) == 1 {
					if err := office(r).Require(cmd.Context(), args[0]); err != nil {
						return invalid(err)
					}
				}
				k, err := r.store.Kept(cmd.Context())
				if err != nil {
					return err
				}
				said := "every release may follow documents"
				if k.MinProgram != "" {
					said = "release " + k.MinProgram + " or later is required to follow documents"
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
				return err
			})
		},
	}
	for _, c := range []*cobra.Command{put, remove, versions, rollback} {
		c.Flags().Uint32Var(&box, "box", 0, "`number` of the box (default: all)")
	}
	root := groupCommand("content", "Give boxes files", "files")
	root.AddCommand(put, list, remove, versions, rollback, require)
	return root
}

func goBack(cmd *cobra.Command, r *records, box uint32, to uint64) error {
	const hint = "“hub content versions --box NUMBER” shows what there is to go back to"
	vs, err := r.store.Versions(cmd.Context(), box)
	if err != nil {
		return err
	}
	if len(vs) > 0 && to >= slices.MaxFunc(vs, func(a, b content.Version) int { return int(a.Number) - int(b.Number) }).Number {
		return &program.UsageError{Err: fmt.Errorf("version %d is not behind the one that box %d has", to, box), Hint: hint}
	}
	err = r.store.GoBack(cmd.Context(), box, to, time.Now())
	switch {
	case errors.Is(err, content.ErrNoVersion):
		return &program.HintError{Err: fmt.Errorf("version %d of box %d: %w", to, box, err), Hint: hint}
	case errors.Is(err, content.ErrNoItem):
		return &program.HintError{Err: fmt.Errorf("version %d of box %d: %w", to, box, err), Hint: "bytes are kept for 90 days after nothing names them; put the file again instead"}
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "box %d goes back to the files of version %d when it next asks\n", box, to)
	return err
}

func printItems(out io.Writer, items []content.Item, place *time.Location, asJSON bool) error {
	if asJSON {
		type row struct {
			Name   string    `json:"name"`
			Box    uint32    `json:"box,omitempty"`
			SHA256 string    `json:"sha256"` // "": this box is to have no such file
			Size   int64     `json:"size"`
			Since  time.Time `json:"since"`
		}
		rows := make([]row, len(items))
		for i, it := range items {
			rows[i] = row{it.Name, it.Box, it.SHA256, it.Size, it.Created}
		}
		return json.NewEncoder(out).Encode(rows)
	}
	if len(items) == 0 {
		_, err := fmt.Fprintln(out, "no files yet: “hub content put” gives boxes one")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tFOR\tBYTES\tSINCE\tSHA-256")
	for _, i := range items {
		sum, size := i.SHA256, strconv.FormatInt(i.Size, 10)
		if sum == "" {
			sum, size = "none", "-"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Name, audience("", i.Box), size, i.Created.In(place).Format("2006-01-02 15:04"), sum[:min(16, len(sum))])
	}
	return w.Flush()
}

func printVersions(out io.Writer, vs []content.Version, place *time.Location) error {
	if len(vs) == 0 {
		_, err := fmt.Fprintln(out, "this box has not asked for a document yet")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "VERSION\tISSUED\tFILES")
	for _, v := range vs {
		var names []string
		for _, b := range v.Content {
			names = append(names, b.Name+" "+b.SHA256[:min(8, len(b.SHA256))])
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\n", v.Number, v.Issued.In(place).Format("2006-01-02 15:04"), strings.Join(names, ", "))
	}
	return w.Flush()
}
