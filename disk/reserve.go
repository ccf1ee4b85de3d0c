package disk

import (
	"errors"
	"fmt"

	"github.com/protocol7/snakes/replication"
)

// The reserve is a file of zeros that holds room for when the disk is full. Values are refused
// then, but the roster, saves and the files of tombstones go on. The first of them that finds no
// room gives the reserve away; values are refused from then on until one of them could set a
// reserve aside again. Deletes and seen dots need no room but in the journal, whose segments take
// theirs before they are needed.
const (
	reserveFile  = "reserve"
	reserveBytes = 256 << 10
)

// attempt runs op, which needs room on the disk and can be tried again when there is none. A
// small one may use the reserve.
func (v *volume) attempt(small bool, op func() error) error {
	err := op()
	if small && errors.Is(err, replication.ErrDiskFull) && v.release() {
		err = op()
	}
	return err
}

// hasRoom reports whether nothing is known to have found no room, and there is a reserve.
func (v *volume) hasRoom() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.full == nil && v.reserved
}

// foundRoom notes that the disk is not full any more.
func (v *volume) foundRoom() {
	v.mu.Lock()
	found := v.full != nil
	v.full = nil
	v.mu.Unlock()
	if found {
		v.logger.Info("disk has room again")
	}
}

// release gives the room of the reserve away and reports whether there was any.
func (v *volume) release() bool {
	v.mu.Lock()
	had := v.reserved
	v.reserved = false
	v.mu.Unlock()
	return had && v.fs.Remove(reserveFile) == nil
}

// adopt looks whether there is a reserve from before.
func (v *volume) adopt() {
	f, err := v.fs.OpenFile(reserveFile, readOnly)
	if err != nil {
		return
	}
	defer closeRead(f)
	info, err := f.Stat()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reserved = err == nil && info.Size() == int64(v.reserve)
}

// refill sets the reserve aside unless it is there. It returns an error if there is no room,
// or if another call is just trying. The zeros are written and synced so that the room is
// really taken; they hold nothing, so that even a sync that fails for want of room does no
// harm, and their name need not survive.
func (v *volume) refill() error {
	if v.hasReserve() {
		return nil
	}
	if !v.refilling.TryLock() {
		return fmt.Errorf("%w: no room but the reserve's", replication.ErrDiskFull)
	}
	defer v.refilling.Unlock()
	if v.hasReserve() {
		return nil
	}
	if err := v.broken(); err != nil {
		return err
	}
	name := fmt.Sprintf("%s/%d-reserve", tmpDir, v.staged.Add(1))
	err := v.create(name, make([]byte, v.reserve))
	if err == nil {
		err = v.fs.Rename(name, reserveFile)
	}
	if err != nil {
		v.discard(name)
		var unsure syncError
		if errors.As(err, &unsure) && isFull(err) {
			err = unsure.error
		}
		return v.judge(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reserved = true
	return nil
}

func (v *volume) hasReserve() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reserved
}
