//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

func roomAt(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, err
	}
	block := uint64(s.Bsize)
	return Room{Free: s.Bavail * block, Size: s.Blocks * block}, nil
}
