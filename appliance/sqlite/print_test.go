package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sportello.example/appliance/adoption"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/sqldb"
)

var _ adoption.Store = (*Store)(nil)

func print1(id string, state printing.State) printing.Row {
	return printing.Row{ID: id, Session: "s-" + id, Kiosk: 2, Kind: "certificate", Pages: 2, State: state, PrinterUUID: "p1"}
}

func save(t *testing.T, s *Store, rows ...printing.Row) {
	t.Helper()
	for _, row := range rows {
		if err := s.SavePrint(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
}

// waiting returns the IDs of what nobody has decided about.
func waiting(t *testing.T, s *Store) string {
	t.Helper()
	rows, err := s.UndecidedPrints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	return strings.Join(ids, " ")
}

func TestUncertainPrintIsDecidedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	c := newClock()
	s := openWith(t, Config{Path: path, Now: c.now})
	for _, row := range []printing.Row{
		print1("a", printing.Uncertain), print1("b", printing.Uncertain), print1("c", printing.Done), print1("d", printing.Sending),
	} {
		c.pass(time.Second)
		row.Bytes, row.Sent, row.Sheets, row.Why = 4484, 1000, -1, "cut after 1000 bytes"
		save(t, s, row)
	}
	if got := waiting(t, s); got != "a b" {
		t.Fatalf("%q wait, want a b", got)
	}
	rows, err := s.UndecidedPrints(t.Context())
	if err != nil || rows[0].Sent != 1000 || rows[0].Sheets != -1 || rows[0].Why != "cut after 1000 bytes" {
		t.Errorf("got %+v, %v; the evidence is missing", rows, err)
	}

	verdict := rows[0]
	verdict.Verdict, verdict.DecidedBy, verdict.DecidedAt = kiosk.VerdictReprint, "Rossi", c.now()
	save(t, s, verdict, verdict) // the second time because the answer to the first was lost
	other := verdict
	other.Verdict, other.DecidedBy = kiosk.VerdictOut, "Bianchi"
	if err := s.SavePrint(t.Context(), other); !errors.Is(err, staff.ErrGone) {
		t.Errorf("decided a second time: %v", err)
	}
	save(t, s, rows[0]) // what was learned of the job too late
	other.ID = "never"
	if err := s.SavePrint(t.Context(), other); !errors.Is(err, staff.ErrGone) {
		t.Errorf("decided about what is not there: %v", err)
	}
	if got := waiting(t, s); got != "b" {
		t.Errorf("%q wait, want b", got)
	}
	shut(t, s)
	s = openWith(t, Config{Path: path, Now: c.now})
	if got := waiting(t, s); got != "b" {
		t.Errorf("%q wait after a restart, want b", got)
	}
	es := ofKind(everything(t, s), event.PrintDecided)
	if len(es) != 1 || es[0].body.Detail.Outcome != "reprint" || es[0].body.Session != "s-a" || es[0].Chain.Stream != envelope.Legal {
		t.Errorf("got %+v, want one event of one decision", es)
	}
	for _, e := range everything(t, s) {
		if strings.Contains(string(e.Body), "Rossi") {
			t.Errorf("an event says who decided: %s", e.Body)
		}
	}
}

// TestPrunePrints has time pass, on boxes that know it and on those that do not.
func TestPrunePrints(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name    string
		quality envelope.Quality // when the print was stored
		pass    []time.Duration  // Prune after each
		want    string           // what still waits
		rows    int              // of the done one and the waiting one
	}{
		{"a day of 25 hours can be counted", envelope.Synced, []time.Duration{25 * time.Hour}, "u", 2},
		{"what is done is forgotten after two days", envelope.Synced, []time.Duration{2*day + time.Hour}, "u", 1},
		{"nobody decides for a month", envelope.Synced, []time.Duration{29 * day}, "u", 1},
		{"nobody decides for longer", envelope.Synced, []time.Duration{31 * day}, "", 0},
		{"a box that wakes up in the past and learns the time", envelope.Unknown, []time.Duration{56 * 365 * day}, "u", 1},
		{"… waits a month from then on", envelope.Unknown, []time.Duration{56 * 365 * day, 29 * day}, "u", 1},
		{"… and no longer", envelope.Unknown, []time.Duration{56 * 365 * day, 31 * day}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			quality := tt.quality
			s := openWith(t, Config{
				Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now,
				Stamp: func(boot uint32) envelope.Stamp { return c.stamp(quality)(boot) },
			})
			save(t, s, print1("d", printing.Done), print1("u", printing.Uncertain))
			quality = envelope.Synced
			for _, d := range tt.pass {
				c.pass(d)
				if err := s.Prune(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			var n int
			if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM print`).Scan(&n); err != nil || n != tt.rows || waiting(t, s) != tt.want {
				t.Errorf("%d rows, %q waits, %v; want %d, %q", n, waiting(t, s), err, tt.rows, tt.want)
			}
		})
	}
}

func TestSheetsSince(t *testing.T) {
	c := newClock()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "box.db"), Now: c.now})
	save(t, s, print1("before", printing.Done))
	c.pass(time.Hour)
	midnight := c.now()
	other := print1("c", printing.Done)
	other.PrinterUUID, other.Pages = "p2", 5
	save(t, s, print1("a", printing.Sending), print1("b", printing.Done), other, print1("d", printing.Uncertain), print1("e", printing.Cancelled))
	c.pass(time.Hour)
	save(t, s, print1("a", printing.Done))
	got, err := s.SheetsSince(t.Context(), midnight)
	if want := map[string]int{"p1": 4, "p2": 5}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// TestTestPageOfACrash: a page that belongs to no visit is nothing to report.
func TestTestPageOfACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	row := print1("a", printing.Sending)
	row.Session, row.Kind = "", "test"
	save(t, s, row)
	shut(t, s)
	s = openAt(t, path)
	row.State = printing.Uncertain
	save(t, s, row)
	if es := everything(t, s); len(es) != 0 || waiting(t, s) != "a" {
		t.Errorf("events %+v, waiting %q", es, waiting(t, s))
	}
}

func TestPrinters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	a := staff.Adopted{
		UUID: "a", Name: "Città – 2", Make: "ACME", Serial: "N1", URI: "ipps://10.0.0.1/ipp/print", Keys: []string{"k1", "k2"},
		Link: staff.LinkTLS, PDF: true, By: "Rossi", At: at.Add(time.Hour),
	}
	b := staff.Adopted{
		UUID: "b", URI: "ipp://10.0.0.2/ipp/print", Link: staff.LinkRisk, By: "Rossi", At: at,
		Risk: &staff.Risk{By: "Rossi", Why: "vecchia", At: at, Until: at.AddDate(0, 6, 0)},
	}
	for _, p := range []staff.Adopted{a, b} {
		if err := s.SavePrinter(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	a.Retired, a.RetiredBy, a.Keys = at.Add(2*time.Hour), "Bianchi", []string{"k3"}
	if err := s.SavePrinter(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	got, err := openAt(t, path).Printers(t.Context())
	if want := []staff.Adopted{b, a}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// TestMigratesPrints opens a file of the program before this one, which had not heard of decisions.
func TestMigratesPrints(t *testing.T) {
	old := fstest.MapFS{}
	for _, name := range []string{"0001_init.sql", "0002_queue.sql"} {
		b, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		old[name] = &fstest.MapFile{Data: b}
	}
	path := filepath.Join(t.TempDir(), "box.db")
	before(t, path, old, `INSERT INTO print (id, body, closed, updated) VALUES
		('a', '{"ID":"a","State":"uncertain","Pages":1}', 1, '2026-11-22T09:00:00.000000000Z'),
		('b', '{"ID":"b","State":"done","Pages":1}', 1, '2026-11-22T09:00:00.000000000Z'),
		('c', '{"ID":"c","State":"sending","Pages":1}', 0, '2026-11-22T09:00:00.000000000Z'),
		('d', 'damaged', 1, '2026-11-22T09:00:00.000000000Z')`)
	c := newClock()
	s := openWith(t, Config{Path: path, Now: c.now})
	if got := waiting(t, s); got != "a" {
		t.Errorf("%q wait, want a", got)
	}
	open, err := s.OpenPrints(t.Context())
	if err != nil || len(open) != 1 || open[0].ID != "c" {
		t.Errorf("open %+v, %v", open, err)
	}
	shut(t, s)
	// The older program goes on with the file, and what it stores waits for nobody.
	before(t, path, old, `INSERT INTO print (id, body, closed, updated) VALUES
		('e', '{"ID":"e","State":"uncertain","Pages":1}', 1, '2026-11-22T10:00:00.000000000Z')`)
	if got := waiting(t, openWith(t, Config{Path: path, Now: c.now})); got != "a" {
		t.Errorf("%q wait, want a", got)
	}
}

// before does what an older program does.
func before(t *testing.T, path string, migrations fs.FS, statement string) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, migrations, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
