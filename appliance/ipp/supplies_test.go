package ipp_test

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"sportello.example/appliance/ipp"
)

type value struct {
	tag  byte
	text string
}

func integer(n int) value { return value{0x21, string(binary.BigEndian.AppendUint32(nil, uint32(n)))} }
func words(ss ...string) []value {
	var vs []value
	for _, s := range ss {
		vs = append(vs, value{0x44, s})
	}
	return vs
}

func integers(ns ...int) []value {
	var vs []value
	for _, n := range ns {
		vs = append(vs, integer(n))
	}
	return vs
}

func resolution(x, y int, unit byte) value {
	return value{0x32, string(append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(x)), uint32(y)), unit))}
}

// media is a media-col: source may be "".
func media(source string, w, h int) []value {
	vs := []value{{0x34, ""}, {0x4a, "media-size"}, {0x34, ""}, {0x4a, "x-dimension"}, integer(w), {0x4a, "y-dimension"}, integer(h), {0x37, ""}}
	if source != "" {
		vs = append(vs, value{0x4a, "media-source"}, value{0x44, source})
	}
	return append(vs, value{0x37, ""})
}

type named struct {
	name   string
	values []value
}

// printer is an answer to Get-Printer-Attributes.
func printer(as ...named) []byte {
	b := append(reply([]byte{2, 0, 0, 0, 0, 0, 0, 1}, 0), 4)
	for _, a := range as {
		name := a.name
		for _, v := range a.values {
			b = attribute(b, v.tag, name, v.text)
			name = ""
		}
	}
	return append(b, 3)
}

// full has something for everything that is read of a printer.
var full = printer(
	named{"printer-uuid", words("urn:uuid:AB")},
	named{"printer-make-and-model", words("Acme 3000")},
	named{"printer-device-id", words("MFG:Acme;MDL:3000;SN: X1\n2 ;")},
	named{"printer-input-tray", words("type=other;maxcapacity=-2;level=-2;name=auto;",
		"type=sheetFeedAutoRemovableTray;mediafeed=0;maxcapacity=250;level=-3;status=0;name=tray-1;", "type=sheetFeedManual;maxcapacity=1;level=0;name=manual")},
	named{"media-ready", words("iso_a5_148x210mm", "iso_a4_210x297mm")},
	named{"media-col-ready", slices.Concat(media("manual", 14800, 21000), media("tray-1", 21000, 29700))},
	named{"printer-supply", words("index=1;class=supplyThatIsConsumed;type=toner;unit=impressions;maxcapacity=3000;level=1000;colorantname=black;")},
	named{"marker-names", words("Nero", "", "Fusore")},
	named{"marker-types", words("toner", "waste-toner")},
	named{"marker-levels", integers(7, -2, 130)},
	named{"marker-low-levels", integers(10)},
	named{"urf-supported", words("W8", "RS300-600")},
	named{"pwg-raster-document-type-supported", words("sgray_8")},
	named{"pwg-raster-document-resolution-supported", []value{resolution(300, 300, 3), resolution(600, 300, 3), resolution(236, 236, 4), resolution(600, 600, 3)}},
	named{"pwg-raster-document-sheet-back", words("rotated")},
	named{"printer-uri-supported", words("ipp://p/ipp/print", "ipps://p/ipp/print")},
	named{"uri-authentication-supported", words("basic", "none")},
	named{"job-hold-until-supported", words("no-hold", "indefinite")},
	named{"identify-actions-supported", words("sound")},
	named{"printer-impressions-completed", integers(4711)},
)

func TestWhatAPrinterHas(t *testing.T) {
	p, err := ipp.ReadPrinter(full)
	if err != nil {
		t.Fatal(err)
	}
	if p.Make != "Acme 3000" || p.Serial != "X12" || p.UUID != "ab" || p.PWGBack != "rotated" || !p.Auth || p.Count != 4711 {
		t.Errorf("%+v", p)
	}
	for _, tt := range []struct{ got, want any }{
		{p.Trays, []ipp.Tray{{"tray-1", "sheetFeedAutoRemovableTray", ipp.A4Name, -1, 250}, {"manual", "sheetFeedManual", "iso_a5_148x210mm", 0, 1}}},
		{p.TrayLevels, []int{0}},
		{p.SizesReady, []ipp.Size{{14800, 21000}, ipp.A4}},
		{p.Supplies, []ipp.Supply{{"Nero", "toner", 7, 10}, {"", "waste-toner", -1, -1}, {"Fusore", "", 100, -1}}},
		{p.URF, []string{"W8", "RS300-600"}},
		{p.PWGTypes, []string{"sgray_8"}},
		{p.PWGResolutions, []int{300, 599, 600}},
		{p.HoldUntil, []string{"no-hold", "indefinite"}},
		{p.Identify, []string{"sound"}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("got %+v, want %+v", tt.got, tt.want)
		}
	}
}

func TestSuppliesAndTraysOtherwise(t *testing.T) {
	for _, tt := range []struct {
		name     string
		raw      []byte
		trays    []ipp.Tray
		supplies []ipp.Supply
		serial   string
		auth     bool
	}{
		{"it says nothing", printer(), nil, nil, "", false},
		{"media by order", printer(
			named{"printer-input-tray", words("level=3;maxcapacity=9;name=a", "level=4;name=b")},
			named{"media-ready", words("iso_a5_148x210mm", "x")},
			named{"printer-serial-number", words("S9")},
			named{"uri-authentication-supported", words("digest")},
		), []ipp.Tray{{"a", "", "iso_a5_148x210mm", 3, 9}, {"b", "", "x", 4, -1}}, nil, "S9", true},
		{"collections by order", printer(
			named{"printer-input-tray", words("level=3;name=a")},
			named{"media-col-ready", media("", 21000, 29700)},
		), []ipp.Tray{{"a", "", ipp.A4Name, 3, -1}}, nil, "", false},
		{"supplies without names", printer(
			named{"printer-supply", words("type=toner;unit=percent;level=40;colorantname=black", "type=opc;maxcapacity=2000;level=500;", "rubbish")},
			named{"uri-authentication-supported", words("requesting-user-name")},
		), nil, []ipp.Supply{{"black toner", "toner", 40, -1}, {"opc", "opc", 25, -1}}, "", false},
	} {
		p, err := ipp.ReadPrinter(tt.raw)
		got := fmt.Sprint(p.Trays, p.Supplies, p.Serial, p.Auth)
		if want := fmt.Sprint(tt.trays, tt.supplies, tt.serial, tt.auth); err != nil || got != want {
			t.Errorf("%s: got %s (%v), want %s", tt.name, got, err, want)
		}
	}
}
