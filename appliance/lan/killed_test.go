package lan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// doomedDir is set for a process that is a box that will be killed; it says where its database and its doom are.
const doomedDir = "SPORTELLO_TEST_DOOMED"

// doom says what a box does before it is killed: it prints Document until it writes the row State, and dies before or
// after that row is on the disk; or it dies when it has sent Bytes of the document.
type doom struct {
	Adopted  staff.Adopted
	Document []byte
	State    printing.State
	Written  bool
	Bytes    int
}

func (d doom) String() string {
	switch {
	case d.Bytes > 0:
		return "in the middle of the document"
	case d.Written:
		return "after the row " + string(d.State)
	}
	return "before the row " + string(d.State)
}

// doomed is a box that prints and is killed meanwhile.
func doomed(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "doom.json"))
	if err != nil {
		return err
	}
	var d doom
	if err := json.Unmarshal(b, &d); err != nil {
		return err
	}
	ctx := context.Background()
	store, _, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "box.db"), Now: time.Now})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg := configOf([]staff.Adopted{d.Adopted}, &deadly{store, d}, log)
	if d.Bytes > 0 {
		cfg.Dial = (&cable{bytes: d.Bytes, cut: die}).dial
	}
	s, err := printing.New(cfg)
	if err != nil {
		return err
	}
	go func() { _ = s.Run(ctx) }()
	err = s.Print(ctx, jobFor(d.Adopted.UUID, d.Document), func(kiosk.PrintProgress) {})
	return fmt.Errorf("not killed, and the print ended with: %w", err)
}

// deadly is a journal that kills its process.
type deadly struct {
	*sqlite.Store
	doom doom
}

// SavePrint implements printing.Journal.
func (j *deadly) SavePrint(ctx context.Context, row printing.Row) error {
	if row.State != j.doom.State {
		return j.Store.SavePrint(ctx, row)
	}
	if j.doom.Written {
		if err := j.Store.SavePrint(ctx, row); err != nil {
			return err
		}
	}
	return die(nil)
}

// die kills this process. It does not return.
func die(net.Conn) error {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until that has happened
}

// TestKilled kills the box at every step of a print, each at its own printer, and starts it again.
func TestKilled(t *testing.T) {
	t.Parallel()
	states := []printing.State{printing.Queued, printing.Creating, printing.Created, printing.Sending, printing.Sent, printing.Printing}
	var dooms []doom
	var cfgs []lantest.Config
	for _, s := range states {
		for _, written := range []bool{false, true} {
			n := len(dooms)
			dooms = append(dooms, doom{State: s, Written: written})
			cfgs = append(cfgs, lantest.Config{Host: fmt.Sprintf("p%d", n), N: 11 + n, Name: fmt.Sprintf("Stampante %d", n)})
		}
	}
	dooms = append(dooms, doom{Bytes: 512 << 10})
	cfgs = append(cfgs, lantest.Config{Host: "half", N: 40, Name: "Mezzo documento"})
	l := lantest.New(t)
	printers := l.Printers(t, cfgs...)
	for i, d := range dooms {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			killed(t, l, printers[i], d)
		})
	}
}

func killed(t *testing.T, l *lantest.LAN, p *lantest.Printer, d doom) {
	d.Adopted, d.Document = adopt(t, p), document(t, p.Instance())
	if d.Bytes > 0 {
		d.Document = long(d.Document, 2*d.Bytes)
	}
	// Long enough for the row “printing”.
	p.Engine(t, "sleep 1\n"+lantest.Printed)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "doom.json"), encode(t, d), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	first := exec.CommandContext(ctx, "/proc/self/exe")
	first.Env = append(os.Environ(), doomedDir+"="+dir)
	out, err := first.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || ctx.Err() != nil {
		t.Fatalf("the first box was not killed: %v: %s", err, out)
	}

	b := newBox(t, l, setup{dir: dir, deaf: true}, d.Adopted)
	until(t, "what was open is settled", 60*time.Second, func() bool {
		return !slices.ContainsFunc(b.rows.of(d.Document), func(r printing.Row) bool { return r.State.Open() })
	})
	state := printing.State("no row")
	if rows := b.rows.of(d.Document); len(rows) == 1 {
		state = rows[0].State
	} else if len(rows) > 1 {
		t.Fatalf("%d rows of one document", len(rows))
	}
	undecided, err := b.Undecided(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	whole, all := copies(t, p, d.Document)
	t.Logf("%s: %d whole of %d documents received", state, whole, all)
	switch {
	case whole > 1:
		t.Errorf("%d copies of one document", whole)
	case state == printing.Uncertain && len(undecided) != 1:
		t.Errorf("uncertain, and %d prints wait for somebody to look", len(undecided))
	case state == printing.Uncertain:
	case len(undecided) != 0:
		t.Errorf("%s, and %d prints wait for somebody to look", state, len(undecided))
	case state == printing.Done && whole != 1:
		t.Errorf("done, and %d copies", whole)
	case state != printing.Done && all != 0: // failed, or not begun: then nothing can be on paper, not even half of it
		t.Errorf("%s, and the printer has received %d documents", state, all)
	}

	// Nothing of the first visit keeps the next one from printing, once somebody has looked at the tray.
	if b.device(p).Blocked != "" {
		if err := b.Free(t.Context(), p.UUID(), "Anna"); err != nil {
			t.Fatal(err)
		}
	}
	next := document(t, "dopo")
	p.Engine(t, lantest.Printed)
	if err := b.print(ctx, p, next, nil); err != nil {
		t.Errorf("the next print: %v", err)
	}
	if n, _ := copies(t, p, next); n != 1 {
		t.Errorf("%d copies of the next document", n)
	}
	if n, _ := copies(t, p, d.Document); n > 1 {
		t.Errorf("%d copies of the first document after the next one", n)
	}
}

// copies counts what p has received: whole documents like doc, and all.
func copies(t testing.TB, p *lantest.Printer, doc []byte) (whole, all int) {
	t.Helper()
	docs := p.Docs(t)
	for _, d := range docs {
		if slices.Equal(d.Bytes, doc) {
			whole++
		}
	}
	return whole, len(docs)
}

// operations counts how often the printer was asked for an operation of IPP.
func operations(t testing.TB, p *lantest.Printer, name string) int {
	t.Helper()
	return strings.Count(p.Log(t), " "+name+" ")
}
