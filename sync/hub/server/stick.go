package server

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/seal"
	"sportello.example/sync/stick"
	"sportello.example/sync/wire"
)

// sticks takes what boxes without a line send on USB sticks, and answers them.
type sticks struct {
	fleet   *fleet.Fleet
	ca      *ca.CA
	ingest  *ingest.Ingest
	content *content.Desk
	ring    seal.Ring          // opens what boxes close
	key     ed25519.PrivateKey // signs
	now     func() time.Time
}

// taken says what came of a file of events.
type taken struct {
	File   string    `json:"file"`
	Box    uint32    `json:"box"`
	Branch string    `json:"branch"`
	Made   time.Time `json:"made"`   // by the box's clock
	Events uint64    `json:"events"` // in the file, whether the hub had them or not
	Behind int       `json:"behind"` // chains of which the hub lacks what comes before
	Forked int       `json:"forked"` // chains of which the hub has two histories
	Reply  string    `json:"reply"`  // where the answer is
}

// take takes in the events of a file as if they had come by the line, and writes the reply beside it.
func (s *sticks) take(ctx context.Context, path string) (t taken, err error) {
	in, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer func() { _ = in.Close() }()
	f, err := stick.Open(in)
	if err != nil {
		return t, err
	}
	b, err := s.sender(ctx, f)
	if err != nil {
		return t, err
	}
	t = taken{File: path, Box: b.Number, Branch: b.Branch, Made: f.Header.Made}
	acks, refused := map[envelope.Chain][]wire.Ack{}, []wire.Refusal{}
	err = f.Batches(s.ring, func(batch envelope.Batch) error {
		reply, err := s.ingest.Deliver(ctx, b.Number, batch)
		if err != nil {
			return err
		}
		for _, r := range batch.Runs {
			t.Events += r.Last() - r.First + 1
		}
		// The last reply says of a chain what those before it said. There may be two words on one: how far the hub is, and
		// how far what was delivered is its history. Only both together say that a disk was put back.
		said := map[envelope.Chain][]wire.Ack{}
		for _, a := range reply.Acks {
			said[a.Chain] = append(said[a.Chain], a)
		}
		maps.Copy(acks, said)
		refused = append(refused, reply.Refused...)
		return nil
	})
	if err != nil {
		return t, err
	}
	s.heard(ctx, f, b.Number)
	t.Behind, t.Forked = s.judge(f, acks)
	a, err := s.answer(ctx, b)
	if err != nil {
		return t, err
	}
	a.Answers = f.Header.ID
	a.Replies = replies(slices.Concat(slices.Collect(maps.Values(acks))...), refused)
	t.Reply, err = s.place(replyPath(path), a)
	return t, err
}

// judge says of how many chains in a file the hub lacks what comes before, and of how many it has two histories.
func (s *sticks) judge(f *stick.File, acks map[envelope.Chain][]wire.Ack) (behind, forked int) {
	first := map[envelope.Chain]uint64{}
	_ = f.Batches(s.ring, func(b envelope.Batch) error { // it went well a moment ago
		for _, r := range b.Runs {
			if _, seen := first[r.Chain]; !seen && !r.Oldest {
				first[r.Chain] = r.First
			}
		}
		return nil
	})
	for c, said := range acks {
		if said[0].Fork {
			forked++
		} else if n, ok := first[c]; ok && said[0].Seq+1 < n {
			behind++
		}
	}
	return behind, forked
}

// sender says which box has written a file. It must be welcome here, as on the line; a certificate that has ended is no
// reason to refuse what only this box can have written: it cannot renew without a line.
func (s *sticks) sender(ctx context.Context, f *stick.File) (fleet.Box, error) {
	cert, err := f.Signer()
	if err != nil {
		return fleet.Box{}, err
	}
	sub, err := s.ca.Verify(cert)
	if err != nil && !errors.Is(err, ca.ErrExpired) {
		return fleet.Box{}, err
	}
	if sub.Box != f.Header.Box {
		return fleet.Box{}, stick.ErrBox
	}
	return s.fleet.Admit(ctx, sub.Box, sub.KeyID)
}

// heard notes what a box says of itself in a file.
func (s *sticks) heard(ctx context.Context, f *stick.File, box uint32) {
	r, err := f.Report(s.ring)
	if err != nil {
		return // it says nothing
	}
	// What cannot be noted is shown less well, and nothing more.
	_ = s.fleet.Heard(ctx, box, fleet.Report{Pending: r.Queued(), Queue: &r})
}

// maxAcks is how many acknowledgements are in one reply: it must stay below wire.MaxJSON.
const maxAcks = 500

