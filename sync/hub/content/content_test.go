package content_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/sqlite"
)

// town is a hub's desk and office on one real database.
type town struct {
	*content.Desk
	content.Office
	store *sqlite.Store
	path  string
	key   ed25519.PrivateKey

	mu    sync.Mutex
	clock time.Time
}

func (h *town) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clock
}

func (h *town) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = h.clock.Add(d)
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newTown(t testing.TB) *town {
	t.Helper()
	h := &town{path: filepath.Join(t.TempDir(), "hub.db"), clock: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
	h.store = open(t, h.path)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.key = key
	h.Office = content.Office{Store: h.store, Now: h.now}
	h.Desk = h.desk(h.store)
	return h
}

// desk returns another desk of the same hub, as another process has it.
func (h *town) desk(s content.Store) *content.Desk {
	return content.New(content.Config{Store: s, Key: h.key, Now: h.now, Log: slog.New(slog.DiscardHandler)})
}

// running runs a desk until the test ends.
func running(t testing.TB, d *content.Desk) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// get returns a box's document, nil when it is the one it has.
func (h *town) get(t testing.TB, d *content.Desk, box uint32, branch, etag string) (*desired.Document, string) {
	t.Helper()
	a, err := d.State(t.Context(), box, branch, etag, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a.Same {
		return nil, a.ETag
	}
	doc, err := a.Signed.Open(box, []ed25519.PublicKey{h.key.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	return &doc, a.ETag
}

// want gets a box's document and checks its number.
func (h *town) want(t testing.TB, d *content.Desk, etag string, version uint64) (desired.Document, string) {
	t.Helper()
	doc, tag := h.get(t, d, 1, "Harar", etag)
	if doc == nil || doc.Version != version {
		t.Fatalf("with %s got %+v, want version %d", etag, doc, version)
	}
	return *doc, tag
}

func (h *town) announce(t testing.TB, branch string, box uint32, text string) content.Notice {
	t.Helper()
	n, err := h.AddNotice(t.Context(), content.Notice{
		Notice: desired.Notice{Severity: desired.Info, Text: map[string]string{"it": text}}, Branch: branch, Box: box,
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (h *town) put(t testing.TB, name string, box uint32, text string) content.Item {
	t.Helper()
	i, err := h.PutFile(t.Context(), name, box, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// noticed makes a desk that is not running notice changes.
func (h *town) noticed() { h.Desk = h.desk(h.store) }

func TestVersionsFollowWhatABoxIsToHave(t *testing.T) {
	h := newTown(t)
	doc, tag := h.want(t, h.Desk, "", 1)
	if len(doc.Notices)+len(doc.Content) != 0 || !doc.Expires.Equal(h.now().Add(content.Life)) || len(doc.SignKeys) != 1 {
		t.Errorf("at first: %+v", doc)
	}
	if same, _ := h.get(t, h.Desk, 1, "Harar", tag); same != nil {
		t.Error("the same document is sent again")
	}
	for _, other := range []string{`"x"`, "", `"1.x.y"`} {
		if doc, again := h.get(t, h.desk(h.store), 1, "Harar", other); doc == nil || again != tag && other != `"1.x.y"` {
			t.Errorf("with %s: %+v, %s", other, doc, again)
		}
	}
	h.announce(t, "Niguarda", 0, "not for this one")
	h.announce(t, "", 2, "not for this one either")
	h.put(t, "prices.json", 2, "not for this one")
	h.noticed()
	_, tag2 := h.get(t, h.Desk, 1, "Harar", "")
	n := h.announce(t, "Harar", 0, "Ciao")
	h.noticed()
	doc2, tag3 := h.get(t, h.Desk, 1, "Harar", tag2)
	if doc2 == nil || len(doc2.Notices) != 1 || doc2.Notices[0].Text["it"] != "Ciao" {
		t.Fatalf("got %+v", doc2)
	}
	if err := h.store.RemoveNotice(t.Context(), n.ID, h.now()); err != nil {
		t.Fatal(err)
	}
	h.noticed()
	doc3, _ := h.get(t, h.Desk, 1, "Harar", tag3)
	if doc3 == nil || doc3.Version != doc2.Version+1 || len(doc3.Notices) != 0 {
		t.Errorf("after the notice was taken back: %+v", doc3)
	}
	if two, _ := h.get(t, h.Desk, 2, "Niguarda", ""); len(two.Notices) != 2 || len(two.Content) != 1 || two.Version != 1 {
		t.Errorf("box 2: %+v", two)
	}
}

func TestDocumentsAreSignedAnewBeforeTheyAreOld(t *testing.T) {
	h := newTown(t)
	first, tag := h.want(t, h.Desk, "", 1)
	h.pass(content.Life * 3 / 5)
	if doc, _ := h.get(t, h.Desk, 1, "Harar", tag); doc != nil {
		t.Errorf("too early: %+v", doc)
	}
	h.pass(content.Life / 5)
	doc, tag2 := h.want(t, h.Desk, tag, 1)
	if tag2 == tag || !doc.Expires.Equal(h.now().Add(content.Life)) || doc.Core() != first.Core() {
		t.Errorf("signed anew: %+v", doc)
	}
}

func TestNoticesEndByThemselves(t *testing.T) {
	h := newTown(t)
	if _, err := h.AddNotice(t.Context(), content.Notice{Notice: desired.Notice{
		Severity: desired.Warning, Text: map[string]string{"it": "Oggi"}, Until: h.now().Add(time.Hour),
	}}); err != nil {
		t.Fatal(err)
	}
	doc, tag := h.want(t, h.Desk, "", 1)
	if len(doc.Notices) != 1 {
		t.Fatalf("got %+v", doc)
	}
	h.pass(time.Hour)
	if doc, _ := h.want(t, h.Desk, tag, 2); len(doc.Notices) != 0 {
		t.Errorf("got %+v", doc)
	}
}

// TestRestoredHub has a hub whose database is older than what boxes have: a number must not come twice with other words.
func TestRestoredHub(t *testing.T) {
	h := newTown(t)
	_, tag := h.want(t, h.Desk, "", 1)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := h.store.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	var doc desired.Document
	for n := range uint64(3) {
		h.announce(t, "", 0, fmt.Sprint("Avviso ", n))
		h.noticed()
		doc, tag = h.want(t, h.Desk, tag, n+2)
	}
	restored := open(t, backup)
	d := h.desk(restored)
	got, tag5 := h.want(t, d, tag, doc.Version+1)
	if len(got.Notices) != 0 {
		t.Errorf("got %+v", got)
	}
	if again, _ := h.get(t, d, 1, "Harar", tag5); again != nil {
		t.Errorf("again: %+v", again)
	}
}

// TestTwoHubs has two processes on one database: each number is given once, and both tell the same.
func TestTwoHubs(t *testing.T) {
	h := newTown(t)
	other := h.desk(open(t, h.path))
	for n := range uint64(5) {
		h.announce(t, "", 0, fmt.Sprint("Avviso ", n))
		a, b := h.desk(h.store), h.desk(open(t, h.path))
		var wg sync.WaitGroup
		tags := make([]string, 8)
		for i := range tags {
			wg.Go(func() {
				_, tags[i] = h.get(t, []*content.Desk{a, b}[i%2], 1, "Harar", "")
			})
		}
		wg.Wait()
		for _, tag := range tags {
			if tag != tags[0] || !strings.HasPrefix(tag, fmt.Sprintf(`"%d.`, n+1)) {
				t.Fatalf("tags are %q", tags)
			}
		}
	}
	// One that was asleep hears from the box that there is more.
	if doc, _ := h.get(t, other, 1, "Harar", ""); doc == nil || doc.Version != 5 {
		t.Errorf("got %+v", doc)
	}
}

func TestHeldRequestEndsWithAChangeByAnotherProcess(t *testing.T) {
	h := newTown(t)
	running(t, h.Desk)
	_, tag := h.want(t, h.Desk, "", 1)
	answers := make(chan content.Answer, 1)
	go func() {
		a, err := h.State(t.Context(), 1, "Harar", tag, 30*time.Second)
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	select {
	case a := <-answers:
		t.Fatalf("not held: %+v", a)
	case <-time.After(200 * time.Millisecond):
	}
	command := content.Office{Store: open(t, h.path), Now: h.now}
	start := time.Now()
	if _, err := command.AddNotice(t.Context(), content.Notice{
		Notice: desired.Notice{Severity: desired.Emergency, Text: map[string]string{"it": "Uscite"}},
	}); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if took := time.Since(start); a.Same || took > 2*time.Second {
		t.Errorf("after %v: %+v", took, a)
	}
}

func TestHeldRequestEnds(t *testing.T) {
	h := newTown(t)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()
	_, tag := h.want(t, h.Desk, "", 1)
	if a, err := h.State(t.Context(), 1, "Harar", tag, 50*time.Millisecond); err != nil || !a.Same || a.ETag != tag {
		t.Errorf("when its time is over: %+v, %v", a, err)
	}
	gone, hangUp := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, hangUp)
	if _, err := h.State(gone, 1, "Harar", tag, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("when the box hangs up: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, stop)
	if a, err := h.State(t.Context(), 1, "Harar", tag, time.Minute); err != nil || !a.Same {
		t.Errorf("when the hub stops: %+v, %v", a, err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// waiters has that many boxes whose requests are all held, and returns how long it takes until the last of them has
// heard of an emergency.
func waiters(t testing.TB, boxes uint32) time.Duration {
	t.Helper()
	h := newTown(t)
	running(t, h.Desk)
	var ready, done sync.WaitGroup
	var start time.Time
	for n := range boxes {
		ready.Add(1)
		done.Go(func() {
			a, err := h.State(t.Context(), n+1, "Harar", "", 0)
			ready.Done()
			if err == nil {
				a, err = h.State(t.Context(), n+1, "Harar", a.ETag, 10*time.Minute)
			}
			if err != nil || a.Same {
				t.Errorf("box %d: %+v, %v", n+1, a, err)
			}
		})
	}
	ready.Wait()
	time.Sleep(100 * time.Millisecond)
	start = time.Now()
	h.announce(t, "", 0, "Uscite")
	done.Wait()
	return time.Since(start)
}

func TestManyWaiters(t *testing.T) {
	const boxes = 1000
	took := waiters(t, boxes)
	t.Logf("%d boxes have heard after %v", boxes, took)
	if took > 20*time.Second { // with the race detector
		t.Errorf("the last of %d boxes has heard after %v", boxes, took)
	}
}

// BenchmarkWaiters has a town of 10,000 boxes that wait: s/all is how long it takes until the last of them has its new
// document, each signed and on disk.
func BenchmarkWaiters(b *testing.B) {
	var all time.Duration
	var n int
	for b.Loop() {
		all += waiters(b, 10_000)
		n++
	}
	b.ReportMetric(all.Seconds()/float64(n), "s/all")
}

func TestGoingBack(t *testing.T) {
	h := newTown(t)
	old := h.put(t, "prices.json", 0, "old")
	_, tag := h.want(t, h.Desk, "", 1)
	h.put(t, "prices.json", 0, "new")
	h.noticed()
	_, tag = h.want(t, h.Desk, tag, 2)
	h.announce(t, "", 0, "Ciao")
	h.noticed()
	_, tag = h.want(t, h.Desk, tag, 3)
	back := func(to uint64) {
		t.Helper()
		if err := h.store.GoBack(t.Context(), 1, to, h.now()); err != nil {
			t.Fatal(err)
		}
		h.noticed()
	}
	back(1)
	doc, tag := h.want(t, h.Desk, tag, 1)
	if doc.Rollback != 3 || len(doc.Content) != 1 || doc.Content[0].SHA256 != old.SHA256 || len(doc.Notices) != 1 {
		t.Errorf("got %+v", doc)
	}
	h.noticed()
	if doc, _ := h.get(t, h.Desk, 1, "Harar", tag); doc != nil {
		t.Errorf("again: %+v", doc)
	}
	// A second leave has a number of its own: the first has served.
	back(2)
	doc, tag = h.want(t, h.Desk, tag, 2)
	if doc.Rollback != 4 {
		t.Errorf("second leave: %+v", doc)
	}
	h.announce(t, "", 0, "E ancora")
	h.noticed()
	if doc, _ := h.want(t, h.Desk, tag, 5); doc.Rollback != 0 || len(doc.Notices) != 2 {
		t.Errorf("afterwards: %+v", doc)
	}
	if doc, _ := h.get(t, h.Desk, 2, "Harar", ""); doc.Version != 1 || doc.Rollback != 0 || doc.Content[0].SHA256 == old.SHA256 {
		t.Errorf("another box: %+v", doc)
	}
}

func TestFilesAreForWhomTheyAreNamed(t *testing.T) {
	h := newTown(t)
	body := bytes.Repeat([]byte("0123456789"), content.PartSize/10+1000)
	own := h.put(t, "own.bin", 1, string(body))
	f, err := h.File(t.Context(), 1, "Harar", own.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 5, content.PartSize - 3, content.PartSize, int64(len(body)) - 4, int64(len(body))} {
		if _, err := f.Seek(at, 0); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(f); err != nil || !bytes.Equal(b.Bytes(), body[at:]) {
			t.Errorf("from %d: %d bytes, %v", at, b.Len(), err)
		}
	}
	for _, q := range []struct {
		box uint32
		sum string
	}{{2, own.SHA256}, {1, ""}, {1, "../" + own.SHA256}, {1, strings.Repeat("0", 64)}} {
		if _, err := h.File(t.Context(), q.box, "Harar", q.sum); !errors.Is(err, content.ErrNoItem) {
			t.Errorf("box %d, %q: got %v", q.box, q.sum, err)
		}
	}
}

// TestRequire asks for a release, which is a document like any other: what asks for none comes again after it.
func TestRequire(t *testing.T) {
	h := newTown(t)
	first, tag := h.want(t, h.Desk, "", 1)
	if err := h.Require(t.Context(), "v1.4.0"); err != nil {
		t.Fatal(err)
	}
	h.noticed()
	second, tag := h.want(t, h.Desk, tag, 2)
	if err := h.Require(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	h.noticed()
	third, _ := h.want(t, h.Desk, tag, 3)
	if first.MinProgram != "" || second.MinProgram != "v1.4.0" || third.MinProgram != "" {
		t.Errorf("documents ask for %q, %q, %q", first.MinProgram, second.MinProgram, third.MinProgram)
	}
	if err := h.Require(t.Context(), "1.4"); !errors.Is(err, content.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestOfficeRefuses(t *testing.T) {
	h := newTown(t)
	text := func(s string) map[string]string { return map[string]string{"it": s} }
	for name, n := range map[string]desired.Notice{
		"no severity":          {Text: text("Ciao")},
		"no text":              {Severity: desired.Info},
		"no Italian":           {Severity: desired.Info, Text: map[string]string{"en": "Hello"}},
		"spaces only":          {Severity: desired.Info, Text: text("  ")},
		"too long":             {Severity: desired.Info, Text: text(strings.Repeat("è", desired.MaxText+1))},
		"two lines":            {Severity: desired.Info, Text: text("a\nb")},
		"control character":    {Severity: desired.Info, Text: text("a\x1b[31m")},
		"turned direction":     {Severity: desired.Info, Text: text("a\u202eb")},
		"broken UTF-8":         {Severity: desired.Info, Text: text("a\xff")},
		"no language":          {Severity: desired.Info, Text: map[string]string{"it": "Ciao", "../x": "y"}},
		"over":                 {Severity: desired.Info, Text: text("Ciao"), Until: h.now().Add(-time.Second)},
		"over before it began": {Severity: desired.Info, Text: text("Ciao"), From: h.now().Add(2 * time.Hour), Until: h.now().Add(time.Hour)},
		"after the year 9999":  {Severity: desired.Info, Text: text("Ciao"), Until: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := h.AddNotice(t.Context(), content.Notice{Notice: n}); !errors.Is(err, content.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, name := range []string{"", "../x", ".hidden", "a b", "a/b", strings.Repeat("x", 101)} {
		if _, err := h.PutFile(t.Context(), name, 0, strings.NewReader("x")); !errors.Is(err, content.ErrInvalid) {
			t.Errorf("file %q: got %v", name, err)
		}
	}
	if _, err := h.AddNotice(t.Context(), content.Notice{Notice: desired.Notice{Severity: desired.Info, Text: text(strings.Repeat("è", desired.MaxText))}}); err != nil {
		t.Errorf("the longest text: %v", err)
	}
	for range desired.MaxNotices - 1 {
		h.announce(t, "", 0, "Ciao")
	}
	if _, err := h.AddNotice(t.Context(), content.Notice{Notice: desired.Notice{Severity: desired.Info, Text: text("Ciao")}}); !errors.Is(err, content.ErrInvalid) {
		t.Errorf("one too many: got %v", err)
	}
}
