//go:build !race

package interleave_test

const (
	visits     = 20_000
	realVisits = 1000
	shortcuts  = true
)
