package box

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/health"
	"sportello.example/sync/uplink"
)

func diagnoseCommand(o Options, load func(*cobra.Command) (Config, error)) *cobra.Command {
	return &cobra.Command{
		Use: "diagnose", Short: "Say what works and what does not, and what to do about it", Args: program.NoArgs,
		Long: "Looks at the box, the hub and every printer in reach, and says in one line each what works, what does not,\n" +
			"and what to do. It changes nothing and can run beside the box. Exit code 1: something needs a hand.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			d := &diagnosis{cfg: c, out: o.Stdout, now: o.Now}
			d.box(cmd.Context())
			d.hub(cmd.Context())
			d.printers(cmd.Context())
			if d.bad > 0 {
				return fmt.Errorf("%d of the things above need a hand", d.bad)
			}
			return nil
		},
	}
}

// diagnosis prints one line for each thing it looks at.
type diagnosis struct {
	cfg Config
	out io.Writer
	now func() time.Time
	bad int
}

func (d *diagnosis) good(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "ok    "+format+"\n", args...)
}

func (d *diagnosis) note(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "      "+format+"\n", args...)
}

func (d *diagnosis) wrong(hint, format string, args ...any) {
	d.bad++
	_, _ = fmt.Fprintf(d.out, "WRONG "+format+"\n      → %s\n", append(args, hint)...)
}

func (d *diagnosis) box(ctx context.Context) {
	r, err := find(d.cfg.Data)
	if err != nil {
		d.wrong("start it with “appliance”", "the box is not running on %s", d.cfg.Data)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := r.call(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		d.wrong("look at its log, then restart it", "the box does not answer: %v", err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	var st Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&st); err != nil {
		d.wrong("look at its log, then restart it", "the box answers something that is no status: %v", err)
		return
	}
	d.good("the box serves %s at http://%s (release %s)", orNone(st.Branch, "a branch without a name"), r.addr, st.Release)
	if st.Queue > 0 && st.Oldest != nil {
		d.note("%d events wait for the hub, the oldest since %s", st.Queue, st.Oldest.Local().Format("2 Jan 15:04"))
	}
	if n := st.Sync.Gaps; n > 0 {
		d.note("%d times events were found missing (“appliance sync status” says more)", n)
	}
	if st.Sync.Disk.State == "warn" {
		d.note("the queue fills its room: %s of %s", size(st.Sync.Disk.Used), size(st.Sync.Disk.Limit))
	}
	if s := st.Lights[health.Disk]; s.State == health.Down {
		d.wrong("make room on the disk of "+d.cfg.Data, "the disk is full since %s", s.Since.Local().Format("2 Jan 15:04"))
	}
	for _, t := range st.Sync.Trouble {
		d.wrong(t.Hint, "%s", t.What)
	}
	if s := st.Lights[health.Clock]; s.State == health.Down {
		d.wrong("set the clock (NTP, or “date -s”)", "the clock differs from the hub's by more than two minutes")
	}
}

func (d *diagnosis) hub(ctx context.Context) {
	if d.cfg.Hub == "" {
		d.wrong("set hub, hub_ca and token in the configuration file", "no hub is configured")
		return
	}
	id, err := identity.Load(filepath.Join(d.cfg.Data, "identity"))
	if err != nil {
		d.wrong("start the box once, with a token", "this box has no identity yet: %v", err)
		return
	}
	e, err := id.Enrolment()
	if err != nil {
		d.wrong("make a token with “hub box add” (“hub box token NUMBER” for a box that the hub knows), put it into the configuration file and restart the box", "the hub has not let this box in: %v", err)
		return
	}
	d.good("enrolled as box %d of %s", e.Box, e.Branch)
	if end, _, err := id.Expires(); err == nil && d.now().After(end) {
		d.wrong("it renews itself as soon as the hub can be reached", "the box's certificate ended on %s", end.Local().Format("2 Jan 2006"))
	}
	client, err := uplink.New(d.cfg.Hub, id, uplink.Options{Now: d.now})
	if err != nil {
		d.wrong("correct hub in the configuration file", "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	start := d.now()
	p, err := client.Ping(ctx)
	switch {
	case err != nil:
		d.wrong("check the network cable and the line; if others reach the Internet, call the municipality", "the hub does not answer: %v", err)
	case !p.ANPR:
		d.wrong("nothing can be done in the branch", "the hub answers, the registry (ANPR) does not")
	default:
		d.good("the hub answers in %d ms", d.now().Sub(start).Milliseconds())
	}
}

// risk says what works and should not stay so.
func (d *diagnosis) risk(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "RISK  "+format+"\n", args...)
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}
