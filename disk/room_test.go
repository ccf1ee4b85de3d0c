package disk

import (
	"path/filepath"
	"testing"
)

func TestThereIsRoomWhereADirectoryIs(t *testing.T) {
	room, err := RoomAt(t.TempDir())
	if err != nil || room.Size == 0 || room.Free > room.Size {
		t.Errorf("got %+v, %v, want some room", room, err)
	}
	if room, err := RoomAt(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Errorf("where there is no directory: got %+v, want an error", room)
	}
}
