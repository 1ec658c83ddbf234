package postgres

import (
	"bufio"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sportello.example/sync/hub/postgres/pgtest"
)

// dumped returns a copy of a database with a branch of that many events that do not compress, and what it must hold.
func dumped(t *testing.T, events int) (file string, want contents) {
	t.Helper()
	s, err := Open(t.Context(), pgtest.New(t), Options{Now: time.Now, Log: slog.New(slog.DiscardHandler), Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, q := range []string{
		`INSERT INTO branch (numbering, stream, number, parent, first, seq, safe) VALUES (1, 1, 0, 0, 1, $1, 0), (1, 2, 0, 0, 1, $1, 0)`,
		`INSERT INTO event (numbering, seq, count, received, happened, wall, mono, box, boot, branch, pages, stream, reason, schema, quality,
			certain, encoded, kind, session, mode, judged)
			SELECT 1, n, 1, now(), 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, true, decode(md5(n::text) || md5('a' || n) || md5('b' || n), 'hex'), '', '', '', ''
			FROM generate_series(1, $1::integer) AS n`,
	} {
		if _, err := s.pool.Exec(t.Context(), q, events); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "hub.dump")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err = s.dump(t.Context(), f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if len(want.num) != 2 || want.rows != int64(events) || want.events != int64(events) {
		t.Fatalf("the database has %+v", want)
	}
	return file, want
}

func TestDamagedDump(t *testing.T) {
	file, want := dumped(t, 3000)
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t.Context(), file, want); err != nil {
		t.Fatalf("a sound one: %v", err)
	}
	rows := len(sound) * 2 / 3 // the events are nearly all of it, at its end but for small tables
	bad := filepath.Join(t.TempDir(), "bad.dump")
	check := func(what string, at int, b []byte) {
		t.Helper()
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := verify(t.Context(), bad, want); !errors.Is(err, ErrBackup) {
			t.Errorf("%s at %d of %d: got %v, want ErrBackup", what, at, len(sound), err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	luck := rand.New(rand.NewPCG(seed, 0))
	for range 12 {
		at := rows/2 + luck.IntN(rows/2)
		flipped := append([]byte(nil), sound...)
		flipped[at] ^= 1 << luck.IntN(8)
		check("flipped", at, flipped)
		at = luck.IntN(rows)
		check("cut off", at, sound[:at])
	}
	check("nothing", 0, nil)
	check("text", 0, []byte("COPY public.branch (seq) FROM stdin;\n"))
}

// What reads a whole database takes longer than what serves boxes may.
func TestDumpTakesItsTime(t *testing.T) {
	s, err := Open(t.Context(), pgtest.New(t)+"&statement_timeout=20&lock_timeout=20&idle_in_transaction_session_timeout=20", Options{Now: time.Now, Log: slog.New(slog.DiscardHandler), Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	err = pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), noTimeout+`; INSERT INTO event (numbering, seq, count, received, happened, wall, mono, box, boot, branch, pages,
			stream, reason, schema, quality, certain, encoded, kind, session, mode, judged)
			SELECT 1, n, 1, now(), 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, true, 'x', '', '', '', '' FROM generate_series(1, 400000) AS n`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var n, sum int64
	if err := s.pool.QueryRow(t.Context(), countRows).Scan(&n, &sum); err == nil {
		t.Fatal("the database counts them within 20 ms: more are needed for this test to show anything")
	}
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "hub.dump")); err != nil {
		t.Error(err)
	}
}

func TestDumpOfAnotherMoment(t *testing.T) {
	file, want := dumped(t, 10)
	for name, change := range map[string]func(*contents){
		"a branch goes further":  func(c *contents) { c.seq[1]++ },
		"a branch more":          func(c *contents) { c.num[1] = 7 },
		"a row more":             func(c *contents) { c.rows++ },
		"a row stands for more":  func(c *contents) { c.events++ },
		"nothing should be here": func(c *contents) { *c = contents{} },
	} {
		t.Run(name, func(t *testing.T) {
			other := want
			other.num, other.seq = append([]int64(nil), want.num...), append([]int64(nil), want.seq...)
			change(&other)
			if err := verify(t.Context(), file, other); !errors.Is(err, ErrBackup) {
				t.Errorf("got %v, want ErrBackup", err)
			}
		})
	}
}

func FuzzReadDump(f *testing.F) {
	f.Add("COPY public.branch (numbering, stream, number, seq) FROM stdin;\n1\t2\t0\t9\n\\.\n")
	f.Add("COPY public.event_2026_11 (seq, \"count\", kind) FROM stdin;\n1\t2\tx\n\\.\n")
	f.Add("COPY public.event_other (seq) FROM stdin;\n" + strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, text string) {
		h := holdings{tips: map[tip]int64{}}
		_ = h.read(bufio.NewReaderSize(strings.NewReader(text), 16)) // whatever it says, it comes to an end
	})
}
