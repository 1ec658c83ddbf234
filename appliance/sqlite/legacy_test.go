package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/seal"
	"sportello.example/sync/sqldb"
)

var update = flag.Bool("update", false, "write the queue file of the present schema")

// corpus is where a queue file of each release is kept for ever; manifest.json says what is in them.
const corpus = "../../testdata/queues"

// presentFile is the file of the present schema in it.
const presentFile = "0003-box.db"

// manifest says what a queue file holds.
type manifest struct {
	File    string         `json:"file"`
	Of      string         `json:"of"`    // which release wrote it
	Epoch   envelope.Epoch `json:"epoch"` // of what is queued
	Streams map[string]struct {
		First uint64 `json:"first"`
		Last  uint64 `json:"last"`
	} `json:"streams"`
	Sealed  int    `json:"sealed"`  // events with a sealed part
	Private string `json:"private"` // key that opens them, in hexadecimal
	Opened  int    `json:"opened"`  // sessions that were open: opening the file ends them
	// Printers are the UUIDs of those that were adopted, Undecided the prints that wait for somebody to look at the tray.
	Printers  []string `json:"printers"`
	Undecided []string `json:"undecided"`
}

func manifests(t testing.TB) (out []manifest) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpus, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fromCorpus copies a file of the corpus to where it can be opened.
func fromCorpus(t testing.TB, file string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "box.db")
	b, err := os.ReadFile(filepath.Join(corpus, file))
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(filepath.Join(corpus, file+".witness")); err == nil {
		err = os.WriteFile(path+".witness", b, 0o600)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil // the first release had none
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCorpus(t *testing.T) {
	for _, m := range manifests(t) {
		t.Run(m.File, func(t *testing.T) {
			b, err := hex.DecodeString(m.Private)
			if err != nil {
				t.Fatal(err)
			}
			key, err := seal.ParseKey(b)
			if err != nil {
				t.Fatal(err)
			}
			path := fromCorpus(t, m.File)
			for range 2 {
				s := openAt(t, path)
				es, sealed, ended := everything(t, s), 0, 0
				next := map[envelope.Stream]uint64{}
				for name, r := range m.Streams {
					var stream envelope.Stream
					if err := stream.UnmarshalText([]byte(name)); err != nil {
						t.Fatal(err)
					}
					next[stream] = r.First
				}
				for _, e := range es {
					if e.Kind == string(event.SessionEnded) && e.body.Detail.Outcome == "crashed" {
						ended++
						continue
					}
					if e.Chain.Epoch != m.Epoch || e.missing != nil || e.Seq != next[e.Chain.Stream] {
						t.Errorf("got %+v, want number %d of epoch %s", e, next[e.Chain.Stream], m.Epoch)
					}
					next[e.Chain.Stream] = e.Seq + 1
					if opens(t, seal.Ring{key}, e) {
						sealed++
					}
				}
				for name, r := range m.Streams {
					var stream envelope.Stream
					_ = stream.UnmarshalText([]byte(name))
					if next[stream] != r.Last+1 {
						t.Errorf("stream %s ends with %d, want %d", name, next[stream]-1, r.Last)
					}
				}
				if sealed != m.Sealed || ended != m.Opened {
					t.Errorf("%d sealed, %d sessions ended; want %d, %d", sealed, ended, m.Sealed, m.Opened)
				}
				if printers, undecided := prints(t, s); !slices.Equal(printers, m.Printers) || !slices.Equal(undecided, m.Undecided) {
					t.Errorf("printers %q, undecided %q; want %q, %q", printers, undecided, m.Printers, m.Undecided)
				}
				shut(t, s)
			}
		})
	}
}

// prints returns the UUIDs of the printers and the IDs of the undecided prints of a file.
func prints(t *testing.T, s *Store) (printers, undecided []string) {
	t.Helper()
	adopted, err := s.Printers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range adopted {
		printers = append(printers, a.UUID)
	}
	rows, err := s.UndecidedPrints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		undecided = append(undecided, row.ID)
	}
	return printers, undecided
}

