package disk

import "golang.org/x/sys/windows"

// space returns how many bytes this user could write below path, and how many the volume has.
func space(path string) (free, size uint64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err == nil {
		err = windows.GetDiskFreeSpaceEx(name, &free, &size, nil)
	}
	return free, size, err
}
