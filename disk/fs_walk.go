//go:build unix && !linux

package disk

import "os"

func openDirectory(path string) (directory, error) {
	d, err := os.Open(path)
	return walkedDirectory{d}, err
}

// walkedDirectory syncs what is below it one by one.
type walkedDirectory struct{ *os.File }

// SyncAll implements directory.
func (d walkedDirectory) SyncAll() error { return syncBelow(d.Name()) }
