package web

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"sportello.example/provisioning/admit"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/sqlite"
	hubweb "sportello.example/sync/hub/web"
	"sportello.example/sync/uplink"
)

func posted(id string, s desired.Severity, received time.Time, texts ...string) desired.Posted {
	n := desired.Posted{Notice: desired.Notice{ID: id, Severity: s, Text: map[string]string{"it": texts[0]}}, Received: received}
	if len(texts) > 1 {
		n.Text["en"] = texts[1]
	}
	return n
}

// byID returns the element with that id.
func byID(doc *html.Node, id string) *html.Node {
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && attr(n, "id") == id {
			return n
		}
	}
	return nil
}

// shown returns the IDs of the notices in a part of the page.
func shown(w *browser, part string) []string {
	w.t.Helper()
	box := byID(w.doc, part)
	if box == nil {
		w.t.Fatalf("%s has no #%s", w.at, part)
	}
	var ids []string
	for n := range find(box, "div") {
		ids = append(ids, attr(n, "data-id"))
	}
	return ids
}

func TestNoticesByPage(t *testing.T) {
	b := newBranch(t)
	received := time.Date(2026, 3, 9, 9, 42, 0, 0, time.UTC)
	b.set(func() {
		b.notices = []desired.Posted{
			posted("e", desired.Emergency, received, "Uscite subito <b>&", "Leave at once"),
			posted("w", desired.Warning, received, "Chiude alle 15"),
			posted("n", "grave", received, "Una novità"),
			posted("i", desired.Info, received, "Lunedì chiuso"),
		}
	})
	w := begin(t, b)
	check := func(path string, others ...string) {
		t.Helper()
		w.open(path)
		if got := shown(w, "emergency"); !slices.Equal(got, []string{"e"}) {
			t.Errorf("%s: emergencies %q", path, got)
		}
		if got := shown(w, "notices"); !slices.Equal(got, others) {
			t.Errorf("%s: others %q, want %q", path, got, others)
		}
	}
	for _, path := range []string{"/k/1/need", "/k/1/help", "/k/1/now", "/k/1/language", "/k/1/exit", "/k/1/nothing"} {
		check(path, "w", "n")
	}
	w.says("Uscite subito <b>&")
	w.says("Avviso del Comune.")
	if live := byID(w.doc, "emergency"); attr(live, "aria-live") != "assertive" || attr(live, "role") != "alert" {
		t.Error("emergencies are not read out")
	}
	b.setLine(false)
	w.open("/k/1/help")
	w.says("Avviso del Comune, ricevuto il 9 marzo alle 09:42.")
	w.send("/k/1/language", "language", "en")
	w.says("Leave at once")
	w.says("A notice from the municipality, received on 9 March at 09:42.")
	w.says("Chiude alle 15") // there is no English
	for n := range find(byID(w.doc, "notices"), "span") {
		if attr(n, "lang") != "it" {
			t.Errorf("a text in Italian is said to be in %q", attr(n, "lang"))
		}
	}
	w.send("/k/1/exit", "reason", "idle")
	check("/k/1", "w", "n", "i")
	b.set(func() { b.notices = []desired.Posted{posted("e", desired.Emergency, time.Unix(50, 0), "Uscite")} })
	w.open("/k/1")
	if text := w.text(); strings.Contains(text, "1970") || strings.Contains(text, "gennaio") || !strings.Contains(text, "Avviso del Comune.") {
		t.Errorf("a date that nobody knows is said:\n%s", text)
	}
}

// TestNoticeReachesOpenPage follows an emergency from a command beside the hub to a page that is open at the kiosk:
// through the hub's real database and handler, mutual TLS, and the box's follower.
func TestNoticeReachesOpenPage(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	authority, err := ca.Create(filepath.Join(dir, "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	boxes := fleet.New(store, time.Now)
	desk := content.New(content.Config{Store: store, Key: key, Now: time.Now, Log: log})
	hub, err := hubweb.New(hubweb.Config{
		Log: log, Now: time.Now, PublicURL: &url.URL{Scheme: "http", Host: "hub.example"}, Place: time.UTC, Fleet: boxes, Content: desk,
		Enroll: &admit.Desk{
			Boxes: boxes, CA: authority, Log: log, Wrong: &throttle.Failures{Now: time.Now, Max: 5, Window: time.Minute},
			Complete: func(_ context.Context, e *identity.Enrolment) error {
				k := make([]byte, 32)
				e.KeyQR, e.KeyCode, e.HubTokenKey, e.HubSealKey = k, k, public, k
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(hub.BoxHandler())
	srv.TLS = authority.TLSConfig()
	srv.Config.ReadTimeout = 3 * time.Second // as the hub's server has one
	srv.StartTLS()
	srv.TLS.Certificates = nil // httptest's own
	t.Cleanup(srv.Close)
	_, token, err := boxes.Add(t.Context(), "Biblioteca Harar", 2)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Create(filepath.Join(dir, "id"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := enroll.ParsePin([]byte(authority.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	if err := (&enroll.Client{Hub: srv.URL, Now: time.Now}).Enrol(t.Context(), id, token, pin); err != nil {
		t.Fatal(err)
	}
	line, err := uplink.New(srv.URL, id, uplink.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	follower, err := desired.New(desired.Options{
		Dir: filepath.Join(dir, "desired"), Box: 1, Keys: func() []ed25519.PublicKey { return []ed25519.PublicKey{public} },
		Source: line, Now: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- desk.Run(ctx) }()
	go func() { done <- follower.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})

	b := newBranch(t)
	b.web.cfg.Notices, b.web.cfg.NoticesChanged = follower.Notices, follower.Watch
	next := stream(t, begin(t, b), "need")
	if st := next(); len(st.Notices) != 0 {
		t.Errorf("at first: %+v", st.Notices)
	}
	for end := time.Now().Add(5 * time.Second); follower.Version() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the box has no document")
		}
	}
	time.Sleep(4 * time.Second) // longer than the server's deadline for reading: the request is held all the same

	other, err := sqlite.Open(t.Context(), filepath.Join(dir, "hub.db")) // as the command has it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	start := time.Now()
	if _, err := (&content.Office{Store: other, Now: time.Now}).AddNotice(t.Context(), content.Notice{
		Notice: desired.Notice{Severity: desired.Emergency, Text: map[string]string{"it": "Uscite subito", "en": "Leave"}}, Branch: "Biblioteca Harar",
	}); err != nil {
		t.Fatal(err)
	}
	st := next()
	took := time.Since(start)
	t.Logf("shown after %v", took)
	if len(st.Notices) != 1 || st.Notices[0].Text != "Uscite subito" || st.Notices[0].Severity != desired.Emergency || took > 2*time.Second {
		t.Errorf("after %v: %+v", took, st.Notices)
	}
}
