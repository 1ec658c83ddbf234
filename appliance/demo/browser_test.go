package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe is Deque's accessibility checker (MPL-2.0, see testdata/axe/LICENSE).
//
//go:embed testdata/axe/axe.min.js
var axe string

// chromium starts a kiosk's browser and returns the folder of its profile. stop ends it, and all that it would still
// write is written then.
func chromium(t *testing.T) (browser context.Context, profile string, stop func()) {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("no Chromium: install Debian's package chromium (.ci/run does)")
	}
	profile = t.TempDir()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(profile),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disk-cache-size", "1"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	alloc, end := chromedp.NewExecAllocator(context.Background(), opts...)
	browser, quit := chromedp.NewContext(alloc)
	stop = sync.OnceFunc(func() {
		if err := chromedp.Cancel(browser); err != nil && !errors.Is(err, context.Canceled) {
			t.Logf("close Chromium: %v", err)
		}
		quit()
		end()
	})
	t.Cleanup(stop)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return browser, profile, stop
}

// A kioskScreen is a kiosk's browser, with somebody who looks at every page: nothing may be said on its console, nothing
// may be asked of anybody but the box, and axe must find nothing wrong.
type kioskScreen struct {
	t     *testing.T
	ctx   context.Context
	host  string // of the box
	base  string // http://127.0.0.1:8080/k/1
	shots string // where pictures go
	story string // of this test, for the names of pictures
	n     int

	mu       sync.Mutex // guards the field that follows
	problems []string
}

// openKiosk opens a kiosk's screen, in the browser's own profile: what one citizen leaves in it the next one finds.
func openKiosk(t *testing.T, browser context.Context, s *stage, story string) *kioskScreen {
	t.Helper()
	ctx, quit := chromedp.NewContext(browser)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	k := &kioskScreen{t: t, ctx: ctx, host: s.addr.kiosk, base: "http://" + s.addr.kiosk + "/k/1", story: story, shots: artefacts(t)}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080)); err != nil {
		t.Fatal(err)
	}
	listeners := k.listen()
	t.Cleanup(func() {
		k.goHome(s)
		cancel()
		quit()
		listeners.Wait()
	})
	return k
}

// artefacts is the folder where CI keeps pictures.
func artefacts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SPORTELLO_ARTEFACTS")
	if dir == "" {
		dir = t.TempDir()
	}
	dir = filepath.Join(dir, "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (k *kioskScreen) complain(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.problems = append(k.problems, fmt.Sprintf(format, args...))
}

// listen notes what the browser says and asks for, until the screen is closed.
func (k *kioskScreen) listen() *sync.WaitGroup {
	entries := chromedp.Events(k.ctx, log.EntryAdded)
	calls := chromedp.Events(k.ctx, runtime.ConsoleAPICalled)
	thrown := chromedp.Events(k.ctx, runtime.ExceptionThrown)
	asked := chromedp.Events(k.ctx, network.RequestWillBeSent)
	err := chromedp.Do(k.ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, log.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, t, network.Enable, network.EnableParams{})
		return err
	}))
	if err != nil {
		k.t.Fatal(err)
	}
	wg := &sync.WaitGroup{}
	wg.Go(func() {
		for ev, err := range entries {
			if err != nil {
				return
			}
			k.complain("console: %s (%s)", ev.Entry.Text, ev.Entry.URL)
		}
	})
	wg.Go(func() {
		for ev, err := range calls {
			if err != nil {
				return
			}
			k.complain("console.%s was called", ev.Type)
		}
	})
	wg.Go(func() {
		for ev, err := range thrown {
			if err != nil {
				return
			}
			k.complain("exception: %s", ev.ExceptionDetails.Text)
		}
	})
	wg.Go(func() {
		for ev, err := range asked {
			if err != nil {
				return
			}
			if u, err := url.Parse(ev.Request.URL); err != nil || u.Host != k.host {
				k.complain("request to somebody else: %s", ev.Request.URL)
			}
		}
	})
	return wg
}

// goHome leaves the kiosk free and everything mended, for the next story.
func (k *kioskScreen) goHome(s *stage) {
	ctx := context.WithoutCancel(k.t.Context())
	for _, sw := range [][2]string{{"line", "up"}, {"printer", "ready"}} {
		if err := s.Switch(ctx, sw[0], sw[1]); err != nil {
			k.t.Error(err)
		}
	}
	_, _ = look(k, chromedp.Evaluate[bool](
		`fetch(location.pathname.match(/^.k.\d+/)[0] + '/exit', {method: 'POST', redirect: 'manual', body: new URLSearchParams({reason: 'asked'})}).then(() => true)`,
		chromedp.EvalAwaitPromise))
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if !s.State(ctx).Box.Busy {
			return
		}
	}
	k.t.Error("the kiosk is still busy after the story")
}

// open types an address.
func (k *kioskScreen) open(path string) {
	k.t.Helper()
	if err := chromedp.Do(k.ctx, chromedp.Navigate(k.base+path)); err != nil {
		k.t.Fatalf("open %s: %v", path, err)
	}
}

// press touches the first thing on the screen that matches a CSS selector.
func (k *kioskScreen) press(selector string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)); err != nil {
		k.shoot("failed")
		k.t.Fatalf("press %s on %s: %v", selector, k.where(), err)
	}
}

// choose touches the card or button of a form with that name and value.
func (k *kioskScreen) choose(name, value string) {
	k.t.Helper()
	k.press(fmt.Sprintf(`button[name=%q][value=%q]`, name, value))
}

