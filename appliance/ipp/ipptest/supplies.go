package ipptest

import (
	"fmt"
	"slices"

	"github.com/OpenPrinting/goipp"
)

// tonerLow is below how many percent the toner is low.
const tonerLow = 10

// abilities are the attributes that not every printer has: pictures, holding, a device ID. The caller holds mu.
func (p *Printer) abilities() goipp.Attributes {
	id := "MFG:Sportello;MDL:" + p.cfg.Make + ";CMD:"
	for i, f := range p.formats {
		if i > 0 {
			id += ","
		}
		id += map[string]string{pdf: "PDF", urf: "URF", pwg: "PWGRaster"}[f]
	}
	if p.cfg.Serial != "" {
		id += ";SN:" + p.cfg.Serial
	}
	as := goipp.Attributes{
		list("printer-device-id", goipp.TagText, id+";"),
		keywords("identify-actions-supported", "flash", "sound"),
	}
	if p.holds {
		as.Add(keywords("job-hold-until-supported", "no-hold", "indefinite"))
		as.Add(keywords("job-hold-until-default", "no-hold"))
	}
	if p.takes(urf) {
		as.Add(keywords("urf-supported", p.raster.URF...))
	}
	if p.takes(pwg) {
		dpi := goipp.Attribute{Name: "pwg-raster-document-resolution-supported"}
		for _, n := range p.raster.DPI {
			dpi.Values.Add(goipp.TagResolution, goipp.Resolution{Xres: n, Yres: n, Units: goipp.UnitsDpi})
		}
		if len(dpi.Values) > 0 {
			as.Add(dpi)
		}
		as.Add(keywords("pwg-raster-document-type-supported", p.raster.Types...))
		as.Add(keywords("pwg-raster-document-sheet-back", p.raster.Back))
	}
	return as
}

// supplies are the trays, the toner and the counter (PWG 5100.13 §5.6, PWG 5100.9 §4). The caller holds mu.
func (p *Printer) supplies() goipp.Attributes {
	tray := goipp.Attribute{Name: "printer-input-tray"}
	for i := range max(1, len(p.ready)) {
		level, kind := p.paper, "sheetFeedAutoRemovableTray"
		if i > 0 {
			level, kind = -2, "sheetFeedManual" // PrtInputCurrentLevel: unknown
		}
		s := p.size(i)
		tray.Values.Add(goipp.TagString, goipp.Binary(fmt.Sprintf(
			"type=%s;mediafeed=%d;mediaxfeed=%d;maxcapacity=250;level=%d;status=0;name=%s;", kind, s.height, s.width, level, source(i))))
	}
	return goipp.Attributes{
		tray,
		goipp.MakeAttr("printer-supply", goipp.TagString,
			goipp.Binary(fmt.Sprintf("type=toner;maxcapacity=100;level=%d;class=supplyThatIsConsumed;unit=percent;colorantname=black;", p.toner)),
			goipp.Binary("type=wasteToner;maxcapacity=100;level=20;class=receptacleThatIsFilled;unit=percent;")),
		list("printer-supply-description", goipp.TagText, "Black cartridge", "Waste toner"),
		list("marker-names", goipp.TagName, "Black cartridge", "Waste toner"),
		keywords("marker-types", "toner", "waste-toner"),
		list("marker-colors", goipp.TagName, "#000000", "none"),
		number("marker-levels", goipp.TagInteger, p.toner, 20),
		number("marker-low-levels", goipp.TagInteger, tonerLow, 0),
		number("marker-high-levels", goipp.TagInteger, 100, 90),
		number("printer-impressions-completed", goipp.TagInteger, p.count),
	}
}

// source is the media-source of a tray.
func source(tray int) string {
	if tray == 0 {
		return "main"
	}
	return fmt.Sprintf("tray-%d", tray+1)
}

// size is the paper in a tray, A4 when it is unknown. The caller holds mu.
func (p *Printer) size(tray int) paper {
	if tray < len(p.ready) {
		if i := slices.IndexFunc(sizes, func(s paper) bool { return s.name == p.ready[tray] }); i >= 0 {
			return sizes[i]
		}
	}
	return sizes[0]
}
