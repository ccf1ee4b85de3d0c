//go:build !linux

package faults

// diskFaults need file systems of their own, which only Linux has a way for.
var diskFaults []fault

func privateMounts() error { return nil }
