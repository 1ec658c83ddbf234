package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/outbox"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

// The paths of the box's own commands.
const (
	pathExport = "/control/export" // POST → a file of events; trailer Summary: Exported in JSON
	pathImport = "/control/import" // POST a reply → Imported in JSON
)

// trailerSummary is the HTTP trailer that follows an exported file: a file without it is not whole.
const trailerSummary = "Summary"

// Exported says what a file for the hub holds.
type Exported struct {
	File   string `json:"file"`
	Events uint64 `json:"events"`
	Rest   bool   `json:"rest"` // there is more than fitted
	Bytes  int64  `json:"bytes"`
}

// Imported says what came of a reply of the hub.
type Imported struct {
	Acks    int    `json:"acks"`              // chains that the hub has acknowledged
	Queued  int    `json:"queued"`            // events that wait all the same
	Refused int    `json:"refused,omitempty"` // events that the hub will never take
	State   uint64 `json:"state,omitempty"`   // version of the desired state that the box follows now
	// StateKept says why the desired state in the file was not taken, "" when it was, or when there was none.
	StateKept string `json:"state_kept,omitempty"`
}

func exportCommand(o Options, load func(*cobra.Command) (Config, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "export FILE|FOLDER", Short: "Write what waits for the hub on a USB stick",
		Long: "Writes every event that the hub has not acknowledged into one file, for a branch without a line: only the hub can\n" +
			"read it. Take it to the hub (“hub import FILE”), and the reply that comes of it back to the box (“appliance import\n" +
			"FILE”). Nothing leaves the queue before that: a file that is lost, or taken twice, does no harm. It can run beside\n" +
			"the box.",
		Args: oneArgument("the file or folder to write to", "name the folder of the stick: “appliance export /media/usb”"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			out, err := export(cmd.Context(), c, o, args[0])
			if err != nil {
				return stickError(err, "")
			}
			if asJSON {
				return json.NewEncoder(o.Stdout).Encode(out)
			}
			_, _ = fmt.Fprintf(o.Stdout, "%s: %d events, %s\n", out.File, out.Events, size(out.Bytes))
			if out.Rest {
				_, _ = fmt.Fprintln(o.Stdout, "There is more than fits into one file: import the hub's reply, then export again.")
			}
			_, err = fmt.Fprintln(o.Stdout, "Take it to the hub: “hub import FILE” writes the reply, which “appliance import FILE” takes.")
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

func importCommand(o Options, load func(*cobra.Command) (Config, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Take the hub's reply from a USB stick",
		Long: "Takes up a file that “hub import” or “hub export” has written for this box: what the hub has, and the notices and\n" +
			"content that it should show. Taking it twice, or after a newer one, does no harm. It can run beside the box.",
		Args: oneArgument("the file to take", "name the hub's reply: “appliance import /media/usb/box-7-….reply”"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return &program.UsageError{Err: err, Hint: "name the hub's reply: “appliance import /media/usb/box-7-….reply”"}
			}
			defer func() { _ = f.Close() }()
			// Read here first: what is plainly wrong needs no box to say so.
			if _, err := stick.Open(f); err != nil {
				return stickError(err, args[0])
			}
			out, err := take(cmd.Context(), c, o, f)
			if err != nil {
				return stickError(err, args[0])
			}
			if asJSON {
				return json.NewEncoder(o.Stdout).Encode(out)
			}
			_, _ = fmt.Fprintf(o.Stdout, "%d chains acknowledged; %d events wait for the hub\n", out.Acks, out.Queued)
			if out.Refused > 0 {
				_, _ = fmt.Fprintf(o.Stdout, "%d events will never be taken: “appliance sync status --dead” lists them\n", out.Refused)
			}
			switch {
			case out.StateKept != "":
				_, err = fmt.Fprintf(o.Stdout, "notices and content stay as they were: %s\n", out.StateKept)
			case out.State > 0:
				_, err = fmt.Fprintf(o.Stdout, "notices and content are those of version %d\n", out.State)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

// oneArgument refuses anything but one argument.
func oneArgument(what, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &program.UsageError{Err: fmt.Errorf("%s needs %s", cmd.CommandPath(), what), Hint: hint}
		}
		return nil
	}
}

// stickError says what to do about a file that cannot be written or taken.
func stickError(err error, file string) error {
	if file != "" {
		err = fmt.Errorf("%s: %w", file, err)
	}
	for _, h := range []struct {
		err  error
		hint string
	}{
		{stick.ErrFull, "free some room on the stick, or take a larger one; nothing was lost"},
		{stick.ErrGone, "put the stick in again and repeat the command; nothing was lost"},
		{stick.ErrCut, "copy the file again, and take the stick out only when the system says so; nothing was lost"},
		{stick.ErrMalformed, "copy the file again; nothing was lost"},
		{stick.ErrForeign, "name the file that ends in “.reply”"},
		{stick.ErrKind, "this is what the box has written itself: take it to the hub (“hub import”) and bring back its reply"},
		{stick.ErrBox, "every box needs its own file: look at the number in the file's name"},
		{stick.ErrSignature, "only the hub that has let this box in can write such a file; write it again there"},
		{os.ErrPermission, "run the command as a user who may write there and read the box's data folder"},
		{os.ErrNotExist, "is the stick there? name a folder that exists"},
	} {
		if errors.Is(err, h.err) {
			return &program.HintError{Err: err, Hint: h.hint}
		}
	}
	return err
}

// export writes a file for the hub: the box that runs on the data folder does, or this program in its place.
func export(ctx context.Context, c Config, o Options, path string) (out Exported, err error) {
	write := func(name string, f func(io.Writer) error) error {
		out.File, err = stick.Place(path, name, f)
		return err
	}
	r, err := find(c.Data)
	if err == nil {
		if err = r.export(ctx, write, &out); !errors.Is(err, errNotRunning) {
			return out, err
		}
	}
	if !errors.Is(err, errNotRunning) {
		return out, err
	}
	err = aside(ctx, c, o, func(q *queue) error {
		e, err := q.export()
		if err != nil {
			return err
		}
		h, err := e.Prepare()
		if err != nil {
			return err
		}
		return write(h.Name(), func(w io.Writer) error {
			s, err := e.Write(ctx, w, h)
			out.Events, out.Rest, out.Bytes = s.Events, s.Rest, s.Bytes
			return err
		})
	})
	return out, err
}

// export has the box write a file.
func (r running) export(ctx context.Context, write func(name string, f func(io.Writer) error) error, out *Exported) error {
	resp, err := r.call(ctx, http.MethodPost, pathExport, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	name := filepath.Base(resp.Header.Get("X-Name"))
	return write(name, func(w io.Writer) error {
		if _, err := io.Copy(w, resp.Body); err != nil {
			return fmt.Errorf("read from the box: %w", err)
		}
		var got Exported
		if err := json.Unmarshal([]byte(resp.Trailer.Get(trailerSummary)), &got); err != nil {
			return errors.New("the box stopped in the middle of the file: look at its log")
		}
		out.Events, out.Rest, out.Bytes = got.Events, got.Rest, got.Bytes
		return nil
	})
}

func (b *Box) serveExport(w http.ResponseWriter, r *http.Request) {
	e, err := b.queue.export()
	if err != nil {
		refuse(w, err)
		return
	}
	h, err := e.Prepare()
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Name", h.Name())
	w.Header().Set("Trailer", trailerSummary)
	s, err := e.Write(r.Context(), w, h)
	if err != nil {
		if r.Context().Err() == nil {
			b.log.Error("file for the hub not written", "err", err)
		}
		panic(http.ErrAbortHandler) // whoever reads must notice
	}
	sum, err := json.Marshal(Exported{Events: s.Events, Rest: s.Rest, Bytes: s.Bytes})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set(trailerSummary, string(sum))
	b.log.Info("file for the hub written", "name", h.Name(), "events", s.Events)
}

// take takes a reply of the hub: the box that runs on the data folder does, or this program in its place.
func take(ctx context.Context, c Config, o Options, f io.ReadSeeker) (out Imported, err error) {
	r, err := find(c.Data)
	if err == nil {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return out, err
		}
		var resp *http.Response
		if resp, err = r.call(ctx, http.MethodPost, pathImport, io.NopCloser(f)); err == nil {
			defer func() { _ = resp.Body.Close() }()
			return out, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&out)
		}
	}
	if !errors.Is(err, errNotRunning) {
		return out, err
	}
	err = aside(ctx, c, o, func(q *queue) error {
		out, err = q.take(ctx, f)
		return err
	})
	return out, err
}

func (b *Box) serveImport(w http.ResponseWriter, r *http.Request) {
	out, err := b.importBody(w, r)
	if err != nil {
		refuse(w, stickError(err, ""))
		return
	}
	b.relay.LineUp()
	b.log.Info("reply of the hub taken", "acks", out.Acks, "queued", out.Queued, "state", out.State)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the reader has gone
}

// importPattern is how files are called that are being imported.
const importPattern = "import-*"

// removeImports removes what a crash has left of importing files.
func removeImports(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, importPattern)) // the pattern is right
	for _, f := range left {
		_ = os.Remove(f) // in nobody's way
	}
}

// importBody takes a reply that was sent to the box. It is read twice, so it lies in the data folder meanwhile: nothing
// in it is secret.
func (b *Box) importBody(w http.ResponseWriter, r *http.Request) (Imported, error) {
	room, err := importRoom(b.cfg.Data)
	if err != nil {
		return Imported{}, err
	}
	f, err := os.CreateTemp(b.cfg.Data, importPattern)
	if err != nil {
		return Imported{}, err
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	_, err = io.Copy(f, http.MaxBytesReader(w, r.Body, min(room, stick.MaxFile)))
	var large *http.MaxBytesError
	if errors.As(err, &large) && large.Limit == room {
		return Imported{}, errNoRoom
	} else if err != nil {
		return Imported{}, fmt.Errorf("read the file: %w", err)
	}
	return b.queue.take(r.Context(), f)
}

// importReserve is how much of the disk a file that is being imported leaves to the queue, in bytes.
const importReserve = 16 << 20

// importRoom returns how large a file that is being imported may be for want of room, in bytes.
func importRoom(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("room on the disk: %w", err)
	}
	return max(0, int64(fs.Bavail)*int64(fs.Bsize)-importReserve), nil //nolint:gosec,unconvert // of a disk; of another size on other machines
}

var errNoRoom = &program.HintError{
	Err:  errors.New("the box's disk has no room for the file"),
	Hint: "stop the box, run “appliance import” again, and start it: the file is then read where it is",
}

// export returns what this box writes on a stick. A box that no hub has let in cannot write any.
func (q *queue) export() (stick.Export, error) {
	in := q.trust.Load()
	if in == nil {
		return stick.Export{}, errAlone
	}
	return stick.Export{Box: in.box, Queue: q, Signer: in.id, Key: in.sealKey, Report: q.report, Now: q.now}, nil
}

// errAlone means that there is no hub that could read or write anything for this box.
var errAlone = &program.HintError{
	Err:  errors.New("no hub has let this box in yet: nobody could read the file, or have written it"),
	Hint: "enrol the box once with a line, or with the hub beside it; “appliance diagnose” says how",
}

// take takes a reply of the hub.
func (q *queue) take(ctx context.Context, r io.ReadSeeker) (out Imported, err error) {
	in := q.trust.Load()
	if in == nil {
		return out, errAlone
	}
	f, err := stick.Open(r)
	if err != nil {
		return out, err
	}
	if err := f.Check(in.box, in.keys); err != nil {
		return out, err
	}
	err = f.Replies(func(reply wire.Reply) error {
		for _, a := range reply.Acks {
			if _, err := outbox.Take(ctx, q, in.box, in.keys, a); err != nil {
				return err
			}
			q.clock.Passed(a.Issued)
			out.Acks++
		}
		for _, x := range reply.Refused {
			err := outbox.TakeRefusal(ctx, q, in.box, in.keys, x)
			if errors.Is(err, outbox.ErrOther) {
				continue // an old reply, or of a disk that was put back
			}
			if err != nil {
				return err
			}
			out.Refused++
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	report, err := q.Report(ctx)
	if err != nil {
		return out, err
	}
	out.Queued = report.Queued()
	return out, q.takeState(ctx, f, &out)
}

// size says a number of bytes to people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[i]
}

// aside does something with the data of a box that does not run. It fails when one does.
func aside(ctx context.Context, c Config, o Options, do func(*queue) error) (err error) {
	if _, err := os.Stat(filepath.Join(c.Data, "box.db")); err != nil {
		return &program.HintError{Err: fmt.Errorf("no box has run on %s: %w", c.Data, err), Hint: "name the box's data folder with --data, or its configuration with --config"}
	}
	unlock, err := lock(c.Data)
	if err != nil {
		return err
	}
	defer unlock()
	// That there is no line is no news here.
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	clk := newClock(c, o.Now, nil)
	q, err := openQueue(ctx, c, o.Now, clk, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	id, err := identity.Load(filepath.Join(c.Data, "identity"))
	if err != nil {
		return errAlone
	}
	if err := q.follow(id, func() bool { return false }); err != nil {
		if errors.Is(err, identity.ErrNotEnrolled) {
			return errAlone
		}
		return err
	}
	e, err := id.Enrolment()
	if err != nil {
		return errAlone
	}
	if err := q.believe(id, e); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- q.follower.Load().Run(ctx) }()
	err = do(q)
	cancel()
	return errors.Join(err, <-done)
}
