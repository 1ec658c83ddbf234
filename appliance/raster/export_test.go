package raster

import "errors"

// Scan is what Check does with a document besides handing it to the engine.
func Scan(pdf []byte) error {
	return errors.Join(checkEnds(pdf, Limits{}.filled()), checkWhole(pdf), scanActive(pdf))
}
