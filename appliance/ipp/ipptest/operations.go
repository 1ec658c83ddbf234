package ipptest

import (
	"io"
	"slices"
	"strings"

	"github.com/OpenPrinting/goipp"
)

// operation carries out a request. With errCut there is no answer.
func (p *Printer) operation(op goipp.Op, name string, m *goipp.Message, body io.Reader) (*goipp.Message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[name]++
	switch {
	case p.old && m.Version != goipp.MakeVersion(1, 1):
		a := reply(m, goipp.StatusErrorVersionNotSupported)
		a.Version = goipp.MakeVersion(1, 1)
		return a, nil
	case p.without[name]:
		return reply(m, goipp.StatusErrorOperationNotSupported), nil
	case p.refuse[name] != 0:
		return reply(m, goipp.Status(p.refuse[name])), nil
	case len(m.Operation) < 2 || m.Operation[0].Name != "attributes-charset" || m.Operation[1].Name != "attributes-natural-language":
		return reply(m, goipp.StatusErrorBadRequest), nil
	}
	switch op {
	case goipp.OpGetPrinterAttributes:
		return p.getPrinter(m), nil
	case goipp.OpValidateJob:
		return p.validate(m), nil
	case goipp.OpCreateJob:
		return p.create(m), nil
	case goipp.OpSendDocument:
		return p.send(m, body)
	case goipp.OpGetJobAttributes:
		j := p.find(m)
		if j == nil {
			return reply(m, goipp.StatusErrorNotFound), nil
		}
		a := reply(m, goipp.StatusOk)
		a.Job = p.jobAttributes(j)
		if p.hideState {
			a.Job = slices.DeleteFunc(a.Job, func(a goipp.Attribute) bool { return strings.HasPrefix(a.Name, "job-state") })
		}
		return a, nil
	case goipp.OpGetJobs:
		a := reply(m, goipp.StatusOk)
		a.Groups = goipp.Groups{{Tag: goipp.TagOperationGroup, Attrs: a.Operation}}
		ended := text(m.Operation, "which-jobs") == "completed"
		for _, j := range slices.Backward(p.jobs) {
			if j.ended() == ended {
				a.Groups.Add(goipp.Group{Tag: goipp.TagJobGroup, Attrs: p.jobAttributes(j)})
			}
		}
		return a, nil
	case goipp.OpCancelJob:
		return p.cancelJob(m), nil
	case goipp.OpHoldJob, goipp.OpReleaseJob:
		return p.holdJob(m, op == goipp.OpHoldJob), nil
	case goipp.OpIdentifyPrinter:
		return reply(m, goipp.StatusOk), nil
	}
	return reply(m, goipp.StatusErrorOperationNotSupported), nil
}

// validate checks a ticket. Its answer lists what would be ignored.
func (p *Printer) validate(m *goipp.Message) *goipp.Message {
	if f := text(m.Operation, "document-format"); f != "" && !p.takes(f) {
		a := reply(m, goipp.StatusErrorDocumentFormatNotSupported)
		a.Unsupported.Add(goipp.MakeAttribute("document-format", goipp.TagMimeType, goipp.String(f)))
		return a
	}
	a := reply(m, goipp.StatusOk)
	for _, attr := range m.Job {
		if (attr.Name == "media" || attr.Name == "media-col") && (p.noMedia || media(m.Job) == "") {
			a.Unsupported.Add(attr)
			a.Code = goipp.Code(goipp.StatusOkIgnoredOrSubstituted)
		}
	}
	return a
}

// takes reports whether it takes documents of a format. The caller holds mu.
func (p *Printer) takes(format string) bool { return slices.Contains(p.formats, format) }

func (p *Printer) create(m *goipp.Message) *goipp.Message {
	p.asleep = false
	if p.busy || p.active() != nil {
		return reply(m, goipp.StatusErrorBusy)
	}
	a := p.validate(m)
	if a.Code >= 0x100 {
		return a
	}
	if p.substitute != "" {
		for _, attr := range m.Job {
			if attr.Name == "media" || attr.Name == "media-col" {
				a.Unsupported.Add(attr)
				a.Code = goipp.Code(goipp.StatusOkIgnoredOrSubstituted)
			}
		}
	}
	until := text(m.Job, "job-hold-until")
	j := &job{
		hold: p.holds && until != "" && until != "no-hold",
		id:   p.nextJob, uuid: newUUID(), name: text(m.Operation, "job-name"), user: text(m.Operation, "requesting-user-name"),
		media: media(m.Job), created: p.cfg.Now(), state: pending, reasons: []string{"job-incoming", "job-data-insufficient"},
	}
	p.nextJob++
	p.jobs = append(p.jobs, j)
	p.notify()
	a.Job = p.jobAttributes(j)
	return a
}

