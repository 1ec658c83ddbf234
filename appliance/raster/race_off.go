//go:build !race

package raster

// raceDetector is true in programs built with -race, which reserve terabytes of address space.
const raceDetector = false
