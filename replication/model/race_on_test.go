//go:build race

package model

const (
	checks     = "40"
	runMutants = false
)
