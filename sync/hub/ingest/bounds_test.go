package ingest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/ingest/ingesttest"
)

// TestMoreHistoriesThanAreToldApart lets a hundred copies of one disk deliver: none of them waits, and nothing is lost.
func TestMoreHistoriesThanAreToldApart(t *testing.T) {
	const copies, apart = 100, 64
	h := open(t)
	first := h.box(t, 7)
	c := first.Chain(envelope.Session)
	visit := func(b *ingesttest.Box, text string) {
		b.Put(t, event.Event{Kind: event.SessionStarted, Session: text, Detail: event.Detail{Mode: "self"}})
	}
	visit(first, "all")
	var disks []*ingesttest.Box
	for i := range copies {
		b := first.Clone()
		for j := range 4 {
			visit(b, fmt.Sprint("copy ", i, " visit ", j))
		}
		disks = append(disks, b)
	}
	deliver := func(i int, from, to uint64) {
		t.Helper()
		run := disks[i].Run(c, from, to)
		for range 2 { // twice: the answer may be lost
			r := h.deliver(t, disks[i], envelope.Batch{Box: 7, Runs: []envelope.Run{run}})
			if a := r.Acks[0]; a.Seq != to || a.Head != run.Head || a.Fork != (i > 0) {
				t.Fatalf("copy %d from %d: ack %d, fork %v, want %d", i, from, a.Seq, a.Fork, to)
			}
		}
	}
	for i := range copies {
		deliver(i, 1, 3)
		deliver(i, 4, 5)
	}
	if s, _ := h.counted(t); s != 1+4*apart {
		t.Errorf("%d sessions are counted, want %d", s, 1+4*apart)
	}
	rows, err := h.store.Judged(t.Context(), ingest.Unreadable, ingest.Row{}, 1000)
	if err != nil || len(rows) != 4*(copies-apart) {
		t.Fatalf("%d events are kept for a person to look at (%v), want %d", len(rows), err, 4*(copies-apart))
	}
	for i, r := range rows {
		if e, err := envelope.Parse(r.Encoded); err != nil || !strings.Contains(string(e.Body), fmt.Sprintf("copy %d visit %d", apart+i/4, i%4)) {
			t.Errorf("row %d is %s (%v)", i, e.Body, err)
		}
	}
	// One without an end to go on from learns that it has to begin anew, and those that are told apart go on.
	gap := disks[copies-2].Run(c, 4, 5)
	if r, err := h.Deliver(t.Context(), 7, envelope.Batch{Box: 7, Runs: []envelope.Run{gap}}); err != nil || r.Acks[0].Head == gap.Head {
		t.Errorf("got %+v, %v", r.Acks, err)
	}
	visit(disks[3], "goes on")
	r := h.deliver(t, disks[3], envelope.Batch{Box: 7, Runs: []envelope.Run{disks[3].Run(c, 6, 6)}})
	if s, _ := h.counted(t); s != 2+4*apart || r.Acks[0].Seq != 6 {
		t.Errorf("%d sessions are counted, ack %d", s, r.Acks[0].Seq)
	}
	as, err := h.store.Alarms(t.Context(), true)
	if err != nil || len(as) != apart { // 63 branches, and one for the rest
		t.Errorf("%d alarms, %v", len(as), err)
	}
}

func TestClocksOfABoxThatNeverRests(t *testing.T) {
	h := open(t)
	b := h.box(t, 1)
	set := func(mono time.Duration) {
		at := h.now.Add(mono - 1000*time.Hour)
		b.Put(t, event.Event{Kind: event.ClockSet, Detail: event.Detail{Clock: &event.Clock{Boot: b.Boot, Mono: mono.Milliseconds(), New: at}}})
	}
	for i := range 1000 {
		set(time.Duration(i+1) * time.Second)
	}
	for i := range 500 {
		set(time.Duration(i+1) * time.Hour)
	}
	h.deliver(t, b, b.Batch())
	datings := func() (ds []ingest.Dating) {
		t.Helper()
		id := ingest.ChainID{Box: 1, Chain: b.Chain(envelope.Legal)}
		if err := h.store.Ingest(t.Context(), []ingest.ChainID{id}, func(tx ingest.Tx) (err error) {
			ds, err = tx.Datings(t.Context())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return ds
	}
	ds := datings()
	latest := time.Duration(0)
	for _, d := range ds {
		latest = max(latest, d.Mono)
	}
	if len(ds) < 20 || len(ds) > 32 || latest < 200*time.Hour {
		t.Errorf("%d words on the clock are kept, the latest of %v", len(ds), latest)
	}
	for boot := range uint32(5000) {
		b.Boot = boot + 2
		set(time.Minute)
	}
	h.deliver(t, b, b.Batch())
	if n := len(datings()); n != 4096 {
		t.Errorf("%d words on clocks are kept", n)
	}
}

func TestManyEpochs(t *testing.T) {
	h := open(t)
	b := h.box(t, 1)
	for i := range 103 {
		b.Epoch = envelope.Epoch(fmt.Sprintf("%032x", i+1))
		b.Visits(t, 1)
		h.deliver(t, b, b.Batch())
		if a := h.alarms(t, 1); (a == "epoch") != (i >= 100) {
			t.Fatalf("after %d epochs: alarms %q", i+1, a)
		}
	}
}

// TestOldDiskWithinAStretch has a copy of a disk of the first release say something under numbers that were let go.
func TestOldDiskWithinAStretch(t *testing.T) {
	h := open(t)
	const old = envelope.Epoch("0011223344556677")
	body := func(seq uint64, session string) []byte {
		b, err := json.Marshal(event.V1{Seq: seq, At: h.now, ClockOK: true, Kind: event.SessionStarted, Session: session, Detail: event.Detail{Mode: "self"}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v1 := func(first uint64, sessions ...string) {
		t.Helper()
		b := ingest.BatchV1{Epoch: old, First: first}
		for i, s := range sessions {
			b.Events = append(b.Events, body(first+uint64(i), s))
		}
		if _, err := h.DeliverV1(t.Context(), 1, b); err != nil {
			t.Fatal(err)
		}
	}
	v1(1, "a", "b")
	b := h.box(t, 1)
	b.Epoch = old
	c := b.Chain(envelope.All)
	b.Begin(c, 3)
	m := envelope.Missing{Count: 3, Reason: envelope.Dropped, Hash: envelope.Hash{3}}
	b.PutEntry(c, envelope.Entry{Missing: &m})
	b.PutBody(t, envelope.All, event.SessionStarted, event.SchemaV1, body(6, "c"), nil)
	for range 2 {
		h.deliver(t, b, envelope.Batch{Box: 1, Runs: []envelope.Run{b.Run(c, 3, 6)}})
	}
	if s, _ := h.counted(t); s != 3 {
		t.Errorf("%d sessions are counted, want 3", s)
	}
	for range 2 {
		v1(3, "d", "e")
		v1(1, "a", "b", "d")
	}
	if s, _ := h.counted(t); s != 5 {
		t.Errorf("%d sessions are counted, want 5", s)
	}
}
