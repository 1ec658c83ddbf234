package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
)

func alarms(t *testing.T, s Store) {
	id := chain(1, envelope.Legal)
	raise := func(at time.Time, as ...ingest.Alarm) {
		t.Helper()
		for i := range as {
			as[i].At = at
		}
		write(t, s, id, ingest.Changes{Received: at, Alarms: as})
	}
	raise(now, ingest.Alarm{Box: 1, Kind: "gap", Key: "k", Text: "first"}, ingest.Alarm{Box: 2, Kind: "gap", Key: "k", Text: "other box"})
	raise(now.Add(time.Hour), ingest.Alarm{Box: 1, Kind: "fork", Key: "k", Text: "other kind"})
	raise(now.Add(2*time.Hour), ingest.Alarm{Box: 1, Kind: "gap", Key: "k", Text: "second"}, ingest.Alarm{Box: 1, Kind: "gap", Key: "l", Text: "other key"})
	list := func(all bool) (out []string) {
		t.Helper()
		as, err := s.Alarms(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range as {
			if i > 0 && a.At.After(as[i-1].At) {
				t.Errorf("%v before %v", as[i-1].At, a.At)
			}
			out = append(out, fmt.Sprintf("%d %s %s %s ×%d %s-%s %v", a.Box, a.Kind, a.Key, a.Text, a.Count, a.First.Format("15"), a.At.Format("15"), a.Done.IsZero()))
		}
		slices.Sort(out)
		return out
	}
	want := []string{"1 fork k other kind ×1 10-10 true", "1 gap k second ×2 09-11 true", "1 gap l other key ×1 11-11 true", "2 gap k other box ×1 09-09 true"}
	if got := list(false); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	as, err := s.Alarms(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(as, func(a ingest.Alarm) bool { return a.Box == 1 && a.Key == "k" && a.Kind == "gap" })
	same(t, "dealt with", s.AlarmDone(t.Context(), as[i].ID, now.Add(3*time.Hour)), nil)
	same(t, "twice", s.AlarmDone(t.Context(), as[i].ID, now.Add(4*time.Hour)), nil)
	same(t, "no such alarm", s.AlarmDone(t.Context(), 1<<40, now), ingest.ErrNoAlarm)
	if got := list(false); len(got) != 3 || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "second") }) {
		t.Errorf("open: %q", got)
	}
	if got := list(true); len(got) != 4 || !slices.Contains(got, "1 gap k second ×2 09-11 false") {
		t.Errorf("all: %q", got)
	}
	raise(now.Add(5*time.Hour), ingest.Alarm{Box: 1, Kind: "gap", Key: "k", Text: "third"})
	if got := list(false); !slices.Contains(got, "1 gap k third ×3 09-14 true") {
		t.Errorf("raised again: %q", got)
	}
}

