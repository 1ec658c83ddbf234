package ipptest

import (
	"fmt"
	"strings"

	"github.com/OpenPrinting/goipp"
)

// paper is a size of paper in hundredths of a millimetre (PWG 5101.1).
type paper struct {
	name          string
	width, height int
}

// sizes are the papers it knows.
var sizes = []paper{
	{"iso_a4_210x297mm", 21000, 29700},
	{"iso_a5_148x210mm", 14800, 21000},
	{"na_letter_8.5x11in", 21590, 27940},
}

func keywords(name string, vs ...string) goipp.Attribute { return list(name, goipp.TagKeyword, vs...) }

func list(name string, tag goipp.Tag, vs ...string) goipp.Attribute {
	a := goipp.Attribute{Name: name}
	if len(vs) == 0 {
		a.Values.Add(goipp.TagNoValue, goipp.Void{})
	}
	for _, v := range vs {
		a.Values.Add(tag, goipp.String(v))
	}
	return a
}

func number(name string, tag goipp.Tag, ns ...int) goipp.Attribute {
	a := goipp.Attribute{Name: name}
	for _, n := range ns {
		a.Values.Add(tag, goipp.Integer(n))
	}
	return a
}

// status is printer-state and printer-state-reasons. The caller holds mu.
func (p *Printer) status() (state int, reasons []string) {
	j := p.active()
	if j != nil && j.state == pending {
		j = nil // it waits for its document, the printer for nothing
	}
	for _, r := range p.blocked(j) {
		reasons = append(reasons, r+"-error")
	}
	errors := len(reasons)
	for _, r := range p.reasons {
		if !strings.HasSuffix(r, "-error") {
			reasons = append(reasons, r)
		}
	}
	if p.stopped && len(reasons) == 0 {
		reasons = append(reasons, "paused")
	}
	if p.paper > 0 && p.paper < 10 {
		reasons = append(reasons, "media-low-warning")
	}
	if p.toner > 0 && p.toner < tonerLow {
		reasons = append(reasons, "toner-low-warning")
	}
	if len(reasons) == 0 {
		reasons = []string{"none"}
	}
	switch {
	case p.stopped || errors > 0 && j != nil:
		return 5, reasons
	case errors == 0 && (j != nil || p.busy):
		return 4, reasons
	}
	return 3, reasons
}

func (p *Printer) getPrinter(m *goipp.Message) *goipp.Message {
	state, reasons := p.status()
	queued := 0
	for _, j := range p.jobs {
		if !j.ended() {
			queued++
		}
	}
	var names []string
	supported := goipp.Attribute{Name: "media-size-supported"}
	for _, s := range sizes {
		names = append(names, s.name)
		supported.Values.Add(goipp.TagBeginCollection, dimensions(s.width, s.height))
	}
	scheme := "ipp://"
	security := "none"
	if p.cfg.TLS {
		scheme, security = "ipps://", "tls"
	}
	authentication := "none"
	if p.user != "" {
		authentication = "basic"
	}
	creation := []string{"copies", "media", "media-col", "sides", "print-color-mode", "print-scaling", "print-quality"}
	if p.holds {
		creation = append(creation, "job-hold-until")
	}
	all := goipp.Attributes{
		list("printer-uri-supported", goipp.TagURI, scheme+p.addr+path),
		keywords("uri-security-supported", security),
		keywords("uri-authentication-supported", authentication),
		list("printer-uuid", goipp.TagURI, "urn:uuid:"+p.uuid),
		list("printer-name", goipp.TagName, "ipptest"),
		list("printer-info", goipp.TagText, p.cfg.Name),
		list("printer-make-and-model", goipp.TagText, p.cfg.Make),
		list("printer-location", goipp.TagText, ""),
		number("printer-state", goipp.TagEnum, state),
		keywords("printer-state-reasons", reasons...),
		goipp.MakeAttribute("printer-is-accepting-jobs", goipp.TagBoolean, goipp.Boolean(true)),
		number("printer-up-time", goipp.TagInteger, max(1, int(p.cfg.Now().Sub(p.booted).Seconds()))),
		number("queued-job-count", goipp.TagInteger, queued),
		keywords("ipp-versions-supported", "1.1", "2.0"),
		p.operations(),
		list("charset-configured", goipp.TagCharset, "utf-8"),
		list("charset-supported", goipp.TagCharset, "utf-8"),
		list("natural-language-configured", goipp.TagLanguage, "en"),
		list("generated-natural-language-supported", goipp.TagLanguage, "en"),
		list("document-format-supported", goipp.TagMimeType, p.formats...),
		keywords("compression-supported", "none"),
		keywords("pdl-override-supported", "attempted"),
		number("multiple-operation-time-out", goipp.TagInteger, 60),
		keywords("media-supported", names...),
		keywords("media-ready", p.ready...),
		keywords("media-default", p.mediaDefault()),
		keywords("media-col-supported", "media-size", "media-source", "media-type"),
		supported,
		p.mediaColReady(),
		keywords("sides-supported", "one-sided"),
		keywords("print-color-mode-supported", "monochrome", "auto"),
		keywords("print-scaling-supported", "none", "auto", "auto-fit", "fit", "fill"),
		number("print-quality-supported", goipp.TagEnum, 3, 4, 5),
		keywords("job-creation-attributes-supported", creation...),
		goipp.MakeAttribute("copies-supported", goipp.TagRange, goipp.Range{Lower: 1, Upper: 99}),
	}
	if p.message != "" {
		all.Add(list("printer-state-message", goipp.TagText, p.message))
	}
	all = append(append(all, p.abilities()...), p.supplies()...)
	a := reply(m, goipp.StatusOk)
	wanted := map[string]bool{}
	for _, attr := range m.Operation {
		if attr.Name == "requested-attributes" {
			for _, v := range attr.Values {
				wanted[v.V.String()] = true
			}
		}
	}
	for _, attr := range all {
		if len(wanted) == 0 || wanted["all"] || wanted["printer-description"] || wanted[attr.Name] {
			a.Printer.Add(attr)
		}
	}
	return a
}

