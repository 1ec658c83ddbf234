package ipptest

import (
	"fmt"
	"slices"

	"github.com/OpenPrinting/goipp"
)

// sizes are the papers it knows, in hundredths of a millimetre (PWG 5101.1).
var sizes = []struct {
	name          string
	width, height int
}{
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
	switch {
	case len(reasons) > 0 && j != nil:
		return 5, reasons
	case len(reasons) > 0:
		return 3, reasons
	case j != nil || p.busy:
		return 4, []string{"none"}
	}
	if p.paper < 10 {
		return 3, []string{"media-low-warning"}
	}
	return 3, []string{"none"}
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
	all := goipp.Attributes{
		list("printer-uri-supported", goipp.TagURI, scheme+p.addr+path),
		keywords("uri-security-supported", security),
		keywords("uri-authentication-supported", "none"),
		list("printer-uuid", goipp.TagURI, "urn:uuid:"+p.uuid),
		list("printer-name", goipp.TagName, "ipptest"),
		list("printer-info", goipp.TagText, p.cfg.Name),
		list("printer-make-and-model", goipp.TagText, "Sportello virtual printer"),
		list("printer-location", goipp.TagText, ""),
		number("printer-state", goipp.TagEnum, state),
		keywords("printer-state-reasons", reasons...),
		goipp.MakeAttribute("printer-is-accepting-jobs", goipp.TagBoolean, goipp.Boolean(true)),
		number("printer-up-time", goipp.TagInteger, max(1, int(p.cfg.Now().Sub(p.booted).Seconds()))),
		number("queued-job-count", goipp.TagInteger, queued),
		keywords("ipp-versions-supported", "1.1", "2.0"),
		number("operations-supported", goipp.TagEnum, int(goipp.OpValidateJob), int(goipp.OpCreateJob), int(goipp.OpSendDocument),
			int(goipp.OpCancelJob), int(goipp.OpGetJobAttributes), int(goipp.OpGetJobs), int(goipp.OpGetPrinterAttributes)),
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
		keywords("job-creation-attributes-supported", "copies", "media", "media-col", "sides", "print-color-mode", "print-scaling", "print-quality"),
		goipp.MakeAttribute("copies-supported", goipp.TagRange, goipp.Range{Lower: 1, Upper: 99}),
		goipp.MakeAttribute("printer-input-tray", goipp.TagString, goipp.Binary(fmt.Sprintf("type=sheetFeedAutoRemovableTray;mediafeed=29700;mediaxfeed=21000;maxcapacity=250;level=%d;status=0;name=main;", p.paper))),
	}
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

func dimensions(width, height int) goipp.Collection {
	return goipp.Collection{number("x-dimension", goipp.TagInteger, width), number("y-dimension", goipp.TagInteger, height)}
}

func (p *Printer) mediaColReady() goipp.Attribute {
	a := goipp.Attribute{Name: "media-col-ready"}
	for _, s := range sizes {
		if slices.Contains(p.ready, s.name) {
			a.Values.Add(goipp.TagBeginCollection, goipp.Collection{
				goipp.MakeAttribute("media-size", goipp.TagBeginCollection, dimensions(s.width, s.height)),
				keywords("media-source", "main"),
			})
		}
	}
	if len(a.Values) == 0 {
		a.Values.Add(goipp.TagNoValue, goipp.Void{})
	}
	return a
}

func (p *Printer) jobAttributes(j *job) goipp.Attributes {
	return goipp.Attributes{
		number("job-id", goipp.TagInteger, j.id),
		list("job-uri", goipp.TagURI, fmt.Sprintf("ipp://%s%s/%d", p.addr, path, j.id)),
		list("job-uuid", goipp.TagURI, "urn:uuid:"+j.uuid),
		list("job-name", goipp.TagName, j.name),
		list("job-originating-user-name", goipp.TagName, j.user),
		number("job-state", goipp.TagEnum, j.state),
		keywords("job-state-reasons", j.reasons...),
		number("job-impressions-completed", goipp.TagInteger, j.impressions),
	}
}
