package ipp

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/OpenPrinting/goipp"
)

const (
	maxTrays    = 32
	maxSupplies = 64
)

// fields reads "type=toner;level=75;…" (printer-input-tray and printer-supply, PWG 5100.13 §5.6.20 and §5.6.33).
func fields(s string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			m[strings.ToLower(strings.TrimSpace(key))] = text(value, maxName)
		}
	}
	return m
}

// level is a number that is not negative, or -1: negative ones say "other", "unknown" and "some" (RFC 3805).
func level(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// trays reads printer-input-tray and what media-col-ready says is in each, by media-source or, without, by order. The
// tray "auto" is a choice among the others, not a tray.
func trays(a goipp.Attributes) []Tray {
	var ts []Tray
	for _, v := range values(a, "printer-input-tray") {
		f := fields(str(v))
		if len(ts) < maxTrays && f["name"] != "auto" && len(f) > 0 {
			ts = append(ts, Tray{Name: f["name"], Type: f["type"], Level: level(f["level"]), Max: level(f["maxcapacity"])})
		}
	}
	ready := all(a, "media-ready")
	cols := values(a, "media-col-ready")
	if len(cols) == 0 && len(ready) == len(ts) {
		for i := range ts {
			ts[i].Media = ready[i]
		}
	}
	for i, v := range cols {
		col, _ := v.(goipp.Collection)
		c := goipp.Attributes(col)
		media := first(c, "media-size-name", maxKeyword)
		if size, ok := sizeOf(c); media == "" && ok {
			switch {
			case size == A4:
				media = A4Name
			case len(ready) == len(cols):
				media = ready[i]
			}
		}
		source := first(c, "media-source", maxKeyword)
		at := slices.IndexFunc(ts, func(t Tray) bool { return t.Name == source })
		if source == "" && len(cols) == len(ts) {
			at = i
		}
		if at >= 0 {
			ts[at].Media = media
		}
	}
	return ts
}

// sizeOf is the media-size of a media-col.
func sizeOf(col goipp.Attributes) (Size, bool) {
	for _, v := range values(col, "media-size") {
		if s, ok := v.(goipp.Collection); ok {
			return Size{number(goipp.Attributes(s), "x-dimension", 0), number(goipp.Attributes(s), "y-dimension", 0)}, true
		}
	}
	return Size{}, false
}

// supplies reads marker-names and its parallel lists (PWG 5100.9 §5), or printer-supply.
func supplies(a goipp.Attributes) []Supply {
	var ss []Supply
	types, levels, lows := values(a, "marker-types"), numbers(a, "marker-levels"), numbers(a, "marker-low-levels")
	for i, v := range values(a, "marker-names") {
		s := Supply{Name: text(str(v), maxName), Level: -1, Low: -1}
		if i < len(types) {
			s.Kind = text(str(types[i]), maxKeyword)
		}
		if i < len(levels) {
			s.Level = percent(levels[i], 100)
		}
		if i < len(lows) {
			s.Low = percent(lows[i], 100)
		}
		if len(ss) < maxSupplies {
			ss = append(ss, s)
		}
	}
	if len(ss) > 0 {
		return ss
	}
	names := values(a, "printer-supply-description")
	for i, v := range values(a, "printer-supply") {
		f := fields(str(v))
		s := Supply{Kind: kebab(f["type"]), Level: -1, Low: -1}
		switch {
		case f["unit"] == "percent":
			s.Level = percent(level(f["level"]), 100)
		case level(f["maxcapacity"]) > 0:
			s.Level = percent(level(f["level"]), level(f["maxcapacity"]))
		}
		if i < len(names) {
			s.Name = text(str(names[i]), maxName)
		}
		if s.Name == "" {
			s.Name = strings.TrimSpace(f["colorantname"] + " " + s.Kind)
		}
		if len(ss) < maxSupplies && len(f) > 0 {
			ss = append(ss, s)
		}
	}
	return ss
}

// percent is n of whole in percent; -1 when n is negative.
func percent(n, whole int) int {
	if n < 0 {
		return -1
	}
	return min(100, int(int64(n)*100/int64(whole)))
}

// kebab makes the keyword of marker-types ("waste-toner") out of printer-supply's ("wasteToner").
func kebab(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) && b.Len() > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// serial is the serial number in printer-device-id (IEEE 1284.4 §6), under the names that makers use.
func serial(a goipp.Attributes) string {
	for pair := range strings.SplitSeq(first(a, "printer-device-id", 1023), ";") {
		key, value, _ := strings.Cut(pair, ":")
		switch strings.ToUpper(strings.TrimSpace(key)) {
		case "SN", "SERN", "SERIALNUMBER":
			if s := text(value, maxName); s != "" {
				return s
			}
		}
	}
	return first(a, "printer-serial-number", maxName)
}

// auth reports whether a user is asked for at uri: uri-authentication-supported is a list parallel to
// printer-uri-supported (RFC 8011 §5.4.2), whose hosts may be called otherwise.
func auth(a goipp.Attributes, uri string) bool {
	scheme, _, _ := strings.Cut(uri, ":")
	uris, how := all(a, "printer-uri-supported"), all(a, "uri-authentication-supported")
	wanted := how
	if len(uris) == len(how) {
		wanted = nil
		for i := range uris {
			if s, _, _ := strings.Cut(uris[i], ":"); strings.EqualFold(s, scheme) {
				wanted = append(wanted, how[i])
			}
		}
	}
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(h string) bool { return h == "none" || h == "requesting-user-name" })
}

// resolutions reads pwg-raster-document-resolution-supported in dots per inch.
func resolutions(a goipp.Attributes) []int {
	const perCentimetre = 4 // RFC 8010 §3.9; else per inch
	var ns []int
	for _, v := range values(a, "pwg-raster-document-resolution-supported") {
		r, ok := v.(goipp.Resolution)
		if !ok || r.Xres != r.Yres || r.Xres <= 0 {
			continue
		}
		n := r.Xres
		if r.Units == perCentimetre {
			n = int(math.Round(float64(n) * 2.54))
		}
		if !slices.Contains(ns, n) {
			ns = append(ns, n)
		}
	}
	return ns
}
