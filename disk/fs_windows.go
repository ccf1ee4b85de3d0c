package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile locks one byte far behind the text, which stays readable for others.
func lockFile(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errLocked
	}
	return err
}

func openDirectory(path string) (directory, error) {
	d, err := os.Open(path)
	return unsyncedDirectory{d}, err
}

// unsyncedDirectory takes Sync for granted: Windows offers nothing that syncs the names in a
// directory. Durability is claimed for Linux only.
type unsyncedDirectory struct{ *os.File }

// Sync implements directory.
func (unsyncedDirectory) Sync() error { return nil }

// SyncAll implements directory.
func (d unsyncedDirectory) SyncAll() error { return syncBelow(d.Name()) }

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isBusy(err error) bool {
	return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) || errors.Is(err, windows.ERROR_SHARING_VIOLATION)
}
