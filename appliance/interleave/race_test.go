//go:build race

package interleave_test

// Under the race detector there are fewer visits: they are ten times as slow, and their number says nothing about races.
const (
	visits     = 500
	realVisits = 100
	shortcuts  = false
)
