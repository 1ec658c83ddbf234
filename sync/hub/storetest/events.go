package storetest

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
)

func branches(t *testing.T, s Store) {
	a, b, c := chain(1, envelope.Legal), chain(1, envelope.Stats), chain(2, envelope.Legal)
	if bs := held(t, s, a, b); len(bs) != 0 {
		t.Errorf("at first: %+v", bs)
	}
	one := grow(t, s, a, 3, now, nil)
	grow(t, s, c, 1, now, nil)
	two := ingest.Branch{ID: a, Number: 1, Parent: 0, From: 3, Seq: 2, Head: envelope.Hash{1}, Safe: 2, Dated: now.Add(-time.Hour)}
	orphan := ingest.Branch{ID: a, Number: 2, Parent: 2, From: 100, Seq: 99}
	write(t, s, a, ingest.Changes{Received: now, Branches: []ingest.Branch{two, orphan}})
	if got, want := held(t, s, b, a, a), []ingest.Branch{one, two, orphan}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	two.Seq, two.Head, two.Dated = 7, envelope.Hash{2}, now
	write(t, s, a, ingest.Changes{Received: now, Branches: []ingest.Branch{two}})
	if got := held(t, s, a); len(got) != 3 || !reflect.DeepEqual(got[1], two) {
		t.Errorf("changed: got %+v\nwant %+v", got, two)
	}
	other := ingest.ChainID{Box: 1, Chain: envelope.Chain{Epoch: "ff00", Stream: envelope.Legal}}
	grow(t, s, other, 1, now, nil)
	if got := held(t, s, other); len(got) != 1 || got[0].Seq != 1 {
		t.Errorf("another epoch: got %+v", got)
	}
}

func rolledBack(t *testing.T, s Store) {
	n := addBox(t, s, "Harar")
	id := chain(n, envelope.Legal)
	boom := errors.New("boom")
	err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error {
		rows, b := follow(first(id), 3, "", nil)
		err := tx.Write(t.Context(), ingest.Changes{
			Received: now, Rows: rows, Branches: []ingest.Branch{b}, Alarms: []ingest.Alarm{{Box: n, At: now, Kind: "gap"}},
			Datings: []ingest.Dating{{ID: id, Boot: 1, New: now}},
		})
		return errors.Join(err, boom)
	})
	same(t, "Ingest", err, boom)
	if bs := held(t, s, id); len(bs) != 0 {
		t.Errorf("got %+v", bs)
	}
	if as, err := s.Alarms(t.Context(), true); err != nil || len(as) != 0 {
		t.Errorf("got %+v, %v", as, err)
	}
	within(t, s, id, func(tx ingest.Tx) {
		if _, ok, err := tx.HashAt(t.Context(), id, 0, 1); ok || err != nil {
			t.Errorf("a row is there (%v)", err)
		}
		if ds, err := tx.Datings(t.Context()); err != nil || len(ds) != 0 {
			t.Errorf("got %+v, %v", ds, err)
		}
	})
	if b := grow(t, s, id, 3, now, nil); b.Seq != 3 {
		t.Errorf("afterwards: %+v", b)
	}
}

func hashes(t *testing.T, s Store) {
	id := chain(1, envelope.Session)
	want := map[uint64]envelope.Hash{}
	grow(t, s, id, 20, now, func(r *ingest.Row) {
		switch r.Seq {
		case 5:
			*r = stretch(r, 4)
		case 12:
			r.Hash = envelope.Hash{} // as what the first release sends
		}
		want[r.Seq] = r.Hash
		if r.Missing != nil {
			delete(want, 5)
			want[8] = r.Hash
		}
	})
	grow(t, s, chain(2, envelope.Session), 50, now, nil)
	within(t, s, id, func(tx ingest.Tx) {
		for seq := uint64(0); seq <= 30; seq++ {
			w, there := want[seq]
			got, ok, err := tx.HashAt(t.Context(), id, 0, seq)
			if err != nil || ok != there || got != w {
				t.Errorf("after %d: got %v, %v, %v, want %v, %v", seq, got, ok, err, w, there)
			}
		}
		if _, ok, err := tx.HashAt(t.Context(), id, 7, 1); ok || err != nil {
			t.Errorf("on a branch that is not there: %v, %v", ok, err)
		}
	})
}

