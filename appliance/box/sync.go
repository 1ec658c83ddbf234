package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/appliance/sqlite"
	"sportello.example/firmware/program"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/health"
)

// silence is for how long nothing may have been acknowledged, while something waits, before somebody should look.
const silence = 24 * time.Hour

func syncCommand(o Options, load func(*cobra.Command) (Config, error)) *cobra.Command {
	var asJSON, dead bool
	status := &cobra.Command{
		Use: "status", Short: "Say what waits for the hub, and whether that is as it should be", Args: program.NoArgs,
		Long: "Says of every part of the queue how much waits for the hub, since when, and when the hub last acknowledged any of it;\n" +
			"what is known to be lost; how much room there is; and what needs a hand. It asks the box when that runs, and reads\n" +
			"its database otherwise. It changes nothing. Exit code 1: something needs a hand.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			place, err := time.LoadLocation(c.TimeZone)
			if err != nil {
				return &program.UsageError{Err: fmt.Errorf("time_zone: %w", err), Hint: "names look like Europe/Rome"}
			}
			s, err := askSync(cmd.Context(), c, o)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(o.Stdout).Encode(s)
			} else {
				err = printSync(o.Stdout, s, place, dead)
			}
			if err == nil && len(s.Trouble) > 0 {
				err = fmt.Errorf("%d of the things above need a hand", len(s.Trouble))
			}
			return err
		},
	}
	status.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	status.Flags().BoolVar(&dead, "dead", false, "list the events that can never be delivered")
	cmd := &cobra.Command{
		Use: "sync", Short: "What waits for the hub", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &program.UsageError{Err: errors.New("what about the queue?"), Hint: fmt.Sprintf("“%s status” says how it is", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(status)
	return cmd
}

// askSync asks the box that runs on the data folder, or reads what one has left there.
func askSync(ctx context.Context, c Config, o Options) (SyncStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := find(c.Data)
	if err == nil {
		var resp *http.Response
		if resp, err = r.call(ctx, http.MethodGet, "/status", nil); err == nil {
			defer func() { _ = resp.Body.Close() }()
			var st Status
			if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&st); err != nil {
				return SyncStatus{}, fmt.Errorf("the box answers something that is no status: %w", err)
			}
			return st.Sync, nil
		}
	}
	if !errors.Is(err, errNotRunning) {
		return SyncStatus{}, err
	}
	return readSync(ctx, c, o.Now())
}

// readSync reads how the queue of a box is that does not run, and changes nothing.
func readSync(ctx context.Context, c Config, now time.Time) (SyncStatus, error) {
	path := filepath.Join(c.Data, "box.db")
	report, dead, err := sqlite.Inspect(ctx, path, c.MaxPages)
	if err != nil {
		return SyncStatus{}, &program.HintError{Err: err, Hint: "name the box's data folder with --data, or its configuration with --config"}
	}
	s := SyncStatus{Report: report, Dead: dead, Link: LinkStatus{State: health.Unknown}}
	if id, err := identity.Load(filepath.Join(c.Data, "identity")); err == nil {
		if e, err := id.Enrolment(); err == nil {
			s.Box, s.Branch = e.Box, e.Branch
		}
	}
	s.Time = now.UTC()
	s.Trouble = append([]Trouble{{"the box is not running", "start it with “appliance”"}}, s.troubles(now)...)
	return s, nil
}

// status says how the queue of a running box is.
func (q *queue) status(ctx context.Context) (SyncStatus, error) {
	report, err := q.report(ctx)
	if err != nil {
		return SyncStatus{}, err
	}
	s := SyncStatus{Report: report, Running: true, Box: q.box()}
	if report.Dead > 0 {
		if s.Dead, err = q.Dead(ctx); err != nil {
			return SyncStatus{}, err
		}
		s.Dead = s.Dead[:min(len(s.Dead), maxDead)]
	}
	if at := q.contact.Load(); at > 0 {
		s.Link.Contact = instant(time.Unix(at, 0))
	}
	if f := q.follower.Load(); f != nil {
		d, since, fresh := f.Current()
		s.Desired = DesiredStatus{Version: d.Version, Since: instant(since), Fresh: fresh, Missing: f.Missing()}
	}
	s.Trouble = s.troubles(report.Time)
	return s, nil
}

// maxDead is how many dead events are listed.
const maxDead = 100

// troubles says what needs a hand.
func (s SyncStatus) troubles(now time.Time) []Trouble {
	ts := []Trouble{}
	add := func(hint, format string, args ...any) { ts = append(ts, Trouble{fmt.Sprintf(format, args...), hint}) }
	for _, st := range s.Streams {
		if st.Queued == 0 || st.Oldest == nil || now.Sub(*st.Oldest) <= silence || st.LastAck != nil && now.Sub(*st.LastAck) <= silence {
			continue
		}
		when := "yet"
		if st.LastAck != nil {
			when = "for " + age(now.Sub(*st.LastAck))
		}
		add("check the line (“appliance diagnose”); where there is none, “appliance export” writes what waits on a USB stick",
			"stream %s: the hub has acknowledged nothing %s, and %d events wait, the oldest for %s", st.Stream, when, st.Queued, age(now.Sub(*st.Oldest)))
	}
	if s.Report.Dead > 0 {
		add("“appliance sync status --dead” lists them: tell the municipality which; they stay on the box",
			"%d events can never be delivered", s.Report.Dead)
	}
	switch s.Disk.State {
	case "high":
		add("bring the line back, or carry what waits to the hub with “appliance export”; statistics are let go to make room for what must be kept",
			"the queue fills its room: %s of %s", size(s.Disk.Used), size(s.Disk.Limit))
	case "full":
		add("bring the line back, or carry what waits to the hub with “appliance export”, at once; max_pages gives the queue more room",
			"the queue is full: %s of %s; soon the kiosks can print nothing", size(s.Disk.Used), size(s.Disk.Limit))
	}
	if s.Clock == "unknown" {
		add("set the clock (NTP, or “date -s”); events are dated by the hub when the line is back", "nobody knows what time it is: the clock shows %s", s.Time.Format(time.DateTime))
	}
	if len(s.Desired.Missing) > 0 {
		add("they come by themselves when the line is back", "%d files of the municipality are damaged", len(s.Desired.Missing))
	}
	return ts
}

// age says how long ago something was, as precisely as people want to know.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	default:
		return fmt.Sprintf("%d seconds", max(0, d/time.Second))
	}
}

