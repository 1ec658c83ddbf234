package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/spid/spidtest"
)

// checkLimit is how long -check may take in all.
const checkLimit = 3 * time.Minute

// A checker plays the main job as three citizens, through the HTTP interfaces that people use: the kiosk's pages, the
// hub's pages for phones, the identity provider's, and the console.
type checker struct {
	stage   *stage
	console control
	start   time.Time
	before  state // what had happened when the check began

	visits   int // sessions played
	figures  figures
	personal []needle // what must not be found on any disk
}

// check plays everything and returns nil only if all of it went as it should.
func check(ctx context.Context, s *stage) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit+time.Duration(s.opt.sessions)*time.Second)
	defer cancel()
	c := &checker{stage: s, console: newControl("http://" + s.addr.console), start: now()}
	type step struct {
		name string
		do   func(context.Context) error
	}
	play := func(heading string, steps ...step) error {
		c.say("%s", heading)
		for _, st := range steps {
			begin := now()
			if err := st.do(ctx); err != nil {
				c.say("  FAILED  %s", st.name)
				return fmt.Errorf("check: %s: %w", st.name, err)
			}
			c.say("  %6.2f s  %s", now().Sub(begin).Seconds(), st.name)
		}
		return nil
	}
	up, down, back := &journey{c: c, who: 0}, &journey{c: c}, &journey{c: c, who: 7}
	err := play("the branch opens",
		step{"the box is a member of the hub and has found the printer by mDNS", c.settled},
		step{"the kiosk shows its first page", c.firstView})
	if err == nil {
		err = play("line up: a certificate",
			step{"touch, language, seven questions", up.choose},
			step{"the QR is shown; the phone opens what it holds, logs in by SPID and shows a code", up.phone},
			step{"the code is typed; “is that you?”; the answers are checked", up.confirm},
			step{"the certificate arrives and is previewed", up.previewed},
			step{"printed, byte for byte what the registry issued", up.printed},
			step{"goodbye", up.leave},
			step{"every event is acknowledged in a word that the hub signed", c.acknowledged},
			step{"an emergency notice is on the kiosk's page at once, and goes again", c.noticed})
	}
	if err == nil {
		err = play("line cut: what still works",
			step{"the line is cut, and the kiosk says so", c.cut},
			step{"a self-declaration is typed and previewed", down.declare},
			step{"printed", down.printedSheet},
			step{"a certificate is asked for, the request is left, its slip previewed", down.leaveRequest},
			step{"the slip is printed", down.printedSheet},
			step{"everything waits in the box's queue, nothing has reached the hub", c.queued},
			step{"a USB stick takes it to the hub and brings the answer: nothing waits, the line is still cut", c.carried})
	}
	if err == nil {
		err = play("line restored: the certificate is collected",
			step{"the line is mended, the queue drains", c.mended},
			step{"the slip's code is typed", func(ctx context.Context) error { return back.collect(ctx, down.slip) }},
			step{"the phone logs in", back.phone},
			step{"the code is typed; straight to the preview", back.straight},
			step{"printed, byte for byte what the registry issued", back.printed},
			step{"goodbye", back.leave})
	}
	if err == nil {
		err = play("figures: every page again and again", step{"pages are measured", (&journey{c: c}).measure})
	}
	if n := s.opt.sessions; err == nil && n > 0 {
		err = play("a crowd", step{fmt.Sprintf("%d more visits", n), func(ctx context.Context) error { return (&journey{c: c}).crowd(ctx, n) }})
	}
	if err == nil {
		err = play("afterwards",
			step{"every session and every sheet is counted at the hub exactly once", c.counted},
			step{"nothing personal and no document is on any disk", c.clean},
			step{"no part has fallen over", c.standing})
	}
	if err != nil {
		return err
	}
	c.report(up, back)
	return nil
}

func (c *checker) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.stage.opt.stdout, format+"\n", args...)
}

// state asks the console how everything is.
func (c *checker) state(ctx context.Context) (state, error) {
	var st state
	_, err := c.console.get(ctx, "/api/state", &st)
	return st, err
}