func parents(t *testing.T, s Store) {
	id := chain(1, envelope.Session)
	trunk := grow(t, s, id, 10, now, nil)
	var at [11]envelope.Hash
	within(t, s, id, func(tx ingest.Tx) {
		for seq := uint64(1); seq <= 10; seq++ {
			at[seq], _, _ = tx.HashAt(t.Context(), id, 0, seq)
		}
	})
	rows1, one := follow(ingest.Branch{ID: id, Number: 1, Parent: 0, From: 6, Seq: 5, Head: at[5]}, 5, "one", nil)
	rows2, two := follow(ingest.Branch{ID: id, Number: 2, Parent: 1, From: 9, Seq: 8, Head: rows1[2].Hash}, 5, "two", nil)
	rows3, orphan := follow(ingest.Branch{ID: id, Number: 3, Parent: 3, From: 50, Seq: 49}, 2, "orphan", nil)
	write(t, s, id, ingest.Changes{Received: now, Rows: slices.Concat(rows1, rows2, rows3), Branches: []ingest.Branch{trunk, one, two, orphan}})
	within(t, s, id, func(tx ingest.Tx) {
		for _, tt := range []struct {
			branch int
			seq    uint64
			want   envelope.Hash // zero: none
		}{
			{0, 5, at[5]},
			{0, 10, at[10]},
			{1, 5, at[5]},
			{1, 6, rows1[0].Hash},
			{1, 10, rows1[4].Hash},
			{1, 11, envelope.Hash{}},
			{2, 3, at[3]},
			{2, 8, rows1[2].Hash},
			{2, 9, rows2[0].Hash},
			{3, 50, rows3[0].Hash},
			{3, 49, envelope.Hash{}},
			{3, 5, envelope.Hash{}},
		} {
			got, ok, err := tx.HashAt(t.Context(), id, tt.branch, tt.seq)
			if err != nil || got != tt.want || ok != (tt.want != envelope.Hash{}) {
				t.Errorf("branch %d after %d: got %v, %v, %v, want %v", tt.branch, tt.seq, got, ok, err, tt.want)
			}
		}
	})
}

func rows(t *testing.T, s Store) {
	id := chain(1, envelope.All)
	var want []ingest.Row
	grow(t, s, id, 10, now, func(r *ingest.Row) {
		switch r.Seq {
		case 3:
			*r = stretch(r, 2)
		case 7:
			r.Hash = envelope.Hash{}
		}
		want = append(want, ingest.Row{Seq: r.Seq, Hash: r.Hash, Encoded: r.Encoded, Missing: r.Missing})
	})
	write(t, s, id, ingest.Changes{Received: now, Rows: []ingest.Row{{ID: id, Branch: 1, Seq: 5, Encoded: []byte("x"), Hash: envelope.Hash{5}}}})
	within(t, s, id, func(tx ingest.Tx) {
		for _, tt := range []struct {
			from, to uint64
			want     []ingest.Row
		}{{1, 100, want}, {4, 8, want[3:7]}, {3, 3, want[2:3]}, {4, 4, nil}, {12, 11, nil}} {
			got, err := tx.Rows(t.Context(), id, 0, tt.from, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Errorf("%d to %d: %d rows, want %d", tt.from, tt.to, len(got), len(tt.want))
				continue
			}
			for i, r := range got {
				if r := (ingest.Row{Seq: r.Seq, Hash: r.Hash, Encoded: r.Encoded, Missing: r.Missing}); !reflect.DeepEqual(r, tt.want[i]) {
					t.Errorf("%d to %d: got  %+v\nwant %+v", tt.from, tt.to, r, tt.want[i])
				}
			}
		}
	})
}

// yearsApart tests a hub whose clock is wrong, and one that runs for years.
func yearsApart(t *testing.T, s Store) {
	id := chain(1, envelope.Legal)
	var all []ingest.Row
	for _, at := range []time.Time{
		now, now.AddDate(0, 1, 0), now.AddDate(0, 0, 1), now.AddDate(8, 0, 0), now.AddDate(0, 0, 2),
		time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC), time.Date(2106, 2, 7, 0, 0, 0, 0, time.UTC), now.AddDate(0, 0, 3),
	} {
		grow(t, s, id, 2, at, func(r *ingest.Row) { all = append(all, *r) })
	}
	within(t, s, id, func(tx ingest.Tx) {
		for _, r := range all {
			if got, ok, err := tx.HashAt(t.Context(), id, 0, r.Seq); err != nil || !ok || got != r.Hash {
				t.Errorf("after %d: got %v, %v, %v", r.Seq, got, ok, err)
			}
		}
		rows, err := tx.Rows(t.Context(), id, 0, 1, 100)
		if err != nil || len(rows) != len(all) {
			t.Fatalf("%d rows, %v, want %d", len(rows), err, len(all))
		}
		for i, r := range rows {
			if r.Seq != uint64(i+1) {
				t.Errorf("row %d has number %d", i, r.Seq)
			}
		}
	})
}