// send reads a job's document, with mu given up meanwhile.
func (p *Printer) send(m *goipp.Message, body io.Reader) (*goipp.Message, error) {
	j := p.find(m)
	switch {
	case j == nil:
		return reply(m, goipp.StatusErrorNotFound), nil
	case j.ended() || j.arriving || j.arrived:
		return reply(m, goipp.StatusErrorNotPossible), nil
	case !p.takes(text(m.Operation, "document-format")):
		// As in real life the job stays, without a document, and blocks everybody until it is cancelled.
		return reply(m, goipp.StatusErrorDocumentFormatNotSupported), nil
	}
	j.arriving = true
	for p.streaming && p.stops(j) && !j.cancel && !j.dropped && !p.closed {
		p.state(j, processingStopped, "printer-stopped")
		p.wait(nil)
	}
	cut := p.cutAfter
	p.cutAfter = -1
	p.mu.Unlock()
	limit := int64(maxDocument)
	if cut >= 0 {
		limit = int64(cut)
	}
	doc, err := io.ReadAll(io.LimitReader(paced{p, body}, limit))
	p.mu.Lock()
	if cut >= 0 {
		err = errCut
	}
	if j.dropped || p.closed {
		return nil, errCut
	}
	j.arriving, j.arrived = false, true
	defer p.notify()
	switch {
	case j.cancel:
		p.state(j, canceled, "job-canceled-by-user")
		return reply(m, goipp.StatusErrorJobCanceled), nil
	case err != nil && p.abortOnCut:
		p.state(j, aborted, "aborted-by-system")
		return nil, err
	}
	j.format, j.document = text(m.Operation, "document-format"), doc
	if j.hold {
		p.state(j, held, "job-hold-until-specified")
	}
	if err != nil {
		return nil, err
	}
	a := reply(m, goipp.StatusOk)
	a.Job = p.jobAttributes(j)
	return a, nil
}

func (p *Printer) cancelJob(m *goipp.Message) *goipp.Message {
	j := p.find(m)
	switch {
	case j == nil:
		return reply(m, goipp.StatusErrorNotFound)
	case j.ended():
		return reply(m, goipp.StatusErrorNotPossible)
	}
	j.cancel = true
	// What the engine has, or is about to take, it ends itself.
	if !j.arrived && !j.arriving || j.arrived && (j.hold || p.current != nil && p.current != j) {
		p.state(j, canceled, "job-canceled-by-user")
	}
	p.notify()
	return reply(m, goipp.StatusOk)
}

// holdJob keeps a job that is not being printed from printing, or lets it.
func (p *Printer) holdJob(m *goipp.Message, hold bool) *goipp.Message {
	j := p.find(m)
	switch {
	case !p.holds:
		return reply(m, goipp.StatusErrorOperationNotSupported)
	case j == nil:
		return reply(m, goipp.StatusErrorNotFound)
	case j.ended() || j == p.current || j.hold == hold:
		return reply(m, goipp.StatusErrorNotPossible)
	}
	j.hold = hold
	switch {
	case hold && j.arrived:
		p.state(j, held, "job-hold-until-specified")
	case !hold && j.arrived:
		p.state(j, pending, "none")
	}
	p.notify()
	return reply(m, goipp.StatusOk)
}

func (p *Printer) find(m *goipp.Message) *job {
	id := integer(m.Operation, "job-id")
	for _, j := range p.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

func reply(m *goipp.Message, s goipp.Status) *goipp.Message {
	v := m.Version
	if v.Major() > 2 || v.Major() < 1 {
		v = goipp.DefaultVersion
	}
	a := goipp.NewResponse(v, s, m.RequestID)
	a.Operation.Add(goipp.MakeAttribute("attributes-charset", goipp.TagCharset, goipp.String("utf-8")))
	a.Operation.Add(goipp.MakeAttribute("attributes-natural-language", goipp.TagLanguage, goipp.String("en")))
	return a
}

func value(as goipp.Attributes, name string) goipp.Value {
	for _, a := range as {
		if a.Name == name && len(a.Values) > 0 {
			return a.Values[0].V
		}
	}
	return goipp.Void{}
}

func text(as goipp.Attributes, name string) string { return value(as, name).String() }

func integer(as goipp.Attributes, name string) int {
	n, _ := value(as, name).(goipp.Integer)
	return int(n)
}

// media is the name of the paper a ticket asks for, "" when it asks for none or for one that is unknown.
func media(ticket goipp.Attributes) string {
	for _, s := range sizes {
		if text(ticket, "media") == s.name {
			return s.name
		}
		if col, ok := value(ticket, "media-col").(goipp.Collection); ok {
			size, _ := value(goipp.Attributes(col), "media-size").(goipp.Collection)
			if integer(goipp.Attributes(size), "x-dimension") == s.width && integer(goipp.Attributes(size), "y-dimension") == s.height {
				return s.name
			}
		}
	}
	return ""
}
