package ipptest

import (
	"slices"
	"strings"
	"time"
)

// The states of a job (RFC 8011 §5.3.7).
const (
	pending           = 3
	held              = 4
	processing        = 5
	processingStopped = 6
	canceled          = 7
	aborted           = 8
	completed         = 9
)

// history is how many ended jobs are remembered at least.
const history = 100

type job struct {
	id          int
	uuid        string
	name        string
	user        string
	media       string // "" means the default
	created     time.Time
	state       int
	reasons     []string
	format      string
	document    []byte
	hold        bool // it waits for a Release-Job
	arriving    bool // a Send-Document is being read
	arrived     bool // document is all that will come
	impressions int
	cancel      bool // somebody asked for it
	dropped     bool // a power cut took it
}

func (j *job) ended() bool { return j.state >= canceled }

// blocked says what keeps the printer from printing j, in printer-state-reasons without severity. The caller holds mu.
func (p *Printer) blocked(j *job) []string {
	var r []string
	switch {
	case p.paper == 0 && j != nil:
		r = append(r, "media-empty", "media-needed")
	case p.paper == 0:
		r = append(r, "media-empty")
	case j != nil && j.media != "" && !slices.Contains(p.ready, j.media) && !p.noMedia && p.substitute == "":
		r = append(r, "media-needed")
	}
	if p.jam {
		r = append(r, "media-jam")
	}
	if p.cover {
		r = append(r, "cover-open")
	}
	if p.toner == 0 {
		r = append(r, "toner-empty")
	}
	for _, reason := range p.reasons {
		if keyword, ok := strings.CutSuffix(reason, "-error"); ok {
			r = append(r, keyword)
		}
	}
	return r
}

// stops reports whether the printer cannot print j. The caller holds mu.
func (p *Printer) stops(j *job) bool { return p.stopped || len(p.blocked(j)) > 0 }

// active is the job that keeps others from being created. The caller holds mu.
func (p *Printer) active() *job {
	for _, j := range p.jobs {
		if !j.ended() && (!j.hold || !j.arrived) {
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
		i := slices.IndexFunc(p.jobs, func(j *job) bool { return j.arrived && !j.ended() && !j.hold })
		if i < 0 {
			p.wait(nil)
			continue
		}
		p.current = p.jobs[i]
		p.print(p.current)
		p.current = nil
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
	pictures, err := sheets(j.format, j.document, p.raster)
	for i, picture := range pictures {
		if !p.feed(j) {
			return
		}
		p.paper--
		p.count++
		j.impressions++
		s := Sheet{
			Job: j.id, JobName: j.name, Page: i + 1, Media: j.media, At: p.cfg.Now(),
			Format: j.format, Document: j.document, Picture: picture,
		}
		if j.format == pdf {
			s.PDF = j.document
		}
		if p.substitute != "" {
			s.Media = p.substitute
		} else if s.Media == "" || p.noMedia {
			s.Media = p.mediaDefault()
		}
		p.sheets = append(p.sheets, s)
		if p.jamAfter > 0 {
			p.jamAfter--
			p.jam = p.jam || p.jamAfter == 0
		}
		p.notify()
		tell := slices.Clone(p.onSheet)
		p.mu.Unlock()
		for _, f := range tell {
			f(s)
		}
		p.mu.Lock()
	}
	switch {
	case j.dropped:
	case err != nil:
		p.cfg.Log.Debug("document not understood", "printer", p.cfg.Name, "err", err)
		p.state(j, aborted, "document-format-error", "aborted-by-system")
	default:
		p.state(j, completed, "job-completed-successfully")
	}
}

// feed moves one sheet through the printer. It is false when the job has ended instead.
func (p *Printer) feed(j *job) bool {
	timer := time.NewTimer(p.pageTime)
	defer timer.Stop()
	fired, stuck := false, false
	for {
		stops := p.stops(j)
		stuck = stuck || p.sticky && j.cancel && stops
		switch {
		case p.closed || j.dropped:
			return false
		case j.cancel && !stuck:
			p.state(j, canceled, "job-canceled-by-user")
			return false
		case stuck && stops:
			p.state(j, processing, "processing-to-stop-point")
		case stops:
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
	before, ended := j.state, j.ended()
	j.state, j.reasons = state, reasons
	p.notify()
	if before != state {
		for _, f := range p.onState {
			f(j.id, stateNames[state])
		}
	}
	if !j.ended() || ended {
		return
	}
	j.document = nil
	p.ended++
	if p.amnesia {
		p.jobs = slices.DeleteFunc(p.jobs, func(o *job) bool { return o == j })
		p.ended--
	} else if p.ended > 2*history {
		// Real printers keep some, and a simulation of a million jobs is not to take all memory.
		drop := p.ended - history
		p.jobs = slices.DeleteFunc(p.jobs, func(o *job) bool {
			if drop == 0 || !o.ended() {
				return false
			}
			drop--
			return true
		})
		p.ended = history
	}
}

var stateNames = map[int]string{
	pending: "pending", held: "pending-held", processing: "processing", processingStopped: "processing-stopped",
	canceled: "canceled", aborted: "aborted", completed: "completed",
}

func (p *Printer) mediaDefault() string {
	if len(p.ready) == 0 {
		return "iso_a4_210x297mm"
	}
	return p.ready[0]
}
