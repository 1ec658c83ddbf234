package staff

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sportello.example/kiosk/locale"
	"sportello.example/kiosk/web"
)

// TestPagesInABrowser shows every page, with everything wrong that can be, on a telephone and on a large screen: axe finds
// nothing, nothing is wider than the screen, nothing is smaller than a finger, and a page follows what happens.
func TestPagesInABrowser(t *testing.T) {
	axe, err := os.ReadFile("../../appliance/demo/testdata/axe/axe.min.js") // Deque's accessibility checker (MPL-2.0)
	if err != nil {
		t.Fatal(err)
	}
	b, alarms, base := behindTheGuard(t)
	b.set(func() { full(b); b.waiting = true })
	for _, kind := range []AlarmKind{AlarmKey, AlarmIdentity, AlarmDuplicate, AlarmSheet, AlarmRisk, AlarmName} {
		alarms.Raise(Alarm{Kind: kind, Subject: uuid, Name: hostile, Old: strings.Repeat("ab", 32), New: strings.Repeat("cd", 32), At: b.now()})
	}
	ctx := chromium(t)
	shots := os.Getenv("SPORTELLO_ARTEFACTS")
	if shots == "" {
		shots = t.TempDir()
	}
	shots = filepath.Join(shots, "screenshots")
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	look := func(lang, name string) {
		t.Helper()
		for _, width := range []int{320, 1280} {
			do(t, ctx, chromedp.EmulateViewport(int64(width), 1080))
			for _, fault := range see[[]string](t, ctx, faultsJS) {
				t.Errorf("%s in %s, %d pixels wide: %s", name, lang, width, fault)
			}
			png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(shots, fmt.Sprintf("staff-%s-%s-%d.png", name, lang, width)), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if lang != "it" { // axe sees the same in every language
			return
		}
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[*runtime.RemoteObject](string(axe))); err != nil {
			t.Fatal(err)
		}
		for _, fault := range see[[]string](t, ctx, axeJS) {
			t.Errorf("axe on %s in %s: %s", name, lang, fault)
		}
	}
	for _, lang := range []string{"it", "en"} {
		do(t, ctx, chromedp.Navigate(base+login+"?lang="+lang))
		look(lang, "login")
		see[bool](t, ctx, `fetch('/staff/login', {method: 'POST', body: new URLSearchParams({code: '`+rightCode+`', by: 'M. Rossi', lang: '`+lang+`'})}).then(r => r.ok)`)
		for _, p := range []struct{ name, path string }{
			{"printers", home},
			{"prints", prints},
			{"adopt", adopt},
			{"candidate", candidate + "?id=a"},
			{"risk", candidate + "?id=p"},
			{"retire", retire + "?uuid=" + uuid},
			{"error", "/staff/nothing"},
		} {
			do(t, ctx, chromedp.Navigate(base+p.path))
			look(lang, p.name)
		}
		see[bool](t, ctx, `fetch('/staff/candidate', {method: 'POST', body: new URLSearchParams({id: 'a', as: 'document'})}).then(r => r.ok)`)
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			do(t, ctx, chromedp.Navigate(base+candidate+"?id=a"))
			if see[bool](t, ctx, `!!document.querySelector('#code')`) {
				break
			} else if time.Now().After(end) {
				t.Fatal("nobody asks for the code")
			}
		}
		look(lang, "code")
		see[bool](t, ctx, `fetch('/staff/code', {method: 'POST', body: new URLSearchParams({id: 'a', code: '`+paperCode+`', look: 'right'})}).then(r => r.ok)`)
		if lang == "it" {
			see[bool](t, ctx, `fetch('/staff/logout', {method: 'POST'}).then(r => r.ok)`)
		}
	}

	do(t, ctx, chromedp.Navigate(base+home))
	b.set(func() { b.devices = b.devices[2:]; b.undecided = nil })
	for end := time.Now().Add(30 * time.Second); see[int](t, ctx, `document.querySelectorAll('.badge').length`) != 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the page does not follow what happens")
		}
	}
	if words := strings.Join(see[[]string](t, ctx, `[location.pathname]`), ""); words != home {
		t.Errorf("at %s", words)
	}
}

const faultsJS = `[
	...(document.documentElement.scrollWidth > innerWidth ? ['wider than the screen: ' + [...document.querySelectorAll('main *')]
		.filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3).map(e => e.tagName + '.' + e.className).join(' ')] : []),
	...[...document.querySelectorAll('.btn, input:not([type=hidden]):not([type=radio])')].filter(e => e.getBoundingClientRect().height < 44)
		.map(e => 'too small for a finger: ' + e.outerHTML.slice(0, 80)),
]`

const axeJS = `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
	.then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target.join(' ')).join(', ')))`

// behindTheGuard shows the pages as a box does: with the kiosk's files, behind the kiosk's guard.
func behindTheGuard(t *testing.T) (*branch, *Alarms, string) {
	t.Helper()
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	pages, err := web.New(web.Config{Texts: texts, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pages.Close)
	b := &branch{clock: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
	alarms := &Alarms{}
	s, err := New(Config{
		Spool: b, Adoptions: b, Alarms: alarms, Desk: b, Door: b, Texts: texts, Asset: pages.Asset, Icon: pages.Icon,
		Branch: func() string { return "Biblioteca Harar" }, Now: b.now, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	mux := http.NewServeMux()
	mux.Handle("/staff/", pages.Guard(s.Handler()))
	mux.Handle("/", pages.Handler())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return b, alarms, srv.URL
}

// chromium starts a browser.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no Chromium: install Debian's package chromium (.ci/run does)")
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	alloc, end := chromedp.NewExecAllocator(context.Background(), opts...)
	browser, quit := chromedp.NewContext(alloc)
	browser, cancel := context.WithTimeout(browser, 5*time.Minute)
	t.Cleanup(func() {
		cancel()
		quit()
		end()
	})
	return browser
}

func do(t *testing.T, ctx context.Context, a chromedp.Action[chromedp.Void]) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	if err := chromedp.Do(ctx, a); err != nil {
		t.Fatal(err)
	}
}

func see[T any](t *testing.T, ctx context.Context, expression string) T { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
