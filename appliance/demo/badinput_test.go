package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/kiosk"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/spid/spidtest"
)

// TestBadInput plays what goes wrong, with real peers: each has its page, and the next citizen is served.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := town(t)
	ctx := t.Context()
	ada := citizen1(t, func(p person) bool { return p.Note == "" })
	stranger := citizen1(t, func(p person) bool { return strings.Contains(p.Note, "non è in ANPR") })
	fail := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func(t *testing.T) *visitor {
		t.Helper()
		v, err := newVisitor(s.addr.kiosk)
		fail(t, err)
		fail(t, v.begin(ctx))
		t.Cleanup(func() { goHome(t, v) })
		return v
	}
	showQR := func(t *testing.T, v *visitor) string {
		t.Helper()
		fail(t, v.chooseCertificate(ctx, "login"))
		qr, err := v.showQR(ctx)
		fail(t, err)
		return qr
	}
	// problem logs somebody in and goes on until the page that says what went wrong.
	problem := func(t *testing.T, who person) *visitor {
		t.Helper()
		v := begin(t)
		code, err := (&checker{stage: s}).phoneCode(ctx, showQR(t, v), who)
		fail(t, err)
		fail(t, v.typeCode(ctx, code, "review"))
		fail(t, v.submit(ctx, nil))
		fail(t, v.until(ctx, 40*time.Second, "the page that says what went wrong", func() bool { return v.at("/problem") || v.at("/preview") }))
		fail(t, v.expect("/problem"))
		return v
	}
	says := func(t *testing.T, v *visitor, words string) {
		t.Helper()
		if !strings.Contains(strings.ToLower(v.page.text), strings.ToLower(words)) {
			t.Errorf("%s does not say %q: %s", v.page.name(), words, clip(v.page.text, 400))
		}
	}

	t.Run("wrong code three times", func(t *testing.T) {
		v := begin(t)
		showQR(t, v)
		for range 3 {
			fail(t, v.open(ctx, v.base+"/code"))
			fail(t, v.submit(ctx, answers{"code": "00000000", "action": "enter"}))
		}
		if v.at("/code") || v.at("/identity") {
			t.Errorf("after three wrong codes the kiosk still asks for one: %s", v.page.name())
		}
		says(t, v, "numero")
	})

	t.Run("QR used twice", func(t *testing.T) {
		v := begin(t)
		qr := showQR(t, v)
		_, err := (&checker{stage: s}).phoneCode(ctx, qr, ada)
		fail(t, err)
		second, err := newPhone()
		fail(t, err)
		b := &spidtest.Browser{Client: second}
		fail(t, b.Open(ctx, qr))
		if b.Status < 400 || !strings.Contains(b.HTML, "già") {
			t.Errorf("second phone: status %d: %s", b.Status, clip(b.HTML, 300))
		}
	})

	t.Run("somebody else's phone", func(t *testing.T) {
		v := begin(t)
		code, err := (&checker{stage: s}).phoneCode(ctx, showQR(t, v), stranger)
		fail(t, err)
		fail(t, v.open(ctx, v.base+"/code"))
		fail(t, v.submit(ctx, answers{"code": code, "action": "enter"}))
		fail(t, v.until(ctx, 15*time.Second, "the question “is that you?”", func() bool {
			_, ok := v.formFor(answers{"action": "no"})
			return ok
		}))
		fail(t, v.submit(ctx, answers{"action": "no"}))
		fail(t, v.expect("/login")) // the answers are kept, the other one's login is gone
		fail(t, v.open(ctx, v.base+"/review"))
		if v.at("/review") {
			t.Errorf("the login of somebody else goes on: %s", v.page.name())
		}
	})

	t.Run("cancelled on the phone", func(t *testing.T) {
		v := begin(t)
		qr := showQR(t, v)
		phone, err := newPhone()
		fail(t, err)
		b := &spidtest.Browser{Client: phone}
		fail(t, b.Open(ctx, qr))
		fail(t, b.Press(ctx, "cancel"))
		fail(t, v.until(ctx, 10*time.Second, "the kiosk saying so", func() bool {
			_, live := readQR(v.page.body)
			return live != nil
		}))
		says(t, v, "telefono")
	})

	t.Run("identity provider answers with an error", func(t *testing.T) {
		v := begin(t)
		qr := showQR(t, v)
		phone, err := newPhone()
		fail(t, err)
		b := &spidtest.Browser{Client: phone}
		fail(t, b.Open(ctx, qr))
		for _, id := range []string{"continue", "idp-0", "error-22", "send"} {
			fail(t, b.Press(ctx, id))
		}
		if !strings.Contains(b.HTML, "consenso") {
			t.Errorf("the phone does not say that there was no consent: %s", clip(b.HTML, 400))
		}
	})

	t.Run("forged QR", func(t *testing.T) {
		v := begin(t)
		qr := showQR(t, v)
		forged := qr[:len(qr)-6] + strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return 'A'
		}, qr[len(qr)-6:])
		phone, err := newPhone()
		fail(t, err)
		b := &spidtest.Browser{Client: phone}
		fail(t, b.Open(ctx, forged))
		if b.Status < 400 {
			t.Errorf("forged QR: status %d", b.Status)
		}
	})

	t.Run("not in the registry", func(t *testing.T) {
		v := problem(t, stranger)
		says(t, v, "anagrafe")
	})
	for _, knob := range []struct{ name, words string }{
		{"down", "anagrafe"}, {"garbage", "anagrafe"}, {"status500", "anagrafe"}, {"truncate", "intero"}, {"letter", "intero"},
	} {
		t.Run("registry: "+knob.name, func(t *testing.T) {
			misbehave(t, s, knob.name)
			says(t, problem(t, ada), knob.words)
		})
	}

	t.Run("registry hangs for a minute", func(t *testing.T) {
		hang(t, s, time.Minute)
		defer hang(t, s, 0)
		start := time.Now()
		v := problem(t, ada)
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("the citizen waited %s", d)
		}
		if _, ok := v.formFor(answers{"action": "leave"}); !ok {
			t.Errorf("the request cannot be left: %s", v.page.name())
		}
	})

	t.Run("hub stopped while somebody logs in", func(t *testing.T) {
		v := begin(t)
		code, err := (&checker{stage: s}).phoneCode(ctx, showQR(t, v), ada)
		fail(t, err)
		turn(t, s, "hub", "off")
		defer turn(t, s, "hub", "on")
		fail(t, v.open(ctx, v.base+"/code"))
		fail(t, v.submit(ctx, answers{"code": code, "action": "enter"}))
		fail(t, v.expect("/identity"))
	})

	t.Run("printer takes neither PDF nor pictures", func(t *testing.T) {
		fail(t, s.printerKnobs.post(ctx, "/formats", url.Values{"type": {"application/postscript"}}))
		defer func() {
			fail(t, s.printerKnobs.post(context.WithoutCancel(ctx), "/formats", url.Values{"type": {"application/pdf"}}))
			fail(t, s.Settled(context.WithoutCancel(ctx)))
		}()
		v := begin(t)
		fail(t, v.say(ctx,
			answer{"need", answers{"choice": "declaration"}, "facts"},
			answer{"facts", answers{"fact": "residence"}, "fill"},
			answer{"fill", answers{"choice": "blank"}, "review"}))
		fail(t, v.submit(ctx, nil))
		_, err := v.preview(ctx)
		fail(t, err)
		fail(t, v.submit(ctx, answers{"action": "print"}))
		fail(t, v.until(ctx, 15*time.Second, "the page that says so", func() bool { return v.at("/problem") }))
		says(t, v, "tecnico")
	})

	t.Run("clock wrong", func(t *testing.T) {
		for _, clock := range []clockState{clockTomorrow, clockPast} {
			turn(t, s, "clock", string(clock))
			fail(t, s.Settled(ctx))
			v := begin(t)
			code, err := (&checker{stage: s}).phoneCode(ctx, showQR(t, v), ada)
			fail(t, err)
			fail(t, v.typeCode(ctx, code, "review"))
			goHome(t, v)
		}
		turn(t, s, "clock", string(clockRight))
		fail(t, s.Settled(ctx))
	})

	t.Run("database corrupt at start", func(t *testing.T) {
		s.box.Stop()
		path := filepath.Join(s.dir, "box", "box.db")
		fail(t, os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600))
		fail(t, s.startBox(ctx))
		fail(t, s.Settled(ctx))
		aside, err := filepath.Glob(path + ".corrupt-*")
		fail(t, err)
		if len(aside) == 0 {
			t.Error("the corrupt file was not set aside")
		}
		log, err := os.ReadFile(filepath.Join(s.dir, "log", "box.log"))
		fail(t, err)
		if !strings.Contains(string(log), "corrupt") {
			t.Error("the log does not say so")
		}
		begin(t)
	})
}

