package desired

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func text(s string) map[string]string { return map[string]string{"it": s} }

func TestFollow(t *testing.T) {
	h := newHub(t)
	prices := h.blob("prices.json", []byte("old prices"))
	h.publish(Document{Version: 1, Content: []Blob{prices}, SealKeys: [][]byte{[]byte("seal")}, Notices: []Notice{
		{ID: "a", Severity: Info, Text: text("Ciao")},
		{ID: "b", Severity: Emergency, Text: text("Uscite")},
		{ID: "c", Severity: Warning, Text: text("Domani"), From: time.Now().Add(time.Hour)},
		{ID: "d", Severity: Warning, Text: text("Ieri"), Until: time.Now().Add(-time.Hour)},
	}})
	o := h.options(h.serve())
	changes := make(chan uint64, 10)
	o.OnChange = func(d Document) error { changes <- d.Version; return nil }
	f, stop := follow(t, o)
	if d, _, _ := f.Current(); d.Version != 0 && f.Version() != 1 {
		t.Errorf("at first: %+v", d)
	}
	if v := <-changes; v != 1 {
		t.Errorf("OnChange with version %d", v)
	}
	d, since, fresh := f.Current()
	if d.Version != 1 || time.Since(since) > time.Minute || !fresh || string(f.SealKey()) != "seal" || read(t, f, "prices.json") != "old prices" {
		t.Errorf("got %+v since %v, %v", d, since, fresh)
	}
	if _, err := f.Open("other"); !errors.Is(err, ErrBlob) {
		t.Errorf("a file that there is not: %v", err)
	}
	if ns := f.Notices(); len(ns) != 2 || ns[0].ID != "b" || ns[1].ID != "a" || ns[0].Received.IsZero() {
		t.Errorf("got %+v", ns)
	}
	watch := f.Watch(t.Context())
	start := time.Now()
	second := h.blob("prices.json", []byte("new prices"))
	h.publish(Document{Version: 2, Content: []Blob{second}, Notices: []Notice{{ID: "a", Severity: Info, Text: text("Ciao")}}})
	<-watch
	at(t, f, 2)
	if took := time.Since(start); took > time.Second {
		t.Errorf("held request brings the change after %v", took)
	}
	if got := f.Notices()[0].Received; !got.Equal(since) {
		t.Errorf("a notice that was there is received %v, not %v", got, since)
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
	until(t, "files that nobody names to go", func() bool { return slices.Equal(stored(t, o), []string{second.SHA256}) })
	stop()

	again, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if d, _, _ := again.Current(); d.Version != 3 {
		t.Errorf("after a restart: %+v", d)
	}
}

// TestKeysAreLearned changes the hub's key twice: the box has only the first from its enrolment.
func TestKeysAreLearned(t *testing.T) {
	h := newHub(t)
	o := h.options(h.serve())
	first := h.keys()
	o.Keys = func() []ed25519.PublicKey { return first }
	_, next, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }
	h.publish(Document{Version: 1, SignKeys: [][]byte{public(h.key), public(next)}})
	f, stop := follow(t, o)
	at(t, f, 1)
	h.key = next
	h.publish(Document{Version: 2, SignKeys: [][]byte{public(next)}})
	at(t, f, 2)
	stop()
	f, stop = follow(t, o)
	if f.Version() != 2 || len(f.SignKeys()) != 2 {
		t.Errorf("after a restart: version %d, %d keys", f.Version(), len(f.SignKeys()))
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
	stop()
}

// TestClock has a box that wakes up in 1970, and one whose document is past its date.
func TestClock(t *testing.T) {
	h := newHub(t)
	issued := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	until := issued.Add(2 * time.Hour)
	h.publish(Document{Version: 1, Issued: issued, Expires: issued.Add(24 * time.Hour), Notices: []Notice{
		{ID: "a", Severity: Info, Text: text("Ciao"), From: issued.Add(-time.Hour), Until: until},
	}})
	o := h.options(h.serve())
	clock, ok := time.Unix(100, 0), false
	o.Now, o.ClockOK = func() time.Time { return clock }, func() bool { return ok }
	f, stop := follow(t, o)
	at(t, f, 1)
	stop()
	if _, since, fresh := f.Current(); !fresh || !since.Equal(issued) {
		t.Errorf("in 1970: since %v, fresh %v", since, fresh)
	}
	if ns := f.Notices(); len(ns) != 1 || !ns[0].Received.Equal(issued) {
		t.Errorf("in 1970: %+v", ns)
	}
	clock, ok = issued.Add(48*time.Hour), true
	if d, _, fresh := f.Current(); fresh || d.Version != 1 {
		t.Errorf("past its date: fresh %v, %+v", fresh, d)
	}
	if ns := f.Notices(); len(ns) != 0 {
		t.Errorf("past their date: %+v", ns)
	}
}

// TestNoticesDoNotWaitForFiles has a line that is busy with a large file when an emergency is announced.
func TestNoticesDoNotWaitForFiles(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, stop := follow(t, o)
	at(t, f, 1)
	stall := make(chan struct{})
	h.set(func() { h.stall = stall })
	b := h.blob("large.bin", random(1<<20))
	h.publish(Document{Version: 2, Content: []Blob{b}})
	until(t, "half of the file", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.served > 0 })
	start := time.Now()
	h.publish(Document{Version: 3, Content: []Blob{b}, Notices: []Notice{{ID: "a", Severity: Emergency, Text: text("Uscite")}}})
	until(t, "the notice", func() bool { return len(f.Notices()) == 1 })
	if took := time.Since(start); took > time.Second || f.Version() != 1 {
		t.Errorf("after %v at version %d", took, f.Version())
	}
	until(t, "the notice on disk", func() bool {
		r, err := load(filepath.Join(o.Dir, pendingFile))
		return err == nil && bytes.Contains(r.Signed.Body, []byte("Uscite"))
	})
	stop()
	f, err := New(o) // without a line, after a restart
	if err != nil {
		t.Fatal(err)
	}
	if ns := f.Notices(); len(ns) != 1 || f.Version() != 1 {
		t.Errorf("after a restart: %+v at version %d", ns, f.Version())
	}
	close(stall)
	f, _ = follow(t, o)
	at(t, f, 3)
	if _, err := os.Stat(filepath.Join(o.Dir, pendingFile)); err == nil {
		t.Error("what was pending is still there")
	}
}

func TestPortalIsNoHub(t *testing.T) {
	h := newHub(t)
	h.down = true
	o := h.options(h.serve())
	src := o.Source
	if _, _, _, err := src.State(t.Context(), "", 0); err == nil {
		t.Error("a portal's page is taken for a document")
	}
	var b bytes.Buffer
	if err := src.Blob(context.Background(), strings.Repeat("0", 64), 0, &b); err == nil || b.Len() > 0 {
		t.Errorf("a portal's page is taken for a file: %q, %v", b.String(), err)
	}
}