// noText tests that nothing which a box can write into an event keeps it from being stored.
func noText(t *testing.T, s Store) {
	n := addBox(t, s, "Harar")
	id := chain(n, envelope.Session)
	odd := []string{"\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", strings.Repeat("s", 60_000), strings.Repeat("è", 30_000), "' OR 1 --", "{}", `\x00`}
	i := -1
	grow(t, s, id, 3*len(odd), now, func(r *ingest.Row) {
		i++
		text := odd[i/3]
		switch i % 3 {
		case 0:
			r.Kind = event.Kind(text)
		case 1:
			r.Kind, r.Session = event.SessionStarted, text
		case 2:
			r.Kind, r.Mode = event.SessionStarted, text
		}
		r.Encoded = []byte(text)
		r.Judged = ingest.Quarantined
	})
	write(t, s, id, ingest.Changes{Received: now, Alarms: []ingest.Alarm{{Box: n, At: now, Kind: odd[0], Text: odd[2], Key: odd[4]}}})
	got, err := s.Judged(t.Context(), ingest.Quarantined, ingest.Row{}, 100)
	if err != nil || len(got) != 3*len(odd) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, r := range got {
		if string(r.Encoded) != odd[i/3] {
			t.Errorf("row %d is stored as %.20q, want %.20q", i, r.Encoded, odd[i/3])
		}
	}
	if _, err := s.Counts(t.Context(), now.Add(-time.Hour)); err != nil {
		t.Error(err)
	}
}

// oddNumbers tests the same of numbers and times.
func oddNumbers(t *testing.T, s Store) {
	id := chain(4_294_967_295, 250)
	times := []time.Time{{}, time.UnixMilli(-1 << 52).UTC(), time.UnixMilli(1 << 52).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	i := -1
	b := ingest.Branch{ID: id, From: 1, Seq: envelope.MaxSeq - 9}
	rows, b := follow(b, 4, "", func(r *ingest.Row) {
		i++
		r.Wall, r.Happened, r.Certain = times[i], times[i], i%2 == 0
		r.Boot, r.Mono, r.Quality, r.Schema = 1<<32-1, 100*366*24*time.Hour, 255, 255
		r.Pages, r.Judged = []int{-1 << 31, 1<<31 - 1, -5, 0}[i], ingest.Quarantined
	})
	b.Dated = now
	write(t, s, id, ingest.Changes{Received: now, Rows: rows, Branches: []ingest.Branch{b}})
	if bs := held(t, s, id); len(bs) != 1 || !reflect.DeepEqual(bs[0], b) {
		t.Errorf("got  %+v\nwant %+v", bs, b)
	}
	got, err := s.Judged(t.Context(), ingest.Quarantined, ingest.Row{}, 10)
	if err != nil || len(got) != len(rows) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, r := range got {
		if r.ID != id || r.Seq != rows[i].Seq || r.Boot != rows[i].Boot || r.Mono != rows[i].Mono || r.Quality != 255 || r.Schema != 255 || r.Certain != rows[i].Certain {
			t.Errorf("got  %+v\nwant %+v", r, rows[i])
		}
	}
}

// large tests a delivery of many boxes at once.
func large(t *testing.T, s Store) {
	var ids []ingest.ChainID
	var all []ingest.Row
	var bs []ingest.Branch
	for box := range uint32(50) {
		for _, stream := range []envelope.Stream{envelope.Legal, envelope.Session} {
			id := chain(box+1, stream)
			rows, b := follow(first(id), 50, "", func(r *ingest.Row) { r.Encoded = append(r.Encoded, make([]byte, 300)...) })
			ids, all, bs = append(ids, id), append(all, rows...), append(bs, b)
		}
	}
	slices.Reverse(ids)
	err := s.Ingest(t.Context(), ids, func(tx ingest.Tx) error {
		return tx.Write(t.Context(), ingest.Changes{Received: now, Rows: all, Branches: bs})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := held(t, s, ids...); len(got) != len(bs) {
		t.Errorf("%d branches, want %d", len(got), len(bs))
	}
	within(t, s, ids[0], func(tx ingest.Tx) {
		if rows, err := tx.Rows(t.Context(), ids[0], 0, 1, 1000); err != nil || len(rows) != 50 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	})
}
