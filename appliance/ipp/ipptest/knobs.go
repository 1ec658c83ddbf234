package ipptest

import "time"

// SetPaper loads the tray with n sheets.
func (p *Printer) SetPaper(n int) { p.set(func() { p.paper = max(0, n) }) }

// Paper is how many sheets are left.
func (p *Printer) Paper() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paper
}

// Jam jams the paper or clears it.
func (p *Printer) Jam(on bool) { p.set(func() { p.jam = on }) }

// Cover opens the cover or closes it.
func (p *Printer) Cover(open bool) { p.set(func() { p.cover = open }) }

// Busy lets somebody else's long job occupy the printer.
func (p *Printer) Busy(on bool) { p.set(func() { p.busy = on }) }

// Gone pulls the network cable: connections are cut and refused. The printer goes on printing what it has.
func (p *Printer) Gone(on bool) error {
	if on {
		p.hangUp()
		return nil
	}
	return p.listen()
}

// Freeze lets the printer accept connections and not answer.
func (p *Printer) Freeze(on bool) { p.set(func() { p.frozen = on }) }

// Stopped stops the printer, as its pause button does, or lets it go on. Without a reason (see Reasons) it says "paused".
func (p *Printer) Stopped(on bool) { p.set(func() { p.stopped = on }) }

// JamAfter jams the paper once n more sheets are out, in the middle of a document; 0 takes it back.
func (p *Printer) JamAfter(n int) { p.set(func() { p.jamAfter = max(0, n) }) }

// Reasons replaces what it says in printer-state-reasons beside what its other knobs make it say, by any keywords
// ("toner-low-warning", "fuser-over-temp-error"). Those with -error keep it from printing, as long as they are there.
func (p *Printer) Reasons(reasons ...string) { p.set(func() { p.reasons = reasons }) }

// Message sets printer-state-message.
func (p *Printer) Message(text string) { p.set(func() { p.message = text }) }

// Toner sets how full the cartridge is, in percent: at less than 10 it is low, without any nothing is printed.
func (p *Printer) Toner(percent int) { p.set(func() { p.toner = min(max(0, percent), 100) }) }

// Holds makes it an office printer, which keeps a job with job-hold-until until Release-Job.
func (p *Printer) Holds(on bool) { p.set(func() { p.holds = on }) }

// Raster replaces what pictures it takes, of the raster formats among its formats. Others it aborts.
func (p *Printer) Raster(r Raster) { p.set(func() { p.raster = r }) }

// Substitute makes it a printer that prints on one paper whatever a job asks for, and says so not when it is asked
// (Validate-Job) but when the job is made; "" takes it back.
func (p *Printer) Substitute(media string) { p.set(func() { p.substitute = media }) }

// Without makes it a printer that has no such operations ("Get-Jobs").
func (p *Printer) Without(ops ...string) {
	p.set(func() {
		clear(p.without)
		for _, op := range ops {
			p.without[op] = true
		}
	})
}

// HideState makes it a printer that does not say job-state and its reasons when it is asked for a job.
func (p *Printer) HideState(on bool) { p.set(func() { p.hideState = on }) }

// Counting is whether a printer counts sheets in job-impressions-completed.
type Counting int

// The ways of counting.
const (
	CountsSheets  Counting = iota
	CountsNothing          // it stays at 0
	CountsNot              // the attribute is not there
)

// Count sets how it counts.
func (p *Printer) Count(c Counting) { p.set(func() { p.counting = c }) }

// Formats replaces the document formats it takes.
func (p *Printer) Formats(formats ...string) { p.set(func() { p.formats = formats }) }

// Media replaces what is in its trays, by PWG 5101.1 names; the first is the default.
func (p *Printer) Media(ready ...string) { p.set(func() { p.ready = ready }) }

// PageTime sets how long a sheet takes.
func (p *Printer) PageTime(d time.Duration) { p.set(func() { p.pageTime = d }) }

// CutAfter cuts the connection once, n bytes into the next document. What arrived is printed and the job completed,
// as ippeveprinter does it; see AbortOnCut. A negative n takes it back.
func (p *Printer) CutAfter(n int) { p.set(func() { p.cutAfter = n }) }

// AbortOnCut makes it a printer that aborts a job whose document did not arrive whole.
func (p *Printer) AbortOnCut(on bool) { p.set(func() { p.abortOnCut = on }) }

// StickyCancel makes it a printer that, while it needs a hand, only marks a cancelled job: the sheet it was at comes
// out when the paper has been loaded.
func (p *Printer) StickyCancel(on bool) { p.set(func() { p.sticky = on }) }

// Streaming makes it a printer without a disk: it reads a document only when it can print it.
func (p *Printer) Streaming(on bool) { p.set(func() { p.streaming = on }) }

// IgnoreMedia makes it a printer that takes whatever paper lies on top, and says so in the unsupported attributes.
func (p *Printer) IgnoreMedia(on bool) { p.set(func() { p.noMedia = on }) }

// OnlyVersion11 makes it a printer that speaks IPP/1.1 only.
func (p *Printer) OnlyVersion11(on bool) { p.set(func() { p.old = on }) }

// Forget makes it a printer that does not know jobs any more once they have ended.
func (p *Printer) Forget(on bool) { p.set(func() { p.amnesia = on }) }

// SetUUID makes it another printer at the same address.
func (p *Printer) SetUUID(uuid string) { p.set(func() { p.uuid = uuid }) }

// LoseAnswer carries out the next request for an operation ("Create-Job") and cuts the connection instead of answering.
func (p *Printer) LoseAnswer(op string) { p.set(func() { p.lose[op] = true }) }

// Refuse answers every request for an operation with an IPP status code; 0 takes it back.
func (p *Printer) Refuse(op string, status int) {
	p.set(func() {
		p.refuse[op] = status
		if status == 0 {
			delete(p.refuse, op)
		}
	})
}

// Restart is a power cut: jobs are gone, job ids begin at 1 again, printer-up-time at 0.
func (p *Printer) Restart() error {
	p.hangUp()
	p.set(func() {
		for _, j := range p.jobs {
			j.dropped = true
		}
		p.jobs, p.ended, p.nextJob, p.booted, p.asleep = nil, 0, 1, p.cfg.Now(), false
	})
	return p.listen()
}
