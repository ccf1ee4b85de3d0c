package disk

import (
	"errors"
	"fmt"

	"github.com/protocol7/snakes/replication"
)

// The reserve is a file of zeros that holds room for when the disk is full. PUTs are refused
// then, but deletes, seen dots and the roster go on, and deletes are how people make room. The
// first of them that finds no room gives the reserve away; PUTs are refused from then on until
// one of them could set a reserve aside again.
const (
	reserveFile  = "reserve"
	reserveBytes = 256 << 10
)

// attempt runs op, which needs room on the disk and leaves nothing behind when there is none.
// A small one may use the reserve.
func (v *volume) attempt(small bool, op func() error) error {
	if !small {
		return v.attemptPut(op)
	}
	err := op()
	if errors.Is(err, replication.ErrDiskFull) && v.release() {
		err = op()
	}
	return err
}

func (v *volume) attemptPut(op func() error) error {
	if err := v.refill(); err != nil {
		return err
	}
	if err := op(); err != nil {
		return err
	}
	v.mu.Lock()
	found := v.full != nil && v.reserved
	if found {
		v.full = nil
	}
	v.mu.Unlock()
	if found {
		v.logger.Info("disk has room again")
	}
	return nil
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
