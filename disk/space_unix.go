//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

// space returns how many bytes a program without special rights could write below path, and how many the file system
// has.
func space(path string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return s.Bavail * block, s.Blocks * block, nil
}
