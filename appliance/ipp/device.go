package ipp

// Tray is a tray of a printer (printer-input-tray, PWG 5100.13 §5.6.20).
type Tray struct {
	Name  string // cleaned for display
	Type  string // "sheetFeedAutoRemovable"
	Media string // PWG 5101.1 name from media-col-ready or media-ready, "" when the printer does not say
	Level int    // sheets, -1 when it does not say
	Max   int    // sheets, -1 when it does not say
}

// Supply is a toner, a drum, a bottle (marker-names and the like, RFC 3805's in PWG 5100.9; or printer-supply,
// PWG 5100.13 §5.6.33).
type Supply struct {
	Name  string // cleaned for display
	Kind  string // "toner", "waste-toner"
	Level int    // percent, -1 when it does not say
	Low   int    // percent below which it is low, -1 when it does not say
}

// Document is what goes to a printer. Data is not kept.
type Document struct {
	Format string // PDF, URF or PWG
	Data   []byte
}

// Formats that documents are sent in, besides PDF.
const (
	URF = "image/urf"
	PWG = "image/pwg-raster"
)