// printSync says it to people.
func printSync(out io.Writer, s SyncStatus, place *time.Location, dead bool) error {
	at := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.In(place).Format("2006-01-02 15:04")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	if s.Box == 0 {
		p("box\tnot enrolled")
	} else {
		p("box\t%d, %s", s.Box, orNone(s.Branch, "a branch without a name"))
	}
	if s.Running {
		p("line\t%s since %s, hub last heard of %s", s.Link.State, at(s.Link.Since), at(s.Link.Contact))
		p("clock\t%s (%s)", s.Clock, s.Time.In(place).Format("2006-01-02 15:04:05"))
		state := "none yet"
		if s.Desired.Version > 0 {
			state = fmt.Sprintf("version %d since %s", s.Desired.Version, at(s.Desired.Since))
			if !s.Desired.Fresh {
				state += ", out of date"
			}
		}
		p("state\t%s", state)
	}
	p("epoch\t%s", orNone(string(s.Epoch), "none"))
	p("disk\t%s: %s of %s, %s free", orNone(s.Disk.State, "ok"), size(s.Disk.Used), size(s.Disk.Limit), size(s.Disk.Free))
	p("lost\t%d times events were found missing, %d were let go for want of room, %d can never be delivered", s.Gaps, s.Dropped, s.Report.Dead)
	if err := w.Flush(); err != nil {
		return err
	}
	p("")
	p("STREAM\tQUEUED\tKEPT\tOLDEST\tLAST ACK")
	for _, st := range s.Streams {
		if st.Stream == envelope.All && st.Queued == 0 && st.Kept == 0 {
			continue
		}
		p("%s\t%d\t%d\t%s\t%s", st.Stream, st.Queued, st.Kept, at(st.Oldest), at(st.LastAck))
	}
	if dead {
		p("")
		p("DEAD\tNUMBER\tKIND\tREASON\tFOUND")
		for _, d := range s.Dead {
			p("%s\t%d\t%s\t%s\t%s", d.Chain, d.Seq, orNone(d.Kind, "?"), d.Reason, at(&d.At))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range s.Trouble {
		if _, err := fmt.Fprintf(out, "\nWRONG %s\n      → %s\n", t.What, t.Hint); err != nil {
			return err
		}
	}
	return nil
}
