package ipptest

// Pages says what sheets a document makes on a new printer.
func Pages(format string, doc []byte) ([]Picture, error) {
	return sheets(format, doc, New(Config{}).raster)
}
