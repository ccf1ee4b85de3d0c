//go:build !race

package model

// The race detector makes programs ten times as slow, and has nothing to tell of mutants.
const (
	checks     = "150" // random programs that an ordinary test runs
	runMutants = true
)