// until asks the console until ok, for as long as limit.
func (c *checker) until(ctx context.Context, limit time.Duration, what string, ok func(state) bool) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		st, err := c.state(ctx)
		if err == nil && ok(st) {
			return st, nil
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return st, fmt.Errorf("%s: not within %s (box queue %d, hub sessions %d, papers %d, light %s)",
				what, limit, st.Box.Queue, st.Municipality.Total.Sessions, st.Municipality.Total.Papers, st.Box.Lights["hub"].State)
		}
	}
}

// turn turns a switch of the console.
func (c *checker) turn(ctx context.Context, name, to string) error {
	return c.console.post(ctx, "/api/switch", url.Values{"switch": {name}, "to": {to}})
}

func (c *checker) settled(ctx context.Context) error {
	st, err := c.until(ctx, patience, "hub and printer", func(st state) bool {
		return st.Box.Enrolled && st.Box.Lights["hub"].State == "up" && st.Box.Printer.State == "ready" &&
			st.Box.Queue == 0 && st.Municipality.Reachable && st.Line == lineUp
	})
	c.before = st
	return err
}

func (c *checker) firstView(ctx context.Context) error {
	var err error
	c.figures.first, err = measureFirstView(ctx, "http://"+c.stage.addr.kiosk+"/k/1")
	c.figures.idle = c.boxRSS()
	return err
}

func (c *checker) boxRSS() int { return c.stage.box.Status().RSSKiB }

func (c *checker) cut(ctx context.Context) error {
	if err := c.turn(ctx, "line", string(lineCut)); err != nil {
		return err
	}
	if _, err := c.until(ctx, 15*time.Second, "the box notices", func(st state) bool { return st.Box.Lights["hub"].State == "down" }); err != nil {
		return err
	}
	v, err := newVisitor(c.stage.addr.kiosk)
	if err != nil {
		return err
	}
	if err := v.open(ctx, v.base+"/now"); err != nil {
		return err
	}
	return v.expect("/now")
}

func (c *checker) queued(ctx context.Context) error {
	st, err := c.until(ctx, 5*time.Second, "events wait", func(st state) bool { return st.Box.Queue > 0 })
	if err != nil {
		return err
	}
	if got := st.Municipality.Total.Sessions - c.before.Municipality.Total.Sessions; got != 1 {
		return fmt.Errorf("the hub counts %d sessions while the line is cut, not 1", got)
	}
	c.figures.queue = st.Box.Queue
	return nil
}

// acknowledged fails unless the queue is empty because the hub has said so: the box believes nothing that is not signed.
func (c *checker) acknowledged(ctx context.Context) error {
	pause(ctx, time.Second) // what is shown may be half a second old
	st, err := c.until(ctx, 30*time.Second, "the queue is acknowledged", func(st state) bool { return st.Box.Queue == 0 })
	if err != nil {
		return err
	}
	sync := st.Box.Sync
	for _, s := range sync.Streams {
		if s.LastAck == nil && s.Stream != envelope.All {
			return fmt.Errorf("stream %s was never acknowledged", s.Stream)
		}
	}
	if sync.Report.Dead > 0 || sync.Gaps > 0 || len(sync.Trouble) > 0 {
		return fmt.Errorf("%d dead, %d gaps, trouble %v", sync.Report.Dead, sync.Gaps, sync.Trouble)
	}
	return nil
}

// noticed puts a notice up and looks at a kiosk's first page.
func (c *checker) noticed(ctx context.Context) error {
	kiosk := newControl("http://" + c.stage.addr.kiosk)
	for _, to := range []noticeState{noticeEmergency, noticeNone} {
		if err := c.turn(ctx, "notice", string(to)); err != nil {
			return err
		}
		start := now()
		shown := func() bool {
			b, err := kiosk.get(ctx, "/k/1", nil)
			return err == nil && strings.Contains(string(b), "Allerta meteo")
		}
		for shown() != (to == noticeEmergency) {
			if now().Sub(start) > 10*time.Second {
				return fmt.Errorf("notice %s: the kiosk's page does not say so after 10 s", to)
			}
			pause(ctx, 50*time.Millisecond)
		}
		if to == noticeEmergency {
			c.figures.notice = now().Sub(start)
		}
	}
	return nil
}

