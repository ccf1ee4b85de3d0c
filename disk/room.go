package disk

import "fmt"

// Room is how much there is on the volume of a directory, in bytes.
type Room struct {
	// Free is what this process may still write, Size what there is in all.
	Free, Size uint64
}

// RoomAt asks the machine how much room there is where the directory is. It reads no file; on a
// disk that hangs it may block. Safe for concurrent use.
func RoomAt(dir string) (Room, error) {
	room, err := roomAt(dir)
	if err != nil {
		return Room{}, fmt.Errorf("room at %s: %w", dir, err)
	}
	return room, nil
}
