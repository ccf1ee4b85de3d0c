package disk

import "golang.org/x/sys/windows"

func roomAt(dir string) (Room, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Room{}, err
	}
	var room Room
	err = windows.GetDiskFreeSpaceEx(path, &room.Free, &room.Size, nil)
	return room, err
}
