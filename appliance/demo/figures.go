package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// figures are what -check measured on the way.
type figures struct {
	first        firstView
	idle         int // resident memory of the box before anybody came, KiB
	queue        int // events that waited while the line was cut
	carried      int // of which so many went on a stick
	notice       time.Duration
	toProcessing []time.Duration
	pages        map[string][]time.Duration // page → how long it took to answer, each time
	searched     int                        // files
}

// samples is how often a page is asked for to measure it.
const samples = 100

// sample asks for the page the visitor is on again and again, and notes how long the answers take: from the request to
// the last byte, through the tap.
func (f *figures) sample(ctx context.Context, v *visitor) error {
	name := v.page.url.Path[strings.LastIndexByte(v.page.url.Path, '/')+1:]
	if f.pages == nil {
		f.pages = map[string][]time.Duration{}
	}
	for range samples {
		start := now()
		if _, err := v.fetch(ctx, v.page.url.String()); err != nil {
			return fmt.Errorf("measure: %w", err)
		}
		f.pages[name] = append(f.pages[name], now().Sub(start))
	}
	return nil
}

// percentile returns the value below which p percent of d lie; d is sorted.
func percentile(d []time.Duration, p int) time.Duration { return d[min(len(d)-1, len(d)*p/100)] }

// firstView is what a browser with an empty cache loads for one page.
type firstView struct {
	requests int
	bytes    int // of bodies as they travel
}

// loads are the addresses in a style sheet.
var loads = regexp.MustCompile(`url\(["']?([^"')]+)["']?\)`)

// measureFirstView loads a page and everything it names, as a browser does that accepts gzip.
func measureFirstView(ctx context.Context, address string) (firstView, error) {
	var v firstView
	base, err := url.Parse(address)
	if err != nil {
		return v, fmt.Errorf("first view: %w", err)
	}
	body, err := v.load(ctx, base)
	if err != nil {
		return v, err
	}
	page, err := readPage(body)
	if err != nil {
		return v, err
	}
	todo, done := page.assets, map[string]bool{}
	for len(todo) > 0 {
		u, err := base.Parse(todo[0])
		todo = todo[1:]
		if err != nil || done[u.String()] {
			continue
		}
		done[u.String()] = true
		b, err := v.load(ctx, u)
		if err != nil {
			return v, err
		}
		if strings.HasSuffix(u.Path, ".css") {
			for _, m := range loads.FindAllSubmatch(b, -1) {
				if w, err := u.Parse(string(m[1])); err == nil {
					todo = append(todo, w.String())
				}
			}
		}
	}
	return v, nil
}

func (v *firstView) load(ctx context.Context, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", u.Path, err)
	}
	req.Header.Set("Accept-Encoding", "gzip") // said here, the transport leaves the body as it came
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", u.Path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", u.Path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: load %s: %s", errPage, u.Path, resp.Status)
	}
	v.requests++
	v.bytes += len(b)
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", u.Path, err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", u.Path, err)
	}
	return plain, nil
}

// report prints what was measured.
func (c *checker) report(up, back *journey) {
	f := c.figures
	c.say("figures")
	c.say("  first view             %.1f KiB in %d requests", float64(f.first.bytes)/1024, f.first.requests)
	for _, j := range []struct {
		name string
		*journey
	}{{"first certificate", up}, {"next one, collected", back}} {
		c.say("  %-22s %.2f s from touch to preview, %.2f s to the last sheet, in %d requests, nobody thinking", j.name, j.shown.Seconds(), j.done.Seconds(), j.asked)
	}
	if len(f.toProcessing) > 0 {
		slices.Sort(f.toProcessing)
		c.say("  “Stampa” → processing  %d ms at worst", f.toProcessing[len(f.toProcessing)-1].Milliseconds())
	}
	for _, name := range slices.Sorted(maps.Keys(f.pages)) {
		d := f.pages[name]
		slices.Sort(d)
		c.say("  page %-17s p50 %.1f ms, p99 %.1f ms of %d", name, ms(percentile(d, 50)), ms(percentile(d, 99)), len(d))
	}
	c.say("  events in the queue    %d while the line was cut, %d taken by the stick", f.queue, f.carried)
	c.say("  emergency notice       on the kiosk %d ms after it was put up", f.notice.Milliseconds())
	if f.idle > 0 {
		c.say("  memory of the box      %.1f MiB idle, %.1f MiB after %d sessions (resident)", float64(f.idle)/1024, float64(c.boxRSS())/1024, c.visits)
	}
	c.say("  files searched         %d, nothing personal", f.searched)
	c.say("all is well: %d visits in %.1f s", c.visits, now().Sub(c.start).Seconds())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func tempDir() string { return os.TempDir() }