// replies cuts what is said into messages. What is refused comes first: a box that has taken an acknowledgement may have
// let go of the event. Acknowledgements of one chain keep their order.
func replies(acks []wire.Ack, refused []wire.Refusal) []wire.Reply {
	slices.SortStableFunc(acks, func(a, b wire.Ack) int { return strings.Compare(a.Chain.String(), b.Chain.String()) })
	var out []wire.Reply
	for part := range slices.Chunk(refused, maxAcks) {
		out = append(out, wire.Reply{Refused: part})
	}
	for part := range slices.Chunk(acks, maxAcks) {
		out = append(out, wire.Reply{Acks: part})
	}
	return out
}

// answer returns what a box is told that says nothing: its desired state, and the files of that.
func (s *sticks) answer(ctx context.Context, b fleet.Box) (stick.Answer, error) {
	a := stick.Answer{Box: b.Number, Key: s.key, Now: s.now}
	state, err := s.content.State(ctx, b.Number, b.Branch, "", 0)
	if err != nil {
		return a, err
	}
	a.State = &state.Signed
	var d desired.Document
	if err := json.Unmarshal(state.Signed.Body, &d); err != nil { // signed here a moment ago
		return a, fmt.Errorf("desired state of box %d: %w", b.Number, err)
	}
	a.Blobs = d.Content
	a.Blob = func(sum string) (io.ReadCloser, error) {
		f, err := s.content.File(ctx, b.Number, b.Branch, sum)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(f), nil
	}
	return a, nil
}

// export writes what the hub has for a box: how far its present chains have come, and its desired state.
func (s *sticks) export(ctx context.Context, box uint32, path string) (string, error) {
	b, err := s.fleet.Box(ctx, box)
	if err != nil {
		return "", err
	}
	if !b.Revoked.IsZero() || b.Enrolled.IsZero() {
		return "", fmt.Errorf("box %d: %w", box, errNotIn)
	}
	a, err := s.answer(ctx, b)
	if err != nil {
		return "", err
	}
	if b.Report != nil && b.Report.Epoch.Valid() {
		acks, err := s.acks(ctx, box, b.Report.Epoch)
		if err != nil {
			return "", err
		}
		a.Replies = replies(acks, nil)
	}
	return s.place(path, a)
}

// errNotIn means that a box is not, or not any more, one that anything can be said to.
var errNotIn = errors.New("this box is not enrolled, or was shut out")

// acks returns the hub's word on the chains of an epoch: it is asked by delivering nothing.
func (s *sticks) acks(ctx context.Context, box uint32, epoch envelope.Epoch) ([]wire.Ack, error) {
	batch := envelope.Batch{Box: box}
	for _, st := range envelope.Streams() {
		if st == envelope.All {
			continue
		}
		c := envelope.Chain{Epoch: epoch, Stream: st}
		batch.Runs = append(batch.Runs, envelope.Run{Chain: c, First: 1, Prev: envelope.Genesis(c), Head: envelope.Genesis(c)})
	}
	r, err := s.ingest.Deliver(ctx, box, batch)
	if err != nil {
		return nil, err
	}
	// Of what it has nothing of, it has nothing to say.
	return slices.DeleteFunc(r.Acks, func(a wire.Ack) bool { return a.Seq == 0 }), nil
}

func (s *sticks) place(path string, a stick.Answer) (string, error) {
	h := a.Prepare()
	return stick.Place(path, h.Name(), func(w io.Writer) error { return a.Write(w, h) })
}

// replyPath is where the answer to a file is written.
func replyPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + "." + string(stick.Reply)
}

// newSticks returns the desk for sticks of a hub with these records and keys.
func newSticks(r *records, k keys, now func() time.Time, log *slog.Logger) *sticks {
	ring := k.seal.Ring()
	return &sticks{
		fleet: r.fleet, ca: r.ca, ring: ring, key: k.token, now: now,
		ingest:  &ingest.Ingest{Store: r.store, Ring: ring, Key: k.token, Now: now, Log: log},
		content: content.New(content.Config{Store: r.store, Key: k.token, Now: now, Log: log}),
	}
}