// carried plays somebody with a stick in the pocket.
func (c *checker) carried(ctx context.Context) error {
	if err := c.turn(ctx, "stick", "carry"); err != nil {
		return err
	}
	st, err := c.until(ctx, 5*time.Second, "nothing waits", func(st state) bool {
		return st.Box.Queue == 0 && st.Municipality.Total.Sessions-c.before.Municipality.Total.Sessions == c.visits
	})
	if err == nil && st.Line != lineCut {
		err = fmt.Errorf("%w: the line is %s", errPart, st.Line)
	}
	c.figures.carried = st.Carried
	return err
}

func (c *checker) mended(ctx context.Context) error {
	if err := c.turn(ctx, "line", string(lineUp)); err != nil {
		return err
	}
	_, err := c.until(ctx, 20*time.Second, "the queue drains", func(st state) bool {
		return st.Box.Queue == 0 && st.Box.Lights["hub"].State == "up"
	})
	return err
}

// counted compares what the hub counts with what was played. It looks twice, so that what comes late comes too.
func (c *checker) counted(ctx context.Context) error {
	sheets := func(st state) int { return len(st.Sheets) - len(c.before.Sheets) }
	right := func(st state) bool {
		return st.Municipality.Total.Sessions-c.before.Municipality.Total.Sessions == c.visits &&
			st.Municipality.Total.Papers-c.before.Municipality.Total.Papers == sheets(st)
	}
	all := func(st state) bool { return st.Box.Queue == 0 && right(st) }
	if _, err := c.until(ctx, 30*time.Second, fmt.Sprintf("%d sessions at the hub", c.visits), all); err != nil {
		return err
	}
	pause(ctx, 1500*time.Millisecond)
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if !right(st) {
		return fmt.Errorf("the hub counts %d sessions and %d papers, %d and %d were made", st.Municipality.Total.Sessions-c.before.Municipality.Total.Sessions,
			st.Municipality.Total.Papers-c.before.Municipality.Total.Papers, c.visits, sheets(st))
	}
	return nil
}

// standing fails when a part has ended by itself, or does not run.
func (c *checker) standing(context.Context) error {
	for _, p := range c.stage.all() {
		if st := p.Status(); !st.Running || st.Fell > 0 {
			return fmt.Errorf("%w: %s has fallen over %d times: %s", errPart, st.Name, st.Fell, p.lastWords())
		}
	}
	return nil
}

// clean searches everything that was written for everybody and everything that was typed.
func (c *checker) clean(ctx context.Context) error {
	s := c.stage
	files, found, err := searchTree(ctx, s.dir, append(slices.Clone(c.personal), documents...), everything)
	if err != nil {
		return err
	}
	// A search that finds nothing must have looked where there might be something.
	for _, there := range []string{
		"box/box.db", "box/box.db.witness", "box/desired/state.json", "hub/hub.db", "log/box.log", stickFolder + "/*.events", stickFolder + "/*.reply",
	} {
		if found, err := filepath.Glob(filepath.Join(s.dir, filepath.FromSlash(there))); err != nil || len(found) == 0 {
			return fmt.Errorf("%s was not searched in %s: that cannot be all", there, s.dir)
		}
	}
	elsewhere, more, err := searchTree(ctx, tempDir(), c.personal, since(c.start, s.dir))
	if err != nil {
		return err
	}
	found = append(found, more...)
	for _, p := range s.all() {
		for _, f := range openElsewhere(p.Status().PID, s.dir) {
			found = append(found, residue{f, "an open file of " + p.name + " outside the demo's folder"})
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("found %v", found)
	}
	c.figures.searched = files + elsewhere
	return nil
}

// newPhone returns a browser as a phone has one.
func newPhone() (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("phone: %w", err)
	}
	return &http.Client{Jar: jar, Timeout: 30 * time.Second}, nil
}

// canary returns a word of capital and small letters that stands nowhere else.
func canary() string { return "Q" + rand.Text()[:11] }

// phoneCode plays the phone: it opens what the QR holds, logs in as the citizen, and reads the code off the page.
func (c *checker) phoneCode(ctx context.Context, qr string, who person) (string, error) {
	phone, err := newPhone()
	if err != nil {
		return "", err
	}
	page, err := spidtest.Login(ctx, phone, qr, who.FiscalCode)
	if err != nil {
		return "", fmt.Errorf("phone: %w", err)
	}
	return spidtest.Code(page)
}

// remember adds what must never be found again.
func (c *checker) remember(what, text string) {
	c.personal = append(c.personal, newNeedle(what, text))
}