// operations is operations-supported. The caller holds mu.
func (p *Printer) operations() goipp.Attribute {
	ops := []goipp.Op{
		goipp.OpValidateJob, goipp.OpCreateJob, goipp.OpSendDocument, goipp.OpCancelJob, goipp.OpGetJobAttributes,
		goipp.OpGetJobs, goipp.OpGetPrinterAttributes, goipp.OpIdentifyPrinter,
	}
	if p.holds {
		ops = append(ops, goipp.OpHoldJob, goipp.OpReleaseJob)
	}
	var ids []int
	for _, op := range ops {
		if !p.without[opName(op)] {
			ids = append(ids, int(op))
		}
	}
	return number("operations-supported", goipp.TagEnum, ids...)
}

// opName is an operation's name in RFC 8011.
func opName(op goipp.Op) string {
	if op == goipp.OpGetJobAttributes {
		return "Get-Job-Attributes" // goipp's name lacks the s
	}
	return op.String()
}

func dimensions(width, height int) goipp.Collection {
	return goipp.Collection{number("x-dimension", goipp.TagInteger, width), number("y-dimension", goipp.TagInteger, height)}
}

func (p *Printer) mediaColReady() goipp.Attribute {
	a := goipp.Attribute{Name: "media-col-ready"}
	for tray := range p.ready {
		s := p.size(tray)
		a.Values.Add(goipp.TagBeginCollection, goipp.Collection{
			goipp.MakeAttribute("media-size", goipp.TagBeginCollection, dimensions(s.width, s.height)),
			keywords("media-source", source(tray)),
		})
	}
	if len(a.Values) == 0 {
		a.Values.Add(goipp.TagNoValue, goipp.Void{})
	}
	return a
}

func (p *Printer) jobAttributes(j *job) goipp.Attributes {
	as := goipp.Attributes{
		number("job-id", goipp.TagInteger, j.id),
		list("job-uri", goipp.TagURI, fmt.Sprintf("ipp://%s%s/%d", p.addr, path, j.id)),
		list("job-uuid", goipp.TagURI, "urn:uuid:"+j.uuid),
		list("job-name", goipp.TagName, j.name),
		list("job-originating-user-name", goipp.TagName, j.user),
		number("job-state", goipp.TagEnum, j.state),
		keywords("job-state-reasons", j.reasons...),
	}
	switch p.counting {
	case CountsSheets:
		as.Add(number("job-impressions-completed", goipp.TagInteger, j.impressions))
	case CountsNothing:
		as.Add(number("job-impressions-completed", goipp.TagInteger, 0))
	}
	return as
}