// TestDiskFull lets the box's database grow no more: what needs no disk is served, certificates are refused in words,
// and everything goes on when what the box holds is delivered and in a backup of the hub.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := town(t)
	ctx := t.Context()
	ada := citizen1(t, func(p person) bool { return p.Note == "" })
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(s.dir, "box.toml")
	whole, err := os.ReadFile(config)
	fail(err)
	restart := func(head string) {
		t.Helper()
		s.box.Stop()
		fail(os.WriteFile(config, append([]byte(head), whole...), 0o600))
		fail(s.startBox(ctx))
		fail(s.Settled(ctx))
	}
	turn(t, s, "line", "cut") // the queue must not drain meanwhile
	lineIs(t, s, "down")
	s.box.Stop()
	pages := fillQueue(t, filepath.Join(s.dir, "box", "box.db"))
	turn(t, s, "line", "up")
	restart(fmt.Sprintf("max_pages = %d\n", pages))
	full := func(v *visitor, what string) {
		t.Helper()
		if !strings.Contains(v.page.text, "memoria") || !strings.Contains(v.page.text, "piena") {
			t.Errorf("%s with a full disk: %s: %s", what, v.page.name(), clip(v.page.text, 300))
		}
	}
	v, err := newVisitor(s.addr.kiosk)
	fail(err)
	before := sheets(t, s)
	fail(v.begin(ctx))
	fail(v.say(ctx,
		answer{"need", answers{"choice": "declaration"}, "facts"},
		answer{"facts", answers{"fact": "residence"}, "fill"},
		answer{"fill", answers{"choice": "blank"}, "review"}))
	fail(v.submit(ctx, nil))
	fail(v.until(ctx, 20*time.Second, "the refusal", func() bool { return v.at("/problem") }))
	full(v, "a declaration")
	eventually(t, 5*time.Second, "the light of the disk", func() bool { return s.State(ctx).Box.Lights["disk"].State == "down" })
	goHome(t, v)
	fail(v.begin(ctx))
	fail(v.chooseCertificate(ctx, "login"))
	if _, err := v.showQR(ctx); err == nil {
		t.Error("a QR is shown although nothing could be journalled")
	}
	full(v, "a certificate")
	goHome(t, v)
	turn(t, s, "line", "cut")
	lineIs(t, s, "down")
	fail(v.begin(ctx))
	fail(v.chooseCertificate(ctx, "request"))
	fail(v.submit(ctx, nil))
	if v.at("/preview") {
		t.Error("a request was taken that could not be queued")
	}
	full(v, "a request")
	goHome(t, v)
	if n := sheets(t, s) - before; n != 0 {
		t.Errorf("%d sheets came out that nobody could journal", n)
	}

	// Everything is delivered and in a backup: the box may forget it, which makes room.
	turn(t, s, "line", "up")
	eventually(t, 30*time.Second, "the last acknowledgement", func() bool { return s.State(ctx).Box.Queue == 0 })
	journal := func() string {
		b, err := os.ReadFile(filepath.Join(s.dir, "log", "box.log"))
		fail(err)
		return string(b)
	}
	said := len(journal())
	fail(s.command(ctx, nil, "hub", "backup", "--config", filepath.Join(s.dir, "hub.toml"), filepath.Join(t.TempDir(), "backup.db")))
	turn(t, s, "line", "cut")
	lineIs(t, s, "down")
	turn(t, s, "line", "up") // when the line comes back, the box asks what is safe
	lineIs(t, s, "up")
	eventually(t, 30*time.Second, "room on the disk", func() bool { return strings.Contains(journal()[said:], "state=ok") })
	fail(v.begin(ctx))
	fail(v.chooseCertificate(ctx, "login"))
	qr, err := v.showQR(ctx)
	fail(err)
	_, err = (&checker{stage: s}).phoneCode(ctx, qr, ada)
	fail(err)
	eventually(t, 5*time.Second, "the light of the disk", func() bool { return s.State(ctx).Box.Lights["disk"].State == "up" })
	goHome(t, v)
	restart("") // as it was before
}

// fillQueue fills the queue of a box that does not run with events that may not be let go, and returns to how many pages.
func fillQueue(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := max(300, int(st.Size()/4096)+50)
	q, _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Now: time.Now, MaxPages: pages})
	if err != nil {
		t.Fatal(err)
	}
	for n := 512; n > 0; {
		evs := make([]event.Event, n)
		for i := range evs {
			evs[i] = event.Event{Kind: event.SheetsMissing, Kiosk: 1}
		}
		if err := q.Enqueue(t.Context(), evs...); errors.Is(err, kiosk.ErrDiskFull) {
			n /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return pages
}