// stickCommands returns the commands about USB sticks. They work beside a hub that is running.
func stickCommands(o Options, f *flags) []*cobra.Command {
	// with runs do with what the configured hub has.
	with := func(cmd *cobra.Command, do func(*sticks) error) error {
		c, err := f.load(cmd)
		if err != nil {
			return err
		}
		s, err := c.settings()
		if err != nil {
			return err
		}
		k, err := loadKeys(filepath.Join(s.Data, "keys"))
		if err != nil {
			return err
		}
		r, err := s.openRecords(cmd.Context(), time.Now)
		if err != nil {
			return err
		}
		return errors.Join(do(newSticks(r, k, time.Now, program.Logger(c.Log, o.Stderr))), r.Close())
	}
	var asJSON bool
	take := &cobra.Command{
		Use: "import FILE…", Short: "Take in what boxes without a line sent on a USB stick",
		Long: "Takes in files that “appliance export” has written, as if their events had come by the line, and writes a reply\n" +
			"beside each: take it back to its box (“appliance import FILE”). Taking a file twice does no harm.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &program.UsageError{Err: fmt.Errorf("%s needs the files to take", cmd.CommandPath()), Hint: "name them: “hub import /media/usb/*.events”"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(s *sticks) error {
				var errs []error
				for _, path := range args {
					t, err := s.take(cmd.Context(), path)
					if err != nil {
						errs = append(errs, fmt.Errorf("%s: %w", path, err))
						continue
					}
					if err := printTaken(cmd.OutOrStdout(), t, asJSON); err != nil {
						return err
					}
				}
				return stickErrors(errs)
			})
		},
	}
	take.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs, a line for each file")
	var box uint32
	give := &cobra.Command{
		Use: "export --box NUMBER FILE|FOLDER", Short: "Write notices and content for a box without a line",
		Long: "Writes what a box would get by the line into one file: its notices and content, and how much the hub has of its\n" +
			"events. Take it to the box (“appliance import FILE”). “hub import” writes the same beside each file it takes.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || box == 0 {
				return &program.UsageError{Err: fmt.Errorf("%s needs the number of a box, and where to write", cmd.CommandPath()), Hint: "“hub export --box 7 /media/usb”; “hub box list” shows the numbers"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(s *sticks) error {
				at, err := s.export(cmd.Context(), box, args[0])
				if err != nil {
					return stickErrors([]error{err})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nTake it to box %d: “appliance import FILE” takes it.\n", at, box)
				return err
			})
		},
	}
	give.Flags().Uint32Var(&box, "box", 0, "`number` of the box")
	return []*cobra.Command{take, give}
}

func printTaken(w io.Writer, t taken, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(t)
	}
	_, err := fmt.Fprintf(w, "%s: %d events of box %d, %s\n  reply for the box: %s\n", t.File, t.Events, t.Box, t.Branch, t.Reply)
	if err == nil && t.Behind > 0 {
		_, err = fmt.Fprintf(w, "  %d chains begin after what the hub has: take the reply to the box, export again and bring that\n", t.Behind)
	}
	if err == nil && t.Forked > 0 {
		_, err = fmt.Fprintf(w, "  %d chains exist twice: the box's disk was cloned, or an old copy put back; both are kept\n", t.Forked)
	}
	return err
}

// stickErrors says what to do about files that were not taken: about the first of them, and that there are others.
func stickErrors(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	err := errors.Join(errs...)
	for _, h := range []struct {
		err  error
		hint string
	}{
		{stick.ErrCut, "copy the file again from the stick, or export it again at the box; nothing was lost"},
		{stick.ErrMalformed, "copy the file again from the stick, or export it again at the box; nothing was lost"},
		{stick.ErrForeign, "name the file that ends in “.events”"},
		{stick.ErrKind, "this is a reply of a hub: take it to the box (“appliance import”)"},
		{stick.ErrSignature, "the file was changed since the box wrote it: export it again there"},
		{stick.ErrBox, "the file says that it is from another box than wrote it: export it again at the box"},
		{stick.ErrLong, "the files of this box come to more than half a gigabyte: “hub content list” shows them"},
		{stick.ErrFull, "free some room on the stick; taking the file again does no harm"},
		{stick.ErrGone, "put the stick in again and repeat the command; taking the file again does no harm"},
		{ca.ErrForeign, "a box that another hub has let in wrote it: take it to that hub"},
		{ca.ErrGraceOver, "the box must be enrolled anew: “hub box token NUMBER”; then export again"},
		{enroll.ErrRevoked, "the box was shut out, or its hardware replaced: “hub box list” says which"},
		{seal.ErrOpen, "the file was closed to a key that this hub does not have: restore its folder keys from a backup"},
		{fleet.ErrUnknown, "“hub box list” shows the numbers"},
		{errNotIn, "“hub box list” shows which boxes are enrolled"},
		{os.ErrNotExist, "is the stick there?"},
		{os.ErrPermission, "run the command as a user who may write there"},
	} {
		if errors.Is(err, h.err) {
			return &program.HintError{Err: err, Hint: h.hint}
		}
	}
	return err
}
