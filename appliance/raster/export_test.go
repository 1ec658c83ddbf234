package raster

import (
	"bytes"
	"errors"
)

// RaceDetector says whether this program has it.
const RaceDetector = raceDetector

// Scan is what Check does with a document besides handing it to the engine.
func Scan(pdf []byte) error {
	return errors.Join(checkEnds(pdf, Limits{}.filled()), checkWhole(pdf), scanActive(pdf))
}

// Printed is what Print makes of what a child says.
func Printed(says []byte, o PrintOptions) error {
	ans, docs, err := readPrinted(bytes.NewReader(says))
	if err == nil {
		err = ans.err()
	}
	if err == nil {
		err = checkPrinted(ans, docs[0], o)
	}
	return err
}