// opens opens what is sealed in an event, of whatever release.
func opens(t *testing.T, ring seal.Ring, e entry) bool {
	t.Helper()
	var plain []byte
	var err error
	switch {
	case e.Schema == event.SchemaV1:
		var v event.V1
		if err := json.Unmarshal(e.Body, &v); err != nil || v.Seq != e.Seq || string(v.Kind) != e.Kind || !v.At.Truncate(time.Millisecond).Equal(e.At.Wall) ||
			v.ClockOK != (e.At.Quality == envelope.Synced) {
			t.Errorf("%+v: body %+v, %v", e, v, err)
		}
		if v.Sealed == nil {
			return false
		}
		plain, err = ring.OpenRequestV1(v.Sealed)
	case len(e.Sealed) == 0:
		return false
	default:
		plain, err = ring.Open(e.AAD(), e.Sealed)
	}
	if err != nil || !json.Valid(plain) {
		t.Errorf("number %d does not open: %q, %v", e.Seq, plain, err)
	}
	return true
}

func TestFirstReleaseOnTheWire(t *testing.T) {
	s := openAt(t, fromCorpus(t, "0001-box.db"))
	chains, err := s.Chains(t.Context())
	if err != nil || len(chains) != 2 || chains[0].Stream != envelope.All || chains[0].Cursor != 4 || chains[0].Last != 68 || chains[0].Current {
		t.Fatalf("got %+v, %v", chains, err)
	}
	run, err := s.Read(t.Context(), chains[0].Chain, 4, 1, 1<<20)
	if err != nil || run.First != 5 || !run.Oldest || run.Prev != envelope.Genesis(chains[0].Chain) {
		t.Fatalf("got %+v, %v", run, err)
	}
	e, err := envelope.Parse(run.Entries[0].Encoded)
	const want = `{"seq":5,"at":"2026-11-22T09:00:13.5Z","clock_ok":true,"kind":"declaration.made","session":"0192f0c1-7a00-7000-8000-000000000000","kiosk":1,"detail":{"service":"declaration","pages":1}}`
	if err != nil || string(e.Body) != want {
		t.Errorf("got %s, %v, want %s", e.Body, err, want)
	}
	if len(s.Epoch()) != 32 || s.Epoch() == chains[0].Epoch {
		t.Errorf("new events go to epoch %s", s.Epoch())
	}
	// The hub may have the first of them already.
	if err := s.Acked(t.Context(), chains[0].Chain, 68, 68); err != nil {
		t.Fatal(err)
	}
	if chains, err = s.Chains(t.Context()); err != nil || len(chains) != 1 {
		t.Errorf("got %+v, %v", chains, err)
	}
}

// many fills a file of the first release with n events more, beyond those of the corpus.
func many(t *testing.T, n int) (path string) {
	t.Helper()
	path = fromCorpus(t, "0001-box.db")
	tamper(t, path, `WITH RECURSIVE n (i) AS (SELECT 69 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO event SELECT i, '2026-11-22T10:00:00Z', 0, 'step.answered', '', 1, '{}', NULL FROM n`, 68+n)
	return path
}

