package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dataFile is a file whose Sync leaves out what is not needed to read it again, such as times:
// with them, each sync of the journal would be a commit of the file system's own journal, too.
type dataFile struct{ *os.File }

// Sync implements file.
func (f dataFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

func openDirectory(path string) (directory, error) {
	d, err := os.Open(path)
	return volumeDirectory{d}, err
}

// volumeDirectory syncs all that is below it by syncing the whole file system, in one go.
type volumeDirectory struct{ *os.File }

// SyncAll implements directory.
func (d volumeDirectory) SyncAll() error {
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync file system of %s: %w", d.Name(), err)
	}
	return nil
}
