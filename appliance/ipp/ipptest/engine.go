package ipptest

import (
	"regexp"
	"slices"
	"strconv"
	"time"
)

// The states of a job (RFC 8011 §5.3.7).
const (
	pending           = 3
	processing        = 5
	processingStopped = 6
	canceled          = 7
	aborted           = 8
	completed         = 9
)

type job struct {
	id          int
	uuid        string
	name        string
	user        string
	media       string // "" means the default
	created     time.Time
	state       int
	reasons     []string
	document    []byte
	arriving    bool // a Send-Document is being read
	arrived     bool // document is all that will come
	impressions int
	cancel      bool // somebody asked for it
	dropped     bool // a power cut took it
}

func (j *job) ended() bool { return j.state >= canceled }

// pages returns how many sheets a document makes: what its page tree says, else how many pages it seems to define. A
// document that was changed after it was made (signed, say) defines the changed page twice, and its tree counts right.
func pages(pdf []byte) int {
	if len(pdf) == 0 {
		return 0
	}
	trees := regexp.MustCompile(`/Type\s*/Pages\b[^>]*/Count\s+(\d{1,4})|/Count\s+(\d{1,4})[^>]*/Type\s*/Pages\b`).FindAllSubmatch(pdf, 1000)
	if len(trees) > 0 {
		last := trees[len(trees)-1]
		if n, err := strconv.Atoi(string(last[1]) + string(last[2])); err == nil {
			return max(1, n)
		}
	}
	return max(1, len(regexp.MustCompile(`/Type\s*/Page[^s]`).FindAllIndex(pdf, 1000)))
}

// blocked says what keeps the printer from printing j, in printer-state-reasons without severity. The caller holds mu.
func (p *Printer) blocked(j *job) []string {
	var r []string
	switch {
	case p.paper == 0 && j != nil:
		r = append(r, "media-empty", "media-needed")
	case p.paper == 0:
		r = append(r, "media-empty")
	case j != nil && j.media != "" && !slices.Contains(p.ready, j.media) && !p.noMedia:
		r = append(r, "media-needed")
	}
	if p.jam {
		r = append(r, "media-jam")
	}
	if p.cover {
		r = append(r, "cover-open")
	}
	return r
}

// active is the job that keeps others from being created. The caller holds mu.
func (p *Printer) active() *job {
	for _, j := range p.jobs {
		if !j.ended() {
			return j
		}
	}
	return nil
}

// engine prints one job after the other until the printer is closed.
func (p *Printer) engine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		i := slices.IndexFunc(p.jobs, func(j *job) bool { return j.arrived && !j.ended() })
		if i < 0 {
			p.wait(nil)
			continue
		}
		p.print(p.jobs[i])
	}
}

// wait gives mu up until something changes or the timer fires. It reports whether the timer fired.
func (p *Printer) wait(timer <-chan time.Time) bool {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
		return false
	case <-timer:
		return true
	}
}

// print prints j. The caller holds mu.
func (p *Printer) print(j *job) {
	for page, n := 1, pages(j.document); page <= n; page++ {
		if !p.feed(j) {
			return
		}
		p.paper--
		j.impressions++
		s := Sheet{Job: j.id, JobName: j.name, Page: page, Media: j.media, At: p.cfg.Now(), PDF: j.document}
		if s.Media == "" || p.noMedia {
			s.Media = p.mediaDefault()
		}
		p.sheets = append(p.sheets, s)
		p.notify()
		tell := slices.Clone(p.onSheet)
		p.mu.Unlock()
		for _, f := range tell {
			f(s)
		}
		p.mu.Lock()
	}
	if !j.dropped {
		p.state(j, completed, "job-completed-successfully")
	}
}

// feed moves one sheet through the printer. It is false when the job has ended instead.
func (p *Printer) feed(j *job) bool {
	timer := time.NewTimer(p.pageTime)
	defer timer.Stop()
	fired, stuck := false, false
	for {
		blocked := p.blocked(j)
		stuck = stuck || p.sticky && j.cancel && len(blocked) > 0
		switch {
		case p.closed || j.dropped:
			return false
		case j.cancel && !stuck:
			p.state(j, canceled, "job-canceled-by-user")
			return false
		case stuck && len(blocked) > 0:
			p.state(j, processing, "processing-to-stop-point")
		case len(blocked) > 0:
			p.state(j, processingStopped, "printer-stopped")
		case fired:
			p.state(j, processing, "job-printing")
			return true
		default:
			p.state(j, processing, "job-printing")
		}
		if p.wait(timer.C) {
			fired = true
		}
	}
}

// state changes a job's state. The caller holds mu.
func (p *Printer) state(j *job, state int, reasons ...string) {
	if j.state == state && slices.Equal(j.reasons, reasons) {
		return
	}
	before := j.state
	j.state, j.reasons = state, reasons
	p.notify()
	if before != state {
		for _, f := range p.onState {
			f(j.id, stateNames[state])
		}
	}
	if p.amnesia && j.ended() {
		p.jobs = slices.DeleteFunc(p.jobs, func(o *job) bool { return o == j })
	}
}

var stateNames = map[int]string{
	pending: "pending", processing: "processing", processingStopped: "processing-stopped",
	canceled: "canceled", aborted: "aborted", completed: "completed",
}

func (p *Printer) mediaDefault() string {
	if len(p.ready) == 0 {
		return "iso_a4_210x297mm"
	}
	return p.ready[0]
}