// TestTakeOverIsCutShort stops taking over after each of its transactions, as a power cut does.
func TestTakeOverIsCutShort(t *testing.T) {
	const n = 1700
	path := many(t, n)
	for parts := 0; ; parts++ {
		left := 0
		tx := open0(t, path)
		if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM event`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		_ = tx.Close()
		if left == 0 {
			if parts < 3 {
				t.Errorf("all was moved in %d parts", parts)
			}
			break
		}
		takeOverOnce(t, path)
	}
	s := openAt(t, path)
	c := envelope.Chain{Epoch: "5091bf16ada90ace", Stream: envelope.All}
	es := all(t, s, c, 1000)
	if len(es) != 64+n {
		t.Fatalf("%d events, want %d", len(es), 64+n)
	}
	for i, e := range es {
		if e.Seq != uint64(i+5) || e.missing != nil {
			t.Fatalf("event %d has number %d", i, e.Seq)
		}
	}
	if s.Epoch() == c.Epoch {
		t.Error("new events go to the epoch of the first release")
	}
}

func open0(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// takeOverOnce opens a file, takes over one part, and leaves the rest.
func takeOverOnce(t *testing.T, path string) {
	t.Helper()
	s := &Store{cfg: Config{Path: path}.withDefaults(), statements: map[string]*sql.Stmt{}}
	s.log = s.cfg.Log
	var err error
	sub := os.DirFS("migrations")
	if s.db, err = sqldb.Open(t.Context(), path, sub, sqldb.Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.db.Close() }()
	if s.conn, err = s.db.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.conn.Close() }()
	if _, err := s.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = s.once(func(w *work) error {
		_, err := w.takeOverSome(envelope.Chain{Epoch: "5091bf16ada90ace", Stream: envelope.All})
		return err
	})
	for _, st := range s.statements {
		_ = st.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestOlderProgram has a program that knows fewer migrations meet a file.
func TestOlderProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.db")
	s := openAt(t, path)
	put(t, s, event.PrintDone, 3)
	shut(t, s)
	t.Run("a later migration that only adds leaves the queue usable", func(t *testing.T) {
		tamper(t, path, `CREATE TABLE of_a_newer_program (a INTEGER) STRICT; ALTER TABLE session ADD COLUMN newer TEXT; PRAGMA user_version = 4;`)
		s := openAt(t, path)
		put(t, s, event.PrintDone, 1)
		if err := s.Record(t.Context(), visit1("a"), event.Event{Kind: event.SessionStarted}); err != nil {
			t.Error(err)
		}
		if n := len(all(t, s, present(s, envelope.Legal), 100)); n != 4 {
			t.Errorf("%d events, want 4", n)
		}
		var version int
		if err := s.read.QueryRowContext(t.Context(), `PRAGMA user_version`).Scan(&version); err != nil || version != 4 {
			t.Errorf("version %d, %v", version, err)
		}
		shut(t, s)
	})
	t.Run("one that does not is refused, and the file left alone", func(t *testing.T) {
		tamper(t, path, `PRAGMA application_id = 4;`)
		before := contents(t, path)
		if _, aside, err := Open(context.Background(), Config{Path: path}); !errors.Is(err, sqldb.ErrNewer) || aside != "" {
			t.Errorf("got %q, %v, want ErrNewer", aside, err)
		}
		if !bytes.Equal(before, contents(t, path)) {
			t.Error("the file was changed")
		}
	})
}

// TestWriteCorpus writes the queue file of the present schema, with -update. It is done once for a release: the files are
// there to stay as they are.
func TestWriteCorpus(t *testing.T) {
	if !*update {
		return
	}
	c := newClock()
	m := manifests(t)[0]
	b, err := hex.DecodeString(m.Private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	sealer := seal.NewSealer(c.now)
	if err := sealer.Use(key.Public()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "box.db")
	s := openWith(t, Config{Path: path, Now: c.now, Box: func() uint32 { return 7 }, Seal: sealer.Seal})
	for i := range 6 {
		row := visit1([]string{"0192f0c1-7a00-7000-8000-000000000000", "0192f0c1-7a00-7000-8000-000000000001"}[i/3])
		row.Started, row.Ended = c.now(), i == 2
		for _, e := range []event.Event{
			{Kind: event.SessionStarted, Detail: event.Detail{Mode: "self", Language: "it"}},
			{Kind: event.StepAnswered, Detail: event.Detail{Step: "need", Service: "certificate"}},
			{Kind: event.RequestLeft, Private: []byte(`{"code":"CFGHJM"}`)},
			{Kind: event.BoxStarted},
		} {
			c.pass(3 * time.Second)
			e.Session, e.Kiosk = row.ID, 1
			if err := s.Record(t.Context(), row, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SavePrinter(t.Context(), staff.Adopted{
		UUID: "0192f0c1-7a00-7000-8000-00000000000a", Name: "Città – 2", URI: "ipps://10.0.0.1/ipp/print", Keys: []string{"k1"},
		Link: staff.LinkTLS, PDF: true, By: "Rossi", At: c.now(),
	}); err != nil {
		t.Fatal(err)
	}
	undecided := print1("0192f0c1-7a00-7000-8000-00000000000b", printing.Uncertain)
	undecided.Session = "0192f0c1-7a00-7000-8000-000000000001"
	save(t, s, undecided)
	if err := s.Acked(t.Context(), present(s, envelope.Legal), 2, 2); err != nil {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	shut(t, s)
	for _, suffix := range []string{"", ".witness"} {
		if err := os.WriteFile(filepath.Join(corpus, presentFile+suffix), contents(t, path+suffix), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("epoch %s: write it into manifest.json", epoch)
}