// typeIn types into a field by its name.
func (k *kioskScreen) typeIn(name, text string) {
	k.t.Helper()
	if err := chromedp.Do(k.ctx, chromedp.SetValue(chromedp.CSS(fmt.Sprintf(`input[name=%q]`, name)), text)); err != nil {
		k.t.Fatalf("type into %s on %s: %v", name, k.where(), err)
	}
}

// look runs an action that looks at the page. It gives up soon: a page that is left while it is looked at never answers.
func look[T any](k *kioskScreen, a chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(k.ctx, 8*time.Second)
	defer cancel()
	return chromedp.Run(ctx, a)
}

func (k *kioskScreen) where() string {
	p, err := look(k, chromedp.Evaluate[string](`location.pathname`))
	if err != nil {
		return err.Error()
	}
	return p
}

// at waits until the screen shows a page, then looks it over: axe, and a picture.
func (k *kioskScreen) at(page string) {
	k.t.Helper()
	k.within(30*time.Second, page, fmt.Sprintf(`location.pathname.endsWith(%q) && document.readyState === 'complete'`, page))
	ids, err := k.axe()
	if err != nil { // the page may have been left meanwhile: paper does not wait
		time.Sleep(300 * time.Millisecond)
		if !k.stillAt(page) {
			return
		}
		if ids, err = k.axe(); err != nil && k.stillAt(page) {
			k.t.Fatalf("axe on %s: %v", page, err)
		}
	}
	for _, id := range ids {
		k.t.Errorf("axe on %s: %s", page, id)
	}
	k.shoot(strings.ReplaceAll(strings.Trim(page, "/"), "/", ""))
}

func (k *kioskScreen) stillAt(page string) bool { return strings.HasSuffix(k.where(), page) }

// axe returns what axe finds wrong with the page.
func (k *kioskScreen) axe() ([]string, error) {
	if _, err := look(k, chromedp.Evaluate[*runtime.RemoteObject](axe)); err != nil {
		return nil, err
	}
	return look(k, chromedp.Evaluate[[]string](`axe.run(document, {
		runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
	}).then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target.join(' ')).join(', ')))`,
		chromedp.EvalAwaitPromise))
}

// within waits until an expression is true.
func (k *kioskScreen) within(limit time.Duration, what, expression string) {
	k.t.Helper()
	end := time.Now().Add(limit)
	for time.Now().Before(end) {
		if ok, err := look(k, chromedp.Evaluate[bool](expression)); err == nil && ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	k.shoot("failed")
	text, _ := look(k, chromedp.Evaluate[string](`document.body.innerText`))
	k.t.Fatalf("%s did not come within %s; the screen is at %s and says:\n%s", what, limit, k.where(), text)
}

// says waits until the page says something.
func (k *kioskScreen) says(limit time.Duration, text string) {
	k.t.Helper()
	k.within(limit, "“"+text+"”", fmt.Sprintf(`document.body.innerText.toLowerCase().includes(%q)`, strings.ToLower(text)))
}

func (k *kioskScreen) shoot(name string) {
	png, err := look(k, chromedp.FullScreenshot(100))
	if err != nil {
		return // the page is being left
	}
	k.n++
	file := filepath.Join(k.shots, fmt.Sprintf("%s-%02d-%s.png", k.story, k.n, name))
	if err := os.WriteFile(file, png, 0o644); err != nil {
		k.t.Errorf("picture: %v", err)
	}
}

// done checks that nothing was said or asked that must not be. allowed are parts of messages that the story itself
// causes, such as the browser's own word about an event stream that a stopped box has cut.
func (k *kioskScreen) done(allowed ...string) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.problems {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(p, a) }) {
			k.t.Error(p)
		}
	}
}

// toLogin answers the questions for a certificate of residence for a bank.
func (k *kioskScreen) toLogin() {
	k.t.Helper()
	k.toStamp()
	k.choose("choice", "due")
	k.at("/login")
}

func (k *kioskScreen) toStamp() {
	k.t.Helper()
	k.open("")
	k.at("/k/1")
	k.press("a.touch")
	k.at("/language")
	k.choose("language", "it")
	k.at("/need")
	k.choose("choice", "certificate")
	k.at("/recipient")
	k.choose("choice", "private")
	k.at("/certificate")
	k.choose("toggle", "residenza")
	k.within(5*time.Second, "the chosen certificate", `document.querySelector('button[value=residenza][aria-pressed=true]') !== null`)
	k.choose("action", "next")
	k.at("/holder")
	k.choose("choice", "self")
	k.at("/stamp")
}

// readQR asks for the QR and reads it off the screen as a phone does.
func (k *kioskScreen) readQR() string {
	k.t.Helper()
	k.choose("action", "qr")
	k.at("/qr")
	page, err := look(k, chromedp.Evaluate[string](`document.documentElement.outerHTML`))
	if err != nil {
		k.t.Fatal(err)
	}
	qr, err := readQR([]byte(page))
	if err != nil {
		k.t.Fatal(err)
	}
	return qr
}

// phone logs in as somebody with what a QR holds, and returns the code that the phone shows then.
func (k *kioskScreen) phone(s *stage, qr string, who person) string {
	k.t.Helper()
	code, err := (&checker{stage: s}).phoneCode(k.ctx, qr, who)
	if err != nil {
		k.t.Fatal(err)
	}
	return code
}

// enter types the phone's code on the numeric pad.
func (k *kioskScreen) enter(code string) {
	k.t.Helper()
	k.press(`a[href$="/code"]`)
	k.at("/code")
	for _, digit := range code {
		k.choose("key", string(digit))
	}
	k.press(`button.primary[name=action][value=enter]`)
}