// manyAlarms tests that one box cannot fill the database with them.
func manyAlarms(t *testing.T, s Store) {
	id := chain(1, envelope.Legal)
	raise := func(from, to int) {
		t.Helper()
		c := ingest.Changes{Received: now}
		for i := from; i <= to; i++ {
			c.Alarms = append(c.Alarms, ingest.Alarm{Box: 1, At: now, Kind: "gap", Key: fmt.Sprintf("%05d", i), Text: "gap"})
		}
		c.Alarms = append(c.Alarms, ingest.Alarm{Box: 2, At: now, Kind: "gap", Key: "k"}, ingest.Alarm{Box: 1, At: now, Kind: "fork", Key: "k"})
		write(t, s, id, c)
	}
	raise(1, ingest.MaxAlarms-10)
	raise(ingest.MaxAlarms-9, ingest.MaxAlarms+20) // ten have room
	raise(1, 5)
	raise(ingest.MaxAlarms+1, ingest.MaxAlarms+30)
	as, err := s.Alarms(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range as {
		want := 1
		switch {
		case a.Key == "k":
			want = 4
		case a.Key == ingest.MoreAlarms:
			want = 20 + 30
		case a.Key <= "00005":
			want = 2
		}
		if a.Count != want {
			t.Errorf("%d %s %s: %d times, want %d", a.Box, a.Kind, a.Key, a.Count, want)
		}
	}
	if len(as) != ingest.MaxAlarms+1+2 {
		t.Errorf("%d alarms, want %d and one for the others, and two of other kinds", len(as), ingest.MaxAlarms)
	}
}

func epochs(t *testing.T, s Store) {
	in := func(box uint32, n int) ingest.ChainID {
		return ingest.ChainID{Box: box, Chain: envelope.Chain{Epoch: envelope.Epoch(fmt.Sprintf("%032x", n)), Stream: envelope.Legal}}
	}
	for i := range 5 {
		grow(t, s, in(1, i), 1, now, nil)
		grow(t, s, ingest.ChainID{Box: 1, Chain: envelope.Chain{Epoch: in(1, i).Chain.Epoch, Stream: envelope.Stats}}, 1, now, nil)
	}
	grow(t, s, in(2, 0), 1, now, nil)
	for _, tt := range []struct {
		held ingest.ChainID
		most int
		want int
	}{{in(1, 3), 100, 5}, {in(1, 3), 4, 4}, {in(1, 7), 100, 6}, {in(1, 8), 6, 6}} {
		within(t, s, tt.held, func(tx ingest.Tx) {
			// A transaction that only looked may have left a numbering behind: one more is no harm.
			if n, err := tx.Epochs(t.Context(), 1, tt.most); err != nil || n != tt.want {
				t.Errorf("%+v: got %d, %v", tt, n, err)
			}
		})
	}
}

func judged(t *testing.T, s Store) {
	var all []ingest.Row
	for box := uint32(1); box <= 3; box++ {
		for _, st := range []envelope.Stream{envelope.Stats, envelope.Legal} {
			grow(t, s, chain(box, st), 4, now, func(r *ingest.Row) {
				r.Kind, r.Schema = "future.kind", 9
				if r.Seq%2 == 0 {
					r.Judged = ingest.Quarantined
					all = append(all, *r)
				}
			})
		}
	}
	var got []ingest.Row
	after := ingest.Row{}
	for {
		page, err := s.Judged(t.Context(), ingest.Quarantined, after, 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 5 {
			t.Fatalf("%d rows on a page of 5", len(page))
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1]
	}
	slices.SortFunc(all, func(a, b ingest.Row) int {
		return 100*int(a.ID.Box) - 100*int(b.ID.Box) + 10*int(a.ID.Chain.Stream) - 10*int(b.ID.Chain.Stream) + int(a.Seq) - int(b.Seq)
	})
	if len(got) != len(all) {
		t.Fatalf("%d rows, want %d", len(got), len(all))
	}
	for i := range got {
		if g, w := got[i], all[i]; g.ID != w.ID || g.Seq != w.Seq || string(g.Encoded) != string(w.Encoded) || g.Hash != w.Hash || g.Kind != w.Kind || g.Schema != 9 {
			t.Errorf("row %d: got  %+v\nwant %+v", i, g, w)
		}
	}
	if rs, err := s.Judged(t.Context(), ingest.Unreadable, ingest.Row{}, 5); err != nil || len(rs) != 0 {
		t.Errorf("unreadable: %+v, %v", rs, err)
	}
	r := got[0]
	r.Kind, r.Session, r.Mode, r.Judged, r.Happened, r.Certain = event.SessionStarted, "s", "self", ingest.Understood, now.Add(-3*time.Hour), true
	write(t, s, r.ID, ingest.Changes{Received: now, Judged: []ingest.Row{r}})
	if rs, err := s.Judged(t.Context(), ingest.Quarantined, ingest.Row{}, 100); err != nil || len(rs) != len(all)-1 || rs[0].Seq == r.Seq && rs[0].ID == r.ID {
		t.Errorf("judged anew, it is still there: %d rows, %v", len(rs), err)
	}
	cs, err := s.Counts(t.Context(), now.AddDate(0, 0, -1))
	if err != nil || len(cs) != 1 || cs[0].Box != r.ID.Box || cs[0].Mode != "self" || cs[0].Sessions != 1 || !cs[0].Hour.Equal(now.Add(-3*time.Hour)) {
		t.Errorf("judged anew, it is counted as %+v, %v", cs, err)
	}
}

// hours returns in which hours sessions began at a box.
func hours(t *testing.T, s Store, box uint32) (out []string) {
	t.Helper()
	cs, err := s.Counts(t.Context(), now.AddDate(0, 0, -10))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		if c.Box == box {
			out = append(out, fmt.Sprintf("%s×%d", c.Hour.Format("02T15"), c.Sessions))
		}
	}
	return out
}

func clocks(t *testing.T, s Store) {
	n, other := addBox(t, s, "Harar"), addBox(t, s, "Niguarda")
	begun := func(boot uint32, mono time.Duration, certain bool) func(*ingest.Row) {
		return func(r *ingest.Row) {
			r.Kind, r.Session, r.Boot, r.Mono, r.Certain = event.SessionStarted, fmt.Sprint(r.ID, r.Seq), boot, mono, certain
		}
	}
	// Uncertain ones count when they came, at nine.
	grow(t, s, chain(n, envelope.Session), 1, now, begun(1, 10*time.Minute, false))
	grow(t, s, chain(n, envelope.Session), 1, now, begun(2, 10*time.Minute, false))
	grow(t, s, chain(n, envelope.Session), 1, now, begun(1, 20*time.Minute, true))
	grow(t, s, chain(n, envelope.Stats), 1, now, begun(1, 130*time.Minute, false))
	grow(t, s, chain(other, envelope.Session), 1, now, begun(1, 10*time.Minute, false))
	id := ingest.ChainID{Box: n, Chain: envelope.Chain{Epoch: "ee", Stream: envelope.Session}}
	grow(t, s, id, 1, now, begun(1, 10*time.Minute, false))
	if got := hours(t, s, n); !slices.Equal(got, []string{"22T09×5"}) {
		t.Errorf("at first: %q", got)
	}

	set := ingest.Dating{ID: chain(n, envelope.Diag), Boot: 1, Mono: 3 * time.Hour, New: now.Add(-24 * time.Hour)}
	grow(t, s, chain(n, envelope.Diag), 1, now, nil)
	write(t, s, chain(n, envelope.Diag), ingest.Changes{Received: now, Datings: []ingest.Dating{set, set}})
	// At three hours it was nine on the 21st: at 10 minutes 6:10, at 130 minutes 8:10.
	if got := hours(t, s, n); !slices.Equal(got, []string{"21T06×1", "21T08×1", "22T09×3"}) {
		t.Errorf("after the clock was set: %q", got)
	}
	if got := hours(t, s, other); !slices.Equal(got, []string{"22T09×1"}) {
		t.Errorf("another box: %q", got)
	}
	within(t, s, chain(n, envelope.Legal), func(tx ingest.Tx) {
		ds, err := tx.Datings(t.Context())
		if err != nil || len(ds) != 1 || ds[0].ID.Box != n || ds[0].ID.Chain.Epoch != epoch || ds[0].Boot != 1 || ds[0].Mono != set.Mono || !ds[0].New.Equal(set.New) {
			t.Errorf("got %+v, %v", ds, err)
		}
	})
	within(t, s, id, func(tx ingest.Tx) {
		if ds, err := tx.Datings(t.Context()); err != nil || len(ds) != 0 {
			t.Errorf("another epoch: got %+v, %v", ds, err)
		}
	})
	// A second word on the same clock changes nothing that is certain now.
	set.Mono, set.New = 4*time.Hour, now
	write(t, s, chain(n, envelope.Diag), ingest.Changes{Received: now, Datings: []ingest.Dating{set}})
	if got := hours(t, s, n); !slices.Equal(got, []string{"21T06×1", "21T08×1", "22T09×3"}) {
		t.Errorf("after it was set again: %q", got)
	}
	within(t, s, chain(n, envelope.Diag), func(tx ingest.Tx) {
		if ds, err := tx.Datings(t.Context()); err != nil || len(ds) != 2 {
			t.Errorf("got %+v, %v", ds, err)
		}
	})
	// Of another epoch than the events that say it.
	err := s.Ingest(t.Context(), []ingest.ChainID{id, chain(n, envelope.Diag)}, func(tx ingest.Tx) error {
		return tx.Write(t.Context(), ingest.Changes{Received: now, Datings: []ingest.Dating{{ID: id, Boot: 1, Mono: 3 * time.Hour, New: now.Add(-22 * time.Hour)}}})
	})
	if got := hours(t, s, n); err != nil || !slices.Equal(got, []string{"21T06×1", "21T08×2", "22T09×2"}) {
		t.Errorf("another epoch: %q, %v", got, err)
	}
	// A dating and the rows it is for may come together.
	late := chain(n, envelope.Legal)
	rows, b := follow(first(late), 1, "", begun(1, 10*time.Minute, false))
	write(t, s, late, ingest.Changes{Received: now, Rows: rows, Branches: []ingest.Branch{b}, Datings: []ingest.Dating{{ID: late, Boot: 1, Mono: 5 * time.Hour, New: now.Add(-19 * time.Hour)}}})
	if got := hours(t, s, n); !slices.Equal(got, []string{"21T06×1", "21T08×2", "21T09×1", "22T09×2"}) {
		t.Errorf("together: %q", got)
	}
}

func counts(t *testing.T, s Store) {
	const a, b = 1, 2
	add := func(box uint32, st envelope.Stream, at time.Time, kind event.Kind, session, mode string, pages int, j ingest.Judgement) {
		t.Helper()
		grow(t, s, chain(box, st), 1, at.Add(time.Hour), func(r *ingest.Row) {
			r.Kind, r.Session, r.Mode, r.Pages, r.Happened, r.Judged = kind, session, mode, pages, at, j
		})
	}
	add(a, envelope.Session, now, event.SessionStarted, "x", "self", 0, ingest.Understood)
	add(a, envelope.Legal, now.Add(50*time.Minute), event.PrintDone, "x", "", 2, ingest.Understood)
	add(a, envelope.Legal, now.Add(70*time.Minute), event.PrintDone, "x", "", 3, ingest.Understood)
	add(a, envelope.Session, now.Add(59*time.Minute), event.SessionStarted, "y", "assisted", 0, ingest.Understood)
	add(b, envelope.Legal, now, event.PrintDone, "nobody", "", 1, ingest.Understood)
	add(b, envelope.Legal, now, event.PrintDone, "nobody", "", 50, ingest.NotOpened)
	add(b, envelope.Session, now, event.LineUp, "z", "self", 7, ingest.Understood)
	add(b, envelope.Session, now.Add(-49*time.Hour), event.SessionStarted, "old", "self", 0, ingest.Understood)
	cs, err := s.Counts(t.Context(), now.Add(-48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range cs {
		got = append(got, fmt.Sprintf("%d %s %q %d/%d", c.Box, c.Hour.Format("02T15"), c.Mode, c.Sessions, c.Papers))
	}
	want := []string{`1 22T09 "assisted" 1/0`, `1 22T09 "self" 1/2`, `1 22T10 "self" 0/3`, `2 22T09 "" 0/1`}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func lastEvents(t *testing.T, s Store) {
	a, b, c := addBox(t, s, "A"), addBox(t, s, "B"), addBox(t, s, "C")
	grow(t, s, chain(a, envelope.Session), 2, now, func(r *ingest.Row) { r.Happened = now.Add(-time.Duration(r.Seq) * time.Hour) })
	grow(t, s, chain(a, envelope.Legal), 1, now, func(r *ingest.Row) { r.Happened = now.Add(-30 * time.Minute) })
	grow(t, s, chain(a, envelope.Stats), 1, now, func(r *ingest.Row) { r.Happened, r.Certain = now, false })
	grow(t, s, chain(b, envelope.Legal), 1, now, func(r *ingest.Row) { r.Happened, r.Certain = now, false })
	got, err := s.LastEvents(t.Context())
	if err != nil || !got[a].Equal(now.Add(-30*time.Minute)) || !got[b].IsZero() || !got[c].IsZero() {
		t.Errorf("got %v, %v", got, err)
	}
}

// oneChain tests that transactions on one chain come one after the other, whoever begins them.
func oneChain(t *testing.T, s Store) {
	id := chain(1, envelope.Legal)
	const workers, each = 8, 15
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) error {
					b, err := branch(t.Context(), tx, id, 0)
					if err != nil {
						return err
					}
					rows, b := follow(b, 2, "", nil)
					return tx.Write(t.Context(), ingest.Changes{
						Received: now, Rows: rows, Branches: []ingest.Branch{b}, Alarms: []ingest.Alarm{{Box: 1, At: now, Kind: "gap", Key: "k"}},
					})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	bs := held(t, s, id)
	if len(bs) != 1 || bs[0].Seq != 2*workers*each {
		t.Fatalf("got %+v, want number %d", bs, 2*workers*each)
	}
	within(t, s, id, func(tx ingest.Tx) {
		rows, err := tx.Rows(t.Context(), id, 0, 1, 1_000_000)
		if err != nil || len(rows) != 2*workers*each {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		h := envelope.Genesis(id.Chain)
		for i, r := range rows {
			if h = h.Next(r.Encoded); r.Seq != uint64(i+1) || r.Hash != h {
				t.Fatalf("row %d: number %d, hash %v, want %v", i, r.Seq, r.Hash, h)
			}
		}
	})
	if as, err := s.Alarms(t.Context(), false); err != nil || len(as) != 1 || as[0].Count != workers*each {
		t.Errorf("alarms: %+v, %v", as, err)
	}
}

// manyChains tests that transactions which hold the same chains in other orders all come through.
func manyChains(t *testing.T, s Store) {
	var ids []ingest.ChainID
	for box := uint32(1); box <= 6; box++ {
		ids = append(ids, chain(box, envelope.Legal), chain(box, envelope.Stats))
	}
	const workers, each = 6, 12
	var mu sync.Mutex
	want := map[ingest.ChainID]uint64{}
	var wg sync.WaitGroup
	for w := range workers {
		luck := rand.New(rand.NewPCG(1, uint64(w)))
		wg.Go(func() {
			for range each {
				mine := slices.Clone(ids)
				luck.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				mine = mine[:1+luck.IntN(len(mine))]
				err := s.Ingest(t.Context(), mine, func(tx ingest.Tx) error {
					c := ingest.Changes{Received: now}
					for _, id := range mine {
						b, err := branch(t.Context(), tx, id, 0)
						if err != nil {
							return err
						}
						rows, b := follow(b, 1, "", nil)
						c.Rows, c.Branches = append(c.Rows, rows...), append(c.Branches, b)
						c.Alarms = append(c.Alarms, ingest.Alarm{Box: id.Box, At: now, Kind: "gap"})
					}
					return tx.Write(t.Context(), c)
				})
				if err != nil && !errors.Is(err, t.Context().Err()) {
					t.Error(err)
				}
				mu.Lock()
				for _, id := range mine {
					want[id]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, b := range held(t, s, ids...) {
		if b.Seq != want[b.ID] {
			t.Errorf("box %d, %s: number %d, want %d", b.ID.Box, b.ID.Chain, b.Seq, want[b.ID])
		}
	}
}
