//go:build !linux

package volume

// Volume stands for a file system that cannot be made here.
type Volume struct{}
